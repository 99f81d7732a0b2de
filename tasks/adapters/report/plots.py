"""The plots of an evaluation: where the misses are, precision against recall, confidences of true and false."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from tasks.adapters.report import style
from tasks.core.bands import BAND_EDGES
from tasks.core.entities import ClassEvaluation, Evaluation
from tasks.core.matching import Matches

BLIND_KINDS = (
    ("blind_unseen", "unseen"),
    ("blind_classification", "other\nclass"),
    ("blind_localisation", "badly\nplaced"),
)
BLIND_WIDTH = 0.72  # of a column, in columns of a band
BLIND_LEFT = -len(BLIND_KINDS) * BLIND_WIDTH - 0.35
EDGES = (*BAND_EDGES, 1.0)
COUNT_TICKS = tuple(base * 10**power for power in range(7) for base in (1, 2, 5) if (base, power) != (2, 0))
MOST_CLASSES = 8  # that one plot names; the others have fewer misses and are in the table


def classes_by_misses(evaluation: Evaluation, most: int | None = None) -> list[str]:
    """Names of classes with ground truths, those with the most misses first."""
    known = [name for name, c in evaluation.classes.items() if c.ground_truths]
    return sorted(known, key=lambda name: (-evaluation.classes[name].misses, name))[:most]


def class_ids_of(evaluation: Evaluation) -> dict[str, int]:
    """An evaluation names its classes in the order of the class list."""
    return {name: class_id for class_id, name in enumerate(evaluation.classes)}


# --- where the misses are --------------------------------------------------------------------------------------------


def bands_plot(evaluation: Evaluation, out: Path) -> Path:
    """One row a class, one column a confidence band: how many misses have their candidate there.

    Left of the bands the blind misses, by kind. Slate is what no rule on a device can see (blind, or below its
    confidence floor), orange what a rule can collect. The bar in each row is its operating threshold.
    """
    names = classes_by_misses(evaluation)
    with style.figure(out, 9.6, 1.75 + 0.46 * max(len(names), 1)) as canvas:
        axes = canvas.subplots()
        highest = max((count for n in names for count in cell_counts(evaluation.classes[n])), default=1) or 1
        for row, name in enumerate(names):
            draw_row(axes, row, evaluation.classes[name], evaluation.confidence_floor, highest)
            axes.text(BLIND_LEFT - 0.2, row, name, ha="right", va="center", fontweight="bold", fontsize=10)
        head_bands(axes, evaluation.confidence_floor)
        axes.set_xlim(BLIND_LEFT - 0.1 - 0.13 * max([len(n) for n in names] + [6]), len(EDGES) + 0.9)
        axes.set_ylim(len(names) - 0.35, -1.75)
        axes.set_yticks([])
        axes.set_xticks([band_position(edge) for edge in EDGES], [f"{edge:g}" for edge in EDGES])
        chosen = f" {evaluation.criterion.split(' (')[0]}" if evaluation.thresholds_by in ("f_beta", "costs") else ""
        caption = f"confidence of the candidate detection;  ┃ operating threshold{chosen},  ─ its 95% interval"
        axes.text(0, len(names) + 0.12, caption, ha="left", va="top", color=style.QUIET, fontsize=8)
        style.bare(axes)
        axes.tick_params(axis="x", pad=-2)
    return out


def cell_counts(of_class: ClassEvaluation) -> list[int]:
    return [int(getattr(of_class, kind)) for kind, _ in BLIND_KINDS] + [band.misses for band in of_class.bands]


def draw_row(axes: Axes, row: int, of_class: ClassEvaluation, floor: float, highest: int) -> None:
    """The cells of one class, its threshold, and its total."""
    for column, (kind, _) in enumerate(BLIND_KINDS):
        left = BLIND_LEFT + column * BLIND_WIDTH
        draw_cell(axes, left, left + BLIND_WIDTH, row, int(getattr(of_class, kind)), highest, reachable=False)
    for band in of_class.bands:
        reachable = band.low >= floor
        draw_cell(
            axes, band_position(band.low), band_position(band.high), row, band.misses, highest, reachable=reachable
        )
    threshold = band_position(of_class.threshold)
    axes.plot([threshold, threshold], [row - 0.46, row + 0.46], color=style.THRESHOLD, linewidth=2.2, zorder=4)
    low, high = (band_position(t) for t in of_class.threshold_interval)
    axes.plot([low, high], [row + 0.45, row + 0.45], color=style.THRESHOLD, linewidth=0.8, zorder=3)
    axes.text(threshold + 0.07, row - 0.28, f"{of_class.threshold:.2f}", fontsize=7, color=style.QUIET, va="center")
    axes.text(len(EDGES) - 0.4, row, f"{of_class.misses}", ha="right", va="center", fontweight="bold", fontsize=10)
    share = f"of {of_class.ground_truths}" + (f", {of_class.misses / of_class.ground_truths:.0%}")
    axes.text(len(EDGES) - 0.32, row, share, ha="left", va="center", color=style.QUIET)


def draw_cell(axes: Axes, left: float, right: float, row: int, misses: int, highest: int, *, reachable: bool) -> None:
    """One cell, the darker the more misses (by their root, so that few are not none), with their number."""
    scale = style.REACHABLE_SCALE if reachable else style.UNREACHABLE_SCALE
    colour = scale((misses / highest) ** 0.5 * 0.85)
    axes.add_patch(
        Rectangle(
            (left + 0.015, row - 0.4),
            max(right - left - 0.03, 0.01),
            0.8,
            facecolor=colour,
            edgecolor="white" if reachable else style.UNREACHABLE_SCALE(0.35),
            hatch=None if reachable else "////",
            linewidth=0,
        )
    )
    if misses and right - left > 0.16:
        text = axes.text(
            (left + right) / 2, row, str(misses), ha="center", va="center", fontsize=9, color=style.readable_on(colour)
        )
        if not reachable:  # numbers on hatching need a ground of their own
            text.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1.2})


def band_position(confidence: float) -> float:
    """Where a confidence lies when every band is one column wide."""
    return float(np.interp(confidence, EDGES, np.arange(len(EDGES))))


def head_bands(axes: Axes, floor: float) -> None:
    """What the columns are, over brackets that say which of them a rule can reach."""
    for column, (_, kind) in enumerate(BLIND_KINDS):
        middle = BLIND_LEFT + (column + 0.5) * BLIND_WIDTH
        axes.text(middle, -0.56, kind, ha="center", va="bottom", fontsize=7, color=style.QUIET, linespacing=0.9)
    split = band_position(max(floor, EDGES[0]))
    bracket(axes, BLIND_LEFT, BLIND_LEFT + len(BLIND_KINDS) * BLIND_WIDTH, "blind: no candidate", style.UNREACHABLE)
    if split > 0.3:
        bracket(axes, 0, split, "below the floor", style.UNREACHABLE)
    bracket(axes, split, len(EDGES) - 1, "a rule can collect these", style.REACHABLE)
    axes.text(len(EDGES) - 0.4, -0.58, "missed", ha="right", va="bottom", color=style.QUIET)


def bracket(axes: Axes, left: float, right: float, text: str, colour: str) -> None:
    axes.plot([left + 0.04, right - 0.04], [-1.15, -1.15], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.text((left + right) / 2, -1.25, text, ha="center", va="bottom", color=colour, fontweight="bold", fontsize=8.5)


# --- precision against recall ----------------------------------------------------------------------------------------


def precision_recall_plot(evaluation: Evaluation, matches: Matches, out: Path) -> Path:
    """Precision against recall of each class, with its operating point. The most missed classes have a colour."""
    names, class_ids = classes_by_misses(evaluation), class_ids_of(evaluation)
    with style.figure(out, 6.4, 4.6) as canvas:
        axes = canvas.subplots()
        for rank, name in reversed(list(enumerate(names))):
            recall, precision, threshold = precision_recall_curve(matches, class_ids[name])
            named = rank < MOST_CLASSES
            colour = style.CLASS_COLOURS[rank] if named else style.FAINT
            axes.plot(recall, precision, color=colour, linewidth=1.6 if named else 0.8, zorder=3 if named else 1)
            kept = np.flatnonzero(threshold >= evaluation.classes[name].threshold)
            if named and len(kept):
                point = recall[kept[-1]], precision[kept[-1]]
                axes.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", zorder=5)
                found = f"{name}  {evaluation.classes[name].threshold:.2f}"
                axes.plot([], [], "o-", color=colour, label=found)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            axes.legend(
                handles[::-1], labels[::-1], title="operating threshold", loc="center left", bbox_to_anchor=(1, 0.5),
                alignment="left",
            )  # fmt: skip
        axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall: share of objects found",
                 ylabel="precision: share of detections that are right")  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(True)
    return out


def precision_recall_curve(matches: Matches, class_id: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Recall, precision and confidence, (n,) each, after every detection of a class in descending confidence."""
    found = matches.detections
    rows = np.flatnonzero((found.class_id == class_id) & ~found.is_ignored)
    rows = rows[np.argsort(-found.confidence[rows], kind="stable")]
    hits = np.cumsum(found.is_true[rows])
    truths = max(int((matches.truths.class_id == class_id).sum()), 1)
    return hits / truths, hits / np.arange(1, len(rows) + 1), found.confidence[rows]


# --- confidences -----------------------------------------------------------------------------------------------------


def confidences_plot(evaluation: Evaluation, matches: Matches, out: Path) -> Path:
    """How confident the model is where it is right and where it is wrong, for the most missed classes."""
    names, class_ids = classes_by_misses(evaluation, 6), class_ids_of(evaluation)
    columns = min(len(names), 3) or 1
    rows = ceil(len(names) / columns) or 1
    with style.figure(out, 9.6, 0.6 + 2.1 * rows) as canvas:
        grid = canvas.subplots(rows, columns, sharex=True, squeeze=False)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(grid.flat, names):
            draw_confidences(axes, evaluation.classes[name].threshold, matches, class_ids[name])
            axes.set_title(name)
        for axes in list(grid.flat[: len(names)])[-columns:]:  # the lowest of each column
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("confidence")
        for axes in grid[:, 0]:
            axes.set_ylabel("detections")
        true, false = Rectangle((0, 0), 1, 1, color=style.FOUND), Rectangle((0, 0), 1, 1, color=style.FALSE)
        canvas.legend([true, false], ["right", "wrong"], loc="outside upper right", ncols=2)
    return out


def draw_confidences(axes: Axes, threshold: float, matches: Matches, class_id: int) -> None:
    """Right detections upwards, wrong ones downwards, on a root scale: low confidences are many."""
    found = matches.detections
    of_class = (found.class_id == class_id) & ~found.is_ignored
    edges = np.linspace(0, 1, 41)
    for true, colour, sign in ((True, style.FOUND, 1), (False, style.FALSE, -1)):
        counts, _ = np.histogram(found.confidence[of_class & (found.is_true == true)], edges)
        axes.bar(edges[:-1], sign * np.sqrt(counts), width=np.diff(edges), align="edge", color=colour, linewidth=0)
    axes.axhline(0, color=style.QUIET, linewidth=0.7)
    axes.axvline(threshold, color=style.THRESHOLD, linewidth=1.2)
    top = axes.get_ylim()[1]
    axes.text(threshold + 0.012, top, f"{threshold:.2f}", fontsize=7.5, va="top")
    low, high = axes.get_ylim()
    ticks = [t for t in COUNT_TICKS if t <= max(low * low, high * high)][-2:]
    shown = [(sign * t**0.5, t) for t in ticks for sign in (-1, 1) if low <= sign * t**0.5 <= high]
    axes.set_yticks([0, *(y for y, _ in shown)], ["0", *(f"{t:g}" for _, t in shown)])
    axes.set_xlim(0, 1)
    axes.spines["bottom"].set_visible(False)
