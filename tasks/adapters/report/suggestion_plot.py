"""The plot of a suggestion: what each rule collects, what it is worth against chance, and what stays out of reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tasks.adapters.report import style
from tasks.adapters.report.sentences import estimate_percent
from tasks.core.entities import Evaluation, Rule, Suggestion

Z = 1.96  # of a 95% interval


def suggestion_plot(suggestion: Suggestion, evaluation: Evaluation, out: Path) -> Path:
    """Three panels, saved as PNG: the rules, the forecast against random images, and the reach."""
    rules = suggestion.rules
    heights = [0.75 + 0.42 * max(len(rules), 1), 1.5, 1.15]
    with style.figure(out, 8.6, sum(heights) + 0.7) as canvas:
        top, middle, bottom = canvas.subplots(3, 1, height_ratios=heights)
        draw_rules(top, suggestion)
        draw_forecast(middle, suggestion)
        draw_reach(bottom, suggestion, evaluation)
    return out


def rule_text(rule: Rule) -> str:
    """A rule as a person says it: `2+ car  0.10 to 0.30` for at least two of them."""
    many = f"{rule.minimum_objects}+ " if rule.minimum_objects > 1 else ""
    return f"{many}{rule.class_name}  {rule.low:.2f} to {rule.high:.2f}"


def draw_rules(axes: Axes, suggestion: Suggestion) -> None:
    """Of the images that each rule adds to those before it: the share with a miss, against the base rate."""
    rules, base = suggestion.rules, suggestion.forecast.share_with_miss_random
    axes.set_title("Rules: share with a miss among the images that each adds")
    axes.axvspan(base.low, base.high, color=style.FAINT, alpha=0.6, linewidth=0)
    axes.axvline(base.value, color=style.QUIET, linewidth=1)
    axes.text(base.value - 0.008, -0.5, "random", ha="right", va="center", fontsize=7.5, color=style.QUIET)
    for row, rule in enumerate(rules):
        low, high = wilson(rule.new_images_with_miss, rule.new_images)
        value = rule.new_images_with_miss / rule.new_images if rule.new_images else 0.0
        axes.plot([low, high], [row, row], color=style.REACHABLE, linewidth=2.4, alpha=0.45, solid_capstyle="round")
        axes.plot(value, row, "o", color=style.REACHABLE, markersize=7, clip_on=False)
        counts = f"{rule.new_images_with_miss} of {rule.new_images}"
        axes.text(1.02, row, counts, va="center", fontsize=8, color=style.QUIET)
    if not rules:
        axes.text(0.5, 0, "no rule beats a random draw", ha="center", va="center", color=style.QUIET)
    axes.set_yticks(range(len(rules)), [rule_text(rule) for rule in rules], color=style.INK)
    axes.set_ylim(max(len(rules), 1) - 0.5, -0.7)
    percent_axis(axes)


def draw_forecast(axes: Axes, suggestion: Suggestion) -> None:
    """Share of images with a miss: what the rules collect, against images drawn at random."""
    forecast = suggestion.forecast
    axes.set_title("Forecast: share of the collected images that show a miss")
    rows = [("by the rules", forecast.share_with_miss, style.REACHABLE)] if suggestion.rules else []
    rows.append(("at random", forecast.share_with_miss_random, style.QUIET))
    for row, (_, estimate, colour) in enumerate(rows):
        axes.barh(row, estimate.value, height=0.56, color=colour, alpha=0.85, linewidth=0)
        axes.plot([estimate.low, estimate.high], [row, row], color=style.INK, linewidth=1.3, solid_capstyle="butt")
        axes.text(1.02, row, estimate_percent(estimate), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], color=style.INK)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    percent_axis(axes)


def draw_reach(axes: Axes, suggestion: Suggestion, evaluation: Evaluation) -> None:
    """All misses in one bar, out of reach or within it; below, how many lie in images that the rules match."""
    reached, blind = suggestion.forecast.misses_reached, suggestion.forecast.misses_blind
    misses = sum(c.misses for c in evaluation.classes.values())
    axes.set_title(f"All {misses:,} misses of the calibration images")
    segments = (
        (blind.value, style.UNREACHABLE, "////", "out of reach"),
        (1 - blind.value, style.REACHABLE, None, "within reach of a rule"),
    )
    left = 0.0
    for value, colour, hatch, name in segments:
        axes.barh(0, value, left=left, height=0.5, facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0)
        if value > 0.2:
            ground = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
            middle = left + value / 2
            axes.text(
                middle, 0, f"{name} {value:.0%}", ha="center", va="center", fontsize=8, color="white", bbox=ground
            )
        left += value
    axes.plot([reached.low, reached.high], [0.47, 0.47], color=style.INK, linewidth=1.3)
    axes.plot(reached.value, 0.47, "o", color=style.INK, markersize=5)
    axes.text(1.02, 0.47, f"{estimate_percent(reached)} lie in\nimages the rules match", va="center", fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(0.7, -0.35)
    percent_axis(axes)


def percent_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    style.bare(axes, keep=("bottom",))


def wilson(part: int, whole: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927): unlike the plain one it is not empty at 0 of n or n of n."""
    if not whole:
        return 0.0, 1.0
    p, n = part / whole, whole
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * np.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
