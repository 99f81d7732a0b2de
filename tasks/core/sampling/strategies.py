"""Which strategies does a frame match, before any draw?

Every strategy but `expected_misses` and `track_gap` asks how many it counts, of detections or, for `novelty`, of frames
that are novel, and whether that number is one that it wants.
The settings are laid out once for a list of class names, and all strategies of a frame are counted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities.detections import Detections
from tasks.core.sampling.misses import MissWeights, total
from tasks.core.sampling.observation import CLASSIFICATION, DETECTION_TASKS, Observation
from tasks.core.settings import (
    AnyStrategy,
    ClassesBased,
    CloseToThreshold,
    DetectionsNumberBased,
    Novelty,
    RandomSampling,
    SamplingSettings,
)

NOT_APPLICABLE = -1  # the count of a strategy that has nothing to say of such a frame
UNBOUNDED = np.iinfo(np.int64).max

Counts = NDArray[np.int64]  # (strategies,) detections that each strategy counts
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the strategies see in a frame.

    counts: (strategies,) detections, NOT_APPLICABLE where a strategy has nothing to say. expected_misses: None where
    they cannot be expected, of a stub and of a task that is not known. distance: from the nearest frame kept lately;
    None where nobody asks, or knows.
    """

    counts: Counts
    expected_misses: float | None = None
    distance: float | None = None


def recorded_confidence(detections: Detections) -> NDArray[np.float64]:
    """(n,) confidences as they are recorded, in Python's floats.

    A detector's float32 0.3 is 0.300000012 as a float64, and would fall on the other side of a strict edge than the
    0.3 that its record says. What is float32 is therefore rounded to the record's 6 digits first, so that whoever reads
    the record reaches the device's decision; what is float64 was read from a record, and is taken as it is.
    """
    confidence = detections.confidence.astype(np.float64)
    return np.round(confidence, 6) if detections.confidence.dtype == np.float32 else confidence


class StrategyTable:
    """The strategies of some settings, laid out for one list of class names."""

    def __init__(self, settings: SamplingSettings, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.strategies = settings.sampling_strategies
        self._floor = settings.confidence_floor
        # A class without a threshold of its own counts from the floor up.
        self._operating = np.array([settings.thresholds.get(name, 0.0) for name in class_names])

        self._random = self._rows_of(RandomSampling)
        self._close = self._rows_of(CloseToThreshold)
        self._number = self._rows_of(DetectionsNumberBased)
        self._classes = self._rows_of(ClassesBased)
        self._novelty = self._rows_of(Novelty)

        close = [s for s in self.strategies if isinstance(s, CloseToThreshold)]
        self._threshold = np.array([s.threshold for s in close], np.float64).reshape(-1, 1)
        self._epsilon = np.array([s.epsilon for s in close], np.float64).reshape(-1, 1)
        self._only_top = np.array([s.only_top_classes for s in close], bool).reshape(-1, 1)
        number = [s for s in self.strategies if isinstance(s, DetectionsNumberBased)]
        classes = [s for s in self.strategies if isinstance(s, ClassesBased)]
        self._minimum_distance = np.array([s.minimum_distance for s in self.strategies if isinstance(s, Novelty)])
        self._close_selected = _selection([s.selected_class_names for s in close], class_names)
        self._number_selected = _selection([s.selected_class_names for s in number], class_names)
        self._classes_selected = _selection([s.selected_class_names for s in classes], class_names)

        budget = settings.expected_misses
        self._misses = None if budget is None else MissWeights(budget, settings, class_names)
        self._fewest = np.array([_fewest(s) for s in self.strategies], np.int64)
        self._most = np.array([_most(s) for s in self.strategies], np.int64)

    def look(self, observation: Observation, used_up: Booleans | None = None) -> Sight:
        """What each strategy sees in a frame. A stub's, and one of a task that is not known, are for `random` alone.

        used_up: (n,) detections of objects that have earned their samples: what looks for doubtful detections,
        `close_to_threshold` and `expected_misses`, passes them over.
        """
        counts = np.full(len(self.strategies), NOT_APPLICABLE, np.int64)
        counts[self._random] = 0
        if observation.is_stub:
            return Sight(counts)
        if observation.task in DETECTION_TASKS:
            return Sight(counts, self._count_detections(observation.detections, used_up, counts))
        if observation.task == CLASSIFICATION:
            return Sight(counts, self._count_classes(observation, counts))
        return Sight(counts)

    def doubtful(self, observation: Observation) -> Booleans:
        """(n,) the detections for which `close_to_threshold` and `expected_misses` may keep a frame."""
        if observation.is_stub or observation.task not in DETECTION_TASKS:
            return np.zeros(len(observation.detections), np.bool_)
        confidence, class_id = recorded_confidence(observation.detections), observation.detections.class_id
        doubtful = (self._is_close(confidence) & self._close_selected[:, class_id]).any(axis=0)
        if self._misses is not None:
            doubtful |= self._misses.of(confidence, class_id) > 0
        return np.asarray(doubtful & (confidence >= self._floor))

    def fits(self, counts: Counts) -> list[bool]:
        """For each strategy, in their order, whether it wants the number of detections that it counted.

        Of `expected_misses` and `track_gap`, which count none, it says nothing.
        """
        wanted: list[bool] = ((counts >= self._fewest) & (counts <= self._most)).tolist()
        return wanted

    def at_distance(self, sight: Sight, distance: float) -> Sight:
        """The sight of a frame so far from those kept lately: `novelty` counts 1 where it is farther than it asks."""
        sight.counts[self._novelty] = distance > self._minimum_distance
        return replace(sight, distance=distance)

    def is_doubtful(self, sight: Sight) -> bool:
        """Does anything match, or may it, for the sake of single doubtful detections?"""
        if sight.expected_misses:
            return True
        return bool((sight.counts[self._close] >= self._fewest[self._close]).any()) if len(self._close) else False

    def _count_detections(self, detections: Detections, used_up: Booleans | None, counts: Counts) -> float | None:
        """Fills `counts`, and returns the expected misses."""
        confidence, class_id = recorded_confidence(detections), detections.class_id
        seen = confidence >= self._floor
        if not seen.all():
            confidence, class_id = confidence[seen], class_id[seen]
            used_up = None if used_up is None else used_up[seen]
        if len(self._number):
            operating = class_id[confidence >= self._operating[class_id]]
            by_class = np.bincount(operating, minlength=len(self.class_names))
            counts[self._number] = self._number_selected @ by_class
        if used_up is not None:
            confidence, class_id = confidence[~used_up], class_id[~used_up]
        if len(self._close):
            near = self._is_close(confidence) & self._close_selected[:, class_id]
            counts[self._close] = np.count_nonzero(near, axis=1)
        if self._misses is None:
            return None
        return total(self._misses.of(confidence, class_id)) if len(confidence) else 0.0

    def _count_classes(self, observation: Observation, counts: Counts) -> float | None:
        """Classification: one class that fits is enough, so that the count is 0 or the fewest that is wanted.

        A miss is an image of a class that is not its top class, so that the top classes are not expected to be missed.
        """
        confidence, class_id = recorded_confidence(observation.detections), observation.detections.class_id
        is_top = np.array([self.class_names[i] in observation.top_classes for i in class_id], bool)
        near = self._is_close(confidence) & self._close_selected[:, class_id] & (is_top | ~self._only_top)
        counts[self._close] = np.where(near.any(axis=1), self._fewest[self._close], 0)
        counts[self._classes] = np.count_nonzero(self._classes_selected[:, class_id] & is_top, axis=1)
        return None if self._misses is None else total(self._misses.of(confidence[~is_top], class_id[~is_top]))

    def _is_close(self, confidence: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(close-to-threshold strategies, n). Strict, and float error decides: the expression is Roboflow's own."""
        close: NDArray[np.bool_] = np.abs(confidence - self._threshold) < self._epsilon
        return close

    def _rows_of(self, kind: type[AnyStrategy]) -> NDArray[np.int64]:
        return np.array([row for row, s in enumerate(self.strategies) if isinstance(s, kind)], np.int64)


def _selection(selected: Sequence[tuple[str, ...] | None], class_names: Sequence[str]) -> NDArray[np.bool_]:
    """(strategies, classes): does the strategy look at the class? None is every class, an empty tuple none."""
    looks = [[names is None or name in names for name in class_names] for names in selected]
    return np.array(looks, bool).reshape(len(selected), len(class_names))


def _fewest(strategy: AnyStrategy) -> int:
    if isinstance(strategy, CloseToThreshold):
        return strategy.minimum_objects_close_to_threshold
    if isinstance(strategy, DetectionsNumberBased):
        return 0 if strategy.more_than is None else strategy.more_than + 1
    return 1 if isinstance(strategy, ClassesBased | Novelty) else 0


def _most(strategy: AnyStrategy) -> int:
    if isinstance(strategy, DetectionsNumberBased) and strategy.less_than is not None:
        return strategy.less_than - 1
    return UNBOUNDED
