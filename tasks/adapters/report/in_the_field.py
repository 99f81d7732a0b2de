"""What a model is worth over all frames that devices saw: sentences, rows for the page, and a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasks.adapters.fleet_table import printable
from tasks.adapters.report.sentences import counted, estimate_percent
from tasks.core.entities import Estimate
from tasks.core.field import FieldFigures, FieldRecall

HEADINGS = ("", "recall", "precision", "images", "effective", "objects", "missed")
ALL = "all"


def field_title(found: FieldRecall) -> str:
    """`model 0123456789abcdef, settings all/2, 2026-05-01 to 2026-05-08`."""
    title = f"model {found.model_version}, settings {found.settings_version}"
    if found.first is None or found.last is None:
        return title
    days = f"{found.first:%Y-%m-%d}", f"{found.last:%Y-%m-%d}"
    return f"{title}, {days[0]}" if days[0] == days[1] else f"{title}, {days[0]} to {days[1]}"


def field_sentence(found: FieldRecall) -> str:
    """The figures with their intervals and what they rest on, or why there are none."""
    if found.figures is None:
        return f"There is no figure: {found.refused}."
    pooled = found.figures
    if pooled.recall is None:
        finds = "No object is in the labelled images, so recall is not known"
    else:
        finds = f"It finds {estimate_percent(pooled.recall)} of the objects in all frames"
    right = ""
    if pooled.precision is not None:
        right = f", and {estimate_percent(pooled.precision)} of what it reports is right"
    stand, say = ("stands", "says") if pooled.images == 1 else ("stand", "say")
    return (
        f"{finds}{right}. That rests on {counted(pooled.images, 'labelled image')}, which {stand} for "
        f"{counted(round(found.frames), 'frame')} and {say} as much as "
        f"{counted(max(1, round(pooled.effective_images)), 'image')} drawn at random would."
    )


def field_plainly(found: FieldRecall) -> list[str]:
    """The same for who knows no statistics: of a hundred objects so many are found, and how far that can be trusted."""
    if found.figures is None:
        return [f"There is no figure: {found.refused}."]
    pooled = found.figures
    told = []
    if pooled.recall is not None:
        finds = round(100 * pooled.recall.value)
        told.append(f"Of 100 objects that the cameras saw the model finds about {finds}, and misses {100 - finds}.")
    else:
        told.append("No object is in the labelled images, so nobody can say how many the model finds.")
    if pooled.precision is not None:
        told[0] += f" Of 100 boxes that it reports about {round(100 * pooled.precision.value)} are right."
    stand, are = ("stands", "it is") if pooled.images == 1 else ("stand", "they are")
    told.append(
        f"That rests on {counted(pooled.images, 'labelled image')}, which {stand} for "
        f"{counted(round(found.frames), 'frame')}. Some count for far more frames than others, so that {are} worth no "
        f"more than {max(1, round(pooled.effective_images)):,} drawn at random from all frames."
    )
    return told


def field_bars(found: FieldRecall) -> list[dict[str, Any]]:
    """Recall and precision with their intervals, in percent of the width of a bar."""
    pooled = found.figures or FieldFigures()
    named = (("objects that are found", pooled.recall), ("reported boxes that are right", pooled.precision))
    return [
        {
            "name": name,
            "text": estimate_percent(one),
            "low": 100 * one.low,
            "width": 100 * (one.high - one.low),
            "value": 100 * one.value,
        }
        for name, one in named
        if one is not None
    ]


def field_rows(found: FieldRecall) -> list[tuple[str, ...]]:
    """Cells by `HEADINGS`: all, then each class that was seen or labelled, then each camera where there are several."""
    if found.figures is None:
        return []
    named = [(ALL, found.figures), *((name, one) for name, one in found.classes.items() if one.images)]
    if len(found.cameras) > 1:
        named += found.cameras.items()
    return [_cells(name, one) for name, one in named]


def field_values(found: Sequence[FieldRecall]) -> list[dict[str, Any]]:
    """What the part of the page asks for."""
    return [
        {
            "title": field_title(one),
            "sentence": field_sentence(one),
            "plainly": field_plainly(one),
            "bars": field_bars(one),
            "rows": field_rows(one),
            "headings": HEADINGS,
            "warnings": one.warnings,
        }
        for one in found
    ]


def field_summary(found: Sequence[FieldRecall]) -> Group:
    """What `rich.print` shows, the newest version first."""
    parts: list[Text | Table] = []
    for one in found:
        title = printable(field_title(one))
        parts += [Text(title[0].upper() + title[1:], style="bold"), Text(printable(field_sentence(one)))]
        if one.figures is not None:
            parts.append(_table(one))
        parts += [Text(printable(f"- {warning}"), style="dim") for warning in one.warnings]
        parts.append(Text(""))
    return Group(*parts[:-1])


def _table(found: FieldRecall) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in field_rows(found):
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _cells(name: str, one: FieldFigures) -> tuple[str, ...]:
    numbers = (f"{one.images:,}", f"{one.effective_images:,.0f}", f"{one.objects:,}", f"{one.misses:,}")
    return (name, _percent(one.recall), _percent(one.precision), *numbers)


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate_percent(estimate)
