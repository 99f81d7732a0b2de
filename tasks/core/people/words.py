"""How far people are with a batch, as they read it: sentences, rows and bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.core.people.progress import Day, Progress

BAR = 30  # characters of the longest one
DAYS_SHOWN = 31  # the newest
EIGHTHS = " ▏▎▍▌▋▊▉"
SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]()#+!|~$<>&"})  # what markdown would take for its own


def headline(progress: Progress, ended: str = "") -> str:
    """A batch in one line."""
    skipped = f", {progress.skipped} skipped" if progress.skipped else ""
    figures = f"{progress.done} of {progress.offered} images labelled{skipped} ({progress.share:.0%})"
    return f"{figures}; ended: {ended}" if ended else f"{figures}; expected end: {progress.outlook}"


def summary_row(progress: Progress, ended: str = "") -> dict[str, object]:
    """A batch as a row of the table of all batches."""
    return {
        "batch": progress.batch_id,
        "offered": progress.offered,
        "labelled": progress.done,
        "skipped": progress.skipped,
        "share": f"{progress.share:.0%}",
        "boxes": progress.boxes,
        "corrections": progress.corrections,
        "expected end": "" if ended else progress.outlook,
        "ended": ended,
    }


def annotator_rows(progress: Progress) -> list[dict[str, object]]:
    """A row a person."""
    return [
        {
            "annotator": row.annotator,
            "images": row.images,
            "skipped": row.skipped,
            "boxes": row.boxes,
            "corrections": row.corrections,
            "median s an image": "" if row.median_lead_seconds is None else f"{row.median_lead_seconds:.0f}",
        }
        for row in progress.annotators
    ]


def markdown_of(progress: Progress, ended: str = "", problems: Sequence[str] = ()) -> str:
    """A page about a batch. What people wrote is shown as it is, and never taken as markdown."""
    lines = [f"# {progress.batch_id}", "", escaped(headline(progress, ended)), ""]
    lines += [f"Offered {progress.offered_at:%Y-%m-%d %H:%M} UTC.", ""]
    if progress.reasons:
        told = "; ".join(f"{count} {escaped(reason)}" for reason, count in progress.reasons.items())
        lines += [f"Skipped: {told}.", ""]
    if progress.days:
        lines += ["## Images a day", "", "```", *day_bars(progress.days), "```", ""]
    if rows := annotator_rows(progress):
        lines += ["## Who", "", *markdown_table(rows), ""]
    if told_lines := [*progress.warnings, *problems]:
        lines += ["## What was wrong", "", *(f"- {escaped(line)}" for line in told_lines), ""]
    return "\n".join(lines)


def day_bars(days: Sequence[Day], width: int = BAR) -> list[str]:
    """A line a day, the newest days, its bar in proportion to the busiest of them."""
    shown = days[-DAYS_SHOWN:]
    most = max((day.images for day in shown), default=0)
    lines = [f"{day.day:%a %Y-%m-%d} {day.images:>5}  {bar(day.images, most, width)}".rstrip() for day in shown]
    earlier = sum(day.images for day in days[:-DAYS_SHOWN])
    return [f"before that {earlier} images", *lines] if earlier else lines


def bar(value: int, most: int, width: int) -> str:
    """Whole and eighths of blocks; nothing for nothing."""
    eighths = round(8 * width * value / most) if most else 0
    whole, part = divmod(max(eighths, min(value, 1)), 8)
    return "█" * whole + EIGHTHS[part].strip()


def markdown_table(rows: Sequence[dict[str, object]]) -> list[str]:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(escaped(str(row[name])) for name in names) + " |" for row in rows]


def escaped(text: str) -> str:
    """Text from outside on one line, every character of it shown and none obeyed."""
    return printable(text).translate(SPECIAL)


def printable(text: str) -> str:
    """What people and devices write is untrusted: no control characters reach a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def in_every_string(value: object, change: Callable[[str], str]) -> object:
    """A JSON value with `change` done to each of its strings, keys as well."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(key)): in_every_string(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_every_string(item, change) for item in value]
    return value
