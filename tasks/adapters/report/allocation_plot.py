"""The plot of an allocation: what people corrected in each cell, and the share of the labels that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tasks.adapters.report import style
from tasks.core.allocation import cell_text
from tasks.core.entities import Allocation, AllocationCell

MOST_ROWS = 30  # cells that are drawn, those with the most labels; the others are counted
ROW_INCHES = 0.27
TITLE_PAD = 17  # points, for the names of the lines below it
LONGEST_NAME = 46  # characters of a cell's name


def allocation_plot(allocation: Allocation, out: Path) -> Path:
    """Two panels side by side, a row a cell, saved as PNG: yields with intervals, labels against an equal share."""
    exploring = [row for row in allocation.cells if row.exploration]
    others = sorted((row for row in allocation.cells if not row.exploration), key=lambda row: (-row.labels, -row.share))
    shown = [*others[:MOST_ROWS], *exploring]
    height = 1.45 + ROW_INCHES * len(shown)
    with style.figure(out, 10.4, height) as canvas:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=[1.15, 1])
        draw_yields(left, shown, allocation)
        draw_labels(right, shown, others, allocation)
        left.set_yticks(range(len(shown)), [row_name(row) for row in shown], color=style.INK)
        left.set_ylim(len(shown) - 0.4, -0.6)
        if len(others) > MOST_ROWS:
            rest = others[MOST_ROWS:]
            told = f"{len(rest)} more cells have {sum(row.labels for row in rest):,} labels together"
            canvas.supxlabel(told, fontsize=8, color=style.QUIET, x=0.01, ha="left")
    return out


def row_name(row: AllocationCell) -> str:
    name = cell_text(row)
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def draw_yields(axes: Axes, rows: Sequence[AllocationCell], allocation: Allocation) -> None:
    """A ring for what was measured, with its interval, a dot for what it was drawn to, a line for the mean."""
    axes.set_title("Corrections for the work of an average image", pad=TITLE_PAD)
    right = axis_end(rows, allocation.mean_yield)
    if allocation.mean_yield is not None:
        axes.axvline(allocation.mean_yield, color=style.QUIET, linewidth=1)
        axes.text(allocation.mean_yield, -0.62, " mean", va="bottom", fontsize=7.5, color=style.QUIET)
    for place, row in enumerate(rows):
        colour = style.QUIET if row.exploration else style.REACHABLE
        if row.measured is None or row.interval is None:
            axes.text(0.01 * right, place, "no labels yet", va="center", fontsize=7.5, color=style.QUIET)
            continue
        low, high = row.interval
        axes.plot([low, min(high, right)], [place, place], color=colour, linewidth=2.4, alpha=0.35)
        if high > right:  # it goes on
            axes.plot(right, place, ">", color=colour, markersize=4, alpha=0.6, clip_on=False)
        if row.measured <= right:
            axes.plot(row.measured, place, "o", markersize=5.5, markerfacecolor="white", color=colour, clip_on=False)
        if not row.exploration:
            axes.plot(row.shrunk, place, "o", color=colour, markersize=5.5)
    axes.set_xlim(-0.01 * right, right)
    axes.tick_params(axis="y", pad=7)
    if allocation.mean_yield is None:
        axes.set_xticks([])
    axes.set_xlabel("ring: measured, 95% interval    dot: drawn towards the mean", fontsize=7.5)
    style.bare(axes, keep=("bottom",))


def axis_end(rows: Sequence[AllocationCell], mean: float | None) -> float:
    """Room for all that was measured and for most intervals; those of cells with few labels may leave it."""
    figures = [row.shrunk for row in rows] + [row.measured for row in rows if row.measured is not None]
    highs = [row.interval[1] for row in rows if row.interval is not None]
    return max(1.2 * max([mean or 0.0, *figures]), 1.05 * float(np.quantile(highs, 0.75)) if highs else 0.0) or 1.0


def draw_labels(
    axes: Axes, rows: Sequence[AllocationCell], others: Sequence[AllocationCell], allocation: Allocation
) -> None:
    """A bar for the labels of a cell, with what it can deliver where that is what limits it."""
    alive = [row for row in others if row.supply != 0]
    given = sum(row.labels for row in others)
    equal = given / len(alive) if alive else 0.0
    axes.set_title(f"{allocation.handed_out:,} labels", pad=TITLE_PAD)
    widest = max([row.labels for row in rows] + [equal, 1.0])
    for place, row in enumerate(rows):
        colour = style.QUIET if row.exploration else style.REACHABLE
        axes.barh(place, row.labels, height=0.62, color=colour, alpha=0.85, linewidth=0)
        beyond = equal if row.labels < equal else row.labels  # not across the line
        axes.text(beyond, place, f"  {labels_text(row)}", va="center", fontsize=7.5, color=style.INK)
    if equal:
        bottom = len(rows) - (1.5 if rows[-1].exploration else 0.5)
        axes.plot([equal, equal], [-0.6, bottom], color=style.INK, linewidth=1)
        axes.text(equal, -0.62, " equal share", va="bottom", fontsize=7.5, color=style.QUIET)
    axes.set_xlim(0, 1.45 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.tick_params(labelleft=False)
    axes.set_xlabel(shares_sentence(alive, allocation), fontsize=7.5)
    style.bare(axes, keep=("bottom",))


def labels_text(row: AllocationCell) -> str:
    if row.supply == 0:
        return "nothing waits"
    if row.supply is not None and row.labels == row.supply:
        return f"{row.labels:,}: all that wait"
    return f"{row.labels:,}"


def shares_sentence(alive: Sequence[AllocationCell], allocation: Allocation) -> str:
    """How far the shares are from equal, in words."""
    if not alive:
        return ""
    times = np.array([row.share for row in alive]) * len(alive)
    if times.max() - times.min() < 0.05:
        return "all cells have an equal share"
    return f"from {times.min():.1f} to {times.max():.1f} times an equal share; the floor is {allocation.floor:g}"
