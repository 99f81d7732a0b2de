"""The picture of an explanation: m(x) against its minimum over time, what was kept, and why the rest was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tasks.adapters.report import style
from tasks.core.explain import Timeline
from tasks.core.explain.timeline import NOT_KEPT
from tasks.core.settings import SamplingSettings

MOST_COLUMNS = 1200  # more than that no eye tells apart
DENSE_COLUMNS = 500
SPACE_ABOVE = 1.12
FAR_ABOVE = 3.0  # times the largest m(x): a minimum that lies beyond is named, not drawn
FEW_KEPT, MANY_KEPT = 60, 400
FAINTEST = 0.45  # of a row's colour, where one frame of a column of many is meant
NAME_LENGTH = 28
TICKS = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S.%f"]  # of years, months, days, hours, minutes, seconds

Columns = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row below the curve: the frames of one strategy, or of one reason why not."""

    name: str
    colour: str
    frames: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Time, cut into columns of equal width.

    edges: (columns + 1,) days as matplotlib counts them, or frame numbers. column: (n,) of each frame.
    """

    edges: Numbers
    column: Columns
    is_time: bool

    @property
    def middles(self) -> Numbers:
        return (self.edges[:-1] + self.edges[1:]) / 2

    def highest(self, values: Numbers) -> Numbers:
        """(columns,) the largest of each column's values; NaN in a column that has none."""
        known = ~np.isnan(values)
        highest = np.full(len(self.edges) - 1, -np.inf)
        np.maximum.at(highest, self.column[known], values[known])
        return np.where(np.isinf(highest), np.nan, highest)

    def share(self, frames: NDArray[np.bool_]) -> Numbers:
        """(columns,) the share of each column's frames; 0 in a column that has none."""
        columns = len(self.edges) - 1
        those, all_of_them = (np.bincount(self.column[rows], minlength=columns) for rows in (frames, slice(None)))
        return np.asarray(those / np.maximum(all_of_them, 1), np.float64)


def explain_plot(timeline: Timeline, settings: SamplingSettings, out: Path, title: str = "") -> Path:
    """At least one frame. Above, m(x) of the frames against the minimum that the budget asked for, with a mark on
    each kept frame, hollow where the random slice drew it; without a budget the number of detections. Below, a row for
    each strategy that kept frames and for each reason why others were not. Of many frames, a column of the picture
    shows the highest value and, the darker the more, the share of its frames.
    """
    axis, rows = _axis_of(timeline.captured_at), _rows_of(timeline, settings)
    has_budget = bool(np.isfinite(timeline.expected_misses).any())
    curve = timeline.expected_misses if has_budget else timeline.detections.astype(np.float64)
    row_height = 0.24 * len(rows)
    with style.figure(out, 10.5, 3.9 + row_height) as canvas:
        above, below = canvas.subplots(2, 1, sharex=True, height_ratios=[2.6, max(row_height, 0.3)])
        _draw_curve(above, axis, curve, has_budget)
        if has_budget:
            _draw_minimum(above, axis, timeline, float(np.nanmax(curve)))
        _mark_kept(above, axis, curve, timeline, rows)
        _draw_rows(below, axis, rows)
        _name_the_axis(below, axis, timeline)
        _head(above, timeline, title)
    return out


def _axis_of(captured_at: Numbers) -> _Axis:
    """One column a frame while they can be told apart; by number where all frames have the same time."""
    first, last = float(captured_at.min()), float(captured_at.max())
    is_time = last > first
    places = captured_at if is_time else np.arange(len(captured_at), dtype=np.float64)
    low, high = float(places.min()), float(places.max())
    steps = np.diff(np.unique(places))
    step = float(np.median(steps)) if len(steps) else 1.0
    columns = int(min(MOST_COLUMNS, max(1, round((high - low) / step) + 1)))
    half = (high - low) / (columns - 1) / 2 if columns > 1 else step / 2
    edges = np.linspace(low - half, high + half, columns + 1)
    column = np.clip(((places - edges[0]) / (edges[-1] - edges[0]) * columns).astype(np.int64), 0, columns - 1)
    return _Axis(_days(edges) if is_time else edges, column, is_time)


def _days(seconds: Numbers) -> Numbers:
    """As matplotlib counts time."""
    epoch = date2num(datetime(1970, 1, 1, tzinfo=timezone.utc))  # type: ignore[no-untyped-call]
    return np.asarray(epoch + seconds / 86400.0, np.float64)


def _rows_of(timeline: Timeline, settings: SamplingSettings) -> list[_Row]:
    """Strategies in the settings' order, each with its colour; then the reasons, the most frequent first."""
    strategy, outcome = timeline.strategy, timeline.outcome
    names = [one.name for one in settings.sampling_strategies]
    rows = []
    for name in sorted(timeline.kept_by(), key=names.index):
        colour = style.CLASS_COLOURS[names.index(name) % len(style.CLASS_COLOURS)]
        rows.append(_Row(f"kept by {name}", colour, strategy == timeline.strategies.index(name)))
    left = strategy == NOT_KEPT
    for reason in timeline.left_for():
        rows.append(_Row(reason, style.UNREACHABLE, left & (outcome == timeline.outcomes.index(reason))))
    return rows


# --- above: the curve ------------------------------------------------------------------------------------------------


def _draw_curve(axes: Axes, axis: _Axis, curve: Numbers, has_budget: bool) -> None:
    highest = axis.highest(curve)
    axes.stairs(np.nan_to_num(highest), axis.edges, fill=True, color=style.FAINT, linewidth=0)
    is_dense = len(highest) > DENSE_COLUMNS
    axes.stairs(highest, axis.edges, color=style.QUIET, linewidth=0.4 if is_dense else 0.8, baseline=None)
    top = float(np.nanmax(highest)) if np.isfinite(highest).any() else 0.0
    axes.set_ylim(0, SPACE_ABOVE * top or 1.0)
    axes.set_ylabel("m(x): misses expected in a frame" if has_budget else "detections in a frame")
    if not has_budget:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _draw_minimum(axes: Axes, axis: _Axis, timeline: Timeline, largest: float) -> None:
    """What m(x) must exceed; hatched where the budget had room for exploration alone."""
    minimum = axis.highest(timeline.minimum_expected_misses)
    visible = np.where(minimum <= FAR_ABOVE * max(largest, 1e-9), minimum, np.nan)
    if np.isfinite(visible).any():
        low, high = axes.get_ylim()
        axes.set_ylim(low, max(high, SPACE_ABOVE * float(np.nanmax(visible))))
        axes.stairs(visible, axis.edges, color=style.THRESHOLD, linewidth=1.3, baseline=None, zorder=4)
    beyond = minimum[np.isnan(visible) & np.isfinite(minimum)]
    if len(beyond):
        text = f"minimum up to {beyond.max():.3g}, above the picture"
        axes.text(0.995, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=style.THRESHOLD)
    alone = axis.share(np.isnan(timeline.minimum_expected_misses)) > 0.5
    axes.fill_between(
        axis.edges, 0, 1, where=np.append(alone, alone[-1:]), step="post", transform=axes.get_xaxis_transform(),
        facecolor="none", edgecolor=style.FAINT, hatch="////", linewidth=0, zorder=0,
    )  # fmt: skip


def _mark_kept(axes: Axes, axis: _Axis, curve: Numbers, timeline: Timeline, rows: Sequence[_Row]) -> None:
    """Each kept frame at its value, hollow where it is of the random slice; of a column of many the highest."""
    kept = int((timeline.strategy != NOT_KEPT).sum())
    size = 34 if kept <= FEW_KEPT else 16 if kept <= MANY_KEPT else 7
    values, drawn = np.nan_to_num(curve), timeline.random_slice
    for row in rows[: len(timeline.kept_by())]:
        for is_random in (False, True):
            highest = axis.highest(np.where(row.frames & (drawn == is_random), values, np.nan))
            face = "white" if is_random else row.colour
            axes.scatter(
                axis.middles, highest, s=size, facecolor=face, edgecolor=row.colour, linewidth=0.9, zorder=5,
                clip_on=False,
            )  # fmt: skip


def _head(axes: Axes, timeline: Timeline, title: str) -> None:
    cameras = "" if len(timeline.cameras) < 2 else f", {len(timeline.cameras)} cameras"
    kept = sum(timeline.kept_by().values())
    frames = "frame" if len(timeline) == 1 else "frames"
    what = f"{_short(title, 60)}: " if title else ""
    axes.set_title(f"{what}{kept:,} of {len(timeline):,} {frames} kept{cameras}", pad=24)
    minimum, alone = timeline.minimum_expected_misses, np.isnan(timeline.minimum_expected_misses)
    keys = []
    if np.isfinite(minimum).any():
        keys.append(Line2D([], [], color=style.THRESHOLD, linewidth=1.3, label="minimum that a frame must exceed"))
    if np.isfinite(timeline.expected_misses).any() and alone.any():
        hatched = axes.fill_between([], [], facecolor="none", edgecolor=style.QUIET, hatch="////", linewidth=0)
        hatched.set_label("room for exploration alone")
        keys.append(hatched)  # type: ignore[arg-type]
    if kept:
        keys.append(_mark(style.QUIET, "kept"))
    if timeline.random_slice.any():
        keys.append(_mark("white", "kept, of the random slice"))
    if keys:
        axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(-0.008, 1.0), ncols=len(keys), borderaxespad=0.3)


def _mark(face: str, label: str) -> Line2D:
    return Line2D(
        [], [], linestyle="", marker="o", markersize=5.5, color=style.QUIET, markerfacecolor=face, label=label
    )


# --- below: the rows -------------------------------------------------------------------------------------------------


def _draw_rows(axes: Axes, axis: _Axis, rows: Sequence[_Row]) -> None:
    """The darker a column, the more of its frames belong to the row; a single one can be seen."""
    for place, row in enumerate(rows):
        share = axis.share(row.frames)
        weight = np.where(share > 0, FAINTEST + (1 - FAINTEST) * share, 0.0)
        colour = np.array(to_rgb(row.colour))
        picture = 1 - weight[None, :, None] * (1 - colour)
        axes.imshow(
            picture, aspect="auto", interpolation="nearest", zorder=1,
            extent=(axis.edges[0], axis.edges[-1], place + 0.4, place - 0.4),
        )  # fmt: skip
        of_all = f"{int(row.frames.sum()):,}"
        axes.text(1.008, place, of_all, transform=axes.get_yaxis_transform(), va="center", fontweight="bold")
    axes.set_yticks(range(len(rows)), [_short(row.name, NAME_LENGTH) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows):
        label.set_color(row.colour)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(axis.edges[0], axis.edges[-1])
    style.bare(axes, keep=("bottom",))


def _name_the_axis(axes: Axes, axis: _Axis, timeline: Timeline) -> None:
    axes.tick_params(axis="x", length=3)
    if not axis.is_time:
        axes.set_xlabel("number of the frame")
        return
    locator = AutoDateLocator(tz=timezone.utc, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=timezone.utc, formats=TICKS, zero_formats=TICKS)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("capture time (UTC)")


def _short(text: str, most: int) -> str:
    """One line of at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
