"""When a batch ends, when it is likely to, and when somebody should be reminded of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from tasks.core.entities.base import Record, UtcTime
from tasks.core.settings import LabellingSettings

if TYPE_CHECKING:
    from tasks.core.people.progress import Progress

DAY = timedelta(days=1)
WINDOW = 7  # days that the rate is taken from, so that each day of the week is in it once
LEAST = 2  # days, below which one cannot tell how much they differ
DRAWS = 4000
LEVEL = 0.95
HORIZON = 3650.0  # days; what lies beyond is no date
OF_DEADLINE = 0.8  # gone when people are reminded of it
ROUNDING = 1e-9


class Expected(Record):
    """When a batch is likely to end: a 95% interval and its middle. none: not within ten years."""

    schema_version: int = Field(1, exclude=True)
    low: UtcTime | None
    middle: UtcTime | None
    high: UtcTime | None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What ends a batch. Whichever comes first does.

    closed: who closed it by hand, and why, in words; empty while nobody has.
    """

    done_share: float = 1.0
    done_images: int | None = None
    deadline: datetime | None = None
    closed: str = ""

    @classmethod
    def of(cls, settings: LabellingSettings, offered_at: datetime, closed: str = "") -> Conditions:
        """Those of the project's settings as they are now, for a batch that was offered then."""
        days = settings.deadline_days
        deadline = None if days is None else offered_at + days * DAY
        return cls(settings.done_share, settings.done_images, deadline, closed)

    def needed(self, offered: int) -> int:
        """How many of the offered images have to be labelled or skipped."""
        return ceil(self.done_share * offered - ROUNDING)

    def images_left(self, offered: int, done: int, skipped: int) -> int:
        """Answers that are missing until the batch ends by share or by count."""
        by_share = self.needed(offered) - done - skipped
        by_count = by_share if self.done_images is None else self.done_images - done
        return max(0, min(by_share, by_count))


def ended(progress: Progress, conditions: Conditions, now: datetime) -> str:
    """Why a batch has ended, in words; empty while it has not."""
    offered, answered = progress.offered, progress.answered
    if conditions.closed:
        return conditions.closed
    if not offered:
        return "none of its images could be offered"
    if answered >= offered:
        return f"all of its {offered} images are labelled or skipped"
    if answered >= conditions.needed(offered):
        return (
            f"{answered} of {offered} images are labelled or skipped, the share of {conditions.done_share:g} asked for"
        )
    if conditions.done_images is not None and progress.done >= conditions.done_images:
        return f"{progress.done} images are labelled, as many as were asked for"
    if conditions.deadline is not None and now >= conditions.deadline:
        return f"its deadline of {moment(conditions.deadline)} has passed with {answered} of {offered} images answered"
    return ""


# --- when ------------------------------------------------------------------------------------------------------------


def expected_end(answers: Sequence[datetime], left: int, now: datetime, rng: np.random.Generator) -> Expected | None:
    """When `left` more answers will be there at the pace of the last days; None where nobody can tell yet.

    answers: times of the answers so far, none after `now`. The pace is the number of answers in the last whole days, at
    most seven, counted back from `now`. How much days differ is their dispersion, the variance over the mean of a day
    (quasi-Poisson; McCullagh and Nelder 1989, 6.2), itself known from few days, so that it is drawn with its
    chi-square; the rate is then gamma distributed around what was seen, and the time that the rest takes is gamma
    distributed at that rate, as that of a Poisson process is.
    """
    counts = whole_days(answers, now)
    if left <= 0 or len(counts) < LEAST or not counts.sum():
        return None
    dispersion = counts.var(ddof=1) / counts.mean()
    chance = np.maximum(rng.chisquare(len(counts) - 1, DRAWS), ROUNDING)
    spread = np.maximum(1.0, dispersion * (len(counts) - 1) / chance)
    rate = rng.gamma(counts.sum() / spread, spread / len(counts))
    days = rng.gamma(left / spread, spread) / np.maximum(rate, ROUNDING)
    low, middle, high = np.quantile(days, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return Expected(low=later(now, low), middle=later(now, middle), high=later(now, high))


def whole_days(answers: Sequence[datetime], now: datetime) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(days,) answers in each of the last stretches of 24 hours, newest first; none before the first answer's."""
    if not answers:
        return np.zeros(0, np.int64)
    known = min(WINDOW, floor((now - min(answers)) / DAY))
    ages = np.array([(now - answer) / DAY for answer in answers])
    return np.bincount(np.floor(ages[ages < known]).astype(np.int64), minlength=known)[:known]


def later(now: datetime, days: float) -> datetime | None:
    try:
        return now + timedelta(days=days) if days < HORIZON else None
    except OverflowError:
        return None


def outlook(
    expected: Expected | None, answers: Sequence[datetime], left: int, conditions: Conditions, now: datetime
) -> str:
    """The expected end in words; the deadline where that comes first."""
    limit = f"; the deadline is {moment(conditions.deadline)}" if conditions.deadline else ""
    if not left:
        return "nothing is left to label"
    if not answers:
        return f"nobody has begun{limit}"
    if expected is None:
        counts = whole_days(answers, now)
        if len(counts) < LEAST:
            return f"no idea yet: people began less than {LEAST} days ago{limit}"
        return f"no end in sight: nothing was labelled in the last {len(counts)} days{limit}"
    if expected.middle is None:
        return f"no end in sight at the pace of the last days{limit}"
    high = moment(expected.high) if expected.high else "nobody knows when"
    return f"{moment(expected.middle)}, between {moment(expected.low or now)} and {high} (95%){limit}"


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


# --- reminders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reminder:
    """Something that somebody should be told once. name: of this reminder among all of its batch."""

    name: str
    why: str


def reminders_due(
    progress: Progress, conditions: Conditions, remind_after_days: float | None, now: datetime
) -> list[Reminder]:
    """What should have been told by now of a batch that has not ended: of a long silence only the newest word."""
    due = []
    last = max(progress.last_at or progress.offered_at, progress.offered_at)
    if remind_after_days is not None and (times := floor((now - last) / DAY / remind_after_days)) >= 1:
        days = times * remind_after_days
        why = f"no new label for {days:g} days: {progress.answered} of {progress.offered} images are answered"
        due.append(Reminder(f"idle-{last:%Y%m%d-%H%M%S}-{times}", why))
    if conditions.deadline is not None:
        begun = conditions.deadline - progress.offered_at
        if progress.offered_at + OF_DEADLINE * begun <= now < conditions.deadline:
            why = (
                f"the deadline is {moment(conditions.deadline)}: {progress.answered} of {progress.offered} images are "
                f"answered"
            )
            due.append(Reminder("deadline", why))
    return due
