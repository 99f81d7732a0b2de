"""What others take to evaluate the same images: pycocotools, faster-coco-eval, and FiftyOne in a process of its own.

    python -m tests.benchmarks.matching_peers 500

Each has its images loaded before its time begins. The command evaluates so many images with FiftyOne, which keeps them
in a database of its own in a temporary folder, and says in a JSON line how many CPU seconds that took.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tasks.adapters.coco import MAX_DETECTIONS, coco_ground_truth, coco_results
from tasks.core.matching import ImageResult
from tests.benchmarks.pairs import timed

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 1800
WARM_UP = 2  # images that FiftyOne evaluates first: what it imports on the way is not counted


def faster_coco_seconds(results: Sequence[ImageResult], class_names: Sequence[str]) -> float:
    """CPU seconds of faster-coco-eval's evaluate and accumulate."""
    from faster_coco_eval import COCO, COCOeval_faster

    images = [(result.detections, result.truths) for result in results]
    with redirect_stdout(io.StringIO()):
        truth = COCO(coco_ground_truth(images, class_names))
        evaluation = COCOeval_faster(truth, truth.loadRes(coco_results(images)), "bbox")
        evaluation.params.maxDets = list(MAX_DETECTIONS)
        return timed(lambda: (evaluation.evaluate(), evaluation.accumulate())).cpu


def pycocotools_seconds(results: Sequence[ImageResult], class_names: Sequence[str]) -> float | None:
    """CPU seconds of pycocotools' evaluate and accumulate; None where it is not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        return None
    images = [(result.detections, result.truths) for result in results]
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_ground_truth(images, class_names)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_results(images)), "bbox")
        return timed(lambda: (evaluation.evaluate(), evaluation.accumulate())).cpu


def fiftyone_seconds(images: int) -> float | str:
    """CPU seconds of FiftyOne's `evaluate_detections`, its database's not counted; or why there are none."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as home:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("FIFTYONE_", "EDGELOOP_", "MPL"))}
        command = [sys.executable, "-m", "tests.benchmarks.matching_peers", str(images)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**environment, "HOME": home},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return f"it took more than {TIMEOUT_S} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]
    return float(json.loads(done.stdout.strip().splitlines()[-1])["cpu"])


def evaluate_with_fiftyone(images: int, folder: Path) -> float:
    """Put so many images into a database in `folder` and evaluate them; needs a process that has no FiftyOne yet."""
    from tasks.adapters.review.mongod import ensure_database, stop_database
    from tests.benchmarks.bench_matching import CLASS_NAMES, labelled_images

    ensure_database(folder)
    try:
        _evaluated(labelled_images(WARM_UP, seed=1), CLASS_NAMES, folder)
        return _evaluated(labelled_images(images, seed=0), CLASS_NAMES, folder)
    finally:
        stop_database(folder)


def _evaluated(results: Sequence[ImageResult], class_names: Sequence[str], folder: Path) -> float:
    import fiftyone

    dataset = fiftyone.Dataset()
    dataset.add_samples(
        [
            fiftyone.Sample(
                filepath=str(folder / f"{number}.jpg"),
                ground_truth=_as_fiftyone(one.truths.xyxy, one.truths.class_id, None, class_names),
                seen=_as_fiftyone(one.detections.xyxy, one.detections.class_id, one.detections.confidence, class_names),
            )
            for number, one in enumerate(results)
        ]
    )
    return timed(
        lambda: dataset.evaluate_detections("seen", gt_field="ground_truth", eval_key="bench", method="coco")
    ).cpu


def _as_fiftyone(xyxy: Any, class_id: Any, confidence: Any, class_names: Sequence[str]) -> Any:
    """Boxes as FiftyOne has them: left, top, width and height as shares of an image of 640 x 480."""
    import fiftyone

    boxes = [(x1 / 640, y1 / 480, (x2 - x1) / 640, (y2 - y1) / 480) for x1, y1, x2, y2 in xyxy.tolist()]
    scores = [None] * len(boxes) if confidence is None else confidence.tolist()
    return fiftyone.Detections(
        detections=[
            fiftyone.Detection(label=class_names[label], bounding_box=list(box), confidence=score)
            for box, label, score in zip(boxes, class_id.tolist(), scores)
        ]
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as name:
        print(json.dumps({"cpu": evaluate_with_fiftyone(int(sys.argv[1]), Path(name))}))
