"""What the sampler is shown of a frame, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities.detections import Detections

CLASSIFICATION = "classification"
DETECTION_TASKS = frozenset({"object-detection", "instance-segmentation", "keypoint-detection", "keypoints-detection"})


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame, as the sampler sees it: no pixels, only what a model and a hash made of them.

    frame: its id, unique within its camera, because draws follow from it. captured_at: the only clock; without a zone
    it is UTC. detections: from the confidence floor up; for classification one row a class, boxes ignored. is_stub:
    there is no model yet, so the detections mean nothing. top_classes: classification's top class, or the predicted
    classes of a multi-label model. image_hash: (32,) uint8 from `duplicates.difference_hash`, where duplicates matter.
    """

    frame: str
    device: str
    camera: str
    captured_at: datetime
    detections: Detections
    is_stub: bool = False
    task: str = "object-detection"
    image_hash: NDArray[np.uint8] | None = None
    top_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a frame is kept, and why.

    strategy: the one that is charged. matched: all that matched and won their draw, in their order, whether or not they
    had room. tags: of the settings and of all matched strategies. batch: its name, empty when the frame is not kept.
    probability: how likely this frame was to be kept, before its draws. random_slice: the exploration draw hit, so that
    the frame may serve test and calibration. outcome: one of few phrases, fit to be counted. why: makes the `reason`,
    which nobody asks of 99 frames in 100. is_repeat: the frame is a near-duplicate, or in a cooldown.
    """

    kept: bool
    strategy: str | None
    matched: tuple[str, ...]
    tags: tuple[str, ...]
    batch: str
    probability: float
    random_slice: bool
    outcome: str
    why: Callable[[], str] = field(compare=False, repr=False)
    is_repeat: bool = False

    @property
    def reason(self) -> str:
        """A sentence for people; it opens with the outcome."""
        return self.why()
