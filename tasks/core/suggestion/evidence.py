"""What a suggestion is made from: the budget, the labelled calibration images, and the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.bands import misses_by_image, out_of_reach, threshold_column
from tasks.core.bootstrap import DIGITS, Bootstrap, cluster_bootstrap
from tasks.core.entities import Evaluation, TrafficRecord
from tasks.core.errors import DataError, NotEnoughData, SettingsError
from tasks.core.matching import Floats, Integers, Matches
from tasks.core.suggestion.rules import Candidates, candidates_of_matches, candidates_of_traffic

FOLDS = 5
FEW_IMAGES = 50  # from here on a calibration set serves
MAX_TRAFFIC_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class Budget:
    """Images a day that people can label, and the frames a day, after duplicates, that they are chosen from.

    Raises SettingsError for numbers that cannot be meant.
    """

    images_a_day: float
    frames_a_day: float
    exploration: float

    def __post_init__(self) -> None:
        if not 0 < self.images_a_day < np.inf:
            raise SettingsError(
                f"suggestion: a budget of {self.images_a_day} images a day buys nothing: give a number above 0"
            )
        if not 0 < self.frames_a_day < np.inf:
            raise SettingsError(
                f"suggestion: {self.frames_a_day} frames a day: give the number that the devices see, above 0"
            )
        if not 0 < self.exploration <= 1:
            raise SettingsError(
                f"suggestion: exploration {self.exploration} must be above 0 and at most 1: without a random share, "
                f"misses beyond the rules are never found and field recall cannot be estimated"
            )

    @property
    def share(self) -> float:
        """b: the share of all frames that can be labelled."""
        return min(1.0, self.images_a_day / self.frames_a_day)

    @property
    def for_choice(self) -> float:
        """b(1 - exploration): the share of all frames that are chosen for the sake of misses."""
        return self.share * (1 - self.exploration)

    @property
    def for_exploration(self) -> float:
        return self.share * self.exploration

    @property
    def spendable(self) -> float:
        """Images a day: the budget, but never more than there are frames."""
        return self.share * self.frames_a_day


@dataclass(frozen=True, slots=True)
class Calibration:
    """The labelled images that the suggestion is fitted to."""

    matches: Matches
    evaluation: Evaluation
    candidates: Candidates
    bootstrap: Bootstrap
    fold: Integers  # (images,) from 0 to 4; the images of a cluster share it

    @property
    def images(self) -> int:
        return self.matches.images

    @property
    def thresholds(self) -> Floats:
        """(classes,) the operating thresholds, by class id."""
        return threshold_column(self.evaluation.thresholds, list(self.evaluation.classes))

    @property
    def ground_truths(self) -> Integers:
        """(images,) labelled objects of each image."""
        return np.bincount(self.matches.truths.image, minlength=self.images)

    @property
    def misses(self) -> Integers:
        """(images,) missed ones."""
        return misses_by_image(self.matches, self.thresholds)

    @property
    def misses_out_of_reach(self) -> Integers:
        """(images,) missed ones that no rule on a device can see."""
        lost = out_of_reach(self.matches, self.thresholds, self.evaluation.confidence_floor)
        return np.bincount(self.matches.truths.image[lost], minlength=self.images)


@dataclass(frozen=True, slots=True)
class Traffic:
    """A uniform sample of all frames."""

    candidates: Candidates
    bootstrap: Bootstrap
    is_calibration: bool = False  # there is no log, so the calibration images stand in


def calibration_set(
    matches: Matches, clusters: Sequence[str], evaluation: Evaluation, *, replicates: int, seed: int
) -> Calibration:
    """The labelled images as evidence.

    Raises NotEnoughData without an image, DataError where the inputs are not of the same images.
    """
    if not matches.images:
        raise NotEnoughData(f"suggestion: there is no labelled calibration image: label {FEW_IMAGES} or more")
    if not matches.images == len(clusters) == evaluation.images:
        raise DataError(
            f"suggestion: {matches.images} matched images, {len(clusters)} clusters and an evaluation of "
            f"{evaluation.images} images: all three must be of the same calibration set"
        )
    bootstrap = cluster_bootstrap(clusters, replicates=replicates, seed=seed)
    return Calibration(
        matches=matches,
        evaluation=evaluation,
        candidates=candidates_of_matches(matches, evaluation.confidence_floor),
        bootstrap=bootstrap,
        fold=_folds(matches, bootstrap, seed),
    )


def _folds(matches: Matches, bootstrap: Bootstrap, seed: int) -> Integers:
    """(images,) folds. Units are dealt out at random, but in the order of their figures and not of the input."""
    figures = bootstrap.sums(
        np.bincount(matches.detections.image, matches.detections.confidence, matches.images),
        np.bincount(matches.truths.image, matches.truths.area, matches.images),
    )
    fold_of_unit = np.empty(bootstrap.units, np.int64)
    fold_of_unit[np.lexsort(np.round(figures, DIGITS).T)] = (
        np.random.default_rng(seed).permutation(bootstrap.units) % FOLDS
    )
    return fold_of_unit[bootstrap.unit_of_image]


def traffic_or_calibration(
    records: Sequence[TrafficRecord] | None, calibration: Calibration, *, replicates: int, seed: int
) -> tuple[Traffic, list[str]]:
    """The traffic log of the evaluated model, or else the calibration images; and what the user must know of it.

    Raises DataError for a log of several models where the evaluation does not say of which one it is.
    """
    evaluation = calibration.evaluation
    versions = sorted({r.model_version for r in records or ()})
    if not evaluation.model_version and len(versions) > 1:
        raise DataError(
            f"traffic log: its records are of {len(versions)} models ({', '.join(map(repr, versions))}), and "
            f"confidences do not carry over: keep those of the evaluated model"
        )
    log = [r for r in records or () if evaluation.model_version in ("", r.model_version)]
    warnings = []
    foreign = len(records or ()) - len(log)
    if foreign:
        warnings.append(
            f"traffic log: {foreign} records of other model versions are left out, as confidences do not carry over"
        )
    if not log:
        warnings.append("no traffic log of this model version: the calibration images stand for the traffic")
        return Traffic(calibration.candidates, calibration.bootstrap, is_calibration=True), warnings

    log = _thin(log)
    candidates = candidates_of_traffic(log, list(evaluation.classes), evaluation.confidence_floor)
    clusters = [f"{record.camera} {record.captured_at:%Y-%m-%dT%H}" for record in log]
    return Traffic(candidates, cluster_bootstrap(clusters, replicates=replicates, seed=seed)), warnings


def _thin(records: Sequence[TrafficRecord]) -> list[TrafficRecord]:
    """At most 20,000 records, evenly spaced over cameras and time."""
    ordered = sorted(records, key=lambda r: (r.camera, r.captured_at, r.class_names, r.confidences))
    if len(ordered) <= MAX_TRAFFIC_RECORDS:
        return ordered
    return [ordered[row] for row in np.linspace(0, len(ordered) - 1, MAX_TRAFFIC_RECORDS).astype(int)]
