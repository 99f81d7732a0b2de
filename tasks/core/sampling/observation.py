"""What the sampler is shown of a frame, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities.detections import CLASSIFICATION as CLASSIFICATION  # what others import from here
from tasks.core.entities.detections import Detections

DETECTION_TASKS = frozenset({"object-detection", "instance-segmentation", "keypoint-detection", "keypoints-detection"})


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame, as the sampler sees it: no pixels, only what a model and a hash made of them.

    frame: its id, unique within its camera, because draws follow from it. captured_at: the only clock; without a zone
    it is UTC. detections: from the confidence floor up; for classification one row a class, boxes ignored. is_stub:
    there is no model yet, so the detections mean nothing. top_classes: classification's top class, or the predicted
    classes of a multi-label model. image_hash: (32,) uint8 from `duplicates.difference_hash`, where duplicates matter.
    index: its place among the frames of its camera; where one is left out, frames were lost, and no object is followed
    across. None where nothing can be lost. embedding: (d,) floats of any length, where `novelty` matters, and embedder:
    what made it, as embeddings of different ones cannot be compared.
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
    index: int | None = None
    embedding: NDArray[np.floating[Any]] | None = None
    embedder: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a frame is kept, and why.

    strategy: the one that is charged. matched: all that matched and won their draw, in their order, whether or not they
    had room. tags: of the settings and of all matched strategies. batch: its name, empty when the frame is not kept.
    probability: how likely this frame was to be kept, before its draws. random_slice: the exploration draw hit, so that
    the frame may serve test and calibration. probability_random: e, how likely it was to. chosen: the strategies that
    won their draws, exploration aside; is_chosen: one of them had room, so that they alone kept it, or would have.
    outcome: one of few phrases, fit to be counted. why: makes the `reason`, which nobody asks of 99 frames in 100.
    is_repeat: the frame is a near-duplicate, or in a cooldown. expected_misses: m(x); None where nothing expects any,
    and of a repeat, which is not scored. minimum_expected_misses: what the budget asked of this frame; None without a
    budget, and where it had room for exploration alone. is_open: an object was lost in this frame. What becomes of it,
    and with what probability, follows within few frames, in the `settled` of a decision on a later frame of the camera,
    or in `Sampler.settle`; until then its pixels are needed.
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
    probability_random: float = 0.0
    chosen: tuple[str, ...] = ()
    is_chosen: bool = False
    is_repeat: bool = False
    expected_misses: float | None = None
    minimum_expected_misses: float | None = None
    is_open: bool = False
    settled: tuple[Settled, ...] = ()

    @property
    def chosen_by(self) -> int:
        """How many strategies would be named if exploration had not hit the frame; 0 where it would not be kept."""
        return len(self.chosen) if self.is_chosen else 0

    @property
    def reason(self) -> str:
        """A sentence for people; it opens with the outcome."""
        return self.why()


@dataclass(frozen=True, slots=True)
class Settled:
    """The last word on a frame whose decision was open.

    decision: in place of the frame's own; with the probability of being kept at its own time or now. is_late: it is
    kept now, and was not at its own time.
    """

    camera: str
    frame: str
    decision: Decision
    is_late: bool = False
