"""Bands and a labelling budget -> sampling settings, with a forecast of what they will bring.

`suggest` proposes close-to-threshold rules, the plain vocabulary that other samplers know too. An image with a miss is
worth a person's time, whatever the class of the miss. A rule is worth a strategy when the images that it adds have
misses more often than images drawn at random (rules.py). What the rules will bring is forecast from images that had no
part in choosing them (forecast.py). A share of the budget, the exploration, is always drawn at random: it finds the
misses that no confidence reveals, and it keeps the evaluation honest.

The other way to spend the same budget, the `expected_misses` strategy (EVALUATION.md, suggestion, points 1 and 2), has
its place beside the rules: it needs another fit and another strategy, and shares evidence, forecast and diff.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from tasks.core.bands import threshold_column
from tasks.core.bootstrap import MINIMUM_CLUSTERS, REPLICATES
from tasks.core.entities import Evaluation, Rule, Suggestion, TrafficRecord, content_id
from tasks.core.matching import Booleans, Matches
from tasks.core.settings import AnyStrategy, SamplingSettings
from tasks.core.suggestion.evidence import FEW_IMAGES, Budget, Labelled, labelled_images, traffic_or_calibration
from tasks.core.suggestion.forecast import cross_fit, forecast, random_scores
from tasks.core.suggestion.rules import CandidateRule, candidate_rules, credited_shares, fit_rules
from tasks.core.suggestion.strategies import exploration_strategy, rule_strategies, settings_diff, settings_with

__all__ = ["suggest"]


def suggest(
    matches: Matches,
    clusters: Sequence[str],
    evaluation: Evaluation,
    *,
    budget: float,
    frames_a_day: float,
    created_at: datetime,
    exploration: float = 0.2,
    traffic: Sequence[TrafficRecord] | None = None,
    current: SamplingSettings | None = None,
    devices: int = 1,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Suggestion:
    """Sampling settings that spend `budget` images a day where the misses are, with a forecast.

    matches, clusters: of the calibration images. evaluation: of the same matches; its thresholds, confidence floor,
    class list and model version go into the settings. frames_a_day: after duplicates. traffic: the traffic log; without
    one the calibration images stand for the traffic. current: the settings in force; what is not fitted here stays as
    it is there. devices: how many share the traffic, as limits count on each device apart.

    The id follows from the content, `created_at` left out. Raises SettingsError for a budget, frames or exploration
    that cannot be meant, NotEnoughData without a calibration image, DataError where the inputs do not fit each other.
    """
    plan = Budget(budget, frames_a_day, exploration)
    class_names = list(evaluation.classes)
    rules = candidate_rules(threshold_column(evaluation.thresholds, class_names), evaluation.confidence_floor)
    labelled = labelled_images(matches, clusters, evaluation, rules, replicates=replicates, seed=seed)
    seen, warnings = traffic_or_calibration(traffic, evaluation, rules, labelled, replicates=replicates, seed=seed)

    def fit(images: Booleans) -> tuple[list[int], float]:
        """The rows of the chosen rules and the probability of their draws, judged by a mask of the images."""
        has_miss = labelled.has_miss[images]
        return fit_rules(labelled.matched[:, images], has_miss, seen.matched, seen.weight, plan.share, plan.for_rules)

    rows, probability = fit(np.ones(labelled.images, np.bool_))
    chosen, in_traffic = [rules[row] for row in rows], seen.matched[rows]
    random_share = plan.for_exploration if chosen else plan.share
    images_by_rule = credited_shares(in_traffic, seen.weight, probability) * frames_a_day / devices
    # Exploration first, so that what it draws is not charged to the rules.
    strategies: list[AnyStrategy] = [
        exploration_strategy(random_share),
        *rule_strategies(chosen, class_names, probability, images_by_rule),
    ]
    settings = settings_with(
        current,
        strategies,
        thresholds=evaluation.thresholds,
        confidence_floor=evaluation.confidence_floor,
        model_digest=evaluation.model_version,
        portable=False,
        seed=seed,
    )
    suggestion = Suggestion(
        suggestion="",
        created_at=created_at,
        model_version=evaluation.model_version,
        evaluation=evaluation.evaluation,
        budget_images_a_day=budget,
        frames_a_day=frames_a_day,
        probability=probability,
        rules=_rule_records(chosen, class_names, labelled.matched[rows], labelled.has_miss),
        settings=settings,
        forecast=forecast(
            labelled,
            seen,
            cross_fit(fit, labelled) if chosen else random_scores(labelled),
            kept_by_rules=1 - (1 - probability) ** in_traffic.sum(axis=0),
            random_share=random_share,
            frames_a_day=frames_a_day,
            seed=seed,
        ),
        diff=settings_diff(current, settings),
        warnings=(*warnings, *_warnings(plan, labelled, probability)),
    )
    content = suggestion.model_dump_json(exclude={"suggestion", "created_at"})
    return suggestion.model_copy(update={"suggestion": content_id(content)})


def _rule_records(
    rules: Sequence[CandidateRule], class_names: Sequence[str], matched: Booleans, has_miss: Booleans
) -> tuple[Rule, ...]:
    """The evidence for each rule, in their order: (rules, images) `matched`, (images,) `has_miss`."""
    records = []
    covered = np.zeros(len(has_miss), np.bool_)
    for rule, images in zip(rules, matched):
        new = images & ~covered
        covered |= images
        records.append(
            Rule(
                class_name=class_names[rule.class_id],
                low=rule.low,
                high=rule.high,
                minimum_objects=rule.minimum_objects,
                images=int(images.sum()),
                images_with_miss=int((images & has_miss).sum()),
                new_images=int(new.sum()),
                new_images_with_miss=int((new & has_miss).sum()),
            )
        )
    return tuple(records)


def _warnings(plan: Budget, labelled: Labelled, probability: float) -> list[str]:
    """What a person should know before agreeing. A probability of 0 stands for no rules."""
    warnings = []
    misses = int(labelled.misses.sum())
    if labelled.images < FEW_IMAGES:
        warnings.append(
            f"{labelled.images} calibration images are few, so intervals are wide: label {FEW_IMAGES} or more"
        )
    if labelled.bootstrap.unit == "image":
        warnings.append(
            f"{labelled.bootstrap.clusters} clusters (camera x hour) are fewer than {MINIMUM_CLUSTERS}: intervals come "
            f"from drawing images, and may be too narrow where images resemble each other"
        )
    if plan.images_a_day > plan.frames_a_day:
        warnings.append(
            f"the budget of {plan.images_a_day:g} images a day exceeds the {plan.frames_a_day:g} frames a day: capped"
        )
    if not misses:
        warnings.append("nothing was missed in the calibration images")
    elif labelled.out_of_reach.sum() == misses:
        warnings.append(f"all {misses} misses are blind or below the confidence floor: no rule can see them as such")
    if not probability:
        warnings.append("no rule beats the base rate, so the whole budget is drawn at random")
    elif probability == 1:
        warnings.append("the rules match fewer frames than the budget pays for, so it will not be spent in full")
    return warnings
