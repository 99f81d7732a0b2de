"""Matching, bands and the gate's bootstrap on synthetic images of 100 predictions each.

    python -m tests.benchmarks.bench_matching

Seconds are CPU seconds, all threads together, so that what others take of the machine is no part of them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

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
from tests.benchmarks.edge_footprint import peak_bytes
from tests.benchmarks.matching_peers import faster_coco_seconds, fiftyone_seconds, pycocotools_seconds
from tests.benchmarks.pairs import timed
from tests.benchmarks.tables import Table

CLASS_NAMES = ("car", "bus", "truck", "motorcycle", "person")
PREDICTIONS, TRUTHS = 100, 8  # an image
ROUNDS = {500: 7, 5_000: 3, 50_000: 1}  # by number of images
COMPARED = 5_000  # images up to which the others are measured, too
IN_FIFTYONE = 500  # images up to which FiftyOne is asked: it takes minutes for them
ALWAYS_REPEATED = 500  # images up to which the others are measured as often as ours, and once beyond
TARGET_S = 3.0  # 5,000 images, matching and bands
GATE_IMAGES, GATE_REPLICATES, GATE_TARGET_S = 1_000, 1_000, 5.0
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def tables() -> Iterator[Table]:
    yield matching_table()
    yield gate_table()


# --- matching and bands ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """CPU seconds over the rounds of one number of images; of the others empty where they were not measured."""

    matching: list[float]
    bands: list[float]
    loop: list[float]
    faster_coco: list[float]
    pycocotools: list[float]
    fiftyone: float | str | None
    peak_mb: float

    @property
    def ours(self) -> float:
        return float(np.median(np.add(self.matching, self.bands)))


def matching_table() -> Table:
    taken = {images: measured(images, rounds) for images, rounds in ROUNDS.items()}
    rows = [
        (
            f"{images:,} images",
            f"{one.ours:.2f}",
            f"{np.median(one.matching):.2f}",
            f"{one.ours / images * 1e6:.0f}",
            *(median_text(others) for others in (one.loop, one.faster_coco, one.pycocotools)),
            f"{one.fiftyone:.2f}" if isinstance(one.fiftyone, float) else "-",
            f"{one.peak_mb:,.0f}",
        )
        for images, one in taken.items()
    ]
    growth = ", ".join(
        f"{many / few:g} times the images took {taken[many].ours / taken[few].ours:.1f} times as long"
        for few, many in zip(list(ROUNDS), list(ROUNDS)[1:])
    )
    verdict = "reached" if taken[5_000].ours < TARGET_S else "missed"
    return Table(
        f"Matching and bands: images of {PREDICTIONS} predictions and {TRUTHS} ground truths",
        (
            "CPU seconds",
            "match + bands",
            "match alone",
            "microseconds an image",
            "Python loop",
            "faster-coco-eval",
            "pycocotools",
            "FiftyOne",
            "peak MB",
        ),
        rows,
        [
            f"5,000 images took {taken[5_000].ours:.2f} s; target under {TARGET_S:.0f} s, {verdict}. {growth}.",
            "Bands include the thresholds and 1,000 replicates of every interval. The loop only matches, with the same "
            "outcome. faster-coco-eval and pycocotools: evaluate and accumulate, at ten IoUs and four sizes, their "
            "files loaded before. FiftyOne: evaluate_detections at one IoU with what it writes into its "
            "samples, the database's own time not counted. Peak MB: the most that this process held while it made, "
            "matched and evaluated so many images with our code.",
            *(f"FiftyOne, {images:,} images: {one.fiftyone}." for images, one in taken.items() if is_told(one)),
            *(["pycocotools is not installed here."] if not taken[min(ROUNDS)].pycocotools else []),
        ],
    )


def measured(images: int, rounds: int) -> Taken:
    """Ours in every round; the others beside it where they end in reasonable time, each once for many images."""
    results = labelled_images(images, seed=0)
    matched, of_matching, of_bands = [match(results)], [], []
    for _ in range(rounds):
        of_matching.append(timed(lambda: matched.append(match(results))).cpu)
        del matched[0]  # one at a time, as in use
        of_bands.append(timed(lambda: bands_of(matched[0])).cpu)
    peak_mb = peak_bytes() / 1e6
    if images > COMPARED:
        return Taken(of_matching, of_bands, [], [], [], None, peak_mb)
    again = range(rounds if images <= ALWAYS_REPEATED else 1)
    ours = Counter(matched[0].truths.blind.tolist())
    pycocotools = [pycocotools_seconds(results, CLASS_NAMES) for _ in again]
    return Taken(
        of_matching,
        of_bands,
        [loop_seconds(results, ours) for _ in again],
        [faster_coco_seconds(results, CLASS_NAMES) for _ in again],
        [seconds for seconds in pycocotools if seconds is not None],
        fiftyone_seconds(images) if images <= IN_FIFTYONE else None,
        peak_mb,
    )


def loop_seconds(results: Sequence[ImageResult], expected: Counter[str]) -> float:
    """CPU seconds of the obvious loop, whose outcome must be ours."""
    outcomes: list[Counter[str]] = []
    seconds = timed(lambda: outcomes.append(obvious_loop(results))).cpu
    if outcomes != [expected]:
        raise RuntimeError(f"matching says {expected}, the obvious loop {outcomes[0]}")
    return seconds


def is_told(taken: Taken) -> bool:
    """Whether there is a reason to tell instead of FiftyOne's figure."""
    return isinstance(taken.fiftyone, str)


def median_text(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.2f}" if seconds else "-"


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
