"""RESULTS.md: a section a benchmark, so that one can be measured again without the others."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.tables import Table

HEAD = """# Results

What `make bench` printed: `python -m tests.benchmarks --write` writes this file. Every section says where and when it
was measured, and how much of the machine others took meanwhile.
"""
ORDER = ("edge", "growth", "sampler", "matching", "yield", "retrain", "drift", "labels", "bucket_outbox", "demo")


def write(path: Path, name: str, where: str, tables: Sequence[Table]) -> None:
    """Replace the section of one benchmark. where: the machine, and how busy it was."""
    sections = read(path)
    sections[name] = f"{where}\n\n" + "\n".join(map(str, tables)).strip()
    ordered = sorted(sections, key=ORDER.index)
    text = "\n\n".join([HEAD.strip(), *(f"## {title(each)}\n\n{sections[each]}" for each in ordered)])
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, str]:
    """The sections that are there, by benchmark; what none is known by is left out."""
    if not path.exists():
        return {}
    _, *parts = re.split(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    by_title = {title(name): name for name in ORDER}
    return {by_title[head]: body.strip() for head, body in zip(parts[::2], parts[1::2]) if head in by_title}


def title(name: str) -> str:
    return name.replace("_", " and ").capitalize()
