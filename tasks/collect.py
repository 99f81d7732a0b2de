"""Collect: start a device's collector or attach to it, and report. The collector lives on when a run ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from prefect import task

from tasks.collector import STATUS_FILE, is_running
from tasks.core.entities import DeviceStatus
from tasks.core.errors import AlreadyRunning, SourceUnavailable
from tasks.core.settings import DeviceSettings

START_SECONDS = 30.0  # a collector that has not reported by then did not start


@task(task_run_name="start or attach {device.name}")
def start_or_attach(device: DeviceSettings) -> str:
    """'attached' when the device's collector runs, 'started' when it had to be started.

    It gets a session of its own: neither the end of this run nor that of the worker ends it.
    """
    outbox = Path(device.outbox)
    if is_running(outbox):
        return "attached"
    outbox.mkdir(parents=True, exist_ok=True)
    (outbox / STATUS_FILE).unlink(missing_ok=True)
    config = outbox / "device.json"
    config.write_text(device.model_dump_json(indent=1))
    with (outbox / "collector.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.collector", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ},
        )
    wait_for_first_status(outbox, process)
    return "started"


def wait_for_first_status(outbox: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if read_status(outbox) is not None:
            return
        if process.poll() is not None:
            lines = (outbox / "collector.log").read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {process.returncode}"
            if process.returncode == 0:
                return  # its sources were short
            raise SourceUnavailable(f"the collector did not start: {reason} (see {outbox / 'collector.log'})")
        time.sleep(0.1)
    raise SourceUnavailable(f"the collector said nothing for {START_SECONDS:g} s: see {outbox / 'collector.log'}")


def read_status(outbox: Path) -> DeviceStatus | None:
    """The collector's own word, None before the first one."""
    try:
        return DeviceStatus.model_validate_json((outbox / STATUS_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


@task(task_run_name="watch {device.name}")
def watch(device: DeviceSettings, window_seconds: float, until_frames: int | None = None) -> DeviceStatus:
    """The collector's status at the end of the window, or when it has decided `until_frames` and delivered its outbox."""
    outbox = Path(device.outbox)
    deadline = time.monotonic() + window_seconds
    status = read_status(outbox)
    while time.monotonic() < deadline:
        status = read_status(outbox) or status
        if status is not None and (status.finished or reached(status, until_frames)):
            return status
        if not is_running(outbox):
            status = read_status(outbox) or status
            break
        time.sleep(0.1)
    if status is None:
        raise AlreadyRunning(f"{outbox}: a collector holds the outbox but reports nothing: see collector.log there")
    return status


def reached(status: DeviceStatus, until_frames: int | None) -> bool:
    return until_frames is not None and status.frames >= until_frames and status.outbox_samples == 0
