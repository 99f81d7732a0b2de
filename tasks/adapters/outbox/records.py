"""The record of a sample on the disk: its name, its worth, and how it is read.

    {sample}.{digest}.{number}.{slice}-{matched}-{probability}.json

The name says all that the outbox has to know to order, evict and check a sample, so that a restart reads no record: a
backlog of 100,000 samples is back in a second.
"""

from __future__ import annotations

import errno
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks.core.entities import Sample, format_utc

Value = tuple[int, int, float, str]
Kind = tuple[int, int, float]  # what samples of equal value share

_NAME = re.compile(r"([0-9a-f]{20})\.([0-9a-f]{16})\.(\d{12})\.([01])-(\d{1,6})-([0-9.e+-]{1,30})\.json\Z")
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}  # say nothing about the file


@dataclass(frozen=True, slots=True)
class RecordName:
    """What the name of a record file says.

    digest: 16 hex of the sha256 of the content, so that a flipped digit in the JSON is noticed. number: of the `put`,
    counted up for as long as anything waits: the order in which samples leave, whatever the wall clock did meanwhile.
    """

    digest: str
    number: int
    value: Value

    @property
    def sample_id(self) -> str:
        return self.value[3]

    def __str__(self) -> str:
        random_slice, matched, likely, sample_id = self.value
        return f"{sample_id}.{self.digest}.{self.number:012d}.{random_slice}-{matched}-{abs(likely)!r}.json"


def record_name(sample: Sample, record: bytes, number: int) -> RecordName:
    """The name for `record`, the JSON of `sample`."""
    return RecordName(digest_of(record), number, value_of(sample))


def parse_name(name: str) -> RecordName | None:
    """What a file's name says; None when it is no record's."""
    match = _NAME.match(name)
    if match is None:
        return None
    try:
        value = (int(match[4]), int(match[5]), -float(match[6]), match[1])
    except ValueError:
        return None
    return RecordName(match[2], int(match[3]), value)


def value_of(sample: Sample) -> Value:
    """How much a sample is worth, for the choice of what goes when the cap is reached; the lowest goes first.

    The random slice outlives everything else, because evaluation rests on it. Of the others, fewer matching strategies
    go first, then those that were likelier to be kept, because they will come again. Among equals the order is that of
    the ids, which are hashes: what is left of them is a uniform sample.
    """
    if sample.random_slice:
        return (1, 0, 0.0, sample.sample_id)
    return (0, len(sample.matched), -sample.probability, sample.sample_id)


def other_kind_of(sample: Sample) -> Kind | None:
    """The kind that it would be of, had it been kept the other way; None where there is none, or nobody wrote it down.

    The other way of the random slice are the strategies that won their draws as well, that of all others is the draw at
    random.
    """
    if sample.probability_random is None or not sample.chosen_by:
        return None
    return (0, sample.chosen_by, -sample.probability) if sample.random_slice else (1, 0, 0.0)


def origin_of(sample: Sample) -> str:
    """Which frame a sample is of: the same frame decided again after a crash has the same origin."""
    place = sample.source or format_utc(sample.captured_at)
    return hashlib.sha256(f"{sample.camera}\0{place}".encode()).hexdigest()[:16]


def digest_of(record: bytes) -> str:
    return hashlib.sha256(record).hexdigest()[:16]


def read_record(path: Path, name: RecordName) -> Sample | None:
    """The sample of a record file; None when the file is not what was written.

    Raises OSError for what says nothing about the file, such as too many open ones.
    """
    data = read_whole(path)
    if data is None or digest_of(data) != name.digest:
        return None
    try:
        sample = Sample.model_validate_json(data)
    except ValidationError:
        return None
    return sample if sample.sample_id == name.sample_id else None


def read_whole(path: Path) -> bytes | None:
    """The content; None when the disk does not have it, or cannot read it."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in _PASSING:
            raise
        return None
