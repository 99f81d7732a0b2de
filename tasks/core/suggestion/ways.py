"""The ways to spend a labelling budget: by expected misses, by close-to-threshold rules, or at random.

Each way says which strategies a device obeys, and how likely it makes every frame of the traffic and, cross-fitted,
every calibration image to be kept. So one forecast serves them all, and they can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.matching import Booleans, Floats
from tasks.core.settings import AnyStrategy
from tasks.core.settings.project import SuggestedStrategy
from tasks.core.suggestion.evidence import Budget, Calibration, Traffic
from tasks.core.suggestion.misses import fit_miss_model, minimum_for, minimum_of_traffic
from tasks.core.suggestion.rules import RuleSet, fit_rules
from tasks.core.suggestion.scores import LEAST_SCORED, Scores, cross_fit, miss_scores, random_scores
from tasks.core.suggestion.strategies import exploration_strategy, misses_strategy, rule_strategies, usable_weights

NO_RULES = RuleSet()


@dataclass(frozen=True, slots=True)
class Way:
    """A way to spend the budget.

    chosen: (frames,) of the traffic, how likely each is to be kept by what is not the random draw. may_be_chosen:
    (frames,) which could be, if the device asked for less. random_share: of all frames, that are drawn at random.
    scores: of the calibration images. keeps_the_budget: the device follows the traffic so that the budget is spent.
    """

    strategy: SuggestedStrategy
    strategies: tuple[AnyStrategy, ...]
    chosen: Floats
    may_be_chosen: Booleans
    random_share: float
    scores: Scores
    keeps_the_budget: bool = False
    rules: RuleSet = NO_RULES
    warnings: tuple[str, ...] = ()


def at_random(plan: Budget, calibration: Calibration, traffic: Traffic, *reasons: str) -> Way:
    """The whole budget as a random draw. reasons: why nothing is chosen."""
    nothing = np.zeros(traffic.candidates.images)
    return Way(
        strategy="random",
        strategies=(exploration_strategy(plan.share),),
        chosen=nothing,
        may_be_chosen=nothing > 0,
        random_share=plan.share,
        scores=random_scores(calibration),
        warnings=reasons,
    )


def by_rules(plan: Budget, calibration: Calibration, traffic: Traffic, devices: int) -> Way:
    """Close-to-threshold rules, the plain vocabulary that other samplers know too; at random where none is of use."""

    def fit(images: Booleans) -> RuleSet:
        """The rules that some of the calibration images, a mask, speak for."""
        return fit_rules(
            calibration.misses[images] > 0,
            calibration.candidates.of_images(images),
            traffic.candidates,
            calibration.thresholds,
            calibration.evaluation.confidence_floor,
            share=plan.share,
            share_of_rules=plan.for_choice,
        )

    chosen = fit(np.ones(calibration.images, np.bool_))
    if not chosen.rules:
        return at_random(
            plan, calibration, traffic, "no rule beats the base rate, so the whole budget is drawn at random"
        )
    class_names = list(calibration.evaluation.classes)
    has_boxes = calibration.evaluation.task != "classification"
    credited = chosen.credited(traffic.candidates) * plan.frames_a_day / devices
    warnings = []
    if chosen.probability == 1:
        warnings.append("the rules match fewer frames than the budget pays for, so it will not be spent in full")
    return Way(
        strategy="rules",
        # Exploration first, so that what it draws is not charged to the rules.
        strategies=(
            exploration_strategy(plan.for_exploration),
            # Rules are fitted to all classes that a classifier names, not to its top one alone.
            *rule_strategies(chosen, class_names, credited, only_top_classes=has_boxes),
        ),
        chosen=chosen.keeps(traffic.candidates),
        may_be_chosen=chosen.matching(traffic.candidates) > 0,
        random_share=plan.for_exploration,
        scores=cross_fit(calibration, fit),
        rules=chosen,
        warnings=tuple(warnings),
    )


def by_expected_misses(plan: Budget, calibration: Calibration, traffic: Traffic, devices: int) -> Way:
    """The frames in which most objects are expected to be missed; at random where no detection tells of any."""
    if plan.for_choice <= 0:
        return at_random(plan, calibration, traffic, "the whole budget is exploration, so nothing is chosen")
    model = fit_miss_model(calibration)
    class_names = list(calibration.evaluation.classes)
    if not usable_weights(model, class_names):
        return at_random(
            plan,
            calibration,
            traffic,
            "no detection between the confidence floor and its threshold is a real object, so that no frame is "
            "expected to hold a miss: the whole budget is drawn at random",
        )
    minimum = minimum_of_traffic(model, calibration, traffic, plan.for_choice)
    misses = model.expected(traffic.candidates)
    scores = miss_scores(calibration, traffic, model, plan.for_choice)
    return Way(
        strategy="expected_misses",
        strategies=(misses_strategy(model, minimum, class_names, plan.spendable / devices, plan.exploration),),
        # The device tracks the minimum, so that it keeps as many by its own m.
        chosen=minimum_for(misses, traffic.candidates.weight, plan.for_choice).keeps(misses),
        may_be_chosen=misses > 0,
        random_share=plan.for_exploration,
        scores=scores,
        keeps_the_budget=True,
        warnings=tuple(_doubts_of_misses(plan, traffic, misses, scores)),
    )


def _doubts_of_misses(plan: Budget, traffic: Traffic, misses: Floats, scores: Scores) -> list[str]:
    doubts = []
    if traffic.candidates.share(misses > 0) < plan.for_choice:
        doubts.append(
            "fewer frames show a doubtful detection than the budget pays for, so it will not be spent in full"
        )
    if scores.thinned > 1:
        doubts.append(
            f"the budget pays for {plan.for_choice:.2g} of all frames, fewer than {LEAST_SCORED} of the calibration "
            f"images: the forecast is made from the {LEAST_SCORED} that expect most misses, and is cautious"
        )
    return doubts
