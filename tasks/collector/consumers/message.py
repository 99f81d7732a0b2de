"""What one frame becomes for a consumer: one JSON object, the same in a line, over MQTT and as the answer of /infer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from pydantic import Field

from tasks.collector.keeping import frame_id
from tasks.core.entities import Detection, Detections, Frame, Record, UtcTime, detection_records
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds


class Message(Record):
    """What the model sees in one frame: its detections at or above the operating thresholds."""

    device: str
    project: str
    camera: str
    captured_at: UtcTime
    frame: int = Field(ge=0, description="position in its source, from 0")
    frame_id: str = Field(description="the source's name for it, or capture time#frame")
    width: int = Field(description="of the frame that the boxes lie in, pixels")
    height: int
    model_version: str = Field(description="16 hex, or 'stub', which sees nothing")
    detections: tuple[Detection, ...]


def at_or_above(detections: Detections, thresholds: Thresholds) -> Detections:
    """The rows whose confidence reaches their class's operating threshold; 0.5 for a class that has none of its own.

    Compared as float32, which confidences are: 0.7 reaches a threshold of 0.7.
    """
    if not len(detections):
        return detections
    by_class = np.array([thresholds.get(name, DEFAULT_THRESHOLD) for name in detections.class_names], np.float32)
    return detections[detections.confidence >= by_class[detections.class_id]]


def message_of(
    frame: Frame, detections: Detections, thresholds: Thresholds, *, device: str, project: str, model_version: str
) -> Message:
    """detections: of `frame`, from the confidence floor up; those below `thresholds` are left out."""
    return Message(
        device=device,
        project=project,
        camera=frame.camera,
        captured_at=frame.captured_at,
        frame=frame.index,
        frame_id=frame_id(frame),
        width=frame.width,
        height=frame.height,
        model_version=model_version,
        detections=detection_records(at_or_above(detections, thresholds)),
    )


@dataclass(slots=True)
class Seen:
    """A frame without its pixels, and what the model saw in it: what a consumer's thread makes a message of.

    A thousand of them may wait; their pixels would be gigabytes.
    """

    device: str
    project: str
    camera: str
    captured_at: datetime
    index: int
    source: str
    size: tuple[int, int]  # height, width
    detections: Detections
    thresholds: Thresholds
    model_version: str
    _json: bytes | None = field(default=None, init=False)

    @property
    def has_detections(self) -> bool:
        return len(at_or_above(self.detections, self.thresholds)) > 0

    def json(self) -> bytes:
        """The message as one line of JSON, without the newline; made once for all consumers."""
        if self._json is None:
            shape = np.broadcast_to(np.uint8(0), (*self.size, 3))
            frame = Frame(shape, self.camera, self.captured_at, self.index, self.source)
            self._json = (
                message_of(
                    frame,
                    self.detections,
                    self.thresholds,
                    device=self.device,
                    project=self.project,
                    model_version=self.model_version,
                )
                .model_dump_json()
                .encode()
            )
        return self._json
