"""How far people are with a batch: counted from its offer and from what its label revisions say.

An image counts for the day on which it was answered first, so that a later correction moves no image to another day;
what it says now is its newest label. Days are those of UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

import numpy as np
from pydantic import Field

from tasks.core.entities import Label, Record, UtcTime
from tasks.core.people.ending import Conditions, Expected, expected_end, outlook

NO_REASON = "no reason given"
CLOCKS_AGREE = timedelta(minutes=1)  # what two clocks may differ by before anybody is told


class Day(Record):
    """What was answered first on one day."""

    schema_version: int = Field(1, exclude=True)
    day: date
    images: int = Field(description="labelled or skipped")


class AnnotatorProgress(Record):
    """What one person has done of a batch."""

    schema_version: int = Field(1, exclude=True)
    annotator: str
    images: int = Field(description="labelled")
    skipped: int
    boxes: int
    corrections: int = Field(description="boxes added, removed, moved or renamed against the pre-annotations")
    median_lead_seconds: float | None = Field(None, description="an image; none where nobody measured it, s")


class Progress(Record):
    """How far people are with a batch, in images."""

    batch_id: str
    offered_at: UtcTime
    offered: int
    done: int = Field(description="labelled, also as empty")
    skipped: int
    reasons: dict[str, int] = Field({}, description="skipped images by reason, the commonest first")
    boxes: int
    corrections: int
    last_at: UtcTime | None = Field(None, description="of the newest label")
    days: tuple[Day, ...] = Field((), description="from the first to the last day with an answer, none left out")
    annotators: tuple[AnnotatorProgress, ...] = ()
    expected: Expected | None = None
    outlook: str = Field("", description="the expected end in words")
    warnings: tuple[str, ...] = ()

    @property
    def answered(self) -> int:
        return self.done + self.skipped

    @property
    def share(self) -> float:
        """Of the images that were offered; 1 where there were none."""
        return self.answered / self.offered if self.offered else 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of a batch. All times are as their clocks said.

    offered: sample ids that people were given. labels: those in force, of one image one or, of several people, several.
    first: sample id -> when it was answered first, over all revisions (`first_answers`).
    """

    batch_id: str
    offered: Sequence[str]
    offered_at: datetime
    labels: Sequence[Label]
    first: Mapping[str, datetime]


def first_answers(known: Mapping[str, datetime], labels: Iterable[Label]) -> dict[str, datetime]:
    """Sample id -> the earliest time that it was answered, once one more revision is known."""
    found = dict(known)
    for label in labels:
        found[label.sample_id] = min(label.labelled_at, found.get(label.sample_id, label.labelled_at))
    return found


def progress_of(work: Work, conditions: Conditions, now: datetime, rng: np.random.Generator) -> Progress:
    """The figures of a batch. Labels of images that were not offered count for nothing.

    Times after `now` or before the offer are taken as `now` and as the offer, and are told: no clock is trusted to
    make the past or the future busier than it was. rng: of the interval of the expected end.
    """
    wanted = set(work.offered)
    labels = [label for label in work.labels if label.sample_id in wanted]
    labels.sort(key=lambda label: (label.labelled_at, label.sample_id, label.annotator))  # the newest says what counts
    states = states_of(labels)
    done = sum(state == "done" for state in states.values())
    skips = {label.sample_id: label.reason or NO_REASON for label in labels if states[label.sample_id] == "skipped"}
    answers = [clipped(work.first.get(key, moment), work, now) for key, moment in first_answers({}, labels).items()]
    left = conditions.images_left(len(wanted), done, len(skips))
    expected = expected_end(answers, left, now, rng)
    one_each = {label.sample_id: label for label in labels}
    return Progress(
        batch_id=work.batch_id,
        offered_at=work.offered_at,
        offered=len(wanted),
        done=done,
        skipped=len(skips),
        reasons=dict(sorted(Counter(skips.values()).items(), key=lambda item: (-item[1], item[0]))),
        boxes=sum(len(label.boxes) for label in one_each.values()),
        corrections=sum(label.corrections for label in one_each.values()),
        last_at=max((clipped(label.labelled_at, work, now) for label in labels), default=None),
        days=by_day(answers),
        annotators=by_annotator(labels),
        expected=expected,
        outlook=outlook(expected, answers, left, conditions, now),
        warnings=tuple(clock_warnings(labels, work, now)),
    )


def states_of(labels: Iterable[Label]) -> dict[str, str]:
    """Sample id -> done where anybody labelled it, else skipped."""
    states: dict[str, str] = {}
    for label in labels:
        if states.get(label.sample_id) != "done":
            states[label.sample_id] = label.status
    return states


def clipped(moment: datetime, work: Work, now: datetime) -> datetime:
    """A time between the offer and now; now where even the offer lies after it."""
    return min(max(moment, work.offered_at), now)


def by_day(answers: Sequence[datetime]) -> tuple[Day, ...]:
    """Images a day, from the first day to the last, days without any as well."""
    counts = Counter(moment.date() for moment in answers)
    if not counts:
        return ()
    first, last = min(counts), max(counts)
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return tuple(Day(day=day, images=counts[day]) for day in days)


def by_annotator(labels: Iterable[Label]) -> tuple[AnnotatorProgress, ...]:
    """A row a person, those with the most images first."""
    of: dict[str, list[Label]] = {}
    for label in labels:
        of.setdefault(label.annotator, []).append(label)
    rows = [
        AnnotatorProgress(
            annotator=annotator,
            images=sum(label.status == "done" for label in theirs),
            skipped=sum(label.status == "skipped" for label in theirs),
            boxes=sum(len(label.boxes) for label in theirs),
            corrections=sum(label.corrections for label in theirs),
            median_lead_seconds=median(leads) if leads else None,
        )
        for annotator, theirs in of.items()
        for leads in [[label.lead_seconds for label in theirs if label.lead_seconds is not None]]
    ]
    return tuple(sorted(rows, key=lambda row: (-row.images - row.skipped, row.annotator)))


def clock_warnings(labels: Sequence[Label], work: Work, now: datetime) -> list[str]:
    """A line for each way in which clocks disagree."""
    told = future_warning(labels, now)
    if before := [gap for label in labels if (gap := work.offered_at - label.labelled_at) > CLOCKS_AGREE]:
        told.append(
            f"{len(before)} labels say that they were made before the batch was offered, by up to {span(max(before))}: "
            f"counted as of the offer"
        )
    return told


def future_warning(labels: Iterable[Label], now: datetime) -> list[str]:
    """One line where labels are later than `now` by more than clocks may differ; none where none is."""
    after = [gap for label in labels if (gap := label.labelled_at - now) > CLOCKS_AGREE]
    if not after:
        return []
    return [
        f"{len(after)} labels say that they were made in the future, by up to {span(max(after))}: counted as of now; "
        f"set the clocks of those who label"
    ]


def span(gap: timedelta) -> str:
    """A length of time for people: the largest unit of which there are two."""
    seconds = gap.total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
