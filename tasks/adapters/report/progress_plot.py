"""AP50 and recall before and after each round, both models on the same test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from tasks.adapters.report import style
from tasks.adapters.report.story import Figure, LoopStory, value_of
from tasks.core.entities import Estimate

BEFORE, AFTER = -0.14, 0.14  # places beside a round's tick
RECALL_COLOUR = "#3b5bdb"
BEFORE_COLOUR = "#8a8f98"


def progress_plot(story: LoopStory, out: Path) -> Path | None:
    """Saved as PNG; None when fewer than two figures are known, for there is no progress to show then."""
    panels = {
        "AP50": ([(r.ap50_before, r.ap50_after) for r in story.rounds], style.FOUND),
        "recall": ([(r.recall_before, r.recall_after) for r in story.rounds], RECALL_COLOUR),
    }
    known = [value_of(figure) for pairs, _ in panels.values() for pair in pairs for figure in pair]
    if max(sum(value_of(f) is not None for pair in pairs for f in pair) for pairs, _ in panels.values()) < 2:
        return None
    with style.figure(out, 6.6, 2.7) as canvas:
        for axes, (name, (pairs, colour)) in zip(canvas.subplots(1, 2, sharey=True), panels.items()):
            for place, (before, after) in enumerate(pairs):
                draw_pair(axes, place, before, after, colour)
            axes.set_title(name, loc="left", fontsize=9, fontweight="bold", color=colour)
            axes.set_xticks(range(len(pairs)), [f"round {r.number}" for r in story.rounds])
            axes.set_xlim(-0.6, len(pairs) - 0.4)
            axes.set_ylim(0, max(value or 0.0 for value in known) * 1.25 + 0.02)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.grid(True, axis="y")
            style.bare(axes)
    return out


def draw_pair(axes: Any, place: int, before: Figure, after: Figure, colour: str) -> None:
    """A grey dot for the model that was live, a coloured one for the new one, and what lies between them."""
    first, last = value_of(before), value_of(after)
    if first is not None and last is not None:
        axes.plot([place + BEFORE, place + AFTER], [first, last], color=colour, linewidth=1.4, zorder=2)
    for figure, shift, of_dot, below in ((before, BEFORE, BEFORE_COLOUR, True), (after, AFTER, colour, False)):
        value = value_of(figure)
        if value is None:
            continue
        axes.plot([place + shift], [value], "o", color=of_dot, markersize=6, zorder=3)
        if isinstance(figure, Estimate):
            axes.plot([place + shift] * 2, [figure.low, figure.high], color=of_dot, linewidth=2.4, alpha=0.35)
        axes.annotate(
            f"{value:.2f}",
            (place + shift, value),
            (0, -13 if below else 7),
            textcoords="offset points",
            ha="right" if below else "left",
            fontsize=8,
            color=of_dot,
        )
