"""`Outbox`: samples on disk between the sampler and the bucket, within a hard cap."""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.adapters.durable import sync_folder
from tasks.adapters.outbox.delivered import Delivered
from tasks.adapters.outbox.files import remove_temporary_files, size_of, write_durably
from tasks.adapters.outbox.quarantine import Quarantine
from tasks.adapters.outbox.records import (
    RecordName,
    Value,
    origin_of,
    other_kind_of,
    parse_name,
    read_record,
    read_whole,
    record_name,
)
from tasks.adapters.outbox.thinning import Thinning
from tasks.core.entities import Sample
from tasks.core.errors import DataError, OutboxFull, SettingsError

Receipt = Literal["stored", "repeated", "same image"]

_QUARANTINE_SHARE = 0.1  # of the cap
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_ABOVE_ALL: Value = (2, 0, 0.0, "")  # of no sample
_STALE = 1000  # entries of the heap, at least, that may be of samples which have left


@dataclass(frozen=True, slots=True)
class Pending:
    """A sample that waits for its delivery, and where its two files lie."""

    sample: Sample
    image: Path
    record: Path


@dataclass(frozen=True, slots=True)
class _Entry:
    name: RecordName
    size: int
    since: float  # of the monotonic clock


class Outbox:
    """Samples in a folder, never more than `cap_bytes` of them. Safe between threads; one process at a time.

    `drops` counts, by reason, whatever was acknowledged and then not delivered, or refused for want of room. What the
    cap cost is also in the samples that are left: `probability_delivered` and `probability_delivered_otherwise`.
    """

    def __init__(self, folder: str | Path, cap_bytes: int) -> None:
        """Raises SettingsError when the folder cannot be used. After a higher cap, samples go until it fits."""
        self.folder = Path(folder)
        self.cap_bytes = cap_bytes
        self.drops: Counter[str] = Counter()
        self._samples = self.folder / "samples"
        self._lock = threading.RLock()
        self._index: OrderedDict[str, _Entry] = OrderedDict()
        self._cheapest: list[tuple[Value, str]] = []  # a heap; entries that have left are skipped
        self._held: dict[str, Pending] = {}  # handed out by the last `pending`
        self._bytes = 0
        self._stuck = 0  # bytes of files that should have gone and did not; the next start looks again
        try:
            self._samples.mkdir(parents=True, exist_ok=True)
            self._quarantine = Quarantine(self.folder / "quarantine", int(cap_bytes * _QUARANTINE_SHARE), self.drops)
            remove_temporary_files(self.folder)
            remove_temporary_files(self._samples)
            self._delivered = Delivered(self.folder / "delivered.txt")
            self._recover()
        except OSError as error:
            raise SettingsError(
                f"{self.folder}: cannot be used as an outbox: {error.strerror}: give this user a folder of its own"
            ) from error
        self._thinning = Thinning(self.folder / "thinned.txt", self._names())
        self._newest = max((self._thinning.newest, *(name.number for name in self._names())))
        with suppress(OSError):  # a disk that cannot be written: the cap is kept by what is let in
            self._make_room(0, _ABOVE_ALL, self._newest)

    @property
    def used_bytes(self) -> int:
        """Bytes on disk: samples and quarantine."""
        with self._lock:
            return self._bytes + self._stuck + self._quarantine.used_bytes

    @property
    def oldest_seconds(self) -> float:
        """How long the sample that waits longest has waited, s; 0 when none waits."""
        with self._lock:
            return max(0.0, time.monotonic() - next(iter(self._index.values())).since) if self._index else 0.0

    def __len__(self) -> int:
        with self._lock:
            return len(self._index)

    # --- in ----------------------------------------------------------------------------------------------------------

    def put(self, sample: Sample, jpeg: bytes) -> Receipt:
        """Store a sample. When this returns, the sample survives the end of the process and of the power.

        "repeated" for a frame that is held or delivered already (decided again after a crash), "same image" for
        another frame of the very same bytes; neither is stored again. Raises OutboxFull when the cap or the disk is
        reached and nothing of lesser value is left to go, and when the disk fails.
        """
        origin = origin_of(sample)
        with self._lock, self._disk_errors():
            if (known := self._known_origin(sample.sample_id)) is not None:
                return "repeated" if known == origin else "same image"
            self._newest += 1
            record = sample.to_json()
            name, size = record_name(sample, record, self._newest), len(jpeg) + len(record)
            self._let_in(name, size)
            self._write(name, jpeg, record)
            self._enter(_Entry(name, size, time.monotonic()))
        return "stored"

    def _known_origin(self, sample_id: str) -> str | None:
        if sample_id not in self._index:
            return self._delivered.origin_of(sample_id)
        item = self._held.get(sample_id) or self._read(sample_id)
        if item is None:
            self._move_to_quarantine(sample_id)
        return origin_of(item.sample) if item is not None else None

    def _let_in(self, name: RecordName, size: int) -> None:
        """Make room, at the cost of samples of lesser value."""
        if size > self.cap_bytes:
            self.drops["refused, larger than the outbox"] += 1
            raise OutboxFull(f"{self.folder}: a sample of {size} bytes is larger than it: raise outbox_megabytes")
        if not self._make_room(size, name.value, name.number):
            self._note_loss(name.value, name.number, "refused, outbox at its cap")
            raise OutboxFull(
                f"{self.folder}: holds {self.used_bytes} of {self.cap_bytes} bytes and nothing of lesser value: "
                f"bring the bucket back or raise outbox_megabytes"
            )

    def _make_room(self, size: int, value: Value, number: int) -> bool:
        while self.used_bytes + size > self.cap_bytes:
            if not self._evict_below(value, number, "evicted, outbox at its cap"):
                return False
        return True

    def _write(self, name: RecordName, jpeg: bytes, record: bytes) -> None:
        """Image, then record, then the folder; on a full disk samples of lesser value go."""
        while True:
            try:
                write_durably(self._image_path(name.sample_id), jpeg)
                write_durably(self._record_path(name), record)
                sync_folder(self._samples)
                return
            except OSError as error:
                self._unlink(self._record_path(name), self._image_path(name.sample_id))
                if error.errno not in _NO_SPACE:
                    raise
                if not self._evict_below(name.value, name.number, "evicted, disk full"):
                    self._note_loss(name.value, name.number, "refused, disk full")
                    raise OutboxFull(f"{self.folder}: {error.strerror}: free some space or change the disk") from error

    def _evict_below(self, value: Value, number: int, reason: str) -> bool:
        """Remove the least valuable sample; False when there is none of less than `value`. Raises OSError."""
        skipped = []
        try:
            while self._cheapest:
                item = heapq.heappop(self._cheapest)
                cheapest, sample_id = item
                entry = self._index.get(sample_id)
                if entry is None or entry.name.value != cheapest:
                    continue
                skipped.append(item)
                if cheapest >= value:
                    return False
                if sample_id in self._held:
                    continue
                self._record_path(entry.name).unlink(missing_ok=True)
                skipped.pop()
                self._forget(sample_id)
                self._unlink(self._image_path(sample_id))
                self._note_loss(cheapest, number, reason)
                return True
            return False
        finally:
            for item in skipped:
                heapq.heappush(self._cheapest, item)

    def _note_loss(self, value: Value, number: int, reason: str) -> None:
        self.drops[reason] += 1
        self._thinning.note(value, number)
        self._thinning.tidy(self._names(), len(self._index))

    # --- out ---------------------------------------------------------------------------------------------------------

    def pending(self, limit: int) -> list[Pending]:
        """The first `limit` samples that wait, oldest first; they are not evicted before the next call.

        Each knows its `probability_delivered`, and what that were had it been kept the other way. A record that is
        corrupt is quarantined and counted, and the next sample takes its place.
        """
        found: dict[str, Pending] = {}
        with self._lock:
            corrupt = []
            for sample_id in self._index:
                if len(found) == limit:
                    break
                item = self._held.get(sample_id) or self._pending_item(sample_id)
                if item is None:
                    corrupt.append(sample_id)
                else:
                    found[sample_id] = item
            self._held = found
            for sample_id in corrupt:
                self._move_to_quarantine(sample_id)
        return list(found.values())

    def holds(self, sample_id: str) -> bool:
        """Does this sample wait for its delivery?"""
        with self._lock:
            return sample_id in self._index

    def read_image(self, sample: Sample) -> bytes:
        """The JPEG of a sample. Raises DataError, having quarantined the sample, when it is not what was stored."""
        path = self._image_path(sample.sample_id)
        data = read_whole(path)
        if data is None or hashlib.sha256(data).hexdigest() != sample.sha256:
            with self._lock:
                if sample.sample_id in self._index:
                    self._move_to_quarantine(sample.sample_id)
            raise DataError(f"{path}: is not the image that was stored: it lies in {self._quarantine.folder} now")
        return data

    def put_aside(self, path: Path) -> None:
        """Quarantine a corrupt file that is no sample's, such as a traffic log."""
        with self._lock:
            self._quarantine.take([path])

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
                entry = self._index.get(sample.sample_id)
                if entry is not None:
                    self._forget(sample.sample_id)
                    self._unlink(self._record_path(entry.name), self._image_path(sample.sample_id))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _names(self) -> Iterator[RecordName]:
        return (entry.name for entry in self._index.values())

    def _image_path(self, sample_id: str) -> Path:
        return self._samples / f"{sample_id}.jpg"

    def _record_path(self, name: RecordName) -> Path:
        return self._samples / str(name)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.drops["refused, disk error"] += 1
            raise OutboxFull(f"{self.folder}: {error.strerror or error}: check or change the disk") from error

    def _enter(self, entry: _Entry) -> None:
        self._index[entry.name.sample_id] = entry
        self._bytes += entry.size
        heapq.heappush(self._cheapest, (entry.name.value, entry.name.sample_id))

    def _forget(self, sample_id: str) -> None:
        self._bytes -= self._index.pop(sample_id).size
        self._held.pop(sample_id, None)
        if len(self._cheapest) > 2 * len(self._index) + _STALE:
            self._cheapest = [(name.value, name.sample_id) for name in self._names()]
            heapq.heapify(self._cheapest)

    def _unlink(self, *paths: Path) -> None:
        """Remove a record and then its image: an image without a record is nothing."""
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                self.drops["file not removed, disk error"] += 1
                self._stuck += sum(map(size_of, paths))
                return

    def _pending_item(self, sample_id: str) -> Pending | None:
        item = self._read(sample_id)
        if item is None:
            return None
        name, other = self._index[sample_id].name, other_kind_of(item.sample)
        likely = self._thinning.probability(name)
        otherwise = 1.0 if other is None else self._thinning.probability_as(other, name.number)
        if likely == otherwise == 1:
            return item
        known = {"probability_delivered": likely, "probability_delivered_otherwise": otherwise}
        sample = item.sample.model_copy(update=known)
        return Pending(sample, item.image, item.record)

    def _read(self, sample_id: str) -> Pending | None:
        name = self._index[sample_id].name
        sample = read_record(self._record_path(name), name)
        return Pending(sample, self._image_path(sample_id), self._record_path(name)) if sample is not None else None

    def _move_to_quarantine(self, sample_id: str) -> None:
        record = self._record_path(self._index[sample_id].name)
        self._forget(sample_id)
        self._stuck += self._quarantine.take([record, self._image_path(sample_id)])

    def _recover(self) -> None:
        """Index what lies on the disk; what is not whole is quarantined, what was never acknowledged is removed."""
        files = {file.name: file.stat() for file in os.scandir(self._samples)}
        records = {file: parse_name(file) for file in files if not file.endswith(".jpg")}
        ours = [(name, file) for file, name in records.items() if name is not None]
        self._put_aside(files, [file for file, name in records.items() if name is None], {n.sample_id for n, _ in ours})
        wall, now = time.time(), time.monotonic()
        for name, file in sorted(ours, key=lambda item: item[0].number):
            image = f"{name.sample_id}.jpg"
            if image not in files:
                self._stuck += self._quarantine.take([self._samples / file])
            elif name.sample_id in self._index or self._delivered.origin_of(name.sample_id) is not None:
                self._unlink(self._samples / file)  # a crash came between the note of the delivery and the removal
            else:
                size = files[file].st_size + files[image].st_size
                self._enter(_Entry(name, size, now - max(0.0, wall - files[file].st_mtime)))
        for file in files:
            if file.endswith(".jpg") and file[:-4] not in self._index:
                self._unlink(self._samples / file)  # its record was never written: nobody was told that it is safe

    def _put_aside(self, files: dict[str, os.stat_result], foreign: list[str], known: set[str]) -> None:
        """Quarantine what has no name of ours, with the image that may belong to it."""
        for file in foreign:
            stem = file.partition(".")[0]
            parts = [file]
            if stem not in known and f"{stem}.jpg" in files:
                del files[f"{stem}.jpg"]
                parts.append(f"{stem}.jpg")
            self._stuck += self._quarantine.take([self._samples / part for part in parts])
