"""Matching, bands and the gate's bootstrap on synthetic images of 100 predictions each.

    python -m tests.benchmarks.bench_matching

Seconds are CPU seconds, all threads together, so that what others take of the machine is no part of them.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from datetime import datetime, timezone

import numpy as np

from tasks.adapters.coco import MAX_DETECTIONS as COCO_MAX_DETECTIONS
from tasks.adapters.coco import coco_ground_truth, coco_results
from tasks.core import bands
from tasks.core.entities import Detections, Evaluation
from tasks.core.gate import Edition, ModelOutcome, judge_improve
from tasks.core.matching import (
    LOCALISATION_IOU,
    MATCHING_FLOOR,
    MATCHING_IOU,
    MAX_DETECTIONS,
    GroundTruths,
    ImageResult,
    Matches,
    match,
)
from tasks.core.settings import GateSettings
from tests.benchmarks.pairs import timed
from tests.benchmarks.tables import Table

CLASS_NAMES = ("car", "bus", "truck", "motorcycle", "person")
PREDICTIONS, TRUTHS = 100, 8  # an image
ROUNDS = {500: 7, 5_000: 3, 20_000: 1}  # by number of images
COMPARED = 5_000  # images up to which the others are measured, too
TARGET_S = 3.0  # 5,000 images, matching and bands
GATE_IMAGES, GATE_REPLICATES, GATE_TARGET_S = 1_000, 1_000, 5.0
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def tables() -> Iterator[Table]:
    yield matching_table()
    yield gate_table()


# --- matching and bands ----------------------------------------------------------------------------------------------


def matching_table() -> Table:
    rows, by_images = [], {}
    for images, rounds in ROUNDS.items():
        results = labelled_images(images, seed=0)
        taken = [seconds_of(results, compare=images <= COMPARED) for _ in range(rounds)]
        ours, of_matching, loop, coco = (np.array(column) for column in zip(*taken))
        by_images[images] = float(np.median(ours))
        rows.append(
            (
                f"{images:,} images",
                f"{np.median(ours):.2f}",
                f"{np.median(of_matching):.2f}",
                f"{np.median(ours) / images * 1e6:.0f}",
                *(f"{np.median(others):.2f}" if images <= COMPARED else "" for others in (loop, coco)),
                f"{np.median(loop / of_matching):.1f}" if images <= COMPARED else "",
                f"{np.median(coco / ours):.1f}" if images <= COMPARED else "",
            )
        )
    growth = ", ".join(
        f"{many / few:g} times the images took {by_images[many] / by_images[few]:.1f} times as long"
        for few, many in zip(list(ROUNDS), list(ROUNDS)[1:])
    )
    verdict = "reached" if by_images[5_000] < TARGET_S else "missed"
    return Table(
        f"Matching and bands: images of {PREDICTIONS} predictions and {TRUTHS} ground truths",
        (
            "CPU seconds",
            "match + bands",
            "match alone",
            "microseconds an image",
            "Python loop",
            "faster-coco-eval",
            "loop / match",
            "coco / match + bands",
        ),
        rows,
        [
            f"5,000 images took {by_images[5_000]:.2f} s; target under {TARGET_S:.0f} s, {verdict}. {growth}.",
            "Bands include the thresholds and 1,000 replicates of every interval. The loop only matches, with the same "
            "outcome; faster-coco-eval is its evaluate and accumulate, at ten IoUs, its files loaded before.",
        ],
    )


def seconds_of(results: Sequence[ImageResult], *, compare: bool) -> tuple[float, float, float, float]:
    """CPU seconds: matching and bands, matching alone, the obvious loop, faster-coco-eval."""
    matched: list[Matches] = []
    of_matching = timed(lambda: matched.append(match(results))).cpu
    of_bands = timed(lambda: bands_of(matched[0])).cpu
    if not compare:
        return of_matching + of_bands, of_matching, 0.0, 0.0
    outcomes: list[Counter[str]] = []
    loop = timed(lambda: outcomes.append(obvious_loop(results))).cpu
    ours = Counter(matched[0].truths.blind.tolist())
    if outcomes != [ours]:
        raise RuntimeError(f"matching says {ours}, the obvious loop {outcomes[0]}")
    return of_matching + of_bands, of_matching, loop, coco_seconds(results)


def bands_of(matches: Matches) -> Evaluation:
    clusters = [f"camera-{image % 4} {image // 40}" for image in range(matches.images)]
    return bands.evaluate(matches, clusters, CLASS_NAMES, created_at=NOW)


def obvious_loop(results: Sequence[ImageResult]) -> Counter[str]:
    """Ground truths that are found, and blind ones of each kind: EVALUATION's matching as one would first write it."""
    outcome: Counter[str] = Counter()
    for result in results:
        columns = (result.detections.confidence, result.detections.xyxy, result.detections.class_id)
        ranked = sorted(zip(*(column.tolist() for column in columns)), key=lambda row: (-row[0], row[1], row[2]))
        ranked = [row for row in ranked if row[0] >= MATCHING_FLOOR][:MAX_DETECTIONS]
        labelled = list(zip(result.truths.xyxy.tolist(), result.truths.class_id.tolist()))
        taken: set[int] = set()
        for _, box, class_id in ranked:
            free = [
                (overlap, row)
                for row, (truth, truth_class) in enumerate(labelled)
                if row not in taken and truth_class == class_id and (overlap := iou(box, truth)) >= MATCHING_IOU
            ]
            if free:
                taken.add(max(free)[1])
        outcome[""] += len(taken)
        for row, (truth, truth_class) in enumerate(labelled):
            if row not in taken:
                overlaps = [(iou(box, truth), class_id == truth_class) for _, box, class_id in ranked]
                outcome[blind_kind(overlaps)] += 1
    return outcome


def blind_kind(overlaps: Sequence[tuple[float, bool]]) -> str:
    if any(same_class and LOCALISATION_IOU <= overlap < MATCHING_IOU for overlap, same_class in overlaps):
        return "localisation"
    if any(not same_class and overlap >= MATCHING_IOU for overlap, same_class in overlaps):
        return "classification"
    return "unseen"


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def coco_seconds(results: Sequence[ImageResult]) -> float:
    from faster_coco_eval import COCO, COCOeval_faster

    images = [(result.detections, result.truths) for result in results]
    with redirect_stdout(io.StringIO()):
        truth = COCO(coco_ground_truth(images, CLASS_NAMES))
        evaluation = COCOeval_faster(truth, truth.loadRes(coco_results(images)), "bbox")
        evaluation.params.maxDets = list(COCO_MAX_DETECTIONS)
        return timed(lambda: (evaluation.evaluate(), evaluation.accumulate())).cpu


# --- the gate --------------------------------------------------------------------------------------------------------


def gate_table() -> Table:
    edition = Edition(tuple(f"camera-{i % 4} {i // 40}" for i in range(GATE_IMAGES)), CLASS_NAMES)
    live, candidate = (
        ModelOutcome(name, match(labelled_images(GATE_IMAGES, seed=0, model=model)))
        for name, model in (("live", 1), ("candidate", 2))
    )
    given = GateSettings(replicates=GATE_REPLICATES)
    taken = [timed(lambda: judge_improve(candidate, live, edition, given, decided_at=NOW)).cpu for _ in range(3)]
    seconds = float(np.median(taken))
    return Table(
        "Gate: paired bootstrap",
        ("", "CPU seconds"),
        [(f"judge_improve, {GATE_IMAGES:,} images, {GATE_REPLICATES:,} replicates", f"{seconds:.2f}")],
        [f"Target under {GATE_TARGET_S:.0f} s, {'reached' if seconds < GATE_TARGET_S else 'missed'}."],
    )


# --- images ----------------------------------------------------------------------------------------------------------


def labelled_images(images: int, *, seed: int, model: int = 0) -> list[ImageResult]:
    """Images of 640 x 480 with objects at random places, and what a model saw in them: most objects, and much else.

    seed: of the ground truths. model: of the predictions.
    """
    world, random = np.random.default_rng(seed), np.random.default_rng((seed, model))
    truths = random_boxes(world, (images, TRUTHS))
    truth_class = world.integers(0, len(CLASS_NAMES), (images, TRUTHS))
    near = truths + random.normal(0, 5, truths.shape)
    near_confidence = random.beta(2, 1.5, (images, TRUTHS))
    others = random_boxes(random, (images, PREDICTIONS - TRUTHS))
    other_class = random.integers(0, len(CLASS_NAMES), (images, PREDICTIONS - TRUTHS))
    other_confidence = random.beta(0.5, 5, (images, PREDICTIONS - TRUTHS))

    xyxy = np.concatenate([near, others], axis=1).astype(np.float32)
    confidence = np.concatenate([near_confidence, other_confidence], axis=1).astype(np.float32)
    class_id = np.concatenate([truth_class, other_class], axis=1)
    no_crowd = np.zeros(TRUTHS, np.bool_)
    return [
        ImageResult(
            Detections(xyxy[i], confidence[i], class_id[i], CLASS_NAMES),
            GroundTruths(truths[i], truth_class[i], no_crowd),
        )
        for i in range(images)
    ]


def random_boxes(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(*shape, 4) xyxy of 30 to 150 pixels a side."""
    corner = random.uniform((0, 0), (490, 330), (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(30, 150, (*shape, 2))], axis=-1)


if __name__ == "__main__":
    for table in tables():
        print(table)
