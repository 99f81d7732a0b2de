"""Did forecasts come true? Every figure of every suggestion against what was collected and labelled later.

An interval that holds everything is no virtue, so beside the share of intervals that held the truth stands the interval
score (Gneiting and Raftery 2007, "Strictly proper scoring rules", section 6.2):

    (high - low) + 2 / alpha * how far the truth lies outside        alpha = 0.05 of a 95% interval

Lower is better, in units of the figure. The forecast of the base rate, which any random sample gives for nothing, is
scored on the same days: a forecast that does not beat it was not worth making.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.core.entities import Estimate, Forecast

ALPHA = 0.05
BASE_RATES = {"share_with_miss": "share_with_miss_random"}  # what is forecast of chosen images, and of random ones
SCORED = (
    "images_a_day",
    "images_a_day_random",
    "share_with_miss",
    "share_with_miss_random",
    "misses_an_image",
    "misses_a_box",
)


@dataclass(frozen=True, slots=True)
class ScoredFigure:
    """One figure of one suggestion, and what it came to. base_rate: that of random images, where it is forecast."""

    suggestion: str
    figure: str
    forecast: Estimate
    came_true: float
    base_rate: Estimate | None = None

    @property
    def inside(self) -> bool:
        return self.forecast.low <= self.came_true <= self.forecast.high


@dataclass(frozen=True, slots=True)
class FigureRecord:
    """One figure over all suggestions: how many were scored, how many intervals held, and the mean interval scores."""

    figure: str
    forecasts: int
    inside: int
    interval_score: float
    base_rate_score: float | None = None


def interval_score(estimate: Estimate, came_true: float) -> float:
    """The score of one 95% interval; lower is better."""
    outside = max(0.0, estimate.low - came_true) + max(0.0, came_true - estimate.high)
    return estimate.high - estimate.low + 2 / ALPHA * outside


def scored_figures(suggestion: str, forecast: Forecast, came_true: Mapping[str, float]) -> list[ScoredFigure]:
    """The figures of a forecast that something is known of, in the order of SCORED."""
    return [
        ScoredFigure(
            suggestion,
            figure,
            getattr(forecast, figure),
            came_true[figure],
            getattr(forecast, BASE_RATES[figure]) if figure in BASE_RATES else None,
        )
        for figure in SCORED
        if figure in came_true
    ]


def track_record(scored: Sequence[ScoredFigure]) -> tuple[FigureRecord, ...]:
    """All suggestions together, one record for each figure that was scored."""
    records = []
    for figure in SCORED:
        rows = [row for row in scored if row.figure == figure]
        if not rows:
            continue
        base_rates = [interval_score(row.base_rate, row.came_true) for row in rows if row.base_rate is not None]
        records.append(
            FigureRecord(
                figure=figure,
                forecasts=len(rows),
                inside=sum(row.inside for row in rows),
                interval_score=sum(interval_score(row.forecast, row.came_true) for row in rows) / len(rows),
                base_rate_score=sum(base_rates) / len(base_rates) if base_rates else None,
            )
        )
    return tuple(records)
