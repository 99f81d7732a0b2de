"""A device for fault tests: a collector as a process, watched from outside."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.collector import CollectorConfig, read_status
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings
from tests.adapters.rtsp import until
from tests.tasks.collecting import ROOT, a_device, images_of, samples_of, sampling

_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a log of times must not wait for a disk


class Edge:
    """A collector on a live camera of `fps`, or on a recording of `frames`, that keeps `fraction` of what it sees."""

    def __init__(
        self,
        folder: Path,
        bucket: str,
        *,
        fps: float = 20.0,
        frames: int = 0,
        fraction: float = 0.1,
        model: Path | None = None,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        **device: object,
    ) -> None:
        """command: what the process is started with, such as `ip netns exec`. device: fields of its settings."""
        self.device: DeviceSettings = a_device(folder, "metronome", bucket, **device)
        self.outbox = Path(self.device.outbox)
        self._config = folder / "edge.json"
        config = CollectorConfig(
            device=self.device, model=str(model) if model else None, sampling=sampling(fraction), follow_releases=False
        )
        self._config.write_text(config.model_dump_json())
        descriptor, name = tempfile.mkstemp(prefix="frames-", dir=_MEMORY)
        os.close(descriptor)
        self._log = Path(name)
        self._arguments = [*command, sys.executable, "-m", "tests.faults.edge_process", str(self._config), name]
        self._arguments += [str(fps), str(frames)]
        self._environment = {**os.environ, **(environment or {}), "PYTHONPATH": str(ROOT)}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Edge:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._log.unlink(missing_ok=True)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def stop(self, timeout: float = 20.0) -> DeviceStatus:
        """SIGTERM; its last status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.ended(timeout)

    def ended(self, timeout: float = 120.0) -> DeviceStatus:
        """Wait until it ends by itself; its last status."""
        assert self._process is not None
        output, errors = self._process.communicate(timeout=timeout)
        code, self._process = self._process.returncode, None
        assert code == 0, errors.decode()[-2000:]
        return DeviceStatus.model_validate_json(output)

    @property
    def resident_bytes(self) -> int:
        """Memory of the process, as the system counts it."""
        assert self._process is not None
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def status(self) -> DeviceStatus:
        """What it said last, about a second ago."""
        until(lambda: read_status(self.outbox) is not None or not self.is_running, 60, "a first status")
        assert self.is_running, self._process.communicate()[1].decode()[-2000:]
        status = read_status(self.outbox)
        assert status is not None
        return status

    def wait_for(self, condition, limit: float, what: str) -> float:
        """Seconds until its status is so."""
        return until(lambda: condition(self.status()), limit, what)

    def frames(self) -> np.ndarray:
        """Monotonic times of the frames that capture asked for, s."""
        data = self._log.read_bytes()
        return np.array([moment for (moment,) in struct.iter_unpack("d", data[: len(data) // 8 * 8])])

    def longest_gap(self, since: float, until_then: float | None = None) -> float:
        """Longest time without a frame, s, from the monotonic time `since` on."""
        times = self.frames()
        return float(np.diff(times[(times >= since) & (times <= (until_then or time.monotonic()))]).max())


def delivered(edge: Edge) -> tuple[list[str], int]:
    """Ids of all samples in the bucket, each checked against its image, and how many images there are."""
    bucket = Bucket(edge.device.bucket, edge.device.project)
    try:
        return [sample.sample_id for sample in samples_of(bucket)], len(images_of(bucket))
    finally:
        bucket.close()


AFTER_KEEPING = ("sample dropped", "evicted", "refused", "quarantined", "image not encoded", "sample known already")


def lost(status: DeviceStatus, there: int) -> int:
    """Samples that a device kept and that are neither in the bucket, nor waiting, nor among the drops it counted."""
    counted = sum(count for reason, count in status.drops.items() if reason.startswith(AFTER_KEEPING))
    return status.kept - status.outbox_samples - counted - there
