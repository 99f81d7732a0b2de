"""The thread that drains the outbox: images first, then the segment that makes samples of them.

A segment is the commit record: created under the next number, never overwritten. When the number is taken, the segment
there is read; what it holds is delivered, and the rest goes under the number after it. So a lost reply, a crash between
the segment and the note of it, and the loss of the disk all end with every sample in exactly one segment.

A bucket that is away, full, read-only, or that finds the credentials or the clock wrong costs nothing but time: it is
asked again for ever, at intervals that grow to 15 s. A slow link gets fewer images at once.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tasks.adapters.bucket import Bucket, TransientBucketError
from tasks.adapters.outbox import Outbox
from tasks.collector.spooler import waiting_traffic
from tasks.collector.tally import Tally
from tasks.core import layout
from tasks.core.entities import DeviceStatus, Sample
from tasks.core.errors import BucketError, DataError, ObjectConflict, ObjectMissing, RecordInvalid
from tasks.core.settings import DeviceSettings

_AT_ONCE = 4  # images on their way, at most; most of the time of a small upload is waiting
_IDLE_S = 0.2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0  # after a failure, and at most; half of it by chance


class _AbandonedError(Exception):
    """The collector has gone, and with it the right to this outbox."""


class Uploader(threading.Thread):
    """Runs until it is told to finish; a bucket that is away costs nothing but time."""

    def __init__(
        self,
        device: DeviceSettings,
        bucket: Bucket,
        outbox: Outbox,
        traffic_folder: Path,
        tally: Tally,
        status: Callable[[], DeviceStatus] | None,
    ) -> None:
        """status: what is written beside the samples now and then; None for nothing."""
        super().__init__(name="uploader", daemon=True)
        self._device = device
        self._bucket = bucket
        self._outbox = outbox
        self._traffic_folder = traffic_folder
        self._tally = tally
        self._status = status
        self._finishing = threading.Event()
        self._touching = threading.Lock()  # held while the outbox is touched
        self._abandoned = False
        self._at_once = _AT_ONCE
        self._images_there: set[str] = set()
        self._traffic_there: set[str] = set()
        self._has_resumed = False
        self._waiting_since: float | None = None
        self._is_first_traffic = True
        self._next_status = 0.0
        self.bucket_answers = False

    def run(self) -> None:
        pause = _FIRST_PAUSE_S
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="upload") as pool:
            while True:
                is_last = self._finishing.is_set()
                try:
                    succeeded, did_something = self._round(pool, flush=is_last)
                except _AbandonedError:
                    return
                if is_last and (not succeeded or not did_something):
                    return
                if not succeeded:
                    self._finishing.wait(pause * random.uniform(0.5, 1))  # not all devices at once
                    pause = min(pause * 2, _LONGEST_PAUSE_S)
                    continue
                pause = _FIRST_PAUSE_S
                if not did_something:
                    self._finishing.wait(_IDLE_S)

    def finish(self) -> None:
        """Deliver what waits, as far as the bucket answers, and end."""
        self._finishing.set()

    def abandon(self) -> None:
        """Touch the outbox no more, whatever a call that still waits for the bucket comes back with.

        The next collector may begin once this one has given back its lock; it finds what a call has delivered since.
        """
        with self._touching:
            self._abandoned = True
        self._finishing.set()

    @contextmanager
    def _at_the_outbox(self) -> Iterator[None]:
        with self._touching:
            if self._abandoned:
                raise _AbandonedError
            yield

    # --- a round -----------------------------------------------------------------------------------------------------

    def _round(self, pool: ThreadPoolExecutor, *, flush: bool) -> tuple[bool, bool]:
        """One look at what there is to do: (the bucket took it, there was something)."""
        self.bucket_answers = False
        try:
            did_something = self._send_everything(pool, flush)
        except _AbandonedError:
            raise
        except BucketError as error:
            self._tally.bucket_failed(error)
            return False, False
        except Exception as error:  # noqa: BLE001 - this loop must not die: counted, reported, tried again later
            self._tally.drop("upload failed")
            self._tally.error(f"upload: {error!r}"[:300])
            return False, False
        self.bucket_answers = True
        self._tally.bucket_answered()
        return True, did_something

    def _send_everything(self, pool: ThreadPoolExecutor, flush: bool) -> bool:
        """Samples, traffic and the status. What the bucket refuses of one does not keep the others: rights differ."""
        did_something, refusal = False, None
        for send in (partial(self._send_samples, pool, flush), self._send_traffic, self._send_status):
            try:
                did_something |= send()
            except TransientBucketError:
                raise
            except BucketError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return did_something

    def _resume(self) -> None:
        """Learn where the numbers stand, and what of ours the segments above the known one already hold. Once."""
        if self._has_resumed:
            return
        known = self._tally.segment
        highest = self._bucket.latest_number(self._segment_key, known or 0)
        # Without a state only the last segment can hold what the outbox still has.
        first = max(1, highest) if known is None else known + 1
        for number in range(first, highest + 1):
            self._take_note_of(number, count_all=known is not None)
        self._tally.advance_segment(highest)
        self._tally.committed_traffic(
            self._bucket.latest_number(partial(layout.traffic, self._device.name), self._tally.traffic)
        )
        self._has_resumed = True

    def _take_note_of(self, number: int, *, count_all: bool = False) -> None:
        """What segment `number` holds is delivered."""
        held, _ = self._read_segment(number)
        with self._at_the_outbox():
            ours = [sample for sample in held if self._outbox.holds(sample.sample_id)]
            self._outbox.delivered(ours)
        if count_all or ours:
            self._tally.committed_segment(number, len(held) if count_all else len(ours))

    def _read_segment(self, number: int) -> tuple[list[Sample], list[str]]:
        try:
            return self._bucket.read_lines(self._segment_key(number), Sample)
        except RecordInvalid as error:  # not ours, whatever it is; our samples go under another number
            self._tally.error(str(error))
            return [], []

    # --- samples -----------------------------------------------------------------------------------------------------

    def _send_samples(self, pool: ThreadPoolExecutor, flush: bool) -> bool:
        """Images of the next samples, and their segment when it is full, old enough, or the last."""
        self._resume()
        with self._at_the_outbox():
            samples = [item.sample for item in self._outbox.pending(self._device.segment_samples)]
        if not samples:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        handled = self._send_images(pool, [s for s in samples if s.sample_id not in self._images_there])
        ready = [s for s in samples if s.sample_id in self._images_there]
        is_old = time.monotonic() - self._waiting_since >= self._device.segment_seconds
        if ready and (len(ready) >= self._device.segment_samples or is_old or flush):
            self._commit(ready)
            return True
        return handled > 0

    def _send_images(self, pool: ThreadPoolExecutor, samples: Iterable[Sample]) -> int:
        """Several at a time; the first failure ends the round, so that a bucket that is away costs one timeout."""
        waiting = deque(samples)
        running: dict[Future[bool], Sample] = {}
        failure: Exception | None = None
        handled = 0
        while running or (waiting and failure is None):
            while waiting and failure is None and len(running) < self._at_once:
                sample = waiting.popleft()
                running[pool.submit(self._send_image, sample)] = sample
            for result in wait(running, return_when=FIRST_COMPLETED).done:
                sample, error = running.pop(result), result.exception()
                if isinstance(error, Exception):
                    failure = failure or error
                    continue
                handled += 1
                if result.result():
                    self._images_there.add(sample.sample_id)
        if failure is not None:
            self._at_once = max(1, self._at_once // 2) if isinstance(failure, TransientBucketError) else self._at_once
            raise failure
        self._at_once = min(_AT_ONCE, self._at_once + 1)
        return handled

    def _send_image(self, sample: Sample) -> bool:
        """False for an image that turned out corrupt; the outbox has put it aside and counted it."""
        try:
            with self._at_the_outbox():
                jpeg = self._outbox.read_image(sample)
        except DataError as error:
            self._tally.error(str(error))
            return False
        self._bucket.put(layout.sample_image(self._device.name, sample.captured_at, sample.sample_id), jpeg)
        return True

    def _commit(self, samples: list[Sample]) -> None:
        number = (self._tally.segment or 0) + 1
        try:
            self._bucket.create_lines(self._segment_key(number), samples)
        except ObjectConflict:
            self._take_note_of(number)
            self._tally.advance_segment(number)
            return
        with self._at_the_outbox():
            self._outbox.delivered(samples)
        self._tally.committed_segment(number, len(samples))
        self._images_there.clear()
        self._waiting_since = None

    def _segment_key(self, number: int) -> str:
        return layout.segment(self._device.name, number)

    # --- traffic and status ------------------------------------------------------------------------------------------

    def _send_traffic(self) -> bool:
        self._resume()
        files = [path for path in waiting_traffic(self._traffic_folder) if path.name not in self._traffic_there]
        for path in files:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # it had to make room
            if hashlib.sha256(data).hexdigest()[:16] not in path.name:
                self._tally.error(f"{path}: is not the traffic log that was stored: it is put into quarantine")
                self._outbox.put_aside(path)
                continue
            self._create_traffic(data)
            self._traffic_there.add(path.name)
            with self._at_the_outbox():
                path.unlink(missing_ok=True)
            self._traffic_there.discard(path.name)
        return bool(files)

    def _create_traffic(self, data: bytes) -> None:
        """Under the next free number, unless the highest one holds it already: a crash came before its removal."""
        if self._is_first_traffic:
            self._is_first_traffic = False
            if self._tally.traffic and self._highest_traffic() == data:
                return
        while True:
            number = self._tally.traffic + 1
            try:
                self._bucket.create(layout.traffic(self._device.name, number), data)
            except ObjectConflict:
                self._tally.committed_traffic(number)
                continue
            self._tally.committed_traffic(number)
            return

    def _highest_traffic(self) -> bytes:
        try:
            return self._bucket.get(layout.traffic(self._device.name, self._tally.traffic))
        except ObjectMissing:
            return b""

    def _send_status(self) -> bool:
        if self._status is not None and time.monotonic() >= self._next_status:
            self.send_status(self._status())
            self._next_status = time.monotonic() + self._device.status_seconds
        return False

    def send_status(self, status: DeviceStatus) -> None:
        self._bucket.write_record(layout.device_status(self._device.name), status)
