"""AP50 and recall on test images, round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from tasks.adapters.report import style
from tasks.adapters.report.story import Figure, LoopStory, value_of
from tasks.core.entities import Estimate


def progress_plot(story: LoopStory, out: Path) -> Path | None:
    """Saved as PNG; None when fewer than two figures are known, for there is no progress to show then."""
    series = {
        "AP50": (figures_of([(r.ap50_before, r.ap50_after) for r in story.rounds]), style.FOUND, -0.03),
        "recall": (figures_of([(r.recall_before, r.recall_after) for r in story.rounds]), "#3b5bdb", 0.03),
    }
    if max(len(points) for points, _, _ in series.values()) < 2:
        return None
    with style.figure(out, 6.6, 2.9) as canvas:
        axes = canvas.subplots()
        for name, (points, colour, shift) in series.items():
            places = [place + shift for place, _ in points]
            values = [value_of(figure) or 0.0 for _, figure in points]
            axes.plot(places, values, "o-", color=colour, linewidth=1.4, markersize=6, zorder=3)
            for place, (_, figure), value in zip(places, points, values):
                if isinstance(figure, Estimate):
                    axes.plot([place, place], [figure.low, figure.high], color=colour, linewidth=2.4, alpha=0.35)
                label: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": colour}
                axes.annotate(f"{value:.2f}", (place, value), (6, 5), **label)
            if points:
                axes.annotate(name, (places[-1], values[-1]), (34, 0), textcoords="offset points", va="center",
                              color=colour, fontweight="bold")  # fmt: skip
        names = ["at the start", *(f"after round {r.number}" for r in story.rounds)]
        first = min(place for points, _, _ in series.values() for place, _ in points)
        axes.set_xticks(range(first, len(names)), names[first:])
        axes.set_xlim(first - 0.25, len(names) - 0.55)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(True, axis="y")
        style.bare(axes)
    return out


def figures_of(before_and_after: list[tuple[Figure, Figure]]) -> list[tuple[int, Figure]]:
    """Known figures with their place: 0 before the first round, n after the n-th."""
    if not before_and_after:
        return []
    figures = [before_and_after[0][0], *(after for _, after in before_and_after)]
    return [(place, figure) for place, figure in enumerate(figures) if value_of(figure) is not None]
