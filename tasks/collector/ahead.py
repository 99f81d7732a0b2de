"""What is done of a frame before it is decided: its letterbox in its capture thread, the model in a thread of its own.

All of it is for the model that was in force at that time. The main loop may have exchanged it since, and then detects
anew; so it does where something went wrong here, and then meets and counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2

from tasks.adapters.detector import Prepared
from tasks.collector.runner import AnyDetector
from tasks.core.entities import Detections, Frame
from tasks.core.errors import ImageUnreadable


@dataclass(frozen=True, slots=True)
class Ahead:
    """A frame as the input of one detector's model, and perhaps already what the model made of it."""

    detector: AnyDetector
    prepared: Prepared


@dataclass(slots=True)
class Captured:
    """A frame on its way from its camera to the decision.

    answer: told what was detected in it, or what went wrong; for frames that somebody waits for.
    """

    frame: Frame
    is_live: bool
    ahead: Ahead | None = None
    answer: Callable[[Detections | Exception], None] | None = None


def prepare(captured: Captured, detector: AnyDetector) -> None:
    """Make the frame this detector's input. A stub has none; what is no frame is left as it is."""
    captured.ahead = None
    if not detector.is_stub:
        try:
            captured.ahead = Ahead(detector, detector.prepare(captured.frame.pixels))
        except (ImageUnreadable, cv2.error, MemoryError):
            return


def run(together: Sequence[Captured], detector: AnyDetector) -> None:
    """Run this detector's model on frames, on all at once where it can. Raises what the model raises."""
    for captured in together:
        if captured.ahead is None or captured.ahead.detector is not detector:
            prepare(captured, detector)
    prepared = [captured.ahead.prepared for captured in together if captured.ahead is not None]
    if len(prepared) == 1:
        detector.run(prepared[0])
    elif prepared:
        detector.run_batch(prepared)


def detect(captured: Captured, detector: AnyDetector, *, embeds: bool = False) -> Detections:
    """What this detector sees in the frame. What was done for another detector, before an exchange, is of no use.

    embeds: the frame's embedding is asked for, which its prepared input has after that.
    """
    ahead = captured.ahead
    if ahead is None or ahead.detector is not detector:
        if not embeds:
            return detector.detect(captured.frame.pixels)
        ahead = captured.ahead = Ahead(detector, detector.prepare(captured.frame.pixels))
    return detector.detect_prepared(ahead.prepared)
