"""Made-up but whole evaluations, suggestions and stories, for the tests of reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import cv2
import numpy as np

from tasks.adapters.report import CameTrue, LabelCounts, LoopStory, RoundStory, Thumbnail
from tasks.core.bands import evaluate
from tasks.core.entities import (
    Alternative,
    Detection,
    Detections,
    Estimate,
    Evaluation,
    Forecast,
    LabelBox,
    Reach,
    Rule,
    Suggestion,
    Verdict,
)
from tasks.core.matching import GroundTruths, ImageResult, Matches, match
from tasks.core.settings import RandomSampling, SamplingSettings

CLASSES = ("container", "pallet", "person")
MOMENT = datetime(2026, 3, 4, 10, tzinfo=timezone.utc)


def fabricated(class_names=CLASSES, images=60, seed=0, costs=None) -> tuple[Evaluation, Matches]:
    """An evaluation of made-up detections: hits, misses in all bands, blind objects of every kind, false alarms."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(images):
        count = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 800, (count, 2)), rng.uniform(40, 180, (count, 2))
        truths, classes = np.hstack([corner, corner + size]), rng.integers(0, len(class_names), count)
        boxes, scores, names = [], [], []
        for box, class_id, side in zip(truths, classes, size):
            kind = rng.choice(["seen", "unseen", "placed", "named"], p=[0.8, 0.08, 0.06, 0.06])
            if kind == "unseen":
                continue
            shift = np.tile(side, 2) * (0.45 if kind == "placed" else 0.02)
            boxes.append(box + shift)
            names.append((class_id + (kind == "named")) % len(class_names))
            scores.append(rng.beta(6, 2) if rng.random() < 0.6 else rng.beta(1, 6))
        for _ in range(int(rng.integers(0, 6))):
            point = rng.uniform(0, 800, 2)
            boxes.append(np.concatenate([point, point + rng.uniform(20, 90, 2)]))
            names.append(int(rng.integers(0, len(class_names))))
            scores.append(rng.beta(1, 8))
        order = np.argsort(-np.array(scores))
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4)[order],
            np.array(scores, np.float32)[order],
            np.array(names, np.int64)[order],
            tuple(class_names),
        )
        results.append(ImageResult(found, GroundTruths(truths, classes, np.zeros(count, np.bool_))))
    matches = match(results)
    evaluation = evaluate(
        matches,
        [f"camera-{i % 2}/{i // 2}" for i in range(images)],
        class_names,
        created_at=MOMENT,
        model_version="9f3c1a77d0b24e51",
        dataset_version="51ab77c0de981122",
        split="calibration",
        coco={"AP": 0.41, "AP50": 0.62, "APs": -1.0},
        replicates=100,
        costs=costs,
    )
    return evaluation, matches


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high)


def suggested(rules=2, share=(0.6, 0.5, 0.7), at_random=(0.3, 0.2, 0.4)) -> Suggestion:
    return Suggestion(
        suggestion="0123456789abcdef",
        created_at=MOMENT,
        model_version="9f3c1a77d0b24e51",
        evaluation="aced5cb60250d9f1",
        budget_images_a_day=200,
        frames_a_day=2000,
        probability=0.4,
        rules=tuple(
            Rule(
                class_name=CLASSES[i % len(CLASSES)],
                low=0.05 * (i + 1),
                high=0.05 * (i + 3),
                minimum_objects=1 + i % 2,
                images=30,
                images_with_miss=20,
                new_images=24 - i,
                new_images_with_miss=18 - i,
            )
            for i in range(rules)
        ),
        settings=SamplingSettings(sampling_strategies=(RandomSampling(name="random", type="random"),)),
        forecast=Forecast(
            images_a_day=estimate(197, 144, 261),
            images_a_day_random=estimate(40, 28, 52),
            share_with_miss=estimate(*share),
            share_with_miss_random=estimate(*at_random),
            misses_an_image=estimate(1.18, 0.7, 1.65),
            misses_a_box=estimate(0.36, 0.24, 0.47),
            misses_reached=estimate(0.2, 0.1, 0.3),
            misses_blind=estimate(0.47, 0.38, 0.56),
        ),
        diff=("sampling_strategies.random.traffic_percentage: 0.1 -> 0.02",),
        warnings=("no traffic log of this model version: the calibration images stand for the traffic",),
    )


def beside(strategy="rules", warnings=()) -> Alternative:
    """Another way to spend the budget."""
    made = suggested()
    rules = made.rules if strategy == "rules" else ()
    return Alternative(
        strategy=strategy, settings=made.settings, forecast=made.forecast, rules=rules, reach=REACH, warnings=warnings
    )


def by_expected_misses(**fields) -> Suggestion:
    """A suggestion of expected misses, with rules beside it."""
    made = suggested(0)
    return made.model_copy(
        update={
            "strategy": "expected_misses",
            "reach": REACH,
            "alternatives": (beside(),),
            "forecast": made.forecast.model_copy(update={"misses_collected": estimate(0.31, 0.2, 0.4)}),
            **fields,
        }
    )


REACH = (
    Reach(low=None, high=None, misses=25, misses_an_image=0.1, misses_an_image_random=0.12),
    Reach(low=0.005, high=0.02, misses=0, misses_an_image=0.0, misses_an_image_random=0.0),
    Reach(low=0.02, high=0.05, misses=2, misses_an_image=0.01, misses_an_image_random=0.01),
    Reach(low=0.05, high=0.1, misses=16, misses_an_image=0.41, misses_an_image_random=0.08),
    Reach(low=0.1, high=0.44, misses=9, misses_an_image=0.16, misses_an_image_random=0.05),
)


def told(rounds=2) -> LoopStory:
    """A story with everything in it."""
    evaluation, _ = fabricated()
    label = LabelBox(class_name="person", xyxy=(10, 10, 40, 60))
    one = RoundStory(
        number=1,
        title="Collecting where it misses",
        frames=2000,
        collected={"random": 38, "person 0.05 to 0.15": 81},
        labels=LabelCounts(images=117, boxes=402, skipped=2),
        model_before="9f3c1a77d0b24e51",
        model_after="51ab77c0de981122",
        ap50_before=estimate(0.47, 0.41, 0.53),
        ap50_after=estimate(0.55, 0.5, 0.6),
        recall_before=0.61,
        recall_after=0.68,
        evaluation=evaluation,
        suggestion=suggested(),
        came_true=(
            CameTrue("images a day", estimate(196, 150, 247), 184),
            CameTrue("share with a miss", estimate(0.62, 0.5, 0.7), 0.44, is_share=True),
        ),
        verdict=Verdict(
            verdict="accepted", mode="improve", candidate="x", reasons=("AP50: +6.0 points",), decided_at=MOMENT
        ),
        swaps=("frame 4000: release 4, model 51ab77c0",),
        seconds=241,
    )
    return LoopStory(
        title="Two rounds on a container yard",
        project="yard",
        rounds=[replace(one, number=n) for n in range(rounds)],
        live_model="51ab77c0de981122",
        base_checkpoint="backbone.pt",
        seed=7,
        seconds=498,
        annotator="Labels came from a simulated annotator.",
        links={"FiftyOne": "http://127.0.0.1:5151/datasets/yard"},
        thumbnails=(
            Thumbnail(
                tiny_png(),
                100,
                80,
                (Detection(class_name="person", confidence=0.27, xyxy=(8, 9, 41, 61)),),
                (label,),
                "gate",
            ),
        ),
        waits_for=("labels for batch yard-3",),
    )


def tiny_png() -> bytes:
    return cv2.imencode(".png", np.full((80, 100, 3), 200, np.uint8))[1].tobytes()
