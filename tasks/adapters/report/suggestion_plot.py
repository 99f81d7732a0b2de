"""The plot of a suggestion, for somebody who is no statistician.

Where the misses are, by how sure the model was; what a hundred collected images would show of them; what each way to
spend the same budget is worth; and what stays out of reach of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tasks.adapters.report import style
from tasks.adapters.report.sentences import estimate_percent, estimate_text, value_text
from tasks.core.entities import Alternative, Estimate, Evaluation, Reach, Rule, Suggestion
from tasks.core.intervals import wilson

BESIDE = "#e9a06f"  # a way that is not suggested
HUNDRED = 100  # images, of which people have a better idea than of one
NAMED_SHARE = 0.4  # of a bar, from which on its name fits into it
FEW = 3  # misses in a hundred images, below which a digit after the point is shown


def suggestion_plot(suggestion: Suggestion, evaluation: Evaluation, out: Path) -> Path:
    """The misses, the rules where there are some, the ways compared, and the reach, saved as PNG."""
    bands, way = suggestion.reach, suggestion.chooses_by
    has_rules = any(other.strategy == "rules" for other in suggestion.alternatives)
    rules = way == "rules" or (way == "random" and not has_rules)
    ways = len(suggestion.alternatives) + (1 if way == "random" else 2)
    rows: list[tuple[list[Any], float]] = []
    if bands:
        rows.append((["where"] * 3 + ["shows"] * 3, 0.8 + 0.31 * len(bands)))
    if rules:
        rows.append((["rules"] * 6, 0.75 + 0.42 * max(len(suggestion.rules), 1)))
    rows += [(["share"] * 2 + ["image"] * 2 + ["box"] * 2, 0.85 + 0.4 * ways), (["reach"] * 6, 1.25)]
    heights = [height for _, height in rows]
    with style.figure(out, 9.4, sum(heights) + 0.5) as canvas:
        axes = canvas.subplot_mosaic([names for names, _ in rows], height_ratios=heights)
        if bands:
            draw_misses(axes["where"], bands, evaluation.confidence_floor)
            draw_shown(axes["shows"], suggestion)
        if rules:
            draw_rules(axes["rules"], suggestion)
        draw_ways(axes["share"], axes["image"], axes["box"], suggestion, evaluation)
        draw_reach(axes["reach"], suggestion, evaluation)
    return out


def band_text(band: Reach, floor: float) -> str:
    """How sure the model was, in words."""
    if band.low is None or band.high is None:
        return "model saw nothing there"
    text = f"{band.low:.0%} to {band.high:.0%} sure" if band.low >= 0.01 else f"below {band.high:.0%} sure"
    return f"model was {text}" if band.low >= floor else f"{text}: not kept"


def is_reachable(band: Reach, floor: float) -> bool:
    """Can a device see a candidate?"""
    return band.low is not None and band.low >= floor


def draw_misses(axes: Axes, bands: Sequence[Reach], floor: float) -> None:
    """Misses by the confidence of their candidate, those in orange with one that a device keeps."""
    total = sum(band.misses for band in bands)
    axes.set_title(f"Where the {total:,} misses are")
    for row, band in enumerate(bands):
        seen = is_reachable(band, floor)
        axes.barh(
            row,
            band.misses,
            height=0.66,
            facecolor=style.REACHABLE if seen else style.UNREACHABLE,
            edgecolor="white",
            hatch=None if seen else "////",
            linewidth=0,
        )
        share = f"{band.misses:,}  ({band.misses / total:.0%})" if total else "0"
        axes.annotate(share, (band.misses, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(bands)), [band_text(band, floor) for band in bands], color=style.INK)
    axes.set_ylim(len(bands) - 0.5, -0.5)
    axes.set_xlim(0, 1.3 * max([band.misses for band in bands] + [1]))
    axes.set_xticks([])
    style.bare(axes)


def draw_shown(axes: Axes, suggestion: Suggestion) -> None:
    """Of every kind of miss, how many a hundred chosen images would show, against a hundred random ones."""
    bands, chooses = suggestion.reach, suggestion.chooses_by != "random"
    axes.set_title(f"Misses that {HUNDRED} images show")
    highest = max([max(band.misses_an_image, band.misses_an_image_random) for band in bands] + [1e-9]) * HUNDRED
    for row, band in enumerate(bands):
        pairs = [(0.17, band.misses_an_image_random, style.QUIET)]
        if chooses:
            pairs.append((-0.17, band.misses_an_image, style.REACHABLE))
        else:
            pairs = [(0.0, band.misses_an_image_random, style.QUIET)]
        for shift, misses, colour in pairs:
            value = HUNDRED * misses
            axes.barh(row + shift, value, height=0.3, color=colour, linewidth=0)
            text = f"{value:.0f}" if value >= FEW or not value else f"{value:.1f}"
            axes.annotate(
                text, (value, row + shift), (3, 0), textcoords="offset points", va="center", fontsize=7, color=colour
            )
    axes.set_yticks([])
    axes.set_ylim(len(bands) - 0.5, -0.5)
    axes.set_xlim(0, 1.2 * highest)
    axes.set_xticks([])
    style.bare(axes)
    if chooses:
        axes.text(
            0.99,
            0.10,
            f"chosen {suggestion.way}",
            ha="right",
            color=style.REACHABLE,
            transform=axes.transAxes,
            fontsize=8,
        )
    axes.text(0.99, 0.02, "drawn at random", ha="right", color=style.QUIET, transform=axes.transAxes, fontsize=8)


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
        value = rule.new_images_with_miss / rule.new_images if rule.new_images else 0.0
        low, high = wilson(value, rule.new_images)
        axes.plot([low, high], [row, row], color=style.REACHABLE, linewidth=2.4, alpha=0.45, solid_capstyle="round")
        axes.plot(value, row, "o", color=style.REACHABLE, markersize=7, clip_on=False)
        counts = f"{rule.new_images_with_miss} of {rule.new_images}"
        axes.text(1.02, row, counts, va="center", fontsize=8, color=style.QUIET)
    if not rules:
        axes.text(0.5, 0, "no rule beats a random draw", ha="center", va="center", color=style.QUIET)
    axes.set_yticks(range(len(rules)), [rule_text(rule) for rule in rules], color=style.INK)
    axes.set_ylim(max(len(rules), 1) - 0.5, -0.7)
    percent_axis(axes)


def draw_ways(share: Axes, image: Axes, box: Axes, suggestion: Suggestion, evaluation: Evaluation) -> None:
    """The same budget in each way: share of images with a miss, misses an image, and misses a labelled box."""
    ways: list[Suggestion | Alternative] = [suggestion, *suggestion.alternatives]
    if suggestion.chooses_by == "random":
        ways = list(suggestion.alternatives)
    of_classes = evaluation.classes.values()
    misses, boxes = sum(c.misses for c in of_classes), sum(c.ground_truths for c in of_classes)
    forecasts, base = [way.forecast for way in ways], suggestion.forecast.share_with_miss_random
    draw_bars(share, "Images that show a miss", [f.share_with_miss for f in forecasts], base, is_share=True)
    draw_bars(image, "Misses an image", [f.misses_an_image for f in forecasts], misses / max(evaluation.images, 1))
    draw_bars(box, "Misses a labelled box", [f.misses_a_box for f in forecasts], misses / max(boxes, 1), is_share=True)
    share.set_yticks(range(len(ways) + 1), [*(way.way for way in ways), "at random"], color=style.INK)


def draw_bars(
    axes: Axes, title: str, chosen: Sequence[Estimate], at_random: Estimate | float, is_share: bool = False
) -> None:
    """A bar for each way, the suggested one first, its figures above it, and one for random images.

    With an interval where it was estimated; what random images show may be a plain count.
    """
    axes.set_title(title, fontsize=9)
    rows = [(figure, style.REACHABLE if row == 0 else BESIDE) for row, figure in enumerate(chosen)]
    for row, (figure, colour) in enumerate([*rows, (at_random, style.QUIET)]):
        if isinstance(figure, Estimate):
            value, text = figure.value, estimate_text(figure, is_share)
            axes.plot([figure.low, figure.high], [row, row], color=style.INK, linewidth=1.3, solid_capstyle="butt")
        else:
            value, text = figure, value_text(figure, is_share)
        axes.barh(row, value, height=0.42, color=colour, alpha=0.9, linewidth=0)
        axes.text(0, row - 0.26, text, va="bottom", fontsize=7.5)
    axes.set_yticks([])
    axes.set_ylim(len(chosen) + 0.6, -0.75)
    style.bare(axes, keep=("bottom",))
    ends = [figure.high if isinstance(figure, Estimate) else figure for figure in [*chosen, at_random]]
    highest = 1.05 * max(ends) or 1.0
    highest = min(1.0, highest) if is_share else highest
    axes.set_xlim(0, highest)
    axes.set_xticks([tick for tick in MaxNLocator(4).tick_values(0, highest) if tick <= highest])
    if is_share:
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def draw_reach(axes: Axes, suggestion: Suggestion, evaluation: Evaluation) -> None:
    """All misses in one bar, out of reach or within it; below, how many lie in images that may be chosen."""
    reached, blind = suggestion.forecast.misses_reached, suggestion.forecast.misses_blind
    misses = sum(c.misses for c in evaluation.classes.values())
    axes.set_title(f"What stays out of reach, of all {misses:,} misses in the calibration images")
    segments = (
        (blind.value, style.UNREACHABLE, "////", "only random images find these"),
        (1 - blind.value, style.REACHABLE, None, "a doubtful detection shows them"),
    )
    left = 0.0
    for value, colour, hatch, name in segments:
        axes.barh(0, value, left=left, height=0.5, facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0)
        if value > 0.2:
            ground = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
            middle = left + value / 2
            text = f"{value:.0%}: {name}" if value > NAMED_SHARE else f"{value:.0%}"
            axes.text(middle, 0, text, ha="center", va="center", fontsize=8, color="white", bbox=ground)
        left += value
    if suggestion.chooses_by != "random":
        axes.plot([reached.low, reached.high], [0.47, 0.47], color=style.INK, linewidth=1.3)
        axes.plot(reached.value, 0.47, "o", color=style.INK, markersize=5)
        axes.text(1.02, 0.47, f"{estimate_percent(reached)} lie in\nimages that may be chosen", va="center", fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(0.7, -0.35)
    percent_axis(axes)


def percent_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    style.bare(axes, keep=("bottom",))
