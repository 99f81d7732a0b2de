"""What the reference pages name is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    """A relative link in a page is a file of the repository."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_promise_names_a_test_that_exists():
    """The page of promises points to files of tests, one a row at least, and each of them is there."""
    text = (ROOT / "tasks" / "collector" / "PROMISES.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    folder = ""
    for row in rows:
        names = re.findall(r"`((?:[a-z]+/)?test_\w+\.py)`", row)
        if "Suite" in row or "Tested in" in row:
            continue
        assert names, f"no test: {row}"
        for name in names:
            folder = name.partition("/")[0] if "/" in name else folder
            path = ROOT / "tests" / (name if "/" in name else f"{folder}/{name}")
            assert path.exists(), f"{path.relative_to(ROOT)} is not there: {row}"
