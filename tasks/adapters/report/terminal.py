"""The story of a run for a terminal: the facts of the page in fewer than 60 lines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.adapters.report.pages import labels_sentence, short
from tasks.adapters.report.sentences import class_sentence, estimate_text, suggestion_sentence, value_text
from tasks.adapters.report.story import CameTrue, Figure, LoopStory, RoundStory, seconds_text, story_sentence, value_of
from tasks.core.entities import Evaluation

VERDICT_STYLES = {"accepted": "bold green", "rejected": "bold red", "inconclusive": "bold yellow"}
TOLD_ROUNDS = 2  # the newest ones, in words
LISTED_ROUNDS = 8
MOST_CLASSES = 3


def loop_summary(story: LoopStory) -> Group:
    """What `rich.print` shows of a story: a table of the rounds, then what is known of the newest ones."""
    parts: list[RenderableType] = [Text(story.title, style="bold"), Text(story_sentence(story)), rounds_table(story)]
    for r in story.rounds[-TOLD_ROUNDS:]:
        parts += round_lines(r)
    live = f"Live model {short(story.live_model)}"
    origin = f", from {story.base_checkpoint}" if story.base_checkpoint else ""
    took = f"; {seconds_text(story.seconds)}" if story.seconds else ""
    parts.append(Text(f"\n{live}{origin}; seed {story.seed}{took}."))
    if story.annotator:
        parts.append(Text(story.annotator, style="dim"))
    parts += [Text(f"Waits for {line}") for line in story.waits_for]
    parts += [Text.assemble((f"{text}: ", "dim"), address) for text, address in story.links.items()]
    return Group(*parts)


def rounds_table(story: LoopStory) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("round", "frames", "sent", "labelled"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("model", "AP50", "recall", "gate"):
        table.add_column(name, no_wrap=True)
    for r in story.rounds[-LISTED_ROUNDS:]:
        verdict = r.verdict.verdict if r.verdict else ""
        table.add_row(
            str(r.number),
            f"{r.frames:,}",
            f"{sum(r.collected.values()):,}",
            f"{r.labels.images:,}",
            short(r.model_after),
            change_text(r.ap50_before, r.ap50_after),
            change_text(r.recall_before, r.recall_after),
            Text(verdict, style=VERDICT_STYLES.get(verdict, "")),
        )
    return table


def change_text(before: Figure, after: Figure) -> str:
    """`0.60 -> 0.71`, or what is known of it."""
    first, last = value_of(before), value_of(after)
    known = [f"{value:.2f}" for value in (first, last) if value is not None]
    return " -> ".join(known) or "-"


def round_lines(r: RoundStory) -> list[RenderableType]:
    """One round in about ten lines."""
    lines: list[RenderableType] = [Text(f"\nRound {r.number}: {r.title}", style="bold")]
    if r.collected:
        kept = ", ".join(f"{count:,} {name}" for name, count in sorted(r.collected.items(), key=lambda i: -i[1]))
        lines.append(Text(f"Sent: {kept}. {labels_sentence(r)}"))
    if r.evaluation:
        lines += [Text(line) for line in most_missed(r.evaluation)]
    if r.note:
        lines.append(Text(r.note, style="dim"))
    if r.came_true:
        lines.append(came_true_table(r.came_true))
    if r.suggestion:
        lines.append(Text(f"Next: {suggestion_sentence(r.suggestion)}"))
    lines += [Text(swap, style="dim") for swap in r.swaps[-2:]]
    return lines


def most_missed(evaluation: Evaluation) -> list[str]:
    """Sentences about the classes with the most misses."""
    classes = sorted(evaluation.classes.items(), key=lambda item: -item[1].misses)[:MOST_CLASSES]
    return [class_sentence(name, c, evaluation.confidence_floor) for name, c in classes if c.ground_truths]


def came_true_table(rows: Sequence[CameTrue]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("forecast", "with its 95% interval", "came true"):
        table.add_column(name, justify="left" if name == "forecast" else "right")
    for row in rows:
        came_true = Text(value_text(row.came_true, row.is_share), style="" if row.inside else "yellow")
        table.add_row(row.name, estimate_text(row.forecast, row.is_share), came_true)
    return table
