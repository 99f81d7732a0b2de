"""How likely a sample was to outlast the cap: what turns the rest of a full outbox back into a sample of everything.

Among samples of equal value those with the lowest ids go first, and ids are hashes, uniform over their 80 bits. So one
that stayed did so because its id lies above that of every equal one that went while it was there, and given the others
the probability of that is the share of ids that do. It multiplies the inclusion probability:

    p_delivered = 1 - (highest id that went meanwhile + 1) / 2^80

This is the rank conditioning of bottom-k samples (Cohen and Kaplan, "Summarizing data using bottom-k sketches", 2007):
weighting each delivered sample by 1 / p_delivered gives unbiased totals of its kind, however long the bucket was away.

Of a kind of which nothing is left no sample can speak, but its frames may be in the random slice, a kind of its own and
the last that goes. So a sample is told, too, how likely it was to be there had it been of the other kind, that of the
random slice or that of what strategies chose: by the same rule, given all others, it would have stayed if its value lay
above the highest that went meanwhile. That is 0 where one of a worthier kind went. What follows is told in core/field.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

from tasks.adapters.durable import sync_folder
from tasks.adapters.outbox.files import append_durably, write_durably
from tasks.adapters.outbox.records import Kind, RecordName, Value

_IDS = 2**80
_LINE = re.compile(r"(\d{1,12}) ([01]) (\d{1,6}) ([0-9.e+-]{1,30}) ([0-9a-f]{20})\Z")
_LINES = 1000  # of the file, at least, between two times that it is cut to what still matters


class Thinning:
    """What went for want of room, as far as samples that wait now were there to see it. Survives restarts."""

    def __init__(self, path: Path, waiting: Iterable[RecordName]) -> None:
        """waiting: the samples that are there now."""
        self._path = path
        # Of each kind (number of the put, id that went) with falling ids: the highest id since a put is one look away.
        self._gone: dict[Kind, list[tuple[int, int]]] = {}
        self._worthiest: list[tuple[int, tuple[Kind, int]]] = []  # the same over all kinds, by kind and id
        self._unsaved: list[str] = []
        self._lines = 0
        self.newest = 0
        for number, kind, rank in sorted(_lines_of(path)):
            self._enter(number, kind, rank)
        self._cut(waiting)

    def note(self, value: Value, number: int) -> bool:
        """A sample of this value had to go, or was not let in, at put `number`; False when the disk did not take it.

        What the disk did not take is written with the next one.
        """
        self._enter(number, value[:3], int(value[3], 16))
        random_slice, matched, likely, sample_id = value
        self._unsaved.append(f"{number} {random_slice} {matched} {abs(likely)!r} {sample_id}\n")
        return self._save()

    def probability(self, name: RecordName) -> float:
        """How likely the sample of this name was to be there still; 1 when none of its kind had to go."""
        gone = self._gone.get(name.value[:3], [])
        first = bisect_left(gone, (name.number,))
        if first == len(gone):
            return 1.0
        # Held back by an upload, it may have outlasted a higher one: then its own id is the bound.
        highest = min(gone[first][1], int(name.sample_id, 16) - 1)
        return (_IDS - 1 - highest) / _IDS

    def probability_as(self, kind: Kind, number: int) -> float:
        """How likely a sample of `kind` that was put at the same time would be there still; 0 when all of them went."""
        first = bisect_left(self._worthiest, (number,))
        if first == len(self._worthiest):
            return 1.0
        gone, rank = self._worthiest[first][1]
        if gone != kind:
            return 1.0 if gone < kind else 0.0
        return (_IDS - 1 - rank) / _IDS

    def tidy(self, waiting: Iterable[RecordName], count: int) -> None:
        """Forget what no waiting sample saw, once there is much of it. count: of the waiting samples."""
        if self._lines > max(_LINES, count):
            self._cut(waiting)

    def _enter(self, number: int, kind: Kind, rank: int) -> None:
        self.newest = max(self.newest, number)
        gone = self._gone.setdefault(kind, [])
        while gone and gone[-1][1] <= rank:
            gone.pop()
        if not gone or gone[-1][0] < number:
            gone.append((number, rank))
        while self._worthiest and self._worthiest[-1][1] <= (kind, rank):
            self._worthiest.pop()
        if not self._worthiest or self._worthiest[-1][0] < number:
            self._worthiest.append((number, (kind, rank)))

    def _cut(self, waiting: Iterable[RecordName]) -> None:
        oldest: dict[Kind, int] = {}
        for name in waiting:
            kind = name.value[:3]
            oldest[kind] = min(oldest.get(kind, name.number), name.number)
        self._gone = {
            kind: gone[bisect_left(gone, (oldest[kind],)) :] for kind, gone in self._gone.items() if kind in oldest
        }
        since = min(oldest.values(), default=self.newest + 1)
        self._worthiest = self._worthiest[bisect_left(self._worthiest, (since,)) :]
        left = {(number, kind, rank) for kind, gone in self._gone.items() for number, rank in gone}
        left |= {(number, kind, rank) for number, (kind, rank) in self._worthiest}
        lines = [f"{number} {kind[0]} {kind[1]} {abs(kind[2])!r} {rank:020x}\n" for number, kind, rank in sorted(left)]
        self._lines = len(lines)
        if lines or self._path.exists():
            try:
                write_durably(self._path, "".join(lines).encode())
                sync_folder(self._path.parent)
                self._unsaved.clear()
            except OSError:  # a full disk: the longer file says the same, but its last line may have been cut
                self._unsaved.insert(0, "\n")

    def _save(self) -> bool:
        try:
            append_durably(self._path, "".join(self._unsaved).encode())
        except OSError:
            return False
        self._lines += len(self._unsaved)
        self._unsaved.clear()
        return True


def _lines_of(path: Path) -> list[tuple[int, Kind, int]]:
    """The whole lines of the file; one that a crash cut is left out."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return []
    matches = [_LINE.match(line) for line in text.split("\n")[:-1]]
    return [(int(m[1]), (int(m[2]), int(m[3]), -float(m[4])), int(m[5], 16)) for m in matches if m is not None]
