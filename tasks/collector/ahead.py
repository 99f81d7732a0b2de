"""Work done in advance: a frame as a model's input, made in its capture thread while the model runs on another frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from tasks.adapters.detector import Prepared
from tasks.collector.runner import AnyDetector
from tasks.core.entities import Detections, Frame
from tasks.core.errors import ImageUnreadable


@dataclass(frozen=True, slots=True)
class Ahead:
    """A frame as the input of one detector's model."""

    detector: AnyDetector
    prepared: Prepared


def prepare(frame: Frame, detector: AnyDetector) -> Ahead | None:
    """A frame as the detector's input; None for one that cannot be, which whoever detects in it meets and counts."""
    try:
        return Ahead(detector, detector.prepare(frame.pixels))
    except (ImageUnreadable, cv2.error, MemoryError):
        return None


def detect(frame: Frame, ahead: Ahead | None, detector: AnyDetector) -> Detections:
    """What the detector sees in a frame. What was prepared for another one, before an exchange, is of no use to it."""
    if ahead is None or ahead.detector is not detector:
        return detector.detect(frame.pixels)
    return detector.detect_prepared(ahead.prepared)
