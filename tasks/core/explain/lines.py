"""What a model saw, one JSON line a frame: read into what the sampler is shown, and written back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.core.entities import TrafficRecord, format_utc
from tasks.core.entities.base import UtcTime
from tasks.core.entities.detections import Detections
from tasks.core.errors import RecordInvalid
from tasks.core.sampling import CLASSIFICATION, Observation
from tasks.core.sampling.strategies import recorded_confidence

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Confidence = Annotated[float, Field(strict=True, ge=0, le=1)]


def _text_only(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected a time like 2026-01-01T00:00:00Z")
    return value


def _with_an_area(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("expected x1 < x2 and y1 < y2, a box with an area")
    return box


class _Line(BaseModel):
    """What a line may hold; keys of other tools beside them are ignored."""

    model_config = ConfigDict(frozen=True)


class _SeenBox(_Line):
    class_name: str = Field(alias="class")
    confidence: Confidence
    xyxy: Annotated[tuple[Coordinate, Coordinate, Coordinate, Coordinate], AfterValidator(_with_an_area)]


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
    confidence_floor: Confidence | None = None
    index: int | None = Field(None, ge=0)
    embedding: tuple[Coordinate, ...] | None = Field(None, min_length=1)
    embedder: str = ""

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


# --- reading ---------------------------------------------------------------------------------------------------------


class RecordedFrames:
    """The frames of a file of lines, in their order, as the sampler is shown them.

    confidence_floor: the highest that any line read so far says its model was run with; None while none says so.
    """

    def __init__(self, lines: Iterable[str], on_error: Callable[[RecordInvalid], None] | None = None) -> None:
        """lines: blank ones are passed over. on_error: is handed each line that cannot be read, as a RecordInvalid that
        names line and field, and the next one is read; without it the first one is raised.
        """
        self._lines = lines
        self._on_error = on_error
        self.confidence_floor: float | None = None

    def __iter__(self) -> Iterator[Observation]:
        class_names: tuple[str, ...] = ()
        for seen in self._read():
            if seen.confidence_floor is not None:
                self.confidence_floor = max(seen.confidence_floor, self.confidence_floor or 0.0)
            # Class ids only ever grow, so that signatures of earlier frames keep their meaning.
            new = dict.fromkeys(name for name, _ in seen.confidences() if name not in class_names)
            class_names = (*class_names, *new) if new else class_names
            yield _observation(seen, class_names)

    def _read(self) -> Iterator[_SeenFrame]:
        for number, line in enumerate(self._lines, start=1):
            if not line.strip():
                continue
            try:
                seen = _read(line, number)
            except RecordInvalid as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
            else:
                yield seen


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
    except RecursionError:
        raise RecordInvalid(f"line {number}: not JSON: it is nested too deep") from None
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
    if seen.task == CLASSIFICATION or seen.is_stub:
        boxes = [(0.0, 0.0, float(seen.width or 0), float(seen.height or 0))] * len(rows)  # the whole frame, as seen
    else:
        boxes = [box.xyxy for box in seen.detections or ()]
    index = {name: class_id for class_id, name in enumerate(class_names)}
    # Not Detections' float32: the confidence of a record is compared as the number that it says.
    confidence: NDArray[Any] = np.array([confidence for _, confidence in rows], np.float64)
    detections = Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidence=confidence,
        class_id=np.array([index[name] for name, _ in rows], np.int64),
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
        index=seen.index,
        embedding=None if seen.embedding is None else np.array(seen.embedding, np.float32),
        embedder=seen.embedder,
    )


# --- writing ---------------------------------------------------------------------------------------------------------


def line_of(observation: Observation, *, width: int, height: int, confidence_floor: float) -> str:
    """The line of a frame, without its end: whoever reads it reaches the decisions that the observation leads to.

    width, height: of the frame, pixels. Confidences keep the 6 digits that count, coordinates all that float32 has.
    """
    line: dict[str, Any] = {
        "frame": observation.frame,
        "task": observation.task,
        "captured_at": format_utc(observation.captured_at),
        "device": observation.device,
        "camera": observation.camera,
        "width": width,
        "height": height,
        "confidence_floor": confidence_floor,
    }
    if observation.index is not None:
        line["index"] = observation.index
    if observation.embedding is not None:
        embedding = observation.embedding.astype(np.float32)
        line |= {"embedder": observation.embedder, "embedding": [_shortest(value) for value in embedding]}
    if observation.image_hash is not None:
        line["image_hash"] = observation.image_hash.tobytes().hex()
    return json.dumps({**line, **_seen_in(observation)})


def _seen_in(observation: Observation) -> dict[str, Any]:
    detections = observation.detections
    confidences = recorded_confidence(detections).tolist()
    if observation.is_stub:
        return {"is_stub": True}
    if observation.task == CLASSIFICATION:
        classes = dict(zip(detections.names, confidences))
        tops = observation.top_classes
        if len(tops) == 1 and tops[0] in classes:
            return {"top": tops[0], "confidence": classes[tops[0]], "classes": classes}
        return {"predicted_classes": list(tops), "classes": classes}
    boxes = detections.xyxy.astype(np.float32)
    return {
        "detections": [
            {"class": name, "confidence": confidence, "xyxy": [_shortest(value) for value in box]}
            for name, confidence, box in zip(detections.names, confidences, boxes)
        ]
    }


def _shortest(value: np.float32) -> float:
    """The decimal number with the fewest digits that is this float32 and no other."""
    return float(str(value))
