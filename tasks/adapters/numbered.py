"""What a device appends to the bucket, traffic logs or segments, read by windows of time instead of whole.

Objects are numbered from 1 in the order of time. A month has some ten thousand of them, so only those of the windows
that are asked for are read, many at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from typing import Generic, TypeVar

from tasks.adapters.bucket import Bucket
from tasks.core.entities import Sample, TrafficRecord
from tasks.core.errors import ObjectMissing, RecordInvalid

AT_ONCE = 32  # requests; reading is waiting for an answer
MOST_OBJECTS = 2000  # of one window: with more of them every second, third, ... is read

Logged = TypeVar("Logged", TrafficRecord, Sample)


class NumberedLog(Generic[Logged]):
    """The records of one model in the numbered objects of a device.

    number_key: the key of an object's number. model: what a line is. Damaged objects and lines are passed over and
    named in `problems`. Raises BucketError when the bucket does not answer.
    """

    def __init__(self, bucket: Bucket, number_key: Callable[[int], str], model: type[Logged], version: str) -> None:
        """version: of the model whose records are wanted."""
        self._bucket, self._key, self._version = bucket, number_key, version
        self._model: type[Logged] = model
        self._known: dict[int, list[Logged]] = {}
        self._of_others: set[int] = set()  # objects that hold records of other models
        self.problems: list[str] = []
        self.others: set[str] = set()  # model versions whose records were read and left out

    @cached_property
    def last(self) -> int:
        return self._bucket.latest_number(self._key)

    @cached_property
    def first(self) -> int:
        """The first object of the newest stretch in which the model ran; above `last` when there is none.

        Steps back from the end double until an object holds other models only; what is between is halved.
        """
        step, inside = 1, self.last + 1
        while inside > 1:
            number = max(1, inside - step)
            if not self._runs_in(number):
                return self._between(number, inside)
            inside, step = number, step * 2
        return inside

    def _between(self, outside: int, inside: int) -> int:
        while inside - outside > 1:
            middle = (outside + inside) // 2
            if self._runs_in(middle):
                inside = middle
            else:
                outside = middle
        return inside

    def _runs_in(self, number: int) -> bool:
        """Does the object hold the model? One that is empty or damaged is as the one before it."""
        while number > 0:
            if self.read([number]):
                return True
            if number in self._of_others:
                return False
            number -= 1
        return False

    def window(
        self, start: datetime | None = None, end: datetime | None = None, *, most: int = MOST_OBJECTS
    ) -> list[Logged]:
        """The model's records of `start` up to `end` in the order of their objects; none: from the first, to the last.

        Of a long window `most` evenly spaced objects are read: still a uniform sample of its frames.
        """
        first = self.first if start is None else self._first_from(start)
        last = self.last if end is None else self._first_from(end)
        numbers = range(first, last + 1)
        chosen = numbers[:: max(1, -(-len(numbers) // most))]
        return [
            record
            for record in self.read(chosen)
            if (start is None or start <= record.captured_at) and (end is None or record.captured_at < end)
        ]

    def is_short(self) -> bool:
        """Can all of it be read? Then a clock that jumps leads no search astray."""
        return self.last - self.first < MOST_OBJECTS

    def span(self) -> tuple[datetime, datetime] | None:
        """The times of the first and the last record; None when there is none."""
        first, last = self._beginning(range(self.first, self.last + 1)), self._ending()
        return (first, last) if first is not None and last is not None else None

    def newest(self, most: int) -> list[Logged]:
        """The model's records backwards from the last object, the order within an object as it is.

        Ends with the object that brings at least `most`, or before one that holds other models only.
        """
        records: list[Logged] = []
        number = self.last
        while number and len(records) < most:
            own = self.read([number])
            if not own and number in self._of_others:
                break
            records += own
            number -= 1
        return records

    def read(self, numbers: Iterable[int]) -> list[Logged]:
        wanted = list(numbers)
        new = [number for number in wanted if number not in self._known]
        if len(new) == 1:
            self._known[new[0]] = self._read_one(new[0])
        elif new:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="log") as pool:
                self._known.update(zip(new, pool.map(self._read_one, new)))
        return [record for number in wanted for record in self._known[number]]

    def _read_one(self, number: int) -> list[Logged]:
        try:
            records, problems = self._bucket.read_lines(self._key(number), self._model)
        except (RecordInvalid, ObjectMissing) as error:
            self.problems.append(str(error))
            return []
        self.problems += problems
        if others := {record.model_version for record in records} - {self._version}:
            self.others |= others
            self._of_others.add(number)
        return [record for record in records if record.model_version == self._version]

    def _first_from(self, moment: datetime) -> int:
        """The last object that begins before `moment`, as it may go on beyond it."""
        low, high = self.first, self.last + 1
        while high - low > 1:
            middle = (low + high) // 2
            beginning = self._beginning(range(middle, high))
            low, high = (middle, high) if beginning is None or beginning < moment else (low, middle)
        return low

    def _ending(self) -> datetime | None:
        for number in range(self.last, self.first - 1, -1):
            if records := self.read([number]):
                return records[-1].captured_at
        return None

    def _beginning(self, numbers: Sequence[int]) -> datetime | None:
        """The first time in the first of the objects that has one."""
        for number in numbers:
            if records := self.read([number]):
                return records[0].captured_at
        return None
