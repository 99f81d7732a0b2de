"""What a collector is told when it starts, and what it remembers across restarts."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from tasks.adapters.outbox import read_checked, write_checked
from tasks.core.entities.base import Record, UtcTime
from tasks.core.settings import DeviceSettings, SamplingSettings, Settings

STATE_FILE = "state.json"
STATUS_FILE = "status.json"
RUNNING_FILE = "running.json"
INSTALLED_FOLDER = "installed"


class CollectorConfig(Settings):
    """Everything that `run_collector` takes, as the JSON of a detached process."""

    device: DeviceSettings
    model: str | None = Field(None, description="ONNX file or 'stub', used until there is a release")
    sampling: SamplingSettings | None = None
    project_classes: tuple[str, ...] | None = None
    model_classes: tuple[str, ...] | str | None = None
    max_frames: int | None = Field(None, ge=1, description="frames to decide before it ends by itself")
    follow_releases: bool = True
    follow: bool = Field(False, description="go on waiting for orders when all recordings have ended")
    start: datetime | None = Field(None, description="capture time of the first frame of recordings")
    time_scale: float = Field(1.0, gt=0, description="seconds of capture time a second of a recording")

    def of_each_project(self) -> tuple[CollectorConfig, ...]:
        """What each project of the device is told. Model, settings and classes are for the device's own, the first."""
        own, *others = self.device.of_each_project()
        only = {"model": None, "sampling": None, "project_classes": None, "model_classes": None}
        return (
            self.model_copy(update={"device": own}),
            *(self.model_copy(update={"device": device, **only}) for device in others),
        )


class Position(Record):
    """How far a recording has been decided."""

    source: str
    next_index: int = 0
    skipped_before: dict[str, int] = Field({}, description="bad images that earlier runs have counted, by reason")


class CollectorState(Record):
    """What a restart goes on from. Written after the samples that it counts are safe on the disk.

    clean: the run ended by itself or was stopped; the next one counts from zero, one that was killed goes on.
    """

    started_at: UtcTime
    clean: bool = False
    frames: int = 0
    kept: int = 0
    kept_by_strategy: dict[str, int] = {}
    drops: dict[str, int] = {}
    swaps: tuple[str, ...] = ()
    uploaded: int = 0
    committed: int = Field(0, description="segments of this run")
    segment: int | None = Field(None, description="highest segment number in the bucket; none: not asked yet")
    traffic: int = Field(0, description="highest traffic number known in the bucket")
    refused_number: int = 0
    refused_reason: str = ""
    positions: dict[str, Position] = {}
    sampler: dict[str, Any] = {}
    clock: UtcTime | None = Field(None, description="when it was written, by what this device knew of the time")


def read_state(outbox: Path) -> CollectorState | None:
    """The state of the last run; None when there is none that is whole and of this version."""
    data = read_checked(outbox / STATE_FILE)
    if data is None:
        return None
    try:
        return CollectorState.model_validate_json(data)
    except ValidationError:
        return None


def write_state(outbox: Path, state: CollectorState) -> None:
    write_checked(outbox / STATE_FILE, state.model_dump_json().encode())


class Running(Settings):
    """Which process collects for an outbox, and what it was started with."""

    pid: int
    config: CollectorConfig


def write_running(outbox: Path, config: CollectorConfig) -> None:
    """Said by the collector that holds the folder, for whoever wants to know whether it does what he wants."""
    device = config.device.model_copy(update={"outbox": str(outbox.absolute())})
    running = Running(pid=os.getpid(), config=config.model_copy(update={"device": device}))
    with suppress(OSError):  # a full disk is no reason not to collect: what waits there must leave it
        write_checked(outbox / RUNNING_FILE, running.model_dump_json().encode())


def read_running(outbox: Path) -> CollectorConfig | None:
    """What the last collector of this outbox was started with; None where that is not of this version."""
    running = who_runs(outbox)
    return running.config if running is not None else None


def who_runs(outbox: Path) -> Running | None:
    """What the last collector of this outbox said of itself; None where that is not of this version."""
    data = read_checked(outbox / RUNNING_FILE)
    if data is None:
        return None
    try:
        return Running.model_validate_json(data)
    except ValidationError:
        return None
