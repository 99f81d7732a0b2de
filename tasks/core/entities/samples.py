"""What a device writes: kept frames, the traffic log, and its own status."""

from __future__ import annotations

from pydantic import Field

from tasks.core.entities.base import SCHEMA_VERSION, STUB, Record, UtcTime
from tasks.core.entities.detections import Detection


class Sample(Record):
    """A kept frame, by reference. It exists when the segment that names it does."""

    sample_id: str = Field(pattern=r"^[0-9a-f]{20}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the encoded image")
    device: str
    camera: str
    captured_at: UtcTime
    clock_suspect: bool = False
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    source: str = ""
    detections: tuple[Detection, ...] = ()
    strategy: str = Field(description="the strategy that was charged")
    matched: tuple[str, ...] = Field(description="all strategies that matched, in their order")
    tags: tuple[str, ...] = ()
    batch: str = Field("", description="name from the batching strategy, before it is made a batch id")
    probability: float = Field(gt=0, le=1, description="inclusion probability: how likely this frame was to be kept")
    probability_random: float | None = Field(
        None, ge=0, le=1, description="that of the exploration draw alone; older devices did not write it down"
    )
    chosen_by: int | None = Field(
        None, ge=0, description="strategies that won their draws, exploration aside; 0 if these would not have kept it"
    )
    probability_delivered: float = Field(
        1.0, gt=0, le=1, description="of a sample that was kept as this one was, to outlast the cap of a full outbox"
    )
    probability_delivered_otherwise: float = Field(
        1.0,
        ge=0,
        le=1,
        description="the same, had it been kept the other way: a sample of the random slice by strategies alone, any "
        "other by exploration; 0 where all of that kind had to go",
    )
    random_slice: bool = Field(description="drawn by the exploration draw, so usable for test and calibration")
    model_version: str = Field(description="16 hex, or 'stub'")
    settings_version: str = Field(description="'group/number' of the release in force, or a digest of a local file")


class TrafficRecord(Record):
    """The confidences of one frame of a uniform sample of all frames after duplicates, kept or not."""

    camera: str
    captured_at: UtcTime
    rate: float = Field(gt=0, le=1, description="share of frames that the log holds")
    model_version: str
    class_names: tuple[str, ...] = Field(description="class of each detection")
    confidences: tuple[float, ...]


class Versions(Record):
    """What a device runs."""

    schema_version: int = Field(SCHEMA_VERSION, description="the newest schema that it reads and writes")
    software: str = ""
    python: str = ""
    onnxruntime: str = ""
    provider: str = Field("", description="execution provider in use: cpu, cuda, tensorrt, openvino, coreml")


class Rates(Record):
    """Of the last minute, or of the time since the start where that is shorter."""

    schema_version: int = Field(SCHEMA_VERSION, exclude=True)
    seconds: float = Field(0.0, description="that were measured")
    frames_per_second: float = 0.0
    kept_per_hour: float = 0.0
    uploaded_per_hour: float = 0.0


class Fault(Record):
    """Something that went wrong on a device; repeated, it is one fault with a count."""

    schema_version: int = Field(SCHEMA_VERSION, exclude=True)
    at: UtcTime = Field(description="the last time")
    first_at: UtcTime
    message: str
    count: int = 1


class Alert(Record):
    """A condition that a person should look at. It ends by itself when its cause does."""

    schema_version: int = Field(SCHEMA_VERSION, exclude=True)
    name: str
    since: UtcTime
    message: str


class DeviceStatus(Record):
    """What a device says of itself in one project, once a minute.

    Counters are those of a run: one that was killed is gone on with, one that ended or was stopped counts anew. Every
    field and every alert: tasks/collector/WATCHING.md.
    """

    device: str
    group: str
    project: str = ""
    reported_at: UtcTime
    started_at: UtcTime = Field(description="of the run")
    uptime_seconds: float = Field(0.0, description="of the process")
    status_seconds: float = Field(60.0, description="how often this status is written, s")
    versions: Versions = Versions()
    release_number: int = 0
    model_version: str = STUB
    settings_version: str = ""
    refused_release: str = Field("", description="number and reason of a release that was not installed")
    probation: str = Field("", description="where a new release's probation stands; empty: there is none")
    frames: int = Field(0, description="frames decided since the start")
    frames_lost: int = Field(0, description="frames that were read but never decided")
    kept: int = 0
    kept_by_strategy: dict[str, int] = {}
    drops: dict[str, int] = Field({}, description="frames or samples not kept, by reason")
    swaps: tuple[str, ...] = Field((), description="'frame 812: release 2, model 1f0c...' for each swap, newest last")
    rates: Rates = Rates()
    outbox_samples: int = 0
    outbox_bytes: int = 0
    outbox_cap_bytes: int = 0
    outbox_oldest_seconds: float = Field(0.0, description="how long the sample that waits longest has waited, s")
    uploaded: int = 0
    segments: int = 0
    cameras: dict[str, str] = Field({}, description="state by camera; 'running...' and 'ended' are well")
    memory_bytes: int = Field(0, description="resident memory of the process, which all its projects share")
    alerts: tuple[Alert, ...] = ()
    errors: tuple[Fault, ...] = Field((), description="the last ones, newest last")
    last_error: str = ""
    finished: bool = False

    def is_up(self, camera: str) -> bool:
        """Does a camera give frames, or has it come to its end?"""
        return self.cameras[camera].startswith(("running", "ended"))
