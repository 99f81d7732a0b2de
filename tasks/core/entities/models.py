"""Model versions, the gate's verdict on them, and the releases that devices obey."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasks.core.entities.base import STUB, Record, UtcTime
from tasks.core.settings import SamplingSettings, Thresholds


class ModelVersion(Record):
    """An ONNX file, its digest, and the training run and dataset version that it came from."""

    model_version: str
    sha256: str
    size_bytes: int
    created_at: UtcTime
    class_names: tuple[str, ...]
    image_size: tuple[int, int] = Field(description="height, width of the input")
    format: str = Field(description="ultralytics, ultralytics-nms-free, yolox")
    dataset_version: str = ""
    previous: str = Field("", description="the model version whose weights it was trained from")
    trained_from: str = Field("", description="the checkpoint that it was trained from, by name")
    licence: str = ""
    training: dict[str, Any] = {}
    parity: dict[str, float] = Field({}, description="largest difference of ONNX and checkpoint outputs")


class Verdict(Record):
    """What the gate said of a candidate, with its numbers. Never only a yes or no."""

    verdict: Literal["accepted", "rejected", "inconclusive"]
    mode: Literal["first", "improve", "replace"]
    candidate: str
    live: str = ""
    dataset_version: str = ""
    test_edition: int = 0
    images: int = 0
    reasons: tuple[str, ...]
    numbers: dict[str, float] = {}
    images_needed: int | None = Field(None, description="test images that would settle an inconclusive verdict")
    decided_at: UtcTime


class Release(Record):
    """The one source of orders for the devices of a group: model, thresholds and sampling settings under one number."""

    group: str
    number: int = Field(ge=1)
    previous: int = Field(0, ge=0)
    created_at: UtcTime
    model_version: str = STUB
    model_sha256: str = ""
    class_names: tuple[str, ...]
    thresholds: Thresholds = {}
    nms_iou: float = Field(0.6, gt=0, le=1)
    settings: SamplingSettings
    reason: str = ""
