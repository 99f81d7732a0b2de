"""What the figures say, in sentences for somebody who is no statistician."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from tasks.core.entities import Band, ClassEvaluation, Estimate, Evaluation, Forecast, Suggestion

MAIN_SHARE = 0.5  # a run of bands is named when it holds this share of the misses that a rule can see


def evaluation_sentence(evaluation: Evaluation) -> str:
    """The whole evaluation in a line or two."""
    classes = evaluation.classes.values()
    truths, misses = sum(c.ground_truths for c in classes), sum(c.misses for c in classes)
    if not truths:
        return f"None of the {counted(evaluation.images, 'image')} has a labelled object, so nothing can be missed."
    out_of_reach, blind = sum(c.out_of_reach for c in classes), sum(c.blind for c in classes)
    return (
        f"In {counted(evaluation.images, 'image')} the model finds {truths - misses:,} of "
        f"{counted(truths, 'labelled object')} and misses {misses:,} ({share(misses, truths)}). "
        f"A rule on the device could see a candidate for {misses - out_of_reach:,} of the misses; "
        f"{blind:,} have none at any confidence, and {out_of_reach - blind:,} lie below what devices keep."
    )


def class_sentence(name: str, of_class: ClassEvaluation, floor: float) -> str:
    """One class: how many are missed, where most of the reachable misses lie, and how many are blind."""
    if not of_class.ground_truths:
        return f"No labelled {name} is in these images."
    if of_class.no_threshold_pays:
        return (
            f"No threshold pays for class {name!r}: the device says nothing of it. {missed_of(name, of_class, floor)}"
        )
    return missed_of(name, of_class, floor)


def missed_of(name: str, of_class: ClassEvaluation, floor: float) -> str:
    """How many of a class's objects are missed, and where."""
    start = f"Of {counted(of_class.ground_truths, f'labelled {name!r} object')}"
    if not of_class.misses:
        return f"{start} none is missed."
    parts = [f"{start} {of_class.misses:,} {'is' if of_class.misses == 1 else 'are'} missed"]
    run = main_run([band for band in of_class.bands if band.low >= floor])
    if run:
        inside = sum(band.misses for band in run)
        parts.append(f"{inside:,} of them have a candidate between {run[0].low:.2f} and {run[-1].high:.2f}")
    if of_class.blind:
        verb = "is" if of_class.blind == 1 else "are"
        parts.append(f"{of_class.blind:,} {verb} blind: no confidence rule can find them")
    return "; ".join(parts) + "."


def cost_text(evaluation: Evaluation) -> tuple[str, str]:
    """The cost an image, and its interval where there is one."""
    cost, interval = evaluation.cost_an_image or 0.0, evaluation.cost_interval
    digits = max(digits_of(cost), 2 if cost < 1 else 0)
    return f"{cost:,.{digits}f}", f"{interval[0]:,.{digits}f} to {interval[1]:,.{digits}f}" if interval else ""


def main_run(bands: Sequence[Band]) -> list[Band]:
    """The shortest run of neighbouring bands with at least half of their misses; of equals the one with most."""
    upto = [0, *accumulate(band.misses for band in bands)]
    if not upto[-1]:
        return []
    runs = [
        (end - start, -(upto[end] - upto[start]), start, end)
        for start in range(len(bands))
        for end in range(start + 1, len(bands) + 1)
        if upto[end] - upto[start] >= MAIN_SHARE * upto[-1]
    ]
    _, _, start, end = min(runs)
    return list(bands[start:end])


def suggestion_sentence(suggestion: Suggestion) -> str:
    """What would be collected and what it is worth against the same number of random images."""
    forecast, way = suggestion.forecast, suggestion.chooses_by
    if way == "random":
        return (
            f"Nothing beats a random draw here, so all {suggestion.budget_images_a_day:,.0f} images a day are drawn at "
            f"random; {estimate_percent(forecast.share_with_miss_random)} of them will show a miss."
        )
    chosen, random = forecast.share_with_miss, forecast.share_with_miss_random
    if chosen.low > random.high:
        comparison = f": {chosen.value / max(random.value, 1e-9):.1f} times as many"
    elif chosen.value > random.value:
        comparison = "; the intervals overlap, so how much better is not certain"
    else:
        comparison = ", so no better than chance by this forecast"
    what, verb = ("The frames with most expected misses", "of them")
    if way == "rules":
        what, verb = (counted(len(suggestion.rules), "rule"), "of what the rules collect")
    return (
        f"{what} and random draws would make up about {forecast.images_a_day.value:,.0f} images a day of "
        f"{suggestion.frames_a_day:,.0f} frames. {estimate_percent(chosen)} {verb} "
        f"{'show' if way == 'expected_misses' else 'shows'} something that the model misses, against "
        f"{estimate_percent(random)} of random images{comparison}. "
        f"{estimate_percent(forecast.misses_blind)} of all misses stay out of reach: only random images find those."
    )


def forecast_rows(forecast: Forecast) -> list[tuple[str, Estimate, bool]]:
    """Name, estimate, and whether it is a share, of every figure of a forecast."""
    rows = [
        ("images a day", forecast.images_a_day, False),
        ("of which drawn at random", forecast.images_a_day_random, False),
        ("share of images with a miss, of those chosen", forecast.share_with_miss, True),
        ("share of images with a miss, at random", forecast.share_with_miss_random, True),
        ("misses an image", forecast.misses_an_image, False),
        ("misses a box", forecast.misses_a_box, False),
        ("share of all misses in images that may be chosen", forecast.misses_reached, True),
        ("share of all misses that no rule can see", forecast.misses_blind, True),
    ]
    if forecast.misses_collected is not None:
        rows.append(("share of all misses that would be collected", forecast.misses_collected, True))
    return rows


def counted(number: int, thing: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def listed(things: Sequence[str], most: int) -> str:
    """`a, b and 3 more`."""
    rest = len(things) - most
    return ", ".join(things[:most]) + (f" and {rest} more" if rest > 0 else "")


def share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def estimate_percent(estimate: Estimate) -> str:
    """`42% (35 to 49)`."""
    return f"{estimate.value:.0%} ({estimate.low * 100:.0f} to {estimate.high * 100:.0f})"


def estimate_text(estimate: Estimate, is_share: bool = False) -> str:
    """A figure with its interval, with as many digits as it deserves."""
    if is_share:
        return estimate_percent(estimate)
    digits = digits_of(estimate.value)
    return f"{estimate.value:,.{digits}f} ({estimate.low:,.{digits}f} to {estimate.high:,.{digits}f})"


def value_text(value: float, is_share: bool = False) -> str:
    """The figure alone."""
    return f"{value:.0%}" if is_share else f"{value:,.{digits_of(value)}f}"


def digits_of(value: float) -> int:
    """Digits after the point."""
    return 0 if value >= 20 else 1 if value >= 2 else 2
