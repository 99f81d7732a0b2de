"""A model's outputs on the probe frames: stored in its release when it is published, compared when it is installed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import Detector, probe_frame
from tasks.core.boxes import iou_matrix
from tasks.core.entities import Detection, Probe, ProbeFrame, Tolerance, detection_records

SIZES = ((480, 640), (720, 405))  # height, width: lying and upright, so that the letterbox is tried both ways
VALUES = 256  # of each output; a slip anywhere in a model shows in most of them
DETECTIONS = 50  # of each frame, the most confident ones


def probe(detector: Detector) -> Probe:
    """What this detector makes of the probe frames. Raises ModelError when its model fails, or gives NaN."""
    frames = []
    for height, width in SIZES:
        pixels = probe_frame(height, width)
        output = detector.raw_output(pixels).ravel()
        detections = detection_records(detector.detect(pixels))[:DETECTIONS]
        values = tuple(float(f"{value:.6g}") for value in output[_spread(output.size)])
        frames.append(
            ProbeFrame(height=height, width=width, values=values, size=output.size, detections=tuple(detections))
        )
    return Probe(frames=tuple(frames))


def difference(stored: Probe, found: Probe, provider: str, confidence_floor: float) -> str | None:
    """In what the outputs that were found differ from the stored ones by more than is allowed; None where they agree.

    provider: what computed them, which chooses the tolerance; one that is not named has the widest. confidence_floor:
    detections within the tolerance of it may be on either side, so they need no counterpart.
    """
    widest = max(stored.tolerances.values(), key=lambda tolerance: tolerance.absolute)
    tolerance = stored.tolerances.get(provider, widest)
    if len(stored.frames) != len(found.frames):
        return f"{len(found.frames)} probe frames were run, the release has {len(stored.frames)}"
    for ours, theirs in zip(found.frames, stored.frames):
        where = f"on the probe frame of {theirs.width} x {theirs.height}"
        if (ours.size, ours.height, ours.width) != (theirs.size, theirs.height, theirs.width):
            return f"{where} the output has {ours.size} values, the release says {theirs.size}"
        within = _share_within(np.array(ours.values), np.array(theirs.values), tolerance)
        if within < tolerance.share:
            return f"{where} {1 - within:.0%} of the output's values are not those of the release"
        for these, those, who in (
            (theirs.detections, ours.detections, "is missing"),
            (ours.detections, theirs.detections, "is new"),
        ):
            odd = _without_counterpart(these, those, tolerance, confidence_floor)
            if odd is not None:
                return f"{where} a detection of {odd.class_name} with confidence {odd.confidence:.2f} {who}"
    return None


def _spread(size: int) -> NDArray[np.int64]:
    """Which values of a flattened output are compared: evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, VALUES)).round().astype(np.int64))


def _share_within(found: NDArray[np.float64], stored: NDArray[np.float64], tolerance: Tolerance) -> float:
    if found.shape != stored.shape:
        return 0.0
    allowed = tolerance.absolute + tolerance.relative * np.abs(stored)
    return float((np.abs(found - stored) <= allowed).mean())


def _without_counterpart(
    these: Sequence[Detection], those: Sequence[Detection], tolerance: Tolerance, floor: float
) -> Detection | None:
    """The first of `these` that has none among `those`: of its class, its place and its confidence."""
    last = min((d.confidence for d in those), default=0.0) if len(those) >= DETECTIONS else 0.0
    for detection in these:
        if detection.confidence <= max(floor, last) + tolerance.confidence:
            continue
        near = [
            other
            for other in those
            if other.class_name == detection.class_name
            and abs(other.confidence - detection.confidence) <= tolerance.confidence
        ]
        if not near or float(_overlaps(detection, near).max()) < tolerance.iou:
            return detection
    return None


def _overlaps(detection: Detection, others: Sequence[Detection]) -> NDArray[np.float64]:
    boxes = np.array([other.xyxy for other in others], np.float64)
    overlaps: NDArray[np.float64] = iou_matrix(np.array([detection.xyxy], np.float64), boxes)[0]
    return overlaps
