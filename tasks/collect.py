"""Collect: start a device's collector or attach to it, and report. The collector lives on when a run ends."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import task

from tasks.collector import CollectorConfig, collector_pid, read_status, start_detached
from tasks.collector.config import read_state
from tasks.core.entities import DeviceStatus
from tasks.core.errors import SourceUnavailable
from tasks.core.settings import DeviceSettings

POLL_SECONDS = 0.1


@task(task_run_name="start or attach {device.name}")
def start_or_attach(device: DeviceSettings) -> str:
    """'attached' when the device's collector runs, 'started' when it had to be started.

    It gets a session of its own: neither the end of this run nor that of the worker ends it.
    """
    if collector_pid(device.outbox) is not None:
        return "attached"
    start_detached(CollectorConfig(device=device, follow=True))
    return "started"


@task(task_run_name="watch {device.name}")
def watch(device: DeviceSettings, window_seconds: float, until_frames: int | None = None) -> DeviceStatus:
    """The collector's word at the end of the window; earlier when it ends, or has decided and delivered enough.

    until_frames: of recordings, over all cameras, since their beginning; it counts what earlier runs have decided.
    Raises SourceUnavailable when the collector never said a word.
    """
    deadline = time.monotonic() + window_seconds
    while time.monotonic() < deadline and not is_done(device, until_frames):
        time.sleep(POLL_SECONDS)
    status = read_status(device.outbox)
    if status is None:
        raise SourceUnavailable(f"{device.outbox}: its collector has not reported yet: see collector.log there")
    return status


def is_done(device: DeviceSettings, until_frames: int | None) -> bool:
    """Whether there is nothing left to watch."""
    if collector_pid(device.outbox) is None:
        return True
    status = read_status(device.outbox)
    if status is None or until_frames is None:
        return False
    return decided_frames(Path(device.outbox)) >= until_frames and status.outbox_samples == 0


def decided_frames(outbox: Path) -> int:
    """Frames of recordings that this device has decided, over all of its runs."""
    state = read_state(outbox)
    return sum(position.next_index for position in state.positions.values()) if state else 0
