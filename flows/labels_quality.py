"""`edgeloop labels quality`: who agrees with whom, and what people corrected (core/people/QUALITY.md)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from tasks.core.corrections import Corrections
    from tasks.quality import Quality

CONFIG = Path("configs/project.yaml")


def register(app: typer.Typer) -> None:
    """The command of this file, as part of `edgeloop labels`."""
    app.command()(quality)


def quality(
    batches: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="ids; all that the loop knows where none is named"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="an object, for programs")] = False,
    config: Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")] = CONFIG,
) -> None:
    """Who agrees with gold and with others, and what people corrected of what they were shown."""
    from tasks.adapters.config import read_project
    from tasks.label import labelling_of
    from tasks.quality import quality as measure

    project = read_project(config)
    found = measure(project, labelling_of(project), batches or ())
    if as_json:
        print(json.dumps(found.told(), indent=1))
        return
    if not found.annotators:
        print("nobody has labelled anything yet", file=sys.stderr)
        return
    for line in lines_of(found):
        print(line)


def lines_of(found: Quality) -> list[str]:
    """Tables of who did what, pair by pair, and by strategy; then what somebody should look at."""
    lines = table([annotator_row(row) for row in found.annotators])
    if found.pairs:
        lines += [
            "",
            *table([{"one": p.first, "other": p.second, "images": p.images, "F1": p.words} for p in found.pairs]),
        ]
    if found.by_strategy:
        rows = [
            {
                "kept by": name,
                "images": found.images_by_strategy[name],
                **kinds(one),
                "per image": each(one, found, name),
            }
            for name, one in found.by_strategy.items()
        ]
        lines += ["", *table(rows)]
    return [*lines, *(["", *found.warnings] if found.warnings else [])]


def annotator_row(row: Any) -> dict[str, object]:
    return {
        "annotator": row.name,
        "images": row.images,
        "skipped": row.skipped,
        "boxes": row.boxes,
        **kinds(row.corrections),
        "s an image": "" if row.lead_seconds is None else f"{row.lead_seconds:.0f}",
        "with gold": row.gold.words if row.gold else "",
        "with others": row.others.words if row.others else "",
    }


def kinds(one: Corrections) -> dict[str, object]:
    return {"shown": one.shown, "added": one.added, "removed": one.removed, "moved": one.moved, "renamed": one.renamed}


def each(one: Corrections, found: Quality, name: str) -> str:
    return f"{one.total / found.images_by_strategy[name]:.2f}"


def table(rows: Sequence[dict[str, object]]) -> list[str]:
    """Rows of the same columns, aligned; numbers to the right."""
    names = list(rows[0])
    cells = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    numeric = [all(isinstance(row[name], int) for row in rows) for name in names]
    return [aligned(line, widths, numeric) for line in cells]


def aligned(line: Iterable[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    return "  ".join(
        cell.rjust(width) if is_number else cell.ljust(width) for cell, width, is_number in zip(line, widths, numeric)
    ).rstrip()
