"""Collect: start a device's collector or attach to it, and report. The collector lives on when a run ends.

Prefect may go away at any time. What waits for it here are reports alone; the collector knows nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_logger

from tasks.adapters.secrets import holds_password
from tasks.artifacts import UNREACHABLE, artifact_key
from tasks.collector import CollectorConfig, collector_pid, read_status, start_detached
from tasks.collector.config import read_state
from tasks.core.entities import DeviceStatus
from tasks.core.errors import SettingsError, SourceUnavailable
from tasks.core.fleet import age_text
from tasks.core.settings import DeviceSettings

POLL_SECONDS = 0.1
PROGRESS_SECONDS = 60.0  # between two updates in the UI
PATIENCE_SECONDS = 600.0  # before the next one, after an API that did not answer: a try takes up to 70 s

Row = dict[str, object]


@task(task_run_name="start or attach {device.name}")
def start_or_attach(device: DeviceSettings) -> str:
    """'attached' when the device's collector runs, 'started' when it had to be started.

    'restarted' when it ran with other settings than these: it was drained and started with them. It gets a session of
    its own: neither the end of this run nor that of the worker ends it. Raises SettingsError for an address with a
    password in it: what a run is given lies in Prefect's database, for everybody to read.
    """
    refuse_passwords(device)
    before = collector_pid(device.outbox)
    pid = start_detached(CollectorConfig(device=device, follow=True))
    return "attached" if pid == before else "started" if before is None else "restarted"


def refuse_passwords(device: DeviceSettings) -> None:
    for camera in device.cameras:
        if holds_password(camera.source):
            raise SettingsError(
                f"camera {camera.name}: its address holds a password, and now Prefect's database does too: change it, "
                "write ${NAME} in its place and set that in the environment of the device's worker"
            )


@task(task_run_name="watch {device.name}")
def watch(device: DeviceSettings, window_seconds: float, until_frames: int | None = None) -> DeviceStatus:
    """The collector's word at the end of the window; earlier when it ends, or has decided and delivered enough.

    until_frames: of recordings, over all cameras, since their beginning; it counts what earlier runs have decided.
    Raises SourceUnavailable when the collector never said a word.
    """
    began = time.monotonic()
    progress = Progress(f"collect-{device.name}-window")
    while (elapsed := time.monotonic() - began) < window_seconds and not is_done(device, until_frames):
        progress.tell(elapsed / window_seconds, device)
        time.sleep(POLL_SECONDS)
    status = read_status(device.outbox)
    if status is None:
        raise SourceUnavailable(f"{device.outbox}: its collector has not reported yet: see collector.log there")
    progress.tell(1.0, device, is_last=True)
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


class Progress:
    """How much of the window is over: one artifact, updated in its place. An API that is away stops nothing."""

    def __init__(self, key: str) -> None:
        self._key = artifact_key(key)
        self._id: UUID | None = None
        self._next = time.monotonic() + PROGRESS_SECONDS  # a short window has nothing to follow

    def tell(self, share: float, device: DeviceSettings, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if (now < self._next and not is_last) or (is_last and self._id is None):
            return
        self._next = now + PROGRESS_SECONDS
        percent, text = round(100 * min(1.0, share), 1), "; ".join(map(sentence_of, statuses_of(device)))
        try:
            if self._id is None:
                self._id = cast(UUID, create_progress_artifact(percent, key=self._key, description=text))
            else:
                update_progress_artifact(self._id, percent, description=text)
        except UNREACHABLE as error:
            get_logger("edgeloop").warning("artifact %s was not stored: %s", self._key, error)
            self._next = time.monotonic() + PATIENCE_SECONDS


# --- the report ------------------------------------------------------------------------------------------------------


def statuses_of(device: DeviceSettings) -> list[DeviceStatus]:
    """The last word of each of the device's projects that has said one, its own first."""
    found = [read_status(settings.outbox) for settings in device.of_each_project()]
    return [status for status in found if status is not None]


def sentence_of(status: DeviceStatus) -> str:
    """`yard: 8,120 frames decided (14.2/s), 31 kept, 4 wait`."""
    decided = f"{status.frames:,} frames decided ({status.rates.frames_per_second:.1f}/s)"
    return f"{status.project or status.device}: {decided}, {status.kept:,} kept, {status.outbox_samples:,} wait"


def report_rows(before: Sequence[DeviceStatus], after: Sequence[DeviceStatus], how: str) -> list[Row]:
    """What every project of a device did, a column each. before: their words at the beginning of the window."""
    at_first = {status.project: status for status in before}
    columns = {status.project or "value": figures_of(status, at_first.get(status.project)) for status in after}
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows: list[Row] = [{"figure": "collector", **dict.fromkeys(columns, how)}]
    return rows + [{"figure": name, **{c: figures.get(name, "") for c, figures in columns.items()}} for name in names]


def figures_of(status: DeviceStatus, before: DeviceStatus | None) -> dict[str, object]:
    """The lines of one project, in the order in which they are read; what is nothing is left out."""
    same_run = before is not None and before.started_at == status.started_at
    frames_then, kept_then = (before.frames, before.kept) if before and same_run else (0, 0)
    release = str(status.release_number) if status.release_number else "none yet"
    figures: dict[str, object] = {
        "run since": f"{status.started_at:%Y-%m-%d %H:%M:%S} UTC",
        "release": release,
        "model": status.model_version,
        "frames decided in this window": status.frames - frames_then,
        "kept in this window": status.kept - kept_then,
        "frames decided": status.frames,
        "frames a second, last minute": status.rates.frames_per_second,
        "frames lost": status.frames_lost,
        "kept": status.kept,
        **{f"kept by {name}": count for name, count in status.kept_by_strategy.items()},
        "uploaded": status.uploaded,
        "segments": status.segments,
        "waiting in the outbox": waiting_of(status),
        **{f"dropped: {reason}": count for reason, count in status.drops.items()},
        **{f"camera {name}": state for name, state in status.cameras.items()},
    }
    words: Mapping[str, str] = {
        "probation": status.probation,
        "release refused": status.refused_release,
        **{
            f"alert: {alert.name}": f"since {alert.since:%Y-%m-%d %H:%M:%S}: {alert.message}" for alert in status.alerts
        },
        "last swap": status.swaps[-1] if status.swaps else "",
        "last error": status.last_error,
    }
    return {**figures, **{name: text for name, text in words.items() if text}}


def waiting_of(status: DeviceStatus) -> str:
    used = f"{status.outbox_samples:,}, {status.outbox_bytes / 1e6:.1f}"
    cap = f" of {status.outbox_cap_bytes / 1e6:,.0f}" if status.outbox_cap_bytes else ""
    oldest = f", the oldest for {age_text(status.outbox_oldest_seconds)}" if status.outbox_oldest_seconds else ""
    return f"{used}{cap} MB{oldest}"
