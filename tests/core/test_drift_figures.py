"""What is looked at in a frame, against plain loops; times that cannot be right; windows."""

from datetime import datetime, timedelta, timezone
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core import layout
from tasks.core.drift import CameraLog, areas_of, figures_of, in_order, judge, leave_out_wrong_times, windows_of
from tasks.core.drift.blocks import Series
from tasks.core.drift.cameras import Windows
from tasks.core.entities import Detection, TrafficRecord
from tasks.core.errors import NotEnoughData
from tests.tasks.stages import a_sample

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
THRESHOLDS = {"car": 0.4, "person": 0.7}


def record(names=(), confidences=(), seconds=0.0, rate=1.0) -> TrafficRecord:
    return TrafficRecord(
        camera="gate",
        captured_at=NOON + timedelta(seconds=seconds),
        rate=rate,
        model_version="m",
        class_names=names,
        confidences=confidences,
    )


detections = st.lists(st.tuples(st.sampled_from(["car", "person", "bus"]), st.floats(0, 1)), max_size=5)


@given(st.lists(st.tuples(detections, st.floats(0.01, 1)), min_size=1, max_size=12))
def test_figures_are_those_of_a_plain_loop(frames):
    """Maximum, number from the threshold up and mass below it, class by class (0.5 for one without), and 1 / rate."""
    given_records = [
        record(tuple(n for n, _ in found), tuple(c for _, c in found), rate=rate) for found, rate in frames
    ]
    figures = figures_of(given_records, THRESHOLDS)
    for row, (found, rate) in enumerate(frames):
        above = [c for name, c in found if c >= THRESHOLDS.get(name, 0.5)]
        below = [c for name, c in found if c < THRESHOLDS.get(name, 0.5)]
        expected = (max((c for _, c in found), default=0.0), len(above), sum(below))
        assert [series.values[row] for series in figures.values()] == pytest.approx(list(expected))
        assert all(series.weights[row] == 1 / rate for series in figures.values())


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_frame_with_a_confidence_that_is_none_has_no_figures(confidence):
    """It is nan in every figure; the frame beside it is not."""
    figures = figures_of([record(("car", "car"), (0.9, confidence)), record(("car",), (0.9,))], THRESHOLDS)
    for series in figures.values():
        assert np.isnan(series.values[0])
        assert len(series.usable()) == 1


def test_area_is_the_mean_share_of_the_image():
    """By hand: detections of a tenth and three tenths of the image, one below its threshold left out; none: nan."""
    boxes = [((0, 0, 20, 10), 0.9), ((0, 0, 20, 30), 0.5), ((0, 0, 40, 50), 0.39)]
    sample = a_sample(
        0,
        width=40,
        height=50,
        detections=tuple(Detection(class_name="car", confidence=c, xyxy=box) for box, c in boxes),
    )
    nothing = a_sample(1, detections=())
    assert areas_of([sample, nothing], THRESHOLDS).values == pytest.approx([0.2, np.nan], nan_ok=True)


@given(st.lists(st.integers(0, 6), max_size=9))
def test_times_in_order_are_the_longest_run_that_never_goes_back(times):
    """As many as the best of all choices, and in order."""
    kept = in_order(np.array(times, float))
    chosen = [t for t, good in zip(times, kept) if good]
    assert chosen == sorted(chosen)
    best = max(
        (n for n in range(len(times) + 1) for c in combinations(times, n) if list(c) == sorted(c)),
        default=0,
    )
    assert len(chosen) == best


def test_times_before_the_model_and_after_today_are_left_out():
    """Frames of 1970, before the clock was set, are in order and yet cannot be right."""
    log = CameraLog([record(seconds=s) for s in (-1e9, -1e9 + 1, 0, 1, 2, 3, 4, 1e8)])
    leave_out_wrong_times(log, NOON, NOON + timedelta(hours=1))
    assert [r.captured_at for r in log.traffic] == [NOON + timedelta(seconds=s) for s in range(5)]
    assert log.left_out == {"clock suspect": 3}


def test_windows_are_the_last_days_and_the_first_ones():
    """Ten days: the last one, and the first seven; four days: what there is before now; a reference as it is given."""
    ten = {("e", "gate"): CameraLog([record(seconds=86_400 * day) for day in range(11)])}
    windows = windows_of(ten, 1.0, None)
    assert windows == Windows((NOON, NOON + timedelta(days=7)), (NOON + timedelta(days=9), NOON + timedelta(days=10)))
    four = {("e", "gate"): CameraLog([record(seconds=86_400 * day) for day in range(5)])}
    assert windows_of(four, 1.0, None).reference == (NOON, NOON + timedelta(days=3))
    period = (NOON + timedelta(days=1), NOON + timedelta(days=2))
    assert windows_of(four, 1.0, period).reference == period
    with pytest.raises(NotEnoughData, match="spans 4 days"):
        windows_of(four, 4.0, None)
    with pytest.raises(NotEnoughData, match="clocks"):
        windows_of({("e", "gate"): CameraLog()}, 1.0, None)


def test_the_family_of_tests_follows_from_numbers_of_frames_alone():
    """Two cameras with one figure each, one with too few frames: two tests share the 1%, whatever the frames show."""
    random = np.random.default_rng(0)
    start = NOON.timestamp()
    windows = Windows(
        (NOON, NOON + timedelta(seconds=1000)), (NOON + timedelta(seconds=1000), NOON + timedelta(seconds=1500))
    )

    def camera(every: int, values) -> dict[str, Series]:
        seconds = start + np.arange(0, 1500, every, dtype=float)
        return {"detections": Series(seconds, values[: len(seconds)], np.ones(len(seconds)))}

    many, few = camera(1, random.random(1500)), camera(20, random.random(75))
    changed = camera(1, np.where(np.arange(1500) < 1000, 0.2, 0.9) + random.random(1500))
    for first in (many, changed):
        judged = judge({("e", "a"): first, ("e", "b"): few}, {}, windows)
        assert judged.corrected_alpha == pytest.approx(0.01 / 2)
        assert [camera.answer for camera in judged.cameras] == ["same" if first is many else "changed", "too few"]


def test_a_look_has_a_numbered_key():
    """drift/{number}.json, as the other records that central numbers."""
    assert layout.drift(12) == "drift/000012.json"
