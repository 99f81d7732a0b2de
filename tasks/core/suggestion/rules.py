"""Close-to-threshold rules: which are possible, which to choose, and how often their draws must succeed.

A rule is a class, a confidence interval `(low, high)` with strict edges, and a minimum number of detections in it. It
matches an image by the expression of the device's sampler, `abs(confidence - threshold) < epsilon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from tasks.core.entities import TrafficRecord
from tasks.core.matching import Booleans, Floats, Integers, Matches

RULE_EDGES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
MINIMUM_OBJECTS = (1, 2, 3)
REACH_ABOVE_THRESHOLD = 0.05  # high <= threshold + this

PRIOR_IMAGES = 10  # images of the base rate that every rule's share is mixed with
MINIMUM_NEW_IMAGES = 3
MINIMUM_NEW_SHARE = 0.01
RATE_SLACK = 1.2  # no further rule once the rules match more than this times the budget's share of frames


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a rule can see of many images: their detections from the confidence floor up, as columns.

    image, class_id, confidence: (n,). weight: (images,) how many frames of the traffic each stands for.
    """

    image: Integers
    class_id: Integers
    confidence: Floats
    weight: Floats

    @property
    def images(self) -> int:
        return len(self.weight)

    def of_class(self, class_id: int) -> Candidates:
        rows = self.class_id == class_id
        return Candidates(self.image[rows], self.class_id[rows], self.confidence[rows], self.weight)


def candidates_of_matches(matches: Matches, confidence_floor: float) -> Candidates:
    """The candidates of labelled images. Detections in crowd regions count: a device knows of no crowds."""
    seen = matches.detections[matches.detections.confidence >= confidence_floor]
    return Candidates(seen.image, seen.class_id, seen.confidence, np.ones(matches.images))


def candidates_of_traffic(
    records: Sequence[TrafficRecord], class_names: Sequence[str], confidence_floor: float
) -> Candidates:
    """The candidates of the traffic log. A frame that was logged at rate r stands for 1 / r frames.

    Detections of classes beyond `class_names` are left out.
    """
    class_ids = {name: class_id for class_id, name in enumerate(class_names)}
    seen = [
        (image, class_ids[name], confidence)
        for image, record in enumerate(records)
        for name, confidence in zip(record.class_names, record.confidences)
        if name in class_ids and confidence >= confidence_floor
    ]
    image, class_id, confidence = np.array(seen, np.float64).reshape(-1, 3).T
    weight = np.array([1 / record.rate for record in records])
    return Candidates(image.astype(np.int64), class_id.astype(np.int64), confidence, weight)


@dataclass(frozen=True, slots=True, order=True)
class CandidateRule:
    """At least `minimum_objects` detections of a class strictly between `low` and `high`."""

    class_id: int
    low: float
    high: float
    minimum_objects: int

    @property
    def threshold(self) -> float:
        """The middle; six digits are exact here, as edges have three."""
        return round((self.low + self.high) / 2, 6)

    @property
    def epsilon(self) -> float:
        return round((self.high - self.low) / 2, 6)


def candidate_rules(thresholds: Floats, confidence_floor: float) -> list[CandidateRule]:
    """All rules with edges on the grid or at the class's threshold (to three digits, for people read them).

    None starts below the floor, and none ends more than 0.05 above its class's threshold: there lie the found objects.
    """
    rules = []
    for class_id, threshold in enumerate(thresholds.tolist()):
        edges = sorted({*RULE_EDGES, round(threshold, 3)})
        within = [edge for edge in edges if confidence_floor <= edge <= threshold + REACH_ABOVE_THRESHOLD]
        for (low, high), minimum_objects in product(combinations(within, 2), MINIMUM_OBJECTS):
            rules.append(CandidateRule(class_id, low, high, minimum_objects))
    return rules


def match_rules(rules: Sequence[CandidateRule], candidates: Candidates) -> Booleans:
    """(rules, images) which rule matches which image."""
    matched = np.zeros((len(rules), candidates.images), np.bool_)
    of_class = {class_id: candidates.of_class(class_id) for class_id in {rule.class_id for rule in rules}}
    for row, rule in enumerate(rules):
        seen = of_class[rule.class_id]
        close = np.abs(seen.confidence - rule.threshold) < rule.epsilon
        objects = np.bincount(seen.image[close], minlength=candidates.images)
        matched[row] = objects >= rule.minimum_objects
    return matched


def fit_rules(
    matched: Booleans, has_miss: Booleans, traffic: Booleans, weight: Floats, share: float, share_of_rules: float
) -> tuple[list[int], float]:
    """The rows of the rules to use and the probability of each one's draw; no rows and 0.0 where none is of use.

    Arguments as in `choose_rules`; share_of_rules: the part of the budget's share that is not exploration.
    """
    chosen = choose_rules(matched, has_miss, traffic, weight, share) if share_of_rules > 0 else []
    if not chosen:
        return [], 0.0
    return chosen, draw_probability(traffic[chosen].sum(axis=0), weight, share_of_rules)


def choose_rules(matched: Booleans, has_miss: Booleans, traffic: Booleans, weight: Floats, share: float) -> list[int]:
    """The rows of the rules to use, best first, chosen greedily.

    matched: (rules, images) over the labelled images. has_miss: (images,). traffic: (rules, frames) over the traffic,
    whose frames have `weight`. share: the budget as a share of all frames.

    Each step adds the rule whose new images, those that no earlier rule matched, have the highest share with a miss,
    smoothed by ten images of the base rate; of equal ones that with more new images, then the first. It needs at least
    3 new images and 1% of all. No rule is added that does not beat the base rate, nor once more than 1.2 times
    the budget is matched.
    """
    images = len(has_miss)
    base = has_miss.mean() if images else 0.0
    enough = max(MINIMUM_NEW_IMAGES, MINIMUM_NEW_SHARE * images)
    chosen: list[int] = []
    covered = np.zeros(images, np.bool_)
    while len(chosen) < len(matched) and _share_of_traffic(traffic[chosen], weight) <= RATE_SLACK * share:
        new = matched[:, ~covered].sum(axis=1)
        with_miss = matched[:, ~covered & has_miss].sum(axis=1)
        # In whole numbers, as a rule of exactly the base rate must not win by float error.
        eligible = (new >= enough) & (with_miss * images > has_miss.sum() * new)
        if not eligible.any():
            break
        smoothed = np.where(eligible, (with_miss + PRIOR_IMAGES * base) / (new + PRIOR_IMAGES), -1.0)
        best = int(np.lexsort((np.arange(len(new)), -new, -smoothed))[0])
        chosen.append(best)
        covered |= matched[best]
    return chosen


def draw_probability(matching: Integers, weight: Floats, share: float) -> float:
    """p of every rule's draw, so that `mean(1 - (1 - p)^k) = share` over the traffic.

    matching: (frames,) the number k of rules that each frame matches; their draws are made apart. weight: (frames,).
    1.0 where even that keeps less than `share`.
    """
    share_by_k = np.bincount(matching, weight) / weight.sum()
    k = np.arange(len(share_by_k))
    low, high = 0.0, 1.0
    if (share_by_k * (k > 0)).sum() <= share:
        return 1.0
    for _ in range(100):  # bisection; halves the interval until floats end
        p = (low + high) / 2
        low, high = (p, high) if (share_by_k * (1 - (1 - p) ** k)).sum() < share else (low, p)
    return float(f"{high:.6g}")


def credited_shares(traffic: Booleans, weight: Floats, probability: float) -> Floats:
    """(rules,) share of all frames that each rule is credited with: the first whose draw succeeds.

    traffic: (rules, frames) in the order of the strategies. The shares add up to what the rules keep together.
    """
    matching = traffic.astype(np.int64)
    earlier = matching.cumsum(axis=0) - matching
    credited = matching * probability * (1 - probability) ** earlier
    return np.asarray(credited @ weight / weight.sum())


def _share_of_traffic(traffic: Booleans, weight: Floats) -> float:
    """Share of frames that any of the rules matches."""
    return float(traffic.any(axis=0) @ weight / weight.sum())
