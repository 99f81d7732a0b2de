"""`Outbox`: samples on disk between the sampler and the bucket, within a hard cap."""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tasks.adapters.outbox.delivered import Delivered
from tasks.adapters.outbox.files import remove_temporary_files, sync_folder, write_durably
from tasks.core.entities import Sample, format_utc
from tasks.core.errors import DataError, OutboxFull, SettingsError

Receipt = Literal["stored", "repeated", "same image"]
Value = tuple[int, int, float, str]

_RECORD = re.compile(r"([0-9a-f]{20})\.([0-9a-f]{16})\.json\Z")
_QUARANTINE_SHARE = 0.1  # of the cap; the oldest quarantined files make room
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Pending:
    """A sample that waits for its delivery, and where its two files lie."""

    sample: Sample
    image: Path
    record: Path


@dataclass(frozen=True, slots=True)
class _Entry:
    record: Path
    size: int
    value: Value
    origin: str


def value_of(sample: Sample) -> Value:
    """How much a sample is worth, for the choice of what goes when the cap is reached; the lowest goes first.

    The random slice outlives everything else, because evaluation rests on it; within it the order is that of the ids,
    which are hashes, so that what is left is still a uniform sample. Of the others, fewer matching strategies go
    first, then those that were likelier to be kept, because they will come again.
    """
    if sample.random_slice:
        return (1, 0, 0.0, sample.sample_id)
    return (0, len(sample.matched), -sample.probability, sample.sample_id)


def origin_of(sample: Sample) -> str:
    """Which frame a sample is of: the same frame decided again after a crash has the same origin."""
    place = sample.source or format_utc(sample.captured_at)
    return hashlib.sha256(f"{sample.camera}\0{place}".encode()).hexdigest()[:16]


class Outbox:
    """Samples in a folder, never more than `cap_bytes` of them. Safe between threads; one process at a time.

    `drops` counts, by reason, whatever was acknowledged and then not delivered, or refused for want of room.
    """

    def __init__(self, folder: str | Path, cap_bytes: int) -> None:
        self.folder = Path(folder)
        self.cap_bytes = cap_bytes
        self.drops: Counter[str] = Counter()
        self._samples = self.folder / "samples"
        self._quarantine = self.folder / "quarantine"
        try:
            for path in (self._samples, self._quarantine):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{self.folder}: cannot be used as an outbox: {error.strerror}: give this user a folder of its own"
            ) from error
        self._lock = threading.RLock()
        self._index: dict[str, _Entry] = {}
        self._cheapest: list[tuple[Value, str]] = []  # a heap; entries that have left are skipped
        self._held: dict[str, Pending] = {}  # handed out by the last `pending`
        self._bytes = 0
        remove_temporary_files(self.folder)
        remove_temporary_files(self._samples)
        self._delivered = Delivered(self.folder / "delivered.txt")
        self._quarantined = sum(path.stat().st_size for path in self._quarantine.iterdir())
        self._recover()

    @property
    def used_bytes(self) -> int:
        """Bytes on disk: samples and quarantine."""
        with self._lock:
            return self._bytes + self._quarantined

    def __len__(self) -> int:
        with self._lock:
            return len(self._index)

    # --- in ----------------------------------------------------------------------------------------------------------

    def put(self, sample: Sample, jpeg: bytes) -> Receipt:
        """Store a sample. When this returns, the sample survives the end of the process and of the power.

        "repeated" for a frame that is held or delivered already (decided again after a crash), "same image" for
        another frame of the very same bytes; neither is stored again. Raises OutboxFull when the cap or the disk is
        reached and nothing of lesser value is left to go.
        """
        origin = origin_of(sample)
        with self._lock:
            known = self._known_origin(sample.sample_id)
            if known is not None:
                return "repeated" if known == origin else "same image"
            record = sample.to_json()
            size = len(jpeg) + len(record)
            self._make_room(size, value_of(sample))
            self._write(sample, jpeg, record)
            self._enter(sample, self._record_path(sample.sample_id, record), size)
        return "stored"

    def _known_origin(self, sample_id: str) -> str | None:
        entry = self._index.get(sample_id)
        return entry.origin if entry else self._delivered.origin_of(sample_id)

    def _make_room(self, size: int, value: Value) -> None:
        while self._bytes + self._quarantined + size > self.cap_bytes:
            if not self._evict_below(value, "evicted, outbox at its cap"):
                self.drops["refused, outbox at its cap"] += 1
                raise OutboxFull(
                    f"{self.folder}: holds {self._bytes} of {self.cap_bytes} bytes and nothing of lesser value: "
                    f"bring the bucket back or raise outbox_megabytes"
                )

    def _write(self, sample: Sample, jpeg: bytes, record: bytes) -> None:
        """Image, then record, then the folder; on a full disk samples of lesser value go."""
        while True:
            try:
                write_durably(self._image_path(sample.sample_id), jpeg)
                write_durably(self._record_path(sample.sample_id, record), record)
                sync_folder(self._samples)
                return
            except OSError as error:
                self._image_path(sample.sample_id).unlink(missing_ok=True)
                if error.errno in _NO_SPACE and self._evict_below(value_of(sample), "evicted, disk full"):
                    continue
                self.drops["refused, disk full" if error.errno in _NO_SPACE else "refused, disk error"] += 1
                raise OutboxFull(
                    f"{self.folder}: {error.strerror or error}: free some space or change the disk"
                ) from error

    def _evict_below(self, value: Value, reason: str) -> bool:
        """Remove the least valuable sample; False when there is none of less than `value`."""
        skipped = []
        try:
            while self._cheapest:
                cheapest, sample_id = heapq.heappop(self._cheapest)
                if sample_id not in self._index:
                    continue
                if sample_id in self._held or cheapest >= value:
                    skipped.append((cheapest, sample_id))
                    if cheapest >= value:
                        return False
                    continue
                self._remove(sample_id)
                self.drops[reason] += 1
                return True
            return False
        finally:
            for item in skipped:
                heapq.heappush(self._cheapest, item)

    # --- out ---------------------------------------------------------------------------------------------------------

    def pending(self, limit: int) -> list[Pending]:
        """The first `limit` samples that wait, oldest first; they are not evicted before the next call.

        A record that is corrupt is quarantined and counted, and the next sample takes its place.
        """
        found: list[Pending] = []
        with self._lock:
            for sample_id in list(self._index):
                if len(found) == limit:
                    break
                item = self._held.get(sample_id) or self._pending_item(sample_id)
                if item is not None:
                    found.append(item)
            self._held = {item.sample.sample_id: item for item in found}
        return found

    def holds(self, sample_id: str) -> bool:
        """Does this sample wait for its delivery?"""
        with self._lock:
            return sample_id in self._index

    def _pending_item(self, sample_id: str) -> Pending | None:
        record = self._index[sample_id].record
        sample = _read_record(record)
        if sample is None:
            self._move_to_quarantine(sample_id)
            return None
        return Pending(sample, self._image_path(sample_id), record)

    def read_image(self, sample: Sample) -> bytes:
        """The JPEG of a sample. Raises DataError, having quarantined the sample, when it is not what was stored."""
        path = self._image_path(sample.sample_id)
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != sample.sha256:
            with self._lock:
                if sample.sample_id in self._index:
                    self._move_to_quarantine(sample.sample_id)
            raise DataError(f"{path}: is not the image that was stored: it lies in {self._quarantine} now")
        return data

    def remove(self, sample: Sample) -> None:
        """Forget a sample; no error when it is not there."""
        with self._lock:
            if sample.sample_id in self._index:
                self._remove(sample.sample_id)

    def delivered(self, samples: Iterable[Sample]) -> None:
        """The bucket has these samples: remember that, for good, and remove them."""
        samples = list(samples)
        if not samples:
            return
        with self._lock:
            try:
                self._delivered.add((sample.sample_id, origin_of(sample)) for sample in samples)
            except OSError:
                # A full disk: the files still go, and the last segment in the bucket says the same to a restart.
                self.drops["delivery note not written"] += 1
            for sample in samples:
                self.remove(sample)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _image_path(self, sample_id: str) -> Path:
        return self._samples / f"{sample_id}.jpg"

    def _record_path(self, sample_id: str, record: bytes) -> Path:
        """The name carries a digest of the content, so that a flipped digit in the JSON is noticed."""
        return self._samples / f"{sample_id}.{hashlib.sha256(record).hexdigest()[:16]}.json"

    def _enter(self, sample: Sample, record: Path, size: int) -> None:
        entry = _Entry(record, size, value_of(sample), origin_of(sample))
        self._index[sample.sample_id] = entry
        self._bytes += size
        heapq.heappush(self._cheapest, (entry.value, sample.sample_id))

    def _remove(self, sample_id: str) -> None:
        """The record goes first: an image without a record is nothing."""
        entry = self._index.pop(sample_id)
        self._bytes -= entry.size
        entry.record.unlink(missing_ok=True)
        self._image_path(sample_id).unlink(missing_ok=True)

    def _move_to_quarantine(self, sample_id: str) -> None:
        entry = self._index.pop(sample_id)
        self._bytes -= entry.size
        self._quarantine_files([entry.record, self._image_path(sample_id)])

    def _quarantine_files(self, paths: Iterable[Path]) -> None:
        self.drops["quarantined, corrupt"] += 1
        for path in paths:
            if path.exists():
                self._quarantined += path.stat().st_size
                os.replace(path, self._quarantine / path.name)
        self._trim_quarantine()

    def _trim_quarantine(self) -> None:
        limit = self.cap_bytes * _QUARANTINE_SHARE
        if self._quarantined <= limit:
            return
        for path in sorted(self._quarantine.iterdir(), key=lambda p: p.stat().st_mtime):
            self._quarantined -= path.stat().st_size
            path.unlink()
            self.drops["removed from quarantine, no room"] += 1
            if self._quarantined <= limit:
                return

    def _recover(self) -> None:
        """Index what lies on the disk; what is not whole is quarantined, what was never acknowledged is removed."""
        found = []
        for path in self._samples.glob("*.json"):
            sample = _read_record(path)
            image = self._samples / f"{path.name.partition('.')[0]}.jpg"
            if sample is None or not image.exists():
                self._quarantine_files([path, image])
            elif self._delivered.origin_of(sample.sample_id) is not None:
                path.unlink()  # a crash came between the note of the delivery and the removal
            else:
                found.append((path.stat().st_mtime_ns, path, image, sample))
        for _, path, image, sample in sorted(found, key=lambda item: item[0]):
            self._enter(sample, path, path.stat().st_size + image.stat().st_size)
        for image in self._samples.glob("*.jpg"):
            if image.stem not in self._index:
                image.unlink()  # its record was never written, so nobody was told that the sample is safe


def _read_record(path: Path) -> Sample | None:
    """The sample of a record file; None when the file is not what was written."""
    match = _RECORD.match(path.name)
    try:
        data = path.read_bytes()
        if match is None or hashlib.sha256(data).hexdigest()[:16] != match[2]:
            return None
        sample = Sample.model_validate_json(data)
    except (OSError, ValidationError):
        return None
    return sample if sample.sample_id == match[1] else None
