"""Replays recorded detections through the sampler and says, frame by frame, why each would be kept or not.

One JSON object a line goes in:

    {"frame": "f1", "task": "object-detection", "width": 640, "height": 480, "captured_at": "2026-01-01T00:00:00Z",
     "detections": [{"class": "car", "confidence": 0.41, "xyxy": [10, 10, 60, 40]}]}
    {"frame": "f2", "task": "classification", "captured_at": "2026-01-01T00:00:01Z",
     "top": "cat", "confidence": 0.6, "classes": {"cat": 0.6, "dog": 0.3}}

with `predicted_classes` in place of `top` and `confidence` for a multi-label model, `"is_stub": true` where there was
no model, and optionally `camera`, `device` and `image_hash` (64 hex). One comes out:

    {"frame": "f1", "kept": true, "strategy": "hard", "matched": ["hard"], "reason": "...", "probability": 1.0}

The clock is `captured_at`, chance is the seed: the same lines and settings give the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.core.entities import TrafficRecord
from tasks.core.entities.base import UtcTime
from tasks.core.entities.detections import Detections
from tasks.core.errors import RecordInvalid
from tasks.core.sampling import CLASSIFICATION, Decision, Observation, Sampler
from tasks.core.settings import SamplingSettings

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Confidence = Annotated[float, Field(strict=True, ge=0, le=1)]


def _text_only(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected a time like 2026-01-01T00:00:00Z")
    return value


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError("expected x1 <= x2 and y1 <= y2")
    return box


class _Line(BaseModel):
    """What a line may hold; keys of other tools beside them are ignored."""

    model_config = ConfigDict(frozen=True)


class _SeenBox(_Line):
    class_name: str = Field(alias="class")
    confidence: Confidence
    xyxy: Annotated[tuple[Coordinate, Coordinate, Coordinate, Coordinate], AfterValidator(_ordered)]


class _SeenFrame(_Line):
    """One line: a frame with boxes, with classes, or with neither because a stub looked at it."""

    frame: str = Field(min_length=1)
    captured_at: Annotated[UtcTime, BeforeValidator(_text_only)]
    task: Literal[
        "object-detection", "instance-segmentation", "keypoint-detection", "keypoints-detection", "classification"
    ] = "object-detection"
    camera: str = ""
    device: str = ""
    width: int | None = Field(None, gt=0)
    height: int | None = Field(None, gt=0)
    is_stub: bool = Field(False, strict=True)
    image_hash: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    detections: tuple[_SeenBox, ...] | None = None
    top: str | None = None
    confidence: Confidence | None = None
    classes: dict[str, Confidence] | None = None
    predicted_classes: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _has_what_its_task_needs(self) -> _SeenFrame:
        if self.is_stub:
            return self
        if self.task != CLASSIFICATION:
            if self.detections is None:
                raise ValueError("detections: missing; an empty list says that nothing was seen")
        elif self.top is not None:
            if self.confidence is None:
                raise ValueError("confidence: missing; it is that of the top class")
        elif self.predicted_classes is None:
            raise ValueError("top: missing; a multi-label line has predicted_classes instead")
        elif self.classes is None:
            raise ValueError("classes: missing; a multi-label line needs them with their confidences")
        return self

    def confidences(self) -> list[tuple[str, float]]:
        """Class and confidence of each row; Roboflow reads the top class's from `confidence`."""
        if self.is_stub:
            return []
        if self.task != CLASSIFICATION:
            return [(box.class_name, box.confidence) for box in self.detections or ()]
        classes = dict(self.classes or {})
        if self.top is not None and self.confidence is not None:
            classes[self.top] = self.confidence
        return list(classes.items())

    def top_classes(self) -> tuple[str, ...]:
        return (self.top,) if self.top is not None else self.predicted_classes or ()


def explain_lines(
    lines: Iterable[str],
    settings: SamplingSettings,
    seed: int | None = None,
    *,
    on_error: Callable[[RecordInvalid], None] | None = None,
) -> Iterator[str]:
    """One JSON answer for each JSON line, in their order; blank lines are passed over.

    seed: in place of the settings'. A line that cannot be read is handed to `on_error`, as a RecordInvalid that names
    line and field, and the next one is read; without `on_error` it is raised.
    """
    sampler = Sampler(settings, seed=seed)
    class_names: tuple[str, ...] = ()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            seen = _read(line, number)
        except RecordInvalid as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        # Class ids only ever grow, so that signatures of earlier frames keep their meaning.
        new = dict.fromkeys(name for name, _ in seen.confidences() if name not in class_names)
        class_names = (*class_names, *new) if new else class_names
        yield json.dumps(_answer(seen.frame, sampler.decide(_observation(seen, class_names))))


def traffic_of_line(line: str, number: int, model_version: str) -> TrafficRecord:
    """A line as a record of a traffic log that holds every frame. Raises RecordInvalid for a line that is none."""
    seen = _read(line, number)
    rows = seen.confidences()
    return TrafficRecord(
        camera=seen.camera,
        captured_at=seen.captured_at,
        rate=1.0,
        model_version=model_version,
        class_names=tuple(name for name, _ in rows),
        confidences=tuple(confidence for _, confidence in rows),
    )


def _read(line: str, number: int) -> _SeenFrame:
    try:
        return _SeenFrame.model_validate(json.loads(line))
    except ValueError as error:
        raise RecordInvalid(f"line {number}: {_problem(error)}") from None


def _problem(error: ValueError) -> str:
    """The first thing that is wrong with a line, its field in front."""
    if not isinstance(error, ValidationError):
        return f"not JSON: {error}"
    problem = error.errors()[0]
    if problem["type"] == "model_type":
        return "expected a JSON object"
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _observation(seen: _SeenFrame, class_names: Sequence[str]) -> Observation:
    rows = seen.confidences()
    boxes = [box.xyxy for box in seen.detections or ()] if seen.task != CLASSIFICATION and not seen.is_stub else []
    # Not Detections' float32: the confidence of a record is compared as the number that it says.
    confidence: NDArray[Any] = np.array([confidence for _, confidence in rows], np.float64)
    detections = Detections(
        xyxy=np.array(boxes or [(0, 0, 0, 0)] * len(rows), np.float32).reshape(-1, 4),
        confidence=confidence,
        class_id=np.array([class_names.index(name) for name, _ in rows], np.int64),
        class_names=tuple(class_names),
    )
    return Observation(
        frame=seen.frame,
        device=seen.device,
        camera=seen.camera,
        captured_at=seen.captured_at,
        detections=detections,
        is_stub=seen.is_stub,
        task=seen.task,
        image_hash=None if seen.image_hash is None else np.frombuffer(bytes.fromhex(seen.image_hash), np.uint8),
        top_classes=seen.top_classes(),
    )


def _answer(frame: str, decision: Decision) -> dict[str, Any]:
    return {
        "frame": frame,
        "kept": decision.kept,
        "strategy": decision.strategy,
        "matched": list(decision.matched),
        "reason": decision.reason,
        "probability": decision.probability,
    }
