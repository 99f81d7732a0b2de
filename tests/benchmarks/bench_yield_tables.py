"""The yield bench as tables: figures with their intervals, targets beside them, and what did not work, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tasks.core.entities import Estimate
from tasks.core.intervals import wilson
from tests.benchmarks.bench_yield_contenders import RULES
from tests.benchmarks.bench_yield_days import Day
from tests.benchmarks.bench_yield_figures import (
    BASE_RATE,
    Figures,
    ForecastRecord,
    mean_of_orders,
)
from tests.benchmarks.bench_yield_sets import LabelledSet
from tests.benchmarks.tables import Table

JUDGED_AT = 0.1  # the budget that the targets are for
OURS, RULES_OF_OURS = "expected misses", "suggested rules"
ENTROPY, POPULAR, RANDOM = "entropy sum", "0.3 to 0.5", "random"
TIMES_RANDOM, POINTS_OVER_POPULAR = 1.5, 12.0
HELD = (0.90, 0.98)  # of forecast intervals
SPEND_TOLERANCE, RECALL_TOLERANCE = 0.1, 1.0  # of the budget; points

YIELD_COLUMNS = (
    "budget",
    "rule",
    "yield",
    "times random",
    "points over random",
    "misses an image",
    "misses a box",
    "coverage",
    "spent",
    "spent, 95 of 100 orders",
)
FORECAST_COLUMNS = (
    "budget",
    "way",
    "figure",
    "days",
    "held",
    "width",
    "interval score",
    "of the base rate",
    "better by",
)
DAY_COLUMNS = ("budget", "day", "days", "spent", "furthest off", "within 10%", "weighted recall", "unweighted")


# --- yield -----------------------------------------------------------------------------------------------------------


def yield_table(labelled: LabelledSet, orders: int, figures: Mapping[float, Figures]) -> Table:
    rows = [yield_row(share, rule, of) for share, of in figures.items() for rule in RULES]
    notes = [
        f"{orders} stream orders of {len(labelled.results):,} images. Yield: share of the kept images with a miss. "
        f"Misses a box: misses / labelled objects of the kept images. Coverage: share of all misses that are in them. "
        f"Spent: images kept / budget, by what was fitted beforehand; on a device, rate control corrects it. Each rule "
        f"spends the whole budget by itself, without exploration. Intervals are 95% of {len(set(labelled.clusters)):,} "
        f"clusters drawn with replacement.",
        ceiling(figures[JUDGED_AT]),
        *targets(figures[JUDGED_AT]),
    ]
    return Table(f"Yield: {labelled.name}", YIELD_COLUMNS, rows, notes)


def yield_row(share: float, rule: str, of: Figures) -> tuple[str, ...]:
    low, high = of.spread(rule)
    return (
        f"{share:.0%}",
        rule,
        with_interval(of.of(rule, "yield"), ".3f"),
        with_interval(of.times(rule, RANDOM, "yield"), ".2f") if rule != RANDOM else "1",
        with_interval(points(of.more(rule, RANDOM, "yield")), "+.1f") if rule != RANDOM else "",
        with_interval(of.of(rule, "misses an image"), ".2f"),
        with_interval(of.of(rule, "misses a box"), ".3f"),
        with_interval(of.of(rule, "coverage"), ".3f"),
        f"{of.of(rule, 'spent').value:.2f}",
        f"{low:.2f} to {high:.2f}",
    )


def ceiling(of: Figures) -> str:
    base = of.of(RANDOM, "yield").value
    if not base:
        return "No image has a miss."
    return (
        f"Of random images {base:.1%} have a miss, so that a rule which is always right would have a yield of "
        f"{1 / base:.2f} times that."
    )


def targets(of: Figures) -> Iterator[str]:
    at = f"At {JUDGED_AT:.0%}, {OURS}: "
    times, base = of.times(OURS, RANDOM, "yield"), of.of(RANDOM, "yield").value
    if not base:
        return
    beyond = ", and beyond what is possible here" if base * TIMES_RANDOM > 1 else ""
    yield (
        f"{at}yield {with_interval(times, '.2f')} times that of random images; target {TIMES_RANDOM}, "
        f"{verdict(times, TIMES_RANDOM)}{beyond}."
    )
    over = points(of.more(OURS, POPULAR, "yield"))
    yield (
        f"{at}{with_interval(over, '+.1f')} points over {POPULAR}; target {POINTS_OVER_POPULAR:.0f}, "
        f"{verdict(over, POINTS_OVER_POPULAR)}."
    )
    beside = points(of.more(OURS, ENTROPY, "yield"))
    yield f"{at}{with_interval(beside, '+.1f')} points beside the {ENTROPY}; target 0, {verdict(beside, 0.0)}."


def nulls_table(labelled: LabelledSet, figures: Mapping[float, Figures]) -> Table:
    """What did not work: where neither of our two ways to choose is better than another rule beyond doubt."""
    rows = [
        (ours, other, figure, *(null_text(of.more(ours, other, figure)) for of in figures.values()))
        for ours in (OURS, RULES_OF_OURS)
        for figure in ("yield", "misses a box")
        for other in RULES
        if other != ours and any(of.more(ours, other, figure).low <= 0 for of in figures.values())
    ]
    said = (
        "What did not work: the rule on the left is not better than the other one beyond doubt. Differences in points; "
        "above 0 is better, and a budget at which it is better beyond doubt has none."
        if rows
        else "Nothing: both of our ways have a higher yield, and more misses a box, than every other rule."
    )
    columns = ("rule", "against", "figure", *(f"{share:.0%}" for share in figures))
    return Table(f"Nulls: {labelled.name}", columns, rows, [said])


def null_text(difference: Estimate) -> str:
    return with_interval(points(difference), "+.1f") if difference.low <= 0 else ""


# --- forecasts -------------------------------------------------------------------------------------------------------


def forecast_table(labelled: LabelledSet, forecasts: Mapping[tuple[float, str, str], ForecastRecord]) -> Table:
    rows, notes = [], []
    for (share, way, figure), record in forecasts.items():
        if figure == BASE_RATE:
            continue
        base = forecasts.get((share, way, BASE_RATE)) if figure == "share_with_miss" else None
        rows.append(forecast_row(share, way, figure, record, base))
        if base is not None and share == JUDGED_AT:
            notes.append(forecast_verdict(way, record, base))
    return Table(
        f"Forecasts: {labelled.name}",
        FORECAST_COLUMNS,
        rows,
        [
            "Each stream played as one day of a device, by the real sampler under the settings that were suggested, a "
            "fifth of the budget explored. Held: share of the days on which the 95% interval held what came true, with "
            "an interval as if the orders were independent. Interval score: width and penalty, less is better, beside "
            "that of the forecast that the chosen images are like random ones.",
            *notes,
        ],
    )


def forecast_row(
    share: float, way: str, figure: str, record: ForecastRecord, base: ForecastRecord | None
) -> tuple[str, ...]:
    held = record.held / record.days
    low, high = wilson(held, record.days)
    return (
        f"{share:.0%}",
        way.replace("_", " "),
        figure.replace("_", " "),
        str(record.days),
        f"{held:.3f} ({low:.3f} to {high:.3f})",
        f"{record.width:.3g}",
        f"{record.scores().mean():.3g}",
        f"{base.scores().mean():.3g}" if base else "",
        with_interval(mean_of_orders(base.scores() - record.scores()), "+.3f") if base else "",
    )


def forecast_verdict(way: str, record: ForecastRecord, base: ForecastRecord) -> str:
    share, gain = record.held / record.days, mean_of_orders(base.scores() - record.scores())
    held = "reached" if HELD[0] <= share <= HELD[1] else "missed"
    beats = "reached" if gain.low > 0 else "not settled" if gain.high > 0 else "missed"
    return (
        f"At {JUDGED_AT:.0%}, {way.replace('_', ' ')}: the interval of the yield held in {share:.1%}; target "
        f"{HELD[0]:.0%} to {HELD[1]:.0%}, {held}. Its interval score is better than the "
        f"base rate's by {with_interval(gain, '+.3f')}; target above 0, {beats}."
    )


# --- days ------------------------------------------------------------------------------------------------------------


def days_table(
    labelled: LabelledSet, days: Mapping[float, Sequence[Day]], test_recall: Sequence[tuple[float, float]]
) -> Table:
    """Spend and field recall on simulated days."""
    kinds = list(dict.fromkeys(day.kind for some in days.values() for day in some))
    groups = {
        (share, kind): [day for day in some if day.kind == kind] for share, some in days.items() for kind in kinds
    }
    rows = [day_row(share, kind, some) for (share, kind), some in groups.items()]
    every = [day for some in days.values() for day in some]
    off = np.array([abs(day.spent - 1) for day in every])
    weighted, unweighted = (recall_error(every, name) for name in ("weighted", "unweighted"))
    of_test = mean_of_orders(np.array([100 * (test - stream) for test, stream in test_recall]))
    return Table(
        f"Days of a device: {labelled.name}",
        DAY_COLUMNS,
        rows,
        [
            "The real sampler with suggested expected misses, one device and camera. Recall: error in points against "
            "that of all frames of the day, mean and its interval; unweighted: of the kept images as they are.",
            f"Spend within {SPEND_TOLERANCE:.0%} of the budget on {(off <= SPEND_TOLERANCE).sum()} of {len(off)} days; "
            f"target all, {'reached' if (off <= SPEND_TOLERANCE).all() else 'missed'}.",
            f"Weighted recall is off by {with_interval(weighted, '+.2f')} points on average; target within "
            f"{RECALL_TOLERANCE:.0f}, {'reached' if abs(weighted.value) <= RECALL_TOLERANCE else 'missed'}. "
            f"Unweighted, it is off by {with_interval(unweighted, '+.2f')}. One day's weighted estimate scatters by "
            f"{scatter(every):.1f} points (standard deviation).",
            f"Recall of the labelled test images, less that of the stream: {with_interval(of_test, '+.2f')} points.",
        ],
    )


def day_row(share: float, kind: str, days: Sequence[Day]) -> tuple[str, ...]:
    spent = np.array([day.spent for day in days])
    return (
        f"{share:.0%}",
        kind,
        str(len(days)),
        f"{spent.mean():.3f}",
        f"{spent[np.abs(spent - 1).argmax()]:.3f}",
        f"{(np.abs(spent - 1) <= SPEND_TOLERANCE).mean():.0%}",
        with_interval(recall_error(days, "weighted"), "+.2f"),
        with_interval(recall_error(days, "unweighted"), "+.2f"),
    )


def recall_error(days: Sequence[Day], name: str) -> Estimate:
    """Mean error of an estimate of recall, in points; days on which nothing could be estimated do not count."""
    errors = np.array([100 * (getattr(day, name) - day.recall) for day in days])
    return mean_of_orders(errors[np.isfinite(errors)])


def scatter(days: Sequence[Day]) -> float:
    return float(np.nanstd([100 * (day.weighted - day.recall) for day in days]))


# --- words -----------------------------------------------------------------------------------------------------------


def points(estimate: Estimate) -> Estimate:
    return Estimate(value=100 * estimate.value, low=100 * estimate.low, high=100 * estimate.high)


def with_interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def verdict(estimate: Estimate, target: float) -> str:
    """Reached or missed by the figure itself; the interval says how sure that is."""
    sure = estimate.low >= target or estimate.high < target
    return ("reached" if estimate.value >= target else "missed") + ("" if sure else ", within its interval")
