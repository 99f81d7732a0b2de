"""Train the small checkpoint that the demo's first model starts from: `make demo-base`.

It has only ever seen other yards than any demo (seeds from 900,000), by clear day and before the drift. So it knows
what a container is, and has yet to learn dusk, night, fog and the liveries that come later. The same command gives
equal weights on the same machine and versions; `yard_base.json` beside it names scenes, training and digest.
"""

from __future__ import annotations

import json
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import cv2

from tasks.adapters.labels import yolo_text
from tasks.adapters.simulation import CAMERAS, CLASS_NAMES, FRAME_SIZE, YardWorld, ground_truth, light_at, render
from tasks.adapters.trainer import train
from tasks.adapters.trainer.publish import publish_checkpoint
from tasks.core.settings import TrainingSettings

ASSETS = Path(__file__).parent / "assets"
FIRST_SEED = 900_000


@dataclass(frozen=True)
class BaseTraining:
    """What the base checkpoint is made of. seeds: yards to render; images: scenes over all of them."""

    seeds: int = 24
    images: int = 384
    validation_images: int = 64
    epochs: int = 30
    imgsz: int = 256
    batch: int = 16
    lr0: float = 0.002


def main() -> None:
    """Render, train, publish."""
    parser = ArgumentParser(description="Train the base checkpoint of the demo.")
    parser.add_argument("--out", type=Path, default=ASSETS / "yard_base.pt", help="the checkpoint to write")
    for name, value in asdict(BaseTraining()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    print(train_base(out, BaseTraining(**arguments)))


def train_base(out: Path, recipe: BaseTraining) -> str:
    """The checkpoint at `out`, its description beside it; what was done, in a line."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="yard-base-") as name:
        folder = Path(name)
        boxes = write_scenes(folder, recipe)
        result = train(
            folder / "data.yaml",
            training_settings(recipe),
            weights=None,
            project_classes=CLASS_NAMES,
            out=folder / "run",
            on_epoch=lambda epoch, epochs, figures: print(
                f"epoch {epoch} of {epochs}: mAP50 {figures.get('metrics/mAP50(B)', 0):.3f}", flush=True
            ),
        )
        digest = publish_checkpoint(result.checkpoint, out)
    facts = {
        "first_seed": FIRST_SEED,
        **asdict(recipe),
        "boxes": boxes,
        "best_epoch": result.best_epoch,
        "map50_by_day": round(result.epochs[result.best_epoch - 1].get("metrics/mAP50(B)", 0.0), 3),
        "weights_sha256": digest,
        "file_sha256": sha256(out.read_bytes()).hexdigest(),
        "licence": "AGPL-3.0",
    }
    out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    return (
        f"{out.name}: {out.stat().st_size / 1e6:.2f} MB, AP50 by day {facts['map50_by_day']}, "
        f"{time.monotonic() - started:.0f} s"
    )


def training_settings(recipe: BaseTraining) -> TrainingSettings:
    """AdamW from scratch, on the CPU and on one thread of data loading, so that it can be repeated."""
    return TrainingSettings(
        model=str(ASSETS / "yard.yaml"),
        epochs=recipe.epochs,
        imgsz=recipe.imgsz,
        batch=recipe.batch,
        lr0=recipe.lr0,
        workers=0,
        seed=FIRST_SEED,
        device="cpu",
        # The library would gather gradients over 64 images: a step a batch learns more from few images.
        extra={"deterministic": True, "close_mosaic": max(1, recipe.epochs // 5), "nbs": recipe.batch},
    )


def write_scenes(folder: Path, recipe: BaseTraining) -> int:
    """A YOLO dataset of rendered scenes; the number of boxes."""
    boxes = 0
    height, width = FRAME_SIZE
    for split, images, first in (("train", recipe.images, 0), ("val", recipe.validation_images, recipe.seeds)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for world, camera, index in scenes(FIRST_SEED + first, recipe.seeds, images):
            name = f"{world.seed}-{camera}-{index}"
            truth = ground_truth(world, camera, index)
            cv2.imwrite(str(folder / "images" / split / f"{name}.png"), render(world, camera, index))
            (folder / "labels" / split / f"{name}.txt").write_text(yolo_text(truth, width, height, CLASS_NAMES))
            boxes += len(truth)
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(CLASS_NAMES))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}\n")
    return boxes


def scenes(first_seed: int, seeds: int, wanted: int) -> Iterator[tuple[YardWorld, int, int]]:
    """Clear daylight only, spread evenly over yards, cameras and hours."""
    number = 0
    step = 0
    while number < wanted:
        world = YardWorld(seed=first_seed + step % seeds, drift_from=None)
        camera, index = step // seeds % CAMERAS, (187 + step * 37) % world.day_frames
        light = light_at(world, camera, index)
        step += 1
        if light.daylight > 0.98 and light.fog < 0.01:
            number += 1
            yield world, camera, index


if __name__ == "__main__":
    main()
