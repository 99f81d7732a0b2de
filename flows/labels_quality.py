"""`edgeloop labels quality`: who agrees with whom, and what people corrected (core/people/QUALITY.md)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from tasks.quality import Quality, Worth

CONFIG = Path("configs/project.yaml")
MOST_DISPUTED = 20  # images in the table


def register(app: typer.Typer) -> None:
    """The command of this file, as part of `edgeloop labels`."""
    app.command()(quality)


def quality(
    batches: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="ids; all that the loop knows where none is named"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="an object, for programs")] = False,
    view: Annotated[bool, typer.Option("--view", help="save disputed images as a view of the FiftyOne App")] = False,
    config: Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")] = CONFIG,
) -> None:
    """Who agrees with gold and with others, and what people corrected of what they were shown."""
    from tasks.adapters.config import read_project
    from tasks.label import labelling_of
    from tasks.quality import DISPUTED, save_view
    from tasks.quality import quality as measure

    project = read_project(config)
    found = measure(project, labelling_of(project), batches or ())
    link = save_view(project, found) if view else ""
    if as_json:
        print(json.dumps({**found.told(), "view": link}, indent=1))
        return
    if not found.annotators:
        print("nobody has labelled anything yet", file=sys.stderr)
        return
    for line in lines_of(found):
        print(line)
    if link:
        print(f"edgeloop: view {DISPUTED}: {link}", file=sys.stderr)


def lines_of(found: Quality) -> list[str]:
    """Tables of who did what, pair by pair, by strategy and band; then what somebody should look at."""
    from tasks.quality import annotator_row

    lines = table([annotator_row(row) for row in found.annotators])
    if found.pairs:
        lines += [
            "",
            *table([{"one": p.first, "other": p.second, "images": p.images, "F1": p.words} for p in found.pairs]),
        ]
    for name, groups in (("kept by", found.by_strategy), ("band", found.by_band)):
        if groups:
            lines += ["", *table(worth_rows(name, groups))]
    if found.disputed:
        told: list[dict[str, object]] = [
            {"image": d.sample_id, "F1": f"{d.f1:.2f}", "of": ", ".join(d.annotators)} for d in found.disputed
        ]
        rest = len(told) - MOST_DISPUTED
        lines += ["", *table(told[:MOST_DISPUTED]), *([f"... and {rest} more: --view, --json"] if rest > 0 else [])]
    return [*lines, *(["", *found.warnings] if found.warnings else [])]


def worth_rows(name: str, groups: Mapping[str, Worth]) -> list[dict[str, object]]:
    """A row a group: what people did to the boxes that they were shown, and corrections an image."""
    from tasks.quality import kinds

    return [
        {
            name: group,
            "images": one.images,
            **kinds(one.corrections),
            "per image": f"{one.corrections.total / one.images:.2f}",
        }
        for group, one in groups.items()
    ]


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
