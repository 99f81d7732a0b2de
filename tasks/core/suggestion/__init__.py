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

from tasks.core.bootstrap import MINIMUM_CLUSTERS, REPLICATES
from tasks.core.entities import Evaluation, Rule, Suggestion, TrafficRecord, content_id
from tasks.core.matching import Booleans, Matches
from tasks.core.settings import AnyStrategy, SamplingSettings
from tasks.core.suggestion.evidence import FEW_IMAGES, Budget, Calibration, calibration_set, traffic_or_calibration
from tasks.core.suggestion.forecast import cross_fit, forecast, random_scores
from tasks.core.suggestion.rules import RuleSet, fit_rules, match_rules
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
    calibration = calibration_set(matches, clusters, evaluation, replicates=replicates, seed=seed)
    seen, traffic_warnings = traffic_or_calibration(traffic, calibration, replicates=replicates, seed=seed)

    def fit(images: Booleans) -> RuleSet:
        """The rules that some of the calibration images, a mask, speak for."""
        return fit_rules(
            calibration.misses[images] > 0,
            calibration.candidates.of_images(images),
            seen.candidates,
            calibration.thresholds,
            evaluation.confidence_floor,
            share=plan.share,
            share_of_rules=plan.for_rules,
        )

    chosen = fit(np.ones(matches.images, np.bool_))
    random_share = plan.for_exploration if chosen.rules else plan.share
    class_names = list(evaluation.classes)
    # Exploration first, so that what it draws is not charged to the rules.
    strategies: list[AnyStrategy] = [
        exploration_strategy(random_share),
        *rule_strategies(chosen, class_names, chosen.credited(seen.candidates) * frames_a_day / devices),
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
    scores = cross_fit(calibration, fit) if chosen.rules else random_scores(calibration)
    suggestion = Suggestion(
        suggestion="",
        created_at=created_at,
        model_version=evaluation.model_version,
        evaluation=evaluation.evaluation,
        budget_images_a_day=budget,
        frames_a_day=frames_a_day,
        probability=chosen.probability,
        rules=_rule_records(chosen, class_names, calibration),
        settings=settings,
        forecast=forecast(
            calibration, seen, scores, chosen, random_share=random_share, frames_a_day=frames_a_day, seed=seed
        ),
        diff=settings_diff(current, settings),
        warnings=(*traffic_warnings, *_warnings(plan, calibration, chosen)),
    )
    content = suggestion.model_dump_json(exclude={"suggestion", "created_at"})
    return suggestion.model_copy(update={"suggestion": content_id(content)})


def _rule_records(chosen: RuleSet, class_names: Sequence[str], calibration: Calibration) -> tuple[Rule, ...]:
    """The evidence for each rule, in their order."""
    has_miss = calibration.misses > 0
    covered = np.zeros(calibration.images, np.bool_)
    records = []
    for rule, images in zip(chosen.rules, match_rules(chosen.rules, calibration.candidates)):
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


def _warnings(plan: Budget, calibration: Calibration, chosen: RuleSet) -> list[str]:
    """What a person should know before agreeing."""
    warnings = []
    if calibration.images < FEW_IMAGES:
        warnings.append(
            f"{calibration.images} calibration images are few, so intervals are wide: label {FEW_IMAGES} or more"
        )
    if calibration.bootstrap.unit == "image":
        warnings.append(
            f"{calibration.bootstrap.clusters} clusters (camera x hour) are fewer than {MINIMUM_CLUSTERS}: intervals "
            f"come from drawing images, and may be too narrow where images resemble each other"
        )
    if plan.images_a_day > plan.frames_a_day:
        warnings.append(
            f"the budget of {plan.images_a_day:g} images a day exceeds the {plan.frames_a_day:g} frames a day: capped"
        )
    misses = calibration.misses.sum()
    if not misses:
        warnings.append("nothing was missed in the calibration images")
    elif misses == calibration.misses_out_of_reach.sum():
        warnings.append(f"all {misses} misses are blind or below the confidence floor: no rule can see them as such")
    if not chosen.rules:
        warnings.append("no rule beats the base rate, so the whole budget is drawn at random")
    elif chosen.probability == 1:
        warnings.append("the rules match fewer frames than the budget pays for, so it will not be spent in full")
    return warnings
