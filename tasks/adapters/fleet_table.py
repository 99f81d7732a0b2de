"""rich: the devices of a project as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.core.entities import STUB
from tasks.core.fleet import DeviceRow, Health, age_text, summary

STYLES: dict[Health, str] = {
    "unreadable": "bold red",
    "silent": "bold red",
    "degraded": "yellow",
    "behind": "cyan",
    "well": "green",
    "stopped": "dim",
}
_WIDE = 120  # columns, from which on the last errors have one of their own
_MODEL_SHOWN = 8  # characters of a model version


def fleet_table(rows: Sequence[DeviceRow], shown: Sequence[DeviceRow] | None = None, *, width: int = 140) -> Group:
    """A row a device, and a line that sums all of them up. shown: only these, of `rows`. width: columns there are.

    Where the last errors do not fit beside the figures they stand below them, for devices in trouble.
    """
    shown = rows if shown is None else shown
    is_wide = width >= _WIDE
    parts: list[RenderableType] = [_table(shown, is_wide)] if shown else []
    if not is_wide:
        told = [row for row in shown if row.in_trouble and row.last_error]
        parts += [Text(printable(f"{row.device}: {row.last_error}"), style="dim") for row in told]
    parts.append(Text(summary(rows), style="bold"))
    if len(shown) < len(rows):
        parts.append(Text(f"{len(rows) - len(shown):,} that are not in trouble are not shown", style="dim"))
    return Group(*parts)


def _table(rows: Sequence[DeviceRow], is_wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), expand=is_wide)
    table.add_column("device", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("seen", justify="right", no_wrap=True)
    table.add_column("release", no_wrap=True)
    table.add_column("model", style="dim", no_wrap=True)
    for name in ("frames/s", "kept", "waiting", "cameras"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("alerts", min_width=12, max_width=24)
    if is_wide:
        table.add_column("last error", overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*_cells(row)[: len(table.columns)])
    return table


def _cells(row: DeviceRow) -> tuple[RenderableType, ...]:
    name = Text.assemble(("● ", STYLES[row.health]), printable(row.device))
    error = Text(
        printable(row.last_error),
        style="" if row.in_trouble else "dim",
        no_wrap=not row.in_trouble,
        overflow="ellipsis",
    )
    if row.health == "unreadable":
        return (name, *"-------", Text(row.health, style=STYLES[row.health]), error)
    return (
        name,
        Text(age_text(row.seen_seconds), style=STYLES["silent"] if row.health == "silent" else ""),
        _release(row),
        STUB if row.model == STUB else printable(row.model)[:_MODEL_SHOWN],
        "-" if row.health in ("silent", "stopped") else f"{row.frames_per_second:,.1f}",
        f"{row.kept:,}",
        _waiting(row),
        _cameras(row),
        _alerts(row),
        error,
    )


def _release(row: DeviceRow) -> Text:
    number = str(row.release) if row.release else "none"
    if row.release >= row.newest_release:
        return Text(number)
    return Text(f"{number} of {row.newest_release}", style=STYLES["behind"])


def _waiting(row: DeviceRow) -> Text:
    age = f", {age_text(row.waiting_seconds)}" if row.waiting and row.waiting_seconds else ""
    return Text(f"{row.waiting:,}{age}", style="" if row.waiting else "dim")


def _cameras(row: DeviceRow) -> Text:
    """How many of them are up."""
    number = row.cameras_up + len(row.cameras_down)
    return Text(f"{row.cameras_up}/{number}", style="bold red" if row.cameras_down else "")


def _alerts(row: DeviceRow) -> Text:
    """The device's alerts; what is down, and that it is silent or stopped, is one as well."""
    words: list[str] = [row.health] if row.health in ("silent", "stopped") else []
    words += [f"{camera} down" for camera in row.cameras_down] if row.health != "stopped" else []
    words += row.alerts
    return Text(printable(", ".join(words)), style=STYLES[row.health] if words else "")


def printable(text: str) -> str:
    """What devices write is untrusted: no control characters reach the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
