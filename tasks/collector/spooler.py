"""The thread that writes to the disk, so that the detector never waits for it.

What it is given it does in order: samples first, and then the state that counts them. A restart from that state
therefore finds every sample that the state knows of.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.adapters.bucket import encode_lines
from tasks.adapters.outbox import Outbox, sync_folder, write_durably
from tasks.adapters.privacy import Privacy
from tasks.collector.config import STATUS_FILE, CollectorState, write_state
from tasks.collector.keeping import Kept, make_sample
from tasks.collector.tally import Tally
from tasks.core.entities import DeviceStatus, TrafficRecord
from tasks.core.errors import ImageUnreadable, OutboxFull

TRAFFIC_FOLDER = "traffic"

_WAITING = 8  # frames at most between the detector and the disk; of 1080p, 50 MB
_TRAFFIC_FILES = 500  # that wait for the bucket; at one in 30 s, four hours
_PATIENCE_S = 0.02  # a live camera's kept frame waits this long for the disk


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state as of a frame, the traffic log up to it, and the status for whoever watches this device."""

    state: CollectorState
    status: DeviceStatus
    traffic: Sequence[TrafficRecord] = ()


class Spooler(threading.Thread):
    """Encodes and stores what is kept, writes the traffic log and the state."""

    def __init__(self, outbox: Outbox, device: str, tally: Tally, privacy: Privacy | None = None) -> None:
        """privacy: what is hidden in every picture."""
        super().__init__(name="spooler", daemon=True)
        self._outbox = outbox
        self._device = device
        self._tally = tally
        self._privacy = privacy if privacy is not None and privacy.is_needed else None
        self._work: queue.Queue[Kept | Snapshot | None] = queue.Queue(_WAITING)
        self.traffic_folder = outbox.folder / TRAFFIC_FOLDER
        self.traffic_folder.mkdir(exist_ok=True)
        for unfinished in self.traffic_folder.glob(".*"):
            unfinished.unlink()

    def keep(self, kept: Kept, *, wait: bool) -> None:
        """Store a kept frame. wait: hold the caller back while the disk is behind; otherwise the frame is dropped."""
        try:
            self._work.put(kept, timeout=None if wait else _PATIENCE_S)
        except queue.Full:
            self._tally.drop("sample dropped, disk behind")

    def save(self, snapshot: Snapshot) -> bool:
        """Write a state when there is time for it; False when there is not, and a later one will do."""
        try:
            self._work.put_nowait(snapshot)
        except queue.Full:
            return False
        return True

    def finish(self, last: Snapshot, timeout: float) -> bool:
        """Write everything that waits, then `last`; False when that takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            self._work.put(last, timeout=timeout)
            self._work.put(None, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            return False
        self.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive()

    def run(self) -> None:
        while (item := self._work.get()) is not None:
            with self._tally.survive("disk"):
                if isinstance(item, Kept):
                    self._store(item)
                else:
                    self._write_traffic(item.traffic)
                    write_state(self._outbox.folder, item.state)
                    write_status(self._outbox.folder, item.status)

    def _store(self, kept: Kept) -> None:
        try:
            sample, jpeg = make_sample(kept, self._device, self._privacy)
            receipt = self._outbox.put(sample, jpeg)
        except ImageUnreadable as error:
            self._tally.drop("image not encoded")
            self._tally.error(str(error))
            return
        except OutboxFull as error:  # the outbox has counted it
            self._tally.error(str(error))
            return
        if receipt == "same image":
            self._tally.drop("sample dropped, same image")
        elif receipt == "repeated":
            self._tally.drop("sample known already")

    def _write_traffic(self, records: Sequence[TrafficRecord]) -> None:
        """One file a snapshot, its name from its content; the oldest make room when the bucket is away for long."""
        if not records:
            return
        data = encode_lines(records)
        name = f"{time.time_ns():020d}-{hashlib.sha256(data).hexdigest()[:16]}.jsonl.gz"
        write_durably(self.traffic_folder / name, data)
        sync_folder(self.traffic_folder)
        files = waiting_traffic(self.traffic_folder)
        for path in files[: max(0, len(files) - _TRAFFIC_FILES)]:
            path.unlink(missing_ok=True)
            self._tally.drop("traffic file removed, no room")


def waiting_traffic(folder: Path) -> list[Path]:
    """Traffic files that wait for the bucket, oldest first."""
    return sorted(folder.glob("[0-9]*.jsonl.gz"))


def write_status(folder: Path, status: DeviceStatus) -> None:
    """The status beside the outbox; whole for every reader, and not worth a sync."""
    write_durably(folder / STATUS_FILE, status.to_json(), sync=False)
