"""Close-to-threshold rules: which are possible, which to choose, and how often their draws must succeed.

A rule is a class, a confidence interval `(low, high)` with strict edges, and a minimum number of detections in it. It
matches an image by the expression of the device's sampler, `abs(confidence - threshold) < epsilon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    def share(self, figure: NDArray[Any]) -> float:
        """The weighted mean of an (images,) figure: for a flag, the share of all frames that have it."""
        return float(figure @ self.weight / self.weight.sum())

    def of_class(self, class_id: int) -> Candidates:
        rows = self.class_id == class_id
        return Candidates(self.image[rows], self.class_id[rows], self.confidence[rows], self.weight)

    def of_images(self, images: Booleans) -> Candidates:
        """Of some images only, given as an (images,) mask, numbered anew."""
        rows = images[self.image]
        number = np.cumsum(images) - 1
        return Candidates(number[self.image[rows]], self.class_id[rows], self.confidence[rows], self.weight[images])

    def without_top(self) -> Candidates:
        """All but the most confident detection of each image; of equal ones the first class is the top one."""
        order = np.lexsort((self.class_id, -self.confidence, self.image))
        image = self.image[order]
        rows = order[1:][image[1:] == image[:-1]]
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
        """The middle. Edges have three digits at most, so that six are exact."""
        return round((self.low + self.high) / 2, 6)

    @property
    def epsilon(self) -> float:
        return round((self.high - self.low) / 2, 6)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Chosen rules, best first, and the probability of each one's draw; 0 where there are none."""

    rules: tuple[CandidateRule, ...] = ()
    probability: float = 0.0

    def matching(self, candidates: Candidates) -> Integers:
        """(images,) how many of the rules match each image."""
        return np.asarray(match_rules(self.rules, candidates).sum(axis=0))

    def keeps(self, candidates: Candidates) -> Floats:
        """(images,) the probability that at least one rule's draw keeps the image; draws are made apart."""
        return np.asarray(1 - (1 - self.probability) ** self.matching(candidates))

    def credited(self, candidates: Candidates) -> Floats:
        """(rules,) share of all frames that each rule is credited with: the first one whose draw succeeds.

        They add up to what the rules keep together.
        """
        matched = match_rules(self.rules, candidates).astype(np.int64)
        earlier = matched.cumsum(axis=0) - matched
        by_frame = matched * self.probability * (1 - self.probability) ** earlier
        return np.array([candidates.share(row) for row in by_frame], np.float64)


def fit_rules(
    has_miss: Booleans,
    labelled: Candidates,
    traffic: Candidates,
    thresholds: Floats,
    confidence_floor: float,
    *,
    share: float,
    share_of_rules: float,
) -> RuleSet:
    """The rules to use and the probability of their draws; an empty set where no rule is of use.

    has_miss: (images,) of the `labelled` images. thresholds: (classes,) by class id. share: the budget as a share of
    all frames; share_of_rules: the part of it that is not exploration.
    """
    if share_of_rules <= 0:
        return RuleSet()
    rules = candidate_rules(thresholds, confidence_floor)
    matched = match_rules(rules, labelled)
    often = np.flatnonzero(matched.sum(axis=1) >= MINIMUM_NEW_IMAGES)  # spares matching hopeless rules to the traffic
    rules, matched = [rules[row] for row in often], matched[often]
    chosen = RuleSet(
        tuple(rules[row] for row in choose_rules(matched, has_miss, match_rules(rules, traffic), traffic, share))
    )
    if not chosen.rules:
        return chosen
    return RuleSet(chosen.rules, draw_probability(chosen.matching(traffic), traffic, share_of_rules))


def candidate_rules(thresholds: Floats, confidence_floor: float) -> list[CandidateRule]:
    """All rules with edges on the grid or at the class's threshold, to three digits, as people read them.

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


def choose_rules(
    matched: Booleans, has_miss: Booleans, matched_traffic: Booleans, traffic: Candidates, share: float
) -> list[int]:
    """The rows of the rules to use, best first, chosen greedily.

    matched: (rules, images) of the labelled images. has_miss: (images,). matched_traffic: (rules, frames). share: the
    budget as a share of all frames.

    Each step adds the rule whose new images, those that no earlier rule matched, have the highest share with a miss,
    smoothed by ten images of the base rate; of equal ones that with more new images, then the first. It needs at least
    3 new images and 1% of all. No rule is added that does not beat the base rate, and none once more than 1.2 times the
    budget is matched.
    """
    images, misses = len(has_miss), int(has_miss.sum())
    enough = max(MINIMUM_NEW_IMAGES, MINIMUM_NEW_SHARE * images)
    chosen: list[int] = []
    covered = np.zeros(images, np.bool_)
    covered_traffic = np.zeros(traffic.images, np.bool_)
    while traffic.share(covered_traffic) <= RATE_SLACK * share:
        new = matched[:, ~covered].sum(axis=1)
        with_miss = matched[:, ~covered & has_miss].sum(axis=1)
        # In whole numbers, so that a rule of exactly the base rate does not win by float error.
        eligible = np.flatnonzero((new >= enough) & (with_miss * images > misses * new))
        if not len(eligible):
            break
        smoothed = (with_miss + PRIOR_IMAGES * misses / images) / (new + PRIOR_IMAGES)
        best = min(eligible.tolist(), key=lambda row: (-smoothed[row], -new[row], row))
        chosen.append(best)
        covered |= matched[best]
        covered_traffic |= matched_traffic[best]
    return chosen


def draw_probability(matching: Integers, traffic: Candidates, share: float) -> float:
    """p of every rule's draw, so that `mean(1 - (1 - p)^k) = share` over the traffic.

    matching: (frames,) the number k of rules that each frame matches. 1.0 where even that keeps no more than `share`.
    """
    k = np.arange(matching.max(initial=0) + 1)
    share_by_k = np.array([traffic.share(matching == rules) for rules in k])
    if share_by_k[1:].sum() <= share:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # bisection: p grows with the share
        p = (low + high) / 2
        low, high = (p, high) if share_by_k @ (1 - (1 - p) ** k) < share else (low, p)
    return float(f"{high:.6g}")
