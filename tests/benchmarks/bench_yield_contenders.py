"""The rules that compete for a labelling budget. Each is fitted to what is known before the stream begins.

A rule is fitted to the labelled calibration images and to the detections of unlabelled earlier traffic, for a share of
all frames that it may keep. It then gives every later image the probability with which it keeps it. Nothing that it is
scored on has had any part in that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from tasks.core.bands import evaluate, misses_by_image, threshold_column
from tasks.core.entities import Evaluation, Suggestion, TrafficRecord
from tasks.core.matching import Booleans, Floats, Integers, Matches, match
from tasks.core.suggestion import suggest
from tasks.core.suggestion.rules import Candidates, candidates_of_matches, fit_rules
from tasks.core.suggestion.weights import expected_misses, fit_weights
from tests.benchmarks.bench_yield_sets import DEVICE_FLOOR, LabelledSet

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
EVALUATION_REPLICATES = 100  # its intervals are not used here

Keeps = Callable[["Part"], Floats]  # (images,) how likely each image of a part is to be kept


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of a set: rows of the set, and what was matched in them."""

    rows: Integers
    clusters: list[str]
    matches: Matches
    candidates: Candidates  # what a device sees

    @property
    def images(self) -> int:
        return len(self.rows)

    @property
    def boxes(self) -> Integers:
        """(images,) ground truths."""
        return np.bincount(self.matches.truths.image, minlength=self.images)


def part_of(labelled: LabelledSet, rows: Integers) -> Part:
    matches = match([labelled.results[row] for row in rows])
    clusters = [labelled.clusters[row] for row in rows]
    return Part(rows, clusters, matches, candidates_of_matches(matches, DEVICE_FLOOR))


@dataclass(frozen=True, slots=True)
class Known:
    """What there is before the stream begins. thresholds: (classes,), fitted to the calibration images."""

    calibration: Part
    traffic: Part
    class_names: tuple[str, ...]
    evaluation: Evaluation

    @property
    def thresholds(self) -> Floats:
        return threshold_column(self.evaluation.thresholds, self.class_names)

    def misses(self, part: Part) -> Integers:
        """(images,) objects of a part that the model misses at the calibrated thresholds."""
        return misses_by_image(part.matches, self.thresholds)


def known_of(labelled: LabelledSet, calibration: Part, traffic: Part) -> Known:
    evaluation = evaluate(
        calibration.matches,
        calibration.clusters,
        labelled.class_names,
        created_at=NOW,
        model_version=labelled.model_version,
        confidence_floor=DEVICE_FLOOR,
        replicates=EVALUATION_REPLICATES,
    )
    return Known(calibration, traffic, labelled.class_names, evaluation)


# --- the rules -------------------------------------------------------------------------------------------------------


def random_rule(known: Known, share: float) -> Keeps:
    return lambda part: np.full(part.images, share)


def popular_band(known: Known, share: float) -> Keeps:
    """Any detection strictly between 0.3 and 0.5."""
    return drawn(lambda part: any_detection(part, part.candidates.confidence, 0.4, 0.1), known, share)


def around_threshold(known: Known, share: float) -> Keeps:
    """Any detection less than 0.1 from its class's operating threshold."""

    def matched(part: Part) -> Booleans:
        seen = part.candidates
        return any_detection(part, seen.confidence - known.thresholds[seen.class_id], 0.0, 0.1)

    return drawn(matched, known, share)


def entropy_sum(known: Known, share: float) -> Keeps:
    """The highest sums over detections of the binary entropy of their confidence, whatever it is."""
    return highest(entropy_sums, known, share)


def entropy_sums(part: Part) -> Floats:
    """(images,) in bits."""
    s = part.candidates.confidence.clip(1e-9, 1 - 1e-9)
    entropy = -s * np.log2(s) - (1 - s) * np.log2(1 - s)
    return np.round(np.bincount(part.candidates.image, entropy, part.images), 6)


def suggested_rules(known: Known, share: float) -> Keeps:
    """The close-to-threshold rules that we suggest; at random where none is of use."""
    chosen = fit_rules(
        known.misses(known.calibration) > 0,
        known.calibration.candidates,
        known.traffic.candidates,
        known.thresholds,
        DEVICE_FLOOR,
        share=share,
        share_of_rules=share,
    )
    return (lambda part: chosen.keeps(part.candidates)) if chosen.rules else random_rule(known, share)


def weighted_misses(known: Known, share: float) -> Keeps:
    """The highest expected misses, by weights of the calibration images."""
    matches, names = known.calibration.matches, known.class_names
    weights = fit_weights(matches, None, known.thresholds, names, DEVICE_FLOOR)
    return highest(lambda part: expected_misses(part.candidates, weights, known.thresholds, DEVICE_FLOOR), known, share)


RULES: dict[str, Callable[[Known, float], Keeps]] = {
    "random": random_rule,
    "0.3 to 0.5": popular_band,
    "threshold +- 0.1": around_threshold,
    "entropy sum": entropy_sum,
    "suggested rules": suggested_rules,
    "expected misses": weighted_misses,
}


# --- how a budget is kept --------------------------------------------------------------------------------------------


def drawn(matched: Callable[[Part], Booleans], known: Known, share: float) -> Keeps:
    """A draw among matching images, so that `share` of the traffic is kept; all of them where they are fewer."""
    rate = float(matched(known.traffic).mean())
    probability = min(1.0, share / rate) if rate > 0 else 0.0
    return lambda part: matched(part).astype(np.float64) * np.float64(probability)


def highest(score: Callable[[Part], Floats], known: Known, share: float) -> Keeps:
    """The images above the (1 - share) quantile of the traffic's scores, ties by a draw; never a score of 0."""
    traffic = np.sort(score(known.traffic))[::-1]
    wanted = share * len(traffic)
    minimum = float(traffic[min(len(traffic) - 1, int(wanted))])
    above, ties = int((traffic > minimum).sum()), int((traffic == minimum).sum())
    tie_probability = min(1.0, max(0.0, (wanted - above) / ties)) if minimum > 0 else 0.0

    def keeps(part: Part) -> Floats:
        scores = score(part)
        return np.where(scores > minimum, 1.0, np.where(scores == minimum, tie_probability, 0.0))

    return keeps


def any_detection(part: Part, value: Floats, centre: float, distance: float) -> Booleans:
    """(images,) whether any detection's `value` is strictly closer to `centre` than `distance`."""
    close = np.abs(value - centre) < distance
    return np.bincount(part.candidates.image[close], minlength=part.images) > 0


# --- our suggestion ---------------------------------------------------------------------------------------------------


def suggestion_of(known: Known, share: float, *, images: float, replicates: int, seed: int = 0) -> Suggestion:
    """What a project gets that has `images` frames a day, of which `share` can be labelled: all ways to choose."""
    return suggest(
        known.calibration.matches,
        known.calibration.clusters,
        known.evaluation,
        budget=share * images,
        frames_a_day=images,
        strategy="expected_misses",
        traffic=traffic_log(known),
        created_at=NOW,
        replicates=replicates,
        seed=seed,
    )


def traffic_log(known: Known) -> list[TrafficRecord]:
    """The unlabelled traffic as devices log it: every frame, its confidences from the floor up."""
    seen = known.traffic.candidates
    starts = np.searchsorted(seen.image, np.arange(known.traffic.images + 1))
    return [
        TrafficRecord(
            camera=cluster,
            captured_at=NOW,
            rate=1.0,
            model_version=known.evaluation.model_version,
            class_names=tuple(known.class_names[c] for c in seen.class_id[first:last]),
            confidences=tuple(seen.confidence[first:last].tolist()),
        )
        for cluster, first, last in zip(known.traffic.clusters, starts, starts[1:])
    ]
