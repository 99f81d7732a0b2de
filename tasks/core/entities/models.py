"""Model versions, the gate's verdict on them, and the releases that devices obey."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from pydantic_core import to_json

from tasks.core.entities.base import STUB, Record, UtcTime
from tasks.core.entities.detections import Detection
from tasks.core.settings import Fraction, Probation, SamplingSettings, Thresholds


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


class Tolerance(Record):
    """How far a model's outputs may differ from those that were stored: by `absolute + relative * |stored|`."""

    absolute: float = Field(ge=0)
    relative: float = Field(ge=0)
    share: Fraction = Field(description="of the values that must lie within; the others may differ by rounding")
    confidence: Fraction = Field(description="difference of a detection's confidence")
    iou: Fraction = Field(description="of a stored detection and one that was found, at least")


# FP32 on another processor differs in the last digits; graphics processors round to TF32 or FP16.
EXACT = Tolerance(absolute=0.01, relative=0.01, share=0.99, confidence=0.02, iou=0.95)
ROUNDED = Tolerance(absolute=0.1, relative=0.1, share=0.95, confidence=0.1, iou=0.8)


class ProbeFrame(Record):
    """What a model makes of one probe frame."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    values: tuple[float, ...] = Field(description="of the model's output, evenly spread over the flattened tensor")
    size: int = Field(gt=0, description="values that the whole output has")
    detections: tuple[Detection, ...] = Field((), description="from the confidence floor up, the most confident first")


class Probe(Record):
    """What a release's model made of the probe frames where it was published."""

    frames: tuple[ProbeFrame, ...] = Field(min_length=1)
    tolerances: dict[str, Tolerance] = Field(
        {"cpu": EXACT, "openvino": ROUNDED, "coreml": ROUNDED, "cuda": ROUNDED, "tensorrt": ROUNDED},
        description="by execution provider",
    )


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
    back_to: int = Field(0, ge=0, description="the release whose orders these are again; 0: new ones")
    model_classes: tuple[str, ...] = Field((), description="class names of a model file that has none itself")
    probe: Probe | None = Field(None, description="what the model makes of the probe frames; none: not compared")
    probation: Probation = Probation()

    def to_json(self) -> bytes:
        """Without what is at its default: devices of an older version obey all but settings that they do not know.

        A default is therefore part of the format, and is never changed.
        """
        said = {"schema_version": self.schema_version, **self.model_dump(mode="json", exclude_defaults=True)}
        return to_json(said, indent=1)
