"""Block permutation: false alarms and power on streams whose drift is known, hours of the day, and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift import ALPHA, FEWEST_FRAMES, Series, compare, corrected, kolmogorov_smirnov
from tasks.core.drift.blocks import Blocks, can_match_hours, lay_blocks, length_by_resemblance
from tasks.core.drift.permutation import all_dealings, deal, permutation_test
from tests.core.drift_streams import DAY, START, alarms, look, plain_alarms, split, stream


def even(values, start=START, spacing=1.0) -> Series:
    values = np.asarray(values, float)
    return Series(start + spacing * np.arange(len(values)), values, np.ones(len(values)))


@pytest.mark.slow
def test_independent_frames_raise_at_most_a_false_alarm_in_a_hundred():
    """100 windows of 500 frames in which nothing changed: at most 3 alarms, however small a change may count."""
    found = [alarms(split(stream(2000, seed), 500), minimum_change=0.0) for seed in range(100)]
    assert sum(found) <= 3


@pytest.mark.slow
def test_video_raises_at_most_a_false_alarm_in_a_hundred_where_the_plain_test_fails():
    """50 windows of video that nothing happened in: at most 2 alarms; of the test for independent frames over 25."""
    streams = [split(stream(12_000, seed, correlation=20.0), 3000) for seed in range(50)]
    assert sum(alarms(figures, minimum_change=0.0) for figures in streams) <= 2
    assert sum(plain_alarms(figures) for figures in streams) > 25


@pytest.mark.slow
def test_a_degraded_picture_is_seen_in_500_frames():
    """Independent frames with lower confidences: all of 12 windows of 500 frames raise an alarm."""
    streams = [split(stream(2000, seed, worse_from=1500, worse=0.8), 500) for seed in range(12)]
    assert all(alarms(figures) for figures in streams)


@pytest.mark.slow
def test_a_drop_in_400_frames_is_seen_at_every_starting_time_of_the_day():
    """1,200 frames against 400, half a second apart: all of 24 starting times, each with frames of its own."""
    random = np.random.default_rng(0)
    missed = []
    for hour in range(24):
        start = START + 3600 * hour + float(random.integers(0, 3600))
        figures = split(stream(1600, hour, spacing=0.5, start=start, worse_from=600, worse=0.8), 400)
        missed += [hour] * (not alarms(figures))
    assert missed == []


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**9))
def test_when_the_frames_begin_makes_no_difference(microseconds):
    """Shifted by any time, the same frames have the same blocks, p-values and verdict."""
    series = stream(1600, 5, spacing=0.5, worse_from=600, worse=0.3)["maximum confidence"]
    shift = microseconds * 86_400e-9
    moved = Series(np.round(series.seconds + shift, 6), series.values, series.weights)
    rows = np.arange(1600)
    first, second = (compare(s[rows < 1200], s[rows >= 1200], alpha=0.0008) for s in (series, moved))
    assert (first.answer, first.blocks, first.test) == (second.answer, second.blocks, second.test)


def test_what_changed_is_named_with_size_place_and_time():
    """Half way through the stretch between the windows the lens fogs: which figure, how far, and since when."""
    figures = stream(14_000, 3, correlation=5.0, worse_from=9000, worse=1.5)["maximum confidence"]
    rows = np.arange(len(figures))
    found = compare(
        figures[rows < 8000],
        figures[rows >= 11_000],
        alpha=corrected(ALPHA, 1),
        between=figures[(rows >= 8000) & (rows < 11_000)],
    )
    assert found.answer == "changed"
    assert found.now_mean < found.reference_mean - 0.1
    assert found.test.now_share > found.test.reference_share + 0.1
    assert found.since == pytest.approx(START + 9000, abs=120)


def test_a_change_that_begins_within_the_last_window_is_seen():
    """The second half of now is worse: its step is no resemblance that would ask for longer blocks."""
    for seed in range(4):
        figures = split(stream(4000, seed, worse_from=3500, worse=2.0), 1000)
        found = look(figures)["maximum confidence"]
        assert found.answer == "changed"
        assert found.since == pytest.approx(START + 3500, abs=60)


def test_a_certain_change_of_hardly_any_frames_is_no_alarm():
    """6% of the frames lie elsewhere: certain in 16,000, and it does not matter; asked for everything, it is told."""
    random = np.random.default_rng(0)
    before, now = even(random.random(8000)), even(random.random(8000) * 0.94, START + 8000)
    assert compare(before, now, alpha=0.001).answer == "same"
    assert compare(before, now, alpha=0.001, minimum_change=0.0).answer == "changed"


# --- day and night ---------------------------------------------------------------------------------------------------


def five_days(seed: int, **options) -> dict[str, Series]:
    """A frame a minute."""
    return stream(5 * 1440, seed, spacing=60.0, correlation=120.0, night=3.0, **options)


@pytest.mark.slow
def test_night_is_compared_with_nights():
    """Four days against six hours of evening: no alarm when matched by hour; the plain test, unmatched, has one."""
    matched = plain = 0
    for seed in range(10):
        figures = {}
        for name, series in five_days(seed).items():
            last = series.seconds >= START + 4 * DAY
            evening = last & (series.seconds % DAY >= 18 * 3600)
            figures[name] = (series[~last], series[evening])
        assert all(found.by_hour for found in look(figures).values() if found.test)
        matched += alarms(figures)
        plain += plain_alarms(figures)
    assert matched == 0
    assert plain == 10


@pytest.mark.slow
def test_a_change_at_day_is_seen_through_day_and_night():
    """The fifth day is worse: an alarm, matched by hour, in each of five worlds."""
    found = [alarms(split(five_days(seed, worse_from=4 * DAY, worse=1.2), 1440)) for seed in range(5)]
    assert all(found)


def test_hours_are_matched_where_the_reference_has_them_on_two_days():
    """Two days of the same hours are enough, one is not; hours that it never saw cannot be matched."""
    hour = np.arange(0, 3600, 60.0)
    two_days = np.concatenate([START + hour, START + DAY + hour])
    assert can_match_hours(two_days, START + 2 * DAY + hour)
    assert not can_match_hours(two_days[: len(hour)], START + 2 * DAY + hour)
    assert not can_match_hours(two_days, START + 2 * DAY + 7200 + hour)


# --- blocks ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=60),
    st.lists(st.integers(3 * 86_400, 4 * 86_400), min_size=1, max_size=60),
    st.sampled_from([60.0, 900.0, 3600.0, 14_400.0]),
    st.booleans(),
)
def test_every_frame_has_a_block_of_its_window_time_and_hour(reference, now, length, by_hour):
    """Frames share a block when window and stretch are the same; only hours that one window lacks are left out."""
    seconds = np.array([*sorted(reference), *sorted(now)], float)
    blocks = lay_blocks(seconds[: len(reference)], seconds[len(reference) :], length, by_hour)
    slot = max(3600.0, length)
    hours = [{t % DAY // slot for t in window} for window in (reference, now)]
    names = {}
    for row, moment in enumerate(seconds):
        expected = not by_hour or (moment // length * length % DAY // slot) in hours[0] & hours[1]
        assert blocks.kept[row] == expected
    for frame, row in enumerate(np.flatnonzero(blocks.kept)):
        key = (row >= len(reference), seconds[row] // length)
        assert names.setdefault(blocks.of_frame[frame], key) == key
        assert blocks.is_now[blocks.of_frame[frame]] == key[0]
    assert len(set(names.values())) == len(names) == len(blocks.stratum)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.booleans())
def test_dealing_keeps_the_number_of_blocks_of_now_in_every_hour(seed, by_hour):
    """However blocks are dealt, each hour of the day has as many blocks of now as it really has."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.uniform(0, 4 * DAY, 300))
    blocks = lay_blocks(seconds[:200], seconds[200:], 1800.0, by_hour)
    dealt = deal(blocks, 20, random)
    for stratum in np.unique(blocks.stratum):
        members = blocks.stratum == stratum
        assert (dealt[:, members].sum(axis=1) == blocks.is_now[members].sum()).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=9))
def test_all_dealings_are_each_possible_one_once(blocks):
    """As many rows as there are ways, all different, each with the true number of blocks of now in every hour."""
    _, stratum = np.unique([hour for hour, _ in blocks], return_inverse=True)
    is_now = np.array([now for _, now in blocks])
    laid = Blocks(1.0, np.ones(len(blocks), bool), np.arange(len(blocks)), stratum, is_now, True)
    dealt = all_dealings(laid)
    assert len({tuple(row) for row in dealt.tolist()}) == len(dealt) == laid.arrangements()
    for hour in np.unique(stratum):
        assert (dealt[:, stratum == hour].sum(axis=1) == is_now[stratum == hour].sum()).all()


def test_few_blocks_are_dealt_in_all_ways():
    """3 blocks against 10: where the true dealing is the most extreme of 286, p is 1 / 286 to the last digit."""
    seconds = START + np.arange(130.0)
    blocks = lay_blocks(seconds[:100], seconds[100:], 10.0, by_hour=False)
    values = np.concatenate([np.tile(np.linspace(0.5, 1.0, 10), 10), np.linspace(0.0, 0.4, 30)])
    found = permutation_test(Series(seconds, values, np.ones(130)), blocks, alpha=1 / 250)
    assert (found.p_value, found.dealings) == (1 / 286, 286)
    assert blocks.smallest_p_value() == 1 / 286


def test_few_blocks_see_a_clear_change_and_tell_nothing_else():
    """4 blocks against 11, 1,365 ways: a clear drop is an alarm; without one there is no verdict, but what it takes."""
    random = np.random.default_rng(1)
    before, now = even(random.random(220)), even(random.random(80), START + 220)
    lower = Series(now.seconds, now.values * 0.3, now.weights)
    assert compare(before, lower, alpha=1 / 1200, block_seconds=20.0).answer == "changed"
    found = compare(before, now, alpha=1 / 1200, block_seconds=20.0)
    assert found.answer == "too few"
    assert found.reason == "too few to tell: 4 blocks of 20 s against 11, needs 5"


def test_the_statistic_of_blocks_is_that_of_frames():
    """Few values, one hour: the same statistic and place as the plain test, weights included."""
    random = np.random.default_rng(2)
    a, b = random.integers(0, 6, 400).astype(float), random.integers(1, 7, 200).astype(float)
    weights = random.uniform(1, 5, 600)
    seconds = START + np.arange(600.0)
    blocks = lay_blocks(seconds[:400], seconds[400:], 10.0, by_hour=False)
    found = permutation_test(Series(seconds, np.concatenate([a, b]), weights), blocks, alpha=0.01)
    plain = kolmogorov_smirnov(a, b, weights[:400], weights[400:])
    assert (found.statistic, found.at) == (pytest.approx(plain.statistic), plain.at)


def test_blocks_are_as_long_as_frames_resemble_each_other():
    """Independent frames need short blocks, video long ones: several times what its frames remember."""
    lengths = []
    for correlation, frames in ((0.0, 6000), (10.0, 6000), (60.0, 24_000)):
        reference, now = split(stream(frames, 1, correlation=correlation), 2000)["maximum confidence"]
        lengths.append(length_by_resemblance(reference, now, by_hour=False))
    assert lengths[0] < lengths[1] < lengths[2]
    assert lengths[1] >= 30
    assert lengths[2] >= 120


def test_the_same_frames_and_seed_give_the_same_answer():
    """A look can be repeated."""
    reference, now = split(stream(2000, 9, worse_from=1500, worse=0.3), 500)["detections"]
    assert compare(reference, now, alpha=0.002, seed=4) == compare(reference, now, alpha=0.002, seed=4)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_too_few_frames_say_how_many_are_needed():
    """None, a handful, and too few stretches of video: no answer, with a reason and a number."""
    many = even(np.random.default_rng(0).random(1000))
    empty = even([])
    for now in (empty, even(np.ones(FEWEST_FRAMES - 1), START + 1000)):
        found = compare(many, now, alpha=0.001)
        assert (found.answer, found.needed) == ("too few", FEWEST_FRAMES)
        assert "are needed" in found.reason
    found = compare(many, even(np.random.default_rng(1).random(100), START + 1000), alpha=0.001, block_seconds=100.0)
    assert found.answer == "too few"
    assert found.needed > 100
    assert "1 blocks of 100 s" in found.reason


def test_what_can_be_answered_with_the_number_that_was_asked_for():
    """As many frames more as were said to be needed, at the same pace and proportion, get an answer."""
    random = np.random.default_rng(0)
    found = compare(even(random.random(300)), even(random.random(100), START + 300), alpha=1e-4, block_seconds=20.0)
    assert found.answer == "too few"
    more = found.needed
    answered = compare(
        even(random.random(3 * more)), even(random.random(more), START + 3 * more), alpha=1e-4, block_seconds=20.0
    )
    assert answered.answer == "same"


def test_a_figure_that_never_rests_has_no_answer():
    """Where the means of stretches in a row stay alike at any length, nothing can be exchanged for anything."""
    slow = np.linspace(0, 1, 4000)
    found = compare(even(slow[:3000]), even(slow[3000:], START + 3000), alpha=0.001)
    assert found.answer == "too few"
    assert "more days" in found.reason


def test_numbers_that_are_none_do_not_take_part():
    """NaN and infinite values, times and weights are left out of the count and of the comparison."""
    reference, now = split(stream(2000, 9), 500)["maximum confidence"]
    values, weights, seconds = now.values.copy(), now.weights.copy(), now.seconds.copy()
    values[:20], weights[20:30], seconds[30:35] = np.nan, np.inf, np.nan
    weights[35:37] = 0.0
    found = compare(reference, Series(seconds, values, weights), alpha=0.002)
    assert found.frames == (1500, 463)
    assert found.answer == "same"


def test_a_camera_that_always_says_the_same_has_not_changed():
    """All frames equal, as those of an empty yard: p = 1."""
    found = compare(even(np.zeros(900)), even(np.zeros(300), START + 900), alpha=0.001)
    assert (found.answer, found.test.p_value, found.test.psi_p_value) == ("same", 1.0, 1.0)


@pytest.mark.slow
def test_a_single_day_against_a_night_is_no_drift():
    """Hours of one day cannot be matched: then day and night give no answer, where the plain test has an alarm."""
    for seed in range(3):
        day = stream(2880, seed, spacing=60.0, correlation=120.0, night=3.0)
        figures = {}
        for name, series in day.items():
            first, night = series.seconds < START + DAY, series.seconds >= START + DAY
            figures[name] = (series[first], series[night & (series.seconds < START + DAY + 6 * 3600)])
        assert plain_alarms(figures)
        assert not alarms(figures)
        assert look(figures)["maximum confidence"].answer == "too few"
