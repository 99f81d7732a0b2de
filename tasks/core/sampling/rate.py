"""Rate control: `minimum_expected_misses` follows the traffic, so that a day's budget of images is kept.

Three parts. `Hours` knows how a day's misses are spread, and gives each hour its share of what is left of the budget.
`Tail` says which value so many of the latest frames exceed. Between them a correction, proportional to how far the
images kept in this hour are off their plan, makes up for what the tail of the last hours does not yet know: a step of
traffic or of the values' distribution. The clock is the frames' capture time.
"""

from __future__ import annotations

import math
from datetime import datetime

from tasks.core.entities.base import Record
from tasks.core.sampling.hours import HOUR_SECONDS, HOURS, Hours, HoursState
from tasks.core.sampling.tail import Tail, TailState
from tasks.core.settings import ExpectedMisses

DAY_SECONDS = HOURS * HOUR_SECONDS

SLACK = 0.03  # of the budget: an hour that is so far off its plan is corrected by a factor of e
LEAST_SLACK = 1.0  # images
LARGEST_RAISE = 3.0  # of the correction's logarithm
LARGEST_CUT = 8.0
STOP = 5.0  # ahead of its plan by so many slacks, an hour keeps nothing but exploration
CARRIED_OVER = 0.9  # of the correction, into the next hour
CATCH_UP = 3.0  # times an hour's usual share, that it gets at most when earlier hours left their shares unspent

SETTLE_SECONDS = 30.0
LONGEST_GAP = 600.0  # a longer time without frames says nothing of the traffic
PRIOR_SECONDS = 1800.0  # of traffic that the fitted minimum stands for
LEARNING_SECONDS = 600.0  # without a fitted minimum, and without misses
REMEMBERED_DAYS = 8
SETBACK_SECONDS = 60.0  # a camera's clock that goes back by less is waited for
PATIENCE = 1000  # frames, after which the clock of a camera that is gone is given up


class RateState(Record):
    """What the controller knows of the past, as JSON."""

    fitted_to: str = ""
    images_a_day: float = 0.0
    now: float | None = None
    leader: str = ""
    behind: int = 0
    spent: dict[str, float] = {}
    anchor: float = 0.0
    spent_since: float = 0.0
    pace: float = 0.0
    correction: float = 0.0
    settled_at: float = 0.0
    minimum: float | None = None
    tie_probability: float = 0.0
    exploration: float = 0.0
    hours: HoursState = HoursState()
    tail: TailState = TailState()


class RateController:
    """Says of each frame how likely it is to be kept, and learns what came of it.

    Frame by frame: `advance`, then `exploration` and `chance` from the state so far, then `saw`.
    """

    def __init__(self, strategy: ExpectedMisses, fitted_to: str, state: RateState | None = None) -> None:
        """fitted_to: what the values depend on; of a state with another, only budget and hours are taken over."""
        self._strategy = strategy
        self._fitted_to = fitted_to
        known = state if state is not None and state.fitted_to == fitted_to else None
        state = state or RateState()
        self._now, self._leader, self._behind = state.now, state.leader, state.behind
        self._spent = dict(state.spent)
        self._anchor, self._spent_since, self._pace = state.anchor, state.spent_since, state.pace
        self._hours = Hours(state.hours)
        self._exploration = state.exploration

        self._correction = known.correction if known else math.log(max(1 - strategy.exploration, 0.01))
        self._tail = Tail(known.tail if known else None)
        self._settled_at = known.settled_at if known else 0.0
        self.minimum: float | None = known.minimum if known else strategy.minimum_expected_misses
        self.tie_probability = known.tie_probability if known else strategy.tie_probability
        if known is None:
            self._expect_the_fitted_minimum()
        if self._now is not None and (known is None or state.images_a_day != strategy.images_a_day):
            self._plan_anew(self._now)

    @property
    def exploration(self) -> float:
        """e, the probability of the exploration draw of a frame."""
        return self._exploration

    def chance(self, expected: float) -> float:
        """How likely a frame with so many expected misses is to be kept: above the minimum, at it, or below."""
        if expected <= 0 or self.minimum is None or expected < self.minimum:
            return 0.0
        return 1.0 if expected > self.minimum else self.tie_probability

    def advance(self, camera: str, moment: datetime) -> None:
        """A frame of a camera, captured at `moment`, is about to be decided.

        The clock is that of the camera that is furthest ahead. When this one's is set back, or is heard of no more, it
        goes back too: neither may stop the controller. The others' frames count where the clock is.
        """
        time = moment.timestamp()
        if self._now is None or time >= self._now:
            self._go_on(time)
            self._leader, self._behind = camera, 0
        elif (camera == self._leader and self._now - time > SETBACK_SECONDS) or self._behind >= PATIENCE:
            self._enter_hour(time)
            self._leader, self._behind = camera, 0
        else:
            self._behind += 1
        self._hours.add_frame()
        if self._clock - self._settled_at >= SETTLE_SECONDS:
            self._settle()

    def saw(self, expected: float | None, *, spent: bool) -> None:
        """What came of the frame.

        expected: its expected misses; None of a frame that they were not asked of, as of a near-duplicate. spent: it is
        kept, and counts in the budget.
        """
        if expected:
            self._hours.add_misses(expected)
            self._tail.add(expected)
        if spent:
            self._spend(1.0)
            self._spent_since += 1
            self._settle()

    def state(self) -> RateState:
        return RateState(
            fitted_to=self._fitted_to,
            images_a_day=self._strategy.images_a_day,
            now=self._now,
            leader=self._leader,
            behind=self._behind,
            spent=dict(self._spent),
            anchor=self._anchor,
            spent_since=self._spent_since,
            pace=self._pace,
            correction=self._correction,
            settled_at=self._settled_at,
            minimum=self.minimum,
            tie_probability=self.tie_probability,
            exploration=self._exploration,
            hours=self._hours.state(),
            tail=self._tail.state(),
        )

    # --- the clock ---------------------------------------------------------------------------------------------------

    @property
    def _clock(self) -> float:
        return self._now or 0.0

    def _go_on(self, time: float) -> None:
        if self._now is None:
            self._now = time
            # The day is shared with the time before the start, when somebody else had its part of the budget.
            self._spend(self._strategy.images_a_day * (time % DAY_SECONDS) / DAY_SECONDS)
        passed = min(time - self._now, LONGEST_GAP)
        self._tail.pass_time(passed)
        self._hours.pass_time(passed)
        if int(time // HOUR_SECONDS) != self._hours.hour:
            self._enter_hour(time)
        self._now = time

    def _enter_hour(self, time: float) -> None:
        """A new hour, or the clock was set back: what is left of the day's budget is planned anew."""
        self._correction = CARRIED_OVER * self._corrected() if self._hours.hour is not None else self._correction
        self._hours.enter(int(time // HOUR_SECONDS))
        self._now = time
        self._plan_anew(time)

    def _plan_anew(self, time: float) -> None:
        self._anchor, self._spent_since = time, 0.0
        self._pace = self._planned_pace(time)
        self._settle()

    # --- the budget --------------------------------------------------------------------------------------------------

    @property
    def _day(self) -> str:
        return str(int(self._clock // DAY_SECONDS))

    def _spend(self, images: float) -> None:
        self._spent[self._day] = self._spent.pop(self._day, 0.0) + images
        while len(self._spent) > REMEMBERED_DAYS:
            del self._spent[next(iter(self._spent))]

    def _left(self) -> float:
        return max(0.0, self._strategy.images_a_day - self._spent.get(self._day, 0.0))

    def _planned_pace(self, time: float) -> float:
        """Images a second in the hour that `time` lies in.

        What exploration will draw from it, and its share of what is left beside exploration for the rest of the day.
        """
        weights, frames, explored = self._hours.weights(), self._hours.frames(), self._planned_exploration()
        into_day = time % DAY_SECONDS / HOUR_SECONDS
        hour = min(int(into_day), HOURS - 1)
        now = hour + 1 - into_day  # the share of the hour that is left

        left = self._left() - explored * (now * frames[hour] + sum(frames[hour + 1 :]))
        usual = self._strategy.images_a_day / sum(weights)
        by_weight = min(max(0.0, left) / (now * weights[hour] + sum(weights[hour + 1 :])), CATCH_UP * usual)
        return (explored * frames[hour] + by_weight * weights[hour]) / HOUR_SECONDS

    def _planned_exploration(self) -> float:
        """e, by what is known now."""
        return min(1.0, self._strategy.exploration * self._strategy.images_a_day / self._hours.frames_a_day)

    # --- the minimum -------------------------------------------------------------------------------------------------

    def _corrected(self) -> float:
        """Logarithm of the factor on the images that the tail is asked for."""
        return min(LARGEST_RAISE, max(-LARGEST_CUT, self._correction - self._ahead_of_plan()))

    def _settle(self) -> None:
        """Set the minimum, and the exploration, by what is known now."""
        self._settled_at = self._clock
        self._exploration = self._planned_exploration()
        sightings = self._pace * self._tail.seconds * math.exp(self._corrected())
        is_learning = not len(self._tail) and self._tail.seconds < LEARNING_SECONDS
        if is_learning or not sightings or not self._left() or self._ahead_of_plan() > STOP:
            self.minimum, self.tie_probability = None, 0.0
        else:
            self.minimum, self.tie_probability = self._tail.level(sightings)

    def _ahead_of_plan(self) -> float:
        """Images kept in this hour beyond its plan, in slacks."""
        slack = max(LEAST_SLACK, SLACK * self._strategy.images_a_day)
        return (self._spent_since - self._pace * (self._clock - self._anchor)) / slack

    def _expect_the_fitted_minimum(self) -> None:
        """Before any traffic was seen, the fitted minimum stands for half an hour in which the budget was met."""
        fitted, usual = self._strategy, self._strategy.images_a_day / DAY_SECONDS
        if fitted.minimum_expected_misses > 0:
            self._tail.pass_time(PRIOR_SECONDS)
            wanted = usual * self._tail.seconds * (1 - fitted.exploration)
            self._tail.add(fitted.minimum_expected_misses, wanted / max(fitted.tie_probability, 0.05))
