"""From a frame to what the sampler is shown, and from its decision to the sample that is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.outbox import encode_jpeg
from tasks.adapters.privacy import Privacy
from tasks.core.duplicates import difference_hash
from tasks.core.entities import (
    Detections,
    Frame,
    Sample,
    detection_records,
    format_utc,
    sample_id_of,
)
from tasks.core.sampling import Decision, Observation
from tasks.core.settings import SamplingSettings


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision to keep, with all that the sample is made of.

    detections: of the project's classes. everything: these, and those that are only seen to be hidden.
    """

    frame: Frame
    detections: Detections
    decision: Decision
    settings: SamplingSettings
    settings_version: str
    model_version: str
    clock_suspect: bool
    everything: Detections | None = None


def frame_id(frame: Frame) -> str:
    """The name under which a frame draws: its place in a recording, so that a replay draws alike; else its time."""
    return frame.source or f"{format_utc(frame.captured_at)}#{frame.index}"


def observation_of(
    frame: Frame,
    detections: Detections,
    device: str,
    settings: SamplingSettings,
    is_stub: bool,
    index: int | None = None,
) -> Observation:
    """What the sampler is shown; the hash only where near-duplicates are looked for.

    index: of a live camera's frame, where one that is left out was lost. A recording's are left out on purpose.
    """
    return Observation(
        frame=frame_id(frame),
        device=device,
        camera=frame.camera,
        captured_at=frame.captured_at,
        detections=detections,
        is_stub=is_stub,
        task=detections.task,
        top_classes=detections.top_classes,
        image_hash=hash_of(frame.pixels) if settings.duplicates.enabled else None,
        index=index,
    )


def hash_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(32,) uint8: the 256-bit difference hash of a BGR frame."""
    small = cv2.resize(pixels, (17, 16), interpolation=cv2.INTER_AREA)
    return difference_hash(np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8))


def make_sample(kept: Kept, device: str, privacy: Privacy | None = None) -> tuple[Sample, bytes]:
    """The sample and its JPEG; where the image is shrunk, the boxes are too. Raises ImageUnreadable.

    privacy: hides what this device hides, before anything is encoded.
    """
    frame, settings, decision = kept.frame, kept.settings, kept.decision
    pixels = (
        privacy.hidden(frame.pixels, kept.detections if kept.everything is None else kept.everything)
        if privacy is not None
        else frame.pixels
    )
    jpeg, width, height = encode_jpeg(pixels, settings.jpeg_compression_level, settings.max_image_size)
    is_resized = (width, height) != (frame.width, frame.height)
    detections = kept.detections
    if is_resized:
        detections = detections.scaled(width / frame.width, height / frame.height)
    sample = Sample(
        sample_id=sample_id_of(jpeg),
        sha256=hashlib.sha256(jpeg).hexdigest(),
        device=device,
        camera=frame.camera,
        captured_at=frame.captured_at,
        clock_suspect=kept.clock_suspect,
        width=width,
        height=height,
        source=frame.source,
        detections=detection_records(detections) if settings.persist_predictions else (),
        strategy=decision.strategy or "",
        matched=decision.matched,
        tags=decision.tags,
        batch=decision.batch,
        probability=decision.probability,
        probability_random=decision.probability_random,
        chosen_by=decision.chosen_by,
        random_slice=decision.random_slice,
        model_version=kept.model_version,
        settings_version=kept.settings_version,
    )
    return sample, jpeg
