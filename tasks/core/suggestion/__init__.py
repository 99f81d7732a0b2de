"""An evaluation, the traffic and a labelling budget -> sampling settings, with a forecast of what they will bring.

An image with a miss is worth a person's time, whatever the class of the miss. There are three ways to spend a budget
(ways.py): the frames in which most misses are expected (weights.py, misses.py), plain close-to-threshold rules that
other samplers know too (rules.py), or a random draw. A suggestion is for one of them and shows the others beside it,
each with the same forecast (forecast.py) from images that had no part in the choice (scores.py). A share of the budget,
the exploration, is always drawn at random: it finds the misses that no confidence reveals, and it keeps the evaluation
honest. core/SUGGESTION.md works an example by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from tasks.core.bootstrap import MINIMUM_CLUSTERS, REPLICATES
from tasks.core.entities import Alternative, Evaluation, Rule, Suggestion, TrafficRecord, content_id
from tasks.core.matching import Matches
from tasks.core.settings import SamplingSettings
from tasks.core.settings.project import DEFAULT_STRATEGY, SuggestedStrategy
from tasks.core.suggestion.evidence import FEW_IMAGES, Budget, Calibration, calibration_set, traffic_or_calibration
from tasks.core.suggestion.forecast import forecast
from tasks.core.suggestion.reach import reach_of
from tasks.core.suggestion.rules import RuleSet, match_rules
from tasks.core.suggestion.strategies import settings_diff, settings_with
from tasks.core.suggestion.ways import Way, at_random, by_expected_misses, by_rules

__all__ = ["suggest"]


def suggest(
    matches: Matches,
    clusters: Sequence[str],
    evaluation: Evaluation,
    *,
    budget: float,
    frames_a_day: float,
    created_at: datetime,
    strategy: SuggestedStrategy = DEFAULT_STRATEGY,
    exploration: float = 0.2,
    traffic: Sequence[TrafficRecord] | None = None,
    current: SamplingSettings | None = None,
    devices: int = 1,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Suggestion:
    """Sampling settings that spend `budget` images a day where the misses are, with a forecast.

    matches, clusters: of the calibration images. evaluation: of the same matches; its thresholds, confidence floor,
    class list and model version go into the settings. frames_a_day: after duplicates. strategy: how to choose; where
    the images speak for nothing that it could choose, the whole budget is drawn at random, with a warning. traffic: the
    traffic log; without one the calibration images stand for the traffic. current: the settings in force; what is not
    fitted here stays as it is there. devices: how many share the traffic and the budget.

    The id follows from the content, `created_at` left out. Raises SettingsError for a budget, frames or exploration
    that cannot be meant, NotEnoughData without a calibration image, DataError where the inputs do not fit each other.
    """
    plan = Budget(budget, frames_a_day, exploration)
    calibration = calibration_set(matches, clusters, evaluation, replicates=replicates, seed=seed)
    seen, traffic_warnings = traffic_or_calibration(traffic, calibration, replicates=replicates, seed=seed)
    ways: Mapping[SuggestedStrategy, Way] = {
        "expected_misses": by_expected_misses(plan, calibration, seen, devices),
        "rules": by_rules(plan, calibration, seen, devices),
        "random": at_random(plan, calibration, seen),
    }

    def described(way: Way) -> Alternative:
        return Alternative(
            strategy=way.strategy,
            settings=settings_with(
                current,
                way.strategies,
                thresholds=evaluation.thresholds,
                confidence_floor=evaluation.confidence_floor,
                model_digest=evaluation.model_version,
                portable=False,
                seed=seed,
            ),
            forecast=forecast(calibration, seen, way, plan, seed=seed),
            probability=way.rules.probability,
            rules=_rule_records(way.rules, list(evaluation.classes), calibration),
            reach=reach_of(calibration, way.scores),
            warnings=way.warnings,
        )

    chosen = described(ways[strategy])
    others = [way for name, way in ways.items() if name != strategy and way.strategy != "random"]
    suggestion = Suggestion(
        suggestion="",
        created_at=created_at,
        model_version=evaluation.model_version,
        evaluation=evaluation.evaluation,
        budget_images_a_day=budget,
        frames_a_day=frames_a_day,
        strategy=chosen.strategy,
        probability=chosen.probability,
        rules=chosen.rules,
        settings=chosen.settings,
        forecast=chosen.forecast,
        reach=chosen.reach,
        alternatives=tuple(described(way) for way in others),
        criterion=evaluation.criterion,
        diff=settings_diff(current, chosen.settings),
        warnings=(
            *traffic_warnings,
            *_warnings(plan, calibration),
            *chosen.warnings,
            *_doubts_of_the_choice(chosen),
        ),
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


def _warnings(plan: Budget, calibration: Calibration) -> list[str]:
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
    warnings += _doubts_of_classes(calibration)
    return warnings


def _doubts_of_classes(calibration: Calibration) -> list[str]:
    """Classes of which the calibration images tell nothing."""
    classes = calibration.evaluation.classes
    unlabelled = [name for name, of_class in classes.items() if not of_class.ground_truths]
    silent = [name for name, of_class in classes.items() if of_class.no_threshold_pays]
    unplaced = [
        name
        for name, of_class in classes.items()
        if of_class.ground_truths == of_class.blind > 0 and name not in silent
    ]
    doubts = []
    if unlabelled:
        doubts.append(
            f"no labelled object of {', '.join(unlabelled)} in the calibration images: its misses cannot be expected; "
            f"label images that show some"
        )
    if unplaced:
        doubts.append(
            f"no true detection of {', '.join(unplaced)}, so that no threshold is better than another: all of them are "
            f"blind, and only random images find them"
        )
    doubts += [f"no threshold pays for class {name}: the device says nothing of it" for name in silent]
    return doubts


def _doubts_of_the_choice(chosen: Alternative) -> list[str]:
    """Whether choosing is expected to be worth it."""
    expected, random = chosen.forecast.share_with_miss, chosen.forecast.share_with_miss_random
    if chosen.strategy == "random" or expected.value > random.value:
        return []
    return [
        f"by this forecast {expected.value:.0%} of chosen images show a miss and {random.value:.0%} of random ones: "
        f"choosing is no better than chance"
    ]
