"""Whether forecasts came true: the interval score, and suggestions counted together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Estimate, Forecast
from tasks.core.suggestion.track_record import FigureRecord, interval_score, scored_figures, track_record

figures = st.floats(-10, 10)


def estimate(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high)


def forecast(**intervals) -> Forecast:
    fields = dict.fromkeys(Forecast.model_fields.keys() - {"schema_version", "misses_collected"}, estimate(0, 1))
    return Forecast(**(fields | {name: estimate(*ends) for name, ends in intervals.items()}))


@given(figures, figures, figures)
def test_the_interval_score_is_the_width_and_forty_times_the_distance(one, other, truth):
    """Inside it is the width alone; outside it grows by 40 for each unit, on either side."""
    low, high = sorted((one, other))
    distance = 0.0 if low <= truth <= high else min(abs(truth - low), abs(truth - high))
    assert interval_score(estimate(low, high), truth) == pytest.approx((high - low) + 40 * distance)


def test_the_true_interval_scores_best():
    """Of intervals around the truth of a normal figure, the 95% one has the lowest mean score."""
    truths = np.random.default_rng(0).standard_normal(4000)
    means = {z: np.mean([interval_score(estimate(-z, z), truth) for truth in truths]) for z in (1.2, 1.96, 3.2)}
    assert min(means, key=means.get) == 1.96


def test_only_what_is_known_is_scored():
    """Figures that came true, in the order of the forecast, with the base rate where there is one."""
    made = forecast(share_with_miss=(0.5, 0.7), share_with_miss_random=(0.1, 0.3))
    rows = scored_figures("a", made, {"misses_a_box": 0.4, "share_with_miss": 0.6, "not forecast": 3.0})
    assert [(row.figure, row.came_true, row.inside) for row in rows] == [
        ("share_with_miss", 0.6, True),
        ("misses_a_box", 0.4, True),
    ]
    assert rows[0].base_rate == made.share_with_miss_random
    assert rows[1].base_rate is None
    assert scored_figures("a", made, {}) == []


def test_suggestions_are_counted_together():
    """Two forecasts, one of which held: 1 of 2, the mean of both scores, and that of the base rate on the same days."""
    first = forecast(share_with_miss=(0.5, 0.7), share_with_miss_random=(0.1, 0.3))
    second = forecast(share_with_miss=(0.2, 0.3), share_with_miss_random=(0.1, 0.3))
    scored = [
        *scored_figures("a", first, {"share_with_miss": 0.6, "images_a_day": 0.5}),
        *scored_figures("b", second, {"share_with_miss": 0.4}),
    ]
    images, share = track_record(scored)
    assert images == FigureRecord("images_a_day", 1, 1, 1.0)
    assert (share.figure, share.forecasts, share.inside) == ("share_with_miss", 2, 1)
    assert share.interval_score == pytest.approx((0.2 + 0.1 + 40 * 0.1) / 2)
    assert share.base_rate_score == pytest.approx((0.2 + 40 * 0.3 + 0.2 + 40 * 0.1) / 2)
    assert track_record([]) == ()
