"""What a device writes: kept frames, the traffic log, and its own status."""

from __future__ import annotations

from pydantic import Field

from tasks.core.entities.base import STUB, Record, UtcTime
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


class DeviceStatus(Record):
    """What a device says of itself, once a minute."""

    device: str
    group: str
    reported_at: UtcTime
    started_at: UtcTime
    release_number: int = 0
    model_version: str = STUB
    settings_version: str = ""
    refused_release: str = Field("", description="number and reason of a release that was not installed")
    frames: int = Field(0, description="frames decided since the start")
    frames_lost: int = Field(0, description="frames that were read but never decided")
    kept: int = 0
    kept_by_strategy: dict[str, int] = {}
    drops: dict[str, int] = Field({}, description="frames or samples not kept, by reason")
    swaps: tuple[str, ...] = Field((), description="'frame 812: release 2, model 1f0c...' for each swap, newest last")
    outbox_samples: int = 0
    outbox_bytes: int = 0
    uploaded: int = 0
    segments: int = 0
    cameras: dict[str, str] = {}
    last_error: str = ""
    finished: bool = False
