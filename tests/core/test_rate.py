"""The online quantile keeps a day's budget through whatever the traffic does, and no clock stalls it."""

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.sampling.hours import HOURS, Hours, HoursState
from tasks.core.sampling.rate import REMEMBERED_DAYS, RateController, RateState
from tasks.core.sampling.tail import CROWDED, HORIZON_SECONDS, Tail, TailState
from tasks.core.settings import ExpectedMisses

MIDNIGHT = datetime(2026, 1, 5, tzinfo=timezone.utc)
ATOMS = np.array([0.03, 0.06, 0.12, 0.25, 0.4, 0.55])  # weights: a frame's misses are a sum of a few of them


def a_budget(images_a_day=100.0, **others):
    fields = {"exploration": 0.2, "weights": {"car": (0.1,) * 6}, **others}
    return ExpectedMisses(name="misses", type="expected_misses", images_a_day=images_a_day, **fields)


class Run:
    """A controller and what it kept, hour by hour."""

    def __init__(self, budget=None, state=None, seed=0, **others):
        self.controller = RateController(budget or a_budget(**others), "fitted", state)
        self.rng = np.random.default_rng(seed)
        self.kept, self.explored = Counter(), Counter()

    def see(self, seconds, expected, camera="gate"):
        """A frame, `seconds` after midnight; was it kept?"""
        self.controller.advance(camera, MIDNIGHT + timedelta(seconds=seconds))
        explored = self.rng.random() < self.controller.exploration
        kept = bool(self.rng.random() < self.controller.chance(expected)) or explored
        self.controller.saw(expected, spent=kept)
        self.kept[int(seconds // 3600)] += kept
        self.explored[int(seconds // 3600)] += explored
        return kept

    def of_day(self, day):
        return sum(self.kept[hour] for hour in range(24 * day, 24 * day + 24))

    def __iter__(self):
        return iter(self.kept)


def a_sum(rng, detections=0.6):
    """Expected misses of a frame with so many doubtful detections on average: mostly ties, many of them at 0."""
    return round(float(ATOMS[rng.integers(0, len(ATOMS), rng.poisson(detections))].sum()), 6)


def by_day(hour):
    return 6 <= hour % 24 < 18


# name: frames an hour by hour, expected misses by hour, first day that is promised
STEP = 60  # hours: noon of the third day
WORLDS = {
    "steady": (lambda h: 360, lambda h, r: a_sum(r), 0),
    "no two frames alike": (lambda h: 360, lambda h, r: r.gamma(0.5, 0.3), 0),
    "day and night": (lambda h: 600 if by_day(h) else 60, lambda h, r: a_sum(r), 0),
    "nothing runs at night": (lambda h: 600 if by_day(h) else 0, lambda h, r: a_sum(r), 1),
    "empty at night": (lambda h: 360, lambda h, r: a_sum(r) if by_day(h) else 0.0, 1),
    "almost always empty": (lambda h: 720, lambda h, r: a_sum(r, 2) if r.random() < 0.05 else 0.0, 0),
    "threefold traffic": (lambda h: 360 if h < STEP else 1080, lambda h, r: a_sum(r), 0),
    "a third of the traffic": (lambda h: 1080 if h < STEP else 360, lambda h, r: a_sum(r), 0),
    "threefold misses": (lambda h: 360, lambda h, r: a_sum(r) * (1 if h < STEP else 3), 0),
    "a third of the misses": (lambda h: 360, lambda h, r: a_sum(r) / (1 if h < STEP else 3), 0),
    "tenfold detections": (lambda h: 360, lambda h, r: a_sum(r, 0.6 if h < STEP else 6), 0),
    "it rises for days": (lambda h: 360, lambda h, r: a_sum(r) * (1 + h / 24), 0),
    "rain in the afternoon": (lambda h: 360, lambda h, r: a_sum(r, 4 if 62 <= h < 67 else 0.6), 0),
    "a camera stops for eight hours": (lambda h: 0 if 56 <= h < 64 else 360, lambda h, r: a_sum(r), 0),
    "2,000 frames a day": (lambda h: 2000 / 24, lambda h, r: a_sum(r), 0),
}
DAYS = 4


@pytest.mark.parametrize("world", WORLDS)
def test_the_budget_is_spent_to_a_tenth_on_each_day(world):
    """Four simulated days through a change at noon of the third: each day's images lie within 10% of 100."""
    run, first = simulated(world, 100.0, seed=1)
    spent = [run.of_day(day) for day in range(first, DAYS)]
    assert all(abs(images - 100) <= 10 for images in spent), spent
    assert max(run.kept.values()) <= 30  # and no hour has it all


def simulated(world, images_a_day, seed):
    """The run of four days, and the first day of which the rate is promised."""
    frames_an_hour, expected_misses, first = WORLDS[world]
    run, rng = Run(images_a_day=images_a_day, seed=seed), np.random.default_rng(100 + seed)
    for hour in range(24 * DAYS):
        n = rng.poisson(frames_an_hour(hour)) if frames_an_hour(hour) else 0
        for seconds in np.sort(rng.random(n)) * 3600:
            run.see(hour * 3600 + float(seconds), expected_misses(hour, rng))
    return run, first


def test_exploration_is_its_share_of_the_budget_over_all_frames():
    """Over eight days a fifth of the images is drawn at random, whatever the frames show, by day and by night."""
    run, rng = Run(images_a_day=200.0), np.random.default_rng(3)
    for second in range(0, 8 * 86400, 10):
        if by_day(second / 3600) or second % 60 == 0:
            run.see(second, a_sum(rng))
    after_the_first = [hour for hour in run.explored if hour >= 24]
    assert sum(run.explored[hour] for hour in after_the_first) == pytest.approx(7 * 40, abs=4 * (7 * 40) ** 0.5)


def test_no_frame_without_expected_misses_is_kept_but_by_exploration():
    """With mostly empty frames all others are kept; one with 0 is not, also while the minimum is 0 itself."""
    run = Run(images_a_day=500.0)
    for second in range(0, 86400, 20):
        if second == 7200:
            assert run.controller.minimum == 0.0
        run.see(second, 0.4 if second % 2000 == 0 and second > 7200 else 0.0)
        assert run.controller.chance(0.0) == 0.0
    assert run.controller.chance(0.4) == 1.0


def test_ties_at_the_minimum_are_drawn():
    """Where all frames are alike, each is kept with the probability that the budget asks for."""
    run = Run(images_a_day=200.0)
    for second in range(0, 86400, 10):
        run.see(second, 0.25)
        if second == 43200:
            assert run.controller.minimum == 0.25
            assert 0 < run.controller.tie_probability < 0.1
    assert run.of_day(0) == pytest.approx(200, rel=0.1)


def test_the_fitted_minimum_holds_until_traffic_was_seen():
    """The first frame is decided by what central fitted: above, equal and below."""
    controller = RateController(a_budget(minimum_expected_misses=0.3, tie_probability=0.5), "fitted")
    controller.advance("gate", MIDNIGHT)
    assert controller.minimum == 0.3
    assert [controller.chance(m) for m in (0.31, 0.3, 0.29, 0.0)] == [1.0, pytest.approx(0.5), 0.0, 0.0]


def test_new_weights_begin_anew_and_a_new_budget_goes_on():
    """Values of other weights cannot be compared; what is spent today, and what the hours are like, stays known."""
    run, rng = Run(images_a_day=100.0), np.random.default_rng(0)
    for second in range(0, 43200, 10):
        run.see(second, a_sum(rng))
    state = run.controller.state()
    refitted = RateController(a_budget(minimum_expected_misses=7.0), "others", state).state()
    assert refitted.tail.values[0][0] == 7.0
    assert (refitted.minimum, refitted.spent, refitted.hours) == (7.0, state.spent, state.hours)
    raised = Run(images_a_day=200.0, state=state)
    for second in range(43200, 86400, 10):
        raised.see(second, a_sum(rng))
    assert raised.of_day(0) == pytest.approx(200 - sum(run.kept.values()), rel=0.1)


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-2 * 3600, 2 * 3600, -86400, 86400, -20000 * 86400, 40 * 86400])
def test_a_clock_that_jumps_neither_stalls_nor_bursts(jump):
    """Two hours, a day, to 1970 and back again: every hour keeps some images, and no quarter of one keeps many."""
    run, rng = Run(images_a_day=240.0), np.random.default_rng(5)
    quarters, clock = Counter(), 0.0
    for frame in range(6 * 3600 * 3):
        real = frame / 0.5
        clock = real + (jump if 4 * 3600 <= real < 8 * 3600 else 0)
        quarters[int(real // 900)] += run.see(clock, a_sum(rng))
    usual = 240 / 96
    assert max(quarters.values()) <= 6 * usual
    for hour in range(1, 12):
        assert sum(quarters[4 * hour + quarter] for quarter in range(4)) >= usual


def test_cameras_that_live_on_different_days_share_the_budget():
    """Two recordings a week apart, frame by frame in turn: the clock is that of the later one, and the rate holds."""
    run, rng = Run(images_a_day=100.0), np.random.default_rng(6)
    for second in range(0, 86400, 10):
        run.see(second, a_sum(rng), "old")
        run.see(second + 7 * 86400, a_sum(rng), "new")
    assert sum(run.kept.values()) == pytest.approx(100, rel=0.15)


def test_the_clock_goes_on_without_the_camera_that_was_ahead():
    """A camera an hour ahead is switched off: the others do not wait for an hour."""
    run, rng = Run(images_a_day=2400.0), np.random.default_rng(7)
    for second in range(0, 7200, 2):
        run.see(second, a_sum(rng), "slow")
        run.see(second + 3600, a_sum(rng), "fast")
    kept = sum(run.see(second, a_sum(rng), "slow") for second in range(7200, 12600, 2))
    assert kept > 60


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing():
    """Rebuilt from JSON in the middle of a day, it decides to the last bit as if it had never stopped."""
    rng = np.random.default_rng(8)
    frames = [(second, a_sum(rng)) for second in range(0, 2 * 86400, 30)]
    straight, restarted = Run(seed=1), Run(seed=1)
    for number, (second, expected) in enumerate(frames):
        if number % 700 == 699:
            state = RateState.model_validate_json(restarted.controller.state().model_dump_json())
            restarted.controller = RateController(a_budget(), "fitted", state)
        assert straight.see(second, expected) == restarted.see(second, expected)
    assert straight.controller.state() == restarted.controller.state()


def test_the_state_stays_small():
    """Twelve days of values of which no two are alike: under 30 kB, a few days and a bounded tail."""
    run, rng = Run(), np.random.default_rng(9)
    for second in range(0, 12 * 86400, 120):
        run.see(second, float(rng.gamma(0.5, 0.3)))
    state = run.controller.state()
    assert len(state.spent) <= REMEMBERED_DAYS
    assert len(state.tail.values) <= CROWDED
    assert len(json.dumps(state.model_dump(mode="json"))) < 30_000


# --- its parts -------------------------------------------------------------------------------------------------------

values = st.lists(
    st.tuples(st.sampled_from([0.1, 0.25, 0.4, 1.0, 3.5]), st.sampled_from([0.0, 10.0, 4000.0])), max_size=40
)


@given(values, st.floats(0.01, 30))
def test_the_level_is_that_of_a_list_of_all_sightings(seen, sightings):
    """Against sorting every value with what time has left of it: above it, and with a share of its ties, that many."""
    tail, listed = Tail(), []
    for value, pause in seen:
        tail.pass_time(pause)
        listed = [(v, mass * np.exp(-pause / HORIZON_SECONDS)) for v, mass in listed] + [(value, 1.0)]
        tail.add(value)
    minimum, share = tail.level(sightings)
    above = sum(mass for value, mass in listed if value > minimum)
    ties = sum(mass for value, mass in listed if value == minimum)
    assert 0 <= share <= 1 + 1e-9
    if sum(mass for _, mass in listed) > sightings:
        assert above + share * ties == pytest.approx(sightings)
    else:
        assert (minimum, share) == (min([value for value, _ in listed], default=0.0), pytest.approx(1.0))


@pytest.mark.parametrize("seed", range(5))
def test_a_crowded_tail_is_off_by_a_few_percent(seed):
    """Of 10,000 values of which no two are alike, few hundred are remembered, the largest ones exactly."""
    drawn = np.random.default_rng(seed).gamma(0.5, 0.3, 10_000)
    tail = Tail()
    for value in drawn.tolist():
        tail.add(value)
    assert len(tail) <= CROWDED
    for sightings in (3, 30, 300, 3000):
        minimum, _ = tail.level(sightings)
        assert (drawn > minimum).sum() == pytest.approx(sightings, rel=0.1, abs=1)


def test_what_was_seen_long_ago_is_forgotten():
    """After two days nothing holds the minimum up, and the state has shrunk."""
    tail = Tail()
    for value in range(1, 100):
        tail.add(float(value))
    for _ in range(48):
        tail.pass_time(3600)
        tail.add(0.1)
    assert tail.level(1.0)[0] == 0.1
    assert Tail(TailState.model_validate_json(tail.state().model_dump_json())).level(1.0) == tail.level(1.0)


def test_an_hour_is_learned_when_it_was_lived_through_from_its_beginning():
    """The hour of the start is not; one after a pause is, and the hours of the pause had no frames."""
    hours = Hours()
    for hour, frames in [(7, 5), (8, 10), (12, 20), (13, 0)]:
        hours.enter(hour)
        for _ in range(frames):
            hours.add_frame()
            hours.add_misses(0.5)
    state = hours.state()
    assert {hour: frames for hour, frames in enumerate(state.frames) if frames is not None} == {
        8: 10,
        9: 0,
        10: 0,
        11: 0,
        12: 20,
    }
    assert (state.misses[8], state.misses[12]) == (5, 10)
    hours.enter(32)  # the next day at eight: half of what it brings is believed
    hours.add_frame()
    hours.enter(33)
    assert hours.state().frames[8] == 5.5


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 3)), max_size=30))
def test_hours_are_weighted_whatever_the_clock_does(steps):
    """All 24 weights are above 0, and a day has frames, so that no rate is without bound."""
    hours = Hours()
    for hour, frames in steps:
        hours.enter(hour)
        hours.pass_time(60.0 * frames)
        for _ in range(frames):
            hours.add_frame()
            hours.add_misses(0.3)
    assert len(hours.weights()) == HOURS
    assert min(hours.weights()) > 0
    assert hours.frames_a_day >= 1
    assert Hours(HoursState.model_validate_json(hours.state().model_dump_json())).weights() == hours.weights()
