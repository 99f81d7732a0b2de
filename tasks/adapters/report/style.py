"""One look for all plots: few colours, each with one meaning, thin lines, no boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK = "#1c2733"
QUIET = "#66727f"
FAINT = "#d9dee3"
FOUND = "#1a7f7a"  # true detections, what the model sees
FALSE = "#a7b0ba"  # false detections
REACHABLE = "#d9550a"  # misses that a rule can collect
UNREACHABLE = "#5b6680"  # misses that no rule on the device can see
THRESHOLD = "#1c2733"

REACHABLE_SCALE = LinearSegmentedColormap.from_list("reachable", ["#fff4ea", "#fbc08d", REACHABLE, "#9c3503"])
UNREACHABLE_SCALE = LinearSegmentedColormap.from_list("unreachable", ["#f3f4f7", "#b3bac9", UNREACHABLE, "#2d3547"])
CLASS_COLOURS = ("#1a7f7a", "#d9550a", "#3b5bdb", "#a23b8f", "#7a8b1f", "#c2255c", "#0b7285", "#8a5a2b")

SETTINGS: Any = {  # matplotlib's stubs want the literal names of all of its settings as keys
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 170,
    "savefig.facecolor": "white",
}


@contextmanager
def figure(out: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches in our look, saved to `out` as PNG when the block ends."""
    with mpl.rc_context(SETTINGS):
        canvas = Figure(figsize=(width, height), layout="constrained")
        yield canvas
        out.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(out, format="png", metadata={"Software": ""})  # the same data give the same bytes


def bare(axes: Axes, *, keep: Sequence[str] = ()) -> None:
    """Take the frame and its ticks away, but for the sides in `keep`."""
    for side in ("left", "bottom", "top", "right"):
        axes.spines[side].set_visible(side in keep)
    axes.tick_params(length=0)


def readable_on(colour: Any) -> str:
    """Black or white, whichever can be read on `colour` (relative luminance of WCAG 2)."""
    red, green, blue, _ = mpl.colors.to_rgba(colour)
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return "white" if luminance < 0.36 else INK
