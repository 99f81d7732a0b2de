"""Is a collector well? For service managers, containers and upgrades, from what it says of itself on its own disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.adapters.service import notify
from tasks.collector.config import STATUS_FILE
from tasks.collector.process import collector_pid
from tasks.core.entities import DeviceStatus
from tasks.core.settings import CameraSettings, DeviceSettings

STUCK_SECONDS = 120.0  # cameras give frames and not one is decided
_FEW_FRAMES = 3  # of a slow camera that have to be missed before it counts as stuck
SILENT_SECONDS = 30.0  # a collector writes its status once a second


class Watchdog:
    """Tells systemd that the collector lives, for as long as it decides what its cameras give.

    A model that hangs leaves a process that looks alive: no word then, and systemd starts it anew.
    """

    def __init__(self, cameras: tuple[CameraSettings, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        slowest = min((camera.frame_rate for camera in cameras if camera.frame_rate), default=None)
        self._patience = max(STUCK_SECONDS, _FEW_FRAMES / slowest if slowest else 0.0)
        self._frames: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._is_ready = False

    def saw(self, status: DeviceStatus) -> None:
        """A status of the collector, about once a second and project. When it is stuck, nothing is told."""
        now, project = self._clock(), status.project
        if status.frames != self._frames.get(project) or not _gives_frames(status.cameras):
            self._frames[project], self._since[project] = status.frames, now
        if any(now - since > self._patience for since in self._since.values()):
            return
        if not self._is_ready:
            self._is_ready = notify("READY=1")
        notify(f"WATCHDOG=1\nSTATUS={status.frames} frames decided, {status.kept} kept, {status.uploaded} uploaded")


def problem_of(device: DeviceSettings) -> str:
    """What is wrong with the collector of this device, in one line; empty when it is well."""
    folder = Path(device.outbox)
    if collector_pid(folder) is None:
        return f"{folder}: no collector runs here: start the service"
    status_file = folder / STATUS_FILE
    try:
        age = time.time() - status_file.stat().st_mtime
    except OSError:
        return f"{status_file}: the collector has not said a word yet"
    if age > SILENT_SECONDS:
        return f"{status_file}: the collector has been silent for {age:.0f} s: restart it"
    return ""


def _gives_frames(cameras: Mapping[str, str]) -> bool:
    return any(state.startswith("running") for state in cameras.values())
