"""The picture of a look for drift: each figure of each camera, reference against now, and frames before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from tasks.adapters.report import style
from tasks.core.drift import FIGURES, Series
from tasks.core.entities import CameraDrift, Detection, Drift, FigureDrift, Sample

MOST_CAMERAS = 8  # drawn; those that changed come first
BARS = 24  # of a histogram
BEFORE, NOW, NOW_CHANGED = style.QUIET, style.FOUND, style.REACHABLE
CROP_MARGIN = 0.25  # of a box's longer side, around it
HEADROOM = 1.3  # above the highest bar, for words
CROPS = 4  # of each window, the most confident detections of its frames

Pixels = NDArray[np.uint8]
ReferenceAndNow = tuple[Series, Series]


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample's picture. pixels: (height, width, 3) uint8 BGR."""

    sample: Sample
    pixels: Pixels


ShownFrames = tuple[Sequence[Shown], Sequence[Shown]]  # of the reference, and of now


def drift_plot(
    drift: Drift,
    series: Mapping[str, Mapping[str, ReferenceAndNow]],
    frames: Mapping[str, ShownFrames],
    out: Path,
) -> Path:
    """Saved as PNG. series, frames: by `CameraDrift.name`; frames are only shown of cameras that changed."""
    order = {"changed": 0, "silent": 1, "too few": 2, "same": 3}
    cameras = sorted(drift.cameras, key=lambda camera: (order[camera.answer], camera.name))
    shown = cameras[:MOST_CAMERAS]
    strips = [frames.get(c.name, ((), ())) if c.answer == "changed" else ((), ()) for c in shown]
    heights = [2.1 + (2.75 if any(strip) else 0) for strip in strips]
    with style.figure(out, 11.0, sum(heights) + 0.75) as canvas:
        canvas.suptitle(title_of(drift, len(cameras) - len(shown)), x=0.01, ha="left", fontsize=9, color=style.QUIET)
        parts = canvas.subfigures(len(shown), 1, height_ratios=heights, squeeze=False).flat
        for part, camera, strip in zip(parts, shown, strips):
            draw_camera(part, camera, series.get(camera.name, {}), strip)
    return out


def title_of(drift: Drift, left_out: int) -> str:
    more = f"; {left_out} more cameras are not drawn" if left_out else ""
    return (
        f"Model {drift.model_version}, release {drift.release_number}.  Grey: the reference, "
        f"{span(drift.reference_from, drift.reference_to)}.  "
        f"In colour: now, {span(drift.now_from, drift.now_to)} UTC{more}"
    )


def span(start: object, end: object) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def draw_camera(
    part: SubFigure, camera: CameraDrift, series: Mapping[str, ReferenceAndNow], strip: ShownFrames
) -> None:
    """A row of figures, and below it, where there are any, frames and crops before and after."""
    words = {"same": "no drift", "too few": f"no answer: {camera.reason}", "silent": f"silent: {camera.reason}"}
    colour = NOW_CHANGED if camera.is_trouble else style.INK
    head = words.get(camera.answer, "changed: " + ", ".join(f.figure for f in camera.changed))
    part.suptitle(f"{camera.name}   {head}", x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=colour)
    has_frames = any(strip)
    rows = list(part.subfigures(2, 1, height_ratios=(2.1, 2.75), squeeze=False).flat) if has_frames else [part]
    figures = [f for f in camera.figures if f.figure in series]
    axes = list(rows[0].subplots(1, max(len(FIGURES) - 1, len(figures)), squeeze=False).flat)
    for panel, figure in zip(axes, figures):
        draw_figure(panel, figure, *series[figure.figure])
    for panel in axes[len(figures) :]:
        panel.set_visible(False)
    if has_frames:
        draw_strip(rows[1], strip)


def draw_figure(axes: Axes, figure: FigureDrift, reference: Series, now: Series) -> None:
    """Two histograms over each other: shares of frames, weighted as the log wants it."""
    changed = figure.answer == "changed"
    colour = NOW_CHANGED if changed else NOW
    reference, now = reference.usable(), now.usable()
    edges = bin_edges(np.concatenate([reference.values, now.values]))
    for window, of_window, filled in ((reference, BEFORE, True), (now, colour, False)):
        if not len(window):
            continue
        shares = np.histogram(window.values, edges, weights=window.weights)[0] / window.weights.sum()
        axes.stairs(shares, edges, color=of_window, fill=filled, alpha=0.35 if filled else 1, linewidth=1.6)
    axes.set_title(figure.figure, fontsize=9, color=colour if changed else style.INK, pad=14)
    axes.text(0, 1.02, caption(figure), transform=axes.transAxes, fontsize=7.3, color=style.QUIET, va="bottom")
    axes.set_ylim(0, axes.get_ylim()[1] * HEADROOM)
    if changed and figure.at is not None:
        whole = np.all(edges == np.round(edges - 0.5) + 0.5)  # bars of whole numbers: the line goes after the bar
        axes.axvline(figure.at + 0.5 * bool(whole), color=style.INK, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.text(
            0.98,
            0.94,
            f"up to {figure.at:.2g}: {figure.reference_share or 0:.0%}\n"
            f"of frames before, {figure.now_share or 0:.0%} now",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=7.5,
            color=style.INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    style.bare(axes, keep=("bottom",))


def bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers have a bar each, other values BARS between the ends; 1 in 200 beyond the far end is not shown."""
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    if np.all(values == np.round(values)) and high - low <= 2 * BARS:
        return np.arange(low - 0.5, high + 1.5)
    return np.linspace(low, high, BARS + 1) if high > low else np.array([low - 0.5, low + 0.5])


def caption(figure: FigureDrift) -> str:
    """Means, p-value, and since when, below the title of a panel."""
    if figure.answer == "too few":
        return f"{figure.reference_frames:,} frames before, {figure.now_frames:,} now: too few"
    p_value = min(figure.ks_p_value or 1.0, figure.psi_p_value or 1.0)
    words = f"mean {figure.reference_mean or 0:.3g} \N{RIGHTWARDS ARROW} {figure.now_mean or 0:.3g}, p {p_value:.2g}"
    return words + (f", since {figure.since:%m-%d %H:%M}" if figure.since else "")


# --- frames ----------------------------------------------------------------------------------------------------------


def draw_strip(part: SubFigure, strip: ShownFrames) -> None:
    """Before on the left, now on the right: whole frames above, crops of their detections below."""
    sides = part.subfigures(1, 2, squeeze=False).flat
    for side, frames, name, colour in zip(sides, strip, ("before", "now"), (BEFORE, NOW_CHANGED)):
        side.suptitle(name, fontsize=8.5, color=colour)
        top, bottom = side.subfigures(2, 1, height_ratios=(1.7, 1), squeeze=False).flat
        for axes, frame in zip(panels(top, 3), frames):
            draw_frame(axes, frame, colour)
        for axes, (crop, confidence) in zip(panels(bottom, CROPS), crops_of(frames)):
            axes.imshow(crop)
            axes.set_title(f"{confidence:.2f}", loc="center", fontsize=7, fontweight="normal", pad=2)
            axes.set_visible(True)


def panels(part: SubFigure, number: int) -> list[Axes]:
    """Empty places for pictures, hidden until one is drawn."""
    found: list[Axes] = list(part.subplots(1, number, squeeze=False).flat)
    for axes in found:
        axes.axis("off")
        axes.set_visible(False)
    return found


def draw_frame(axes: Axes, frame: Shown, colour: str) -> None:
    axes.set_visible(True)
    axes.imshow(frame.pixels[..., ::-1])
    for detection in frame.sample.detections:
        x1, y1, x2, y2 = detection.xyxy
        axes.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=0.4 + 1.2 * detection.confidence
            )
        )
    when = f"{frame.sample.captured_at:%m-%d %H:%M}"
    axes.set_title(when, loc="center", fontsize=7, fontweight="normal", color=style.QUIET, pad=2)


def crops_of(frames: Sequence[Shown]) -> list[tuple[Pixels, float]]:
    """The most confident detections of the frames, in RGB, with what lies around them; in turn one of each frame."""
    ranked = [sorted(frame.sample.detections, key=lambda d: -d.confidence)[:CROPS] for frame in frames]
    turns = [(place, frame, found[place]) for frame, found in zip(frames, ranked) for place in range(len(found))]
    turns.sort(key=lambda turn: turn[0])
    crops = [(crop_of(frame.pixels, detection), detection.confidence) for _, frame, detection in turns]
    return [(crop, confidence) for crop, confidence in crops if crop.size][:CROPS]


def crop_of(pixels: Pixels, detection: Detection) -> Pixels:
    """A square around a box, cut at the image's edges, in RGB."""
    x1, y1, x2, y2 = detection.xyxy
    half = max(x2 - x1, y2 - y1) * (0.5 + CROP_MARGIN)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    rows = slice(max(0, int(y - half)), max(0, int(y + half) + 1))
    columns = slice(max(0, int(x - half)), max(0, int(x + half) + 1))
    return pixels[rows, columns, ::-1]
