"""One training, a fixed number of steps long, on ultralytics' own model and loss.

The library's trainer counts epochs, so that more images would be more steps; here every way of choosing gets equal
steps, the same optimiser and the same seed, and only the images differ. The last weights count: there is no image by
which a better epoch could be picked. Central only, as the trainer is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.trainer.library import load_checkpoint, quiet, ultralytics
from tasks.core.boxes import nms
from tasks.core.entities import Detections
from tasks.core.matching import MATCHING_FLOOR, MAX_DETECTIONS, Floats, GroundTruths, Integers
from tests.benchmarks.bench_retrain_worlds import GREY

NMS_IOU = 0.6
WARM_UP = 0.1  # of the steps
MAX_NORM = 10.0  # of the gradient, as the library's
LAST_RATE = 0.01  # of the first, where the cosine ends
HSV = (0.015, 0.7, 0.4)  # the library's defaults, as its flip from left to right
SCALE, TRANSLATE = (0.6, 1.4), 0.1
AT_ONCE = 32
FEATURES = "SPPF"  # the last layer of the backbone


@dataclass(frozen=True, slots=True)
class Recipe:
    """weights: the checkpoint that the live model starts from. freeze: first layers that stay. side: pixels.

    bfloat16: training in mixed precision, weights and judgement in single: faster by half where the processor has it.
    """

    weights: Path
    side: int
    freeze: int
    steps_live: int
    steps: int
    batch: int = 16
    rate: float = 1e-3
    decay: float = 5e-4
    bfloat16: bool = True


def first_model(recipe: Recipe, class_names: Sequence[str]) -> Any:
    """The checkpoint's weights for these classes; layers that do not fit are new."""
    import torch

    ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    with quiet():
        loaded = load_checkpoint(recipe.weights).model.float()
        build: Any = DetectionModel  # the library has no types
        model = build(deepcopy(loaded.yaml), nc=len(class_names), verbose=False)
        model.load(loaded, verbose=False)
    model.args = get_cfg()
    model.names = dict(enumerate(class_names))
    return model


def train(
    model: Any,
    pixels: NDArray[np.uint8],
    truths: Sequence[GroundTruths],
    rows: Integers,
    recipe: Recipe,
    *,
    steps: int,
    seed: int,
    device: str,
) -> Any:
    """A trained copy of the model. Equal seeds give equal batches of equal rows."""
    import torch

    torch.manual_seed(seed)
    model = deepcopy(model).to(device, memory_format=torch.channels_last)
    kind = torch.device(device).type
    model.criterion = None
    learnt = _thaw(model, recipe.freeze)
    optimizer = torch.optim.AdamW(learnt, lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
    random = np.random.default_rng((seed, 3))
    for chosen in batches(rows, steps, recipe.batch, random):
        batch = _batch([augmented(pixels[row], truths[row], random) for row in chosen], recipe.side, device)
        with quiet(), torch.autocast(kind, torch.bfloat16, enabled=recipe.bfloat16):
            loss, _ = model(batch)
        optimizer.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(learnt, MAX_NORM)
        optimizer.step()
        schedule.step()
    return model.eval()


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate: up in the first tenth, then down along a cosine."""
    rising = max(1.0, WARM_UP * steps)
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return min(1.0, (step + 1) / rising) * (LAST_RATE + (1 - LAST_RATE) * falling)


def batches(rows: Integers, steps: int, batch: int, random: np.random.Generator) -> Iterator[Integers]:
    """`steps` batches, through all rows in a new order again and again; a row comes at most once more than another."""
    rounds = math.ceil(steps * batch / len(rows))
    order = np.concatenate([random.permutation(rows) for _ in range(rounds)])
    yield from order[: steps * batch].reshape(steps, batch)


def _thaw(model: Any, freeze: int) -> list[Any]:
    """Parameters that learn; frozen layers keep their statistics, too."""
    import torch

    model.train()
    learnt = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad = int(name.split(".")[1]) >= freeze and ".dfl" not in name
        learnt += [parameter] if parameter.requires_grad else []
    for layer in model.model[:freeze]:
        for module in layer.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    return learnt


def augmented(
    picture: NDArray[np.uint8], truth: GroundTruths, random: np.random.Generator
) -> tuple[NDArray[np.uint8], Floats, Integers]:
    """Scaled, moved, mirrored and tinted; boxes that lost more than four fifths of their area are dropped."""
    side = picture.shape[0]
    scale, (right, down) = random.uniform(*SCALE), random.uniform(-TRANSLATE, TRANSLATE, 2) * side
    middle = side / 2 * (1 - scale)
    mirror = -1.0 if random.random() < 0.5 else 1.0
    matrix = np.array([[mirror * scale, 0, middle + right], [0, scale, middle + down]])
    if mirror < 0:
        matrix[0, 2] += scale * side
    moved = np.asarray(cv2.warpAffine(picture, matrix, (side, side), borderValue=(GREY, GREY, GREY)), np.uint8)
    boxes = truth.xyxy.astype(np.float64) * [matrix[0, 0], scale, matrix[0, 0], scale] + np.tile(matrix[:, 2], 2)
    boxes = np.stack([boxes[:, [0, 2]].min(1), boxes[:, 1], boxes[:, [0, 2]].max(1), boxes[:, 3]], axis=1)
    clipped = boxes.clip(0, side)
    left = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = (left > 0.2 * whole) & (left > 4)
    return tinted(moved, random), clipped[kept], truth.class_id[kept]


def tinted(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    gains = random.uniform(-1, 1, 3) * HSV + 1
    hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
    levels = np.arange(256)
    tables = (levels * gains[0]) % 180, (levels * gains[1]).clip(0, 255), (levels * gains[2]).clip(0, 255)
    parts = [cv2.LUT(part, table.astype(np.uint8)) for part, table in zip((hue, saturation, value), tables)]
    return np.asarray(cv2.cvtColor(cv2.merge(parts), cv2.COLOR_HSV2RGB), np.uint8)


def _batch(images: Sequence[tuple[NDArray[np.uint8], Floats, Integers]], side: int, device: str) -> dict[str, Any]:
    """What the library's loss takes: boxes as centre and size from 0 to 1."""
    import torch

    pixels, boxes, classes = zip(*images)
    xyxy = np.concatenate(boxes) / side
    centre, size = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
    image = np.repeat(np.arange(len(images)), [len(each) for each in boxes])
    return {
        "img": _as_input(np.stack(pixels), device),
        "cls": torch.from_numpy(np.concatenate(classes)).float()[:, None].to(device),
        "bboxes": torch.from_numpy(np.concatenate([centre, size], axis=1)).float().to(device),
        "batch_idx": torch.from_numpy(image).float().to(device),
    }


def _as_input(pixels: NDArray[np.uint8], device: str) -> Any:
    import torch

    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255  # its memory has the channels last


# --- looking ---------------------------------------------------------------------------------------------------------


def look(model: Any, pixels: NDArray[np.uint8], class_names: tuple[str, ...], device: str) -> list[Detections]:
    """What the model sees in each image, from 0.005 up; each candidate has its best class only."""
    import torch

    model = model.to(device).eval()
    seen = []
    for first in range(0, len(pixels), AT_ONCE):
        with torch.no_grad(), quiet():
            output = model(_as_input(pixels[first : first + AT_ONCE], device))
        raw = output[0] if isinstance(output, (tuple, list)) else output
        seen += [detections_of(image, class_names) for image in raw.cpu().numpy()]
    return seen


def detections_of(raw: NDArray[np.float32], class_names: tuple[str, ...]) -> Detections:
    """raw: (4 + classes, anchors): centre, size and confidences."""
    confidence, class_id = raw[4:].max(axis=0), raw[4:].argmax(axis=0)
    rows = np.flatnonzero(confidence >= MATCHING_FLOOR)
    half = raw[2:4, rows].T / 2
    xyxy = np.concatenate([raw[:2, rows].T - half, raw[:2, rows].T + half], axis=1)
    kept = nms(xyxy, confidence[rows], class_id[rows], NMS_IOU, MAX_DETECTIONS)
    return Detections(
        xyxy[kept].astype(np.float32),
        confidence[rows][kept].astype(np.float32).clip(0, 1),
        class_id[rows][kept].astype(np.int64),
        class_names,
    )


def embed(model: Any, pixels: NDArray[np.uint8], device: str) -> Floats:
    """(images, channels) the backbone's last features, averaged over the image and of length 1."""
    import torch

    layer = next(each for each in model.model if type(each).__name__ == FEATURES)
    taken: list[NDArray[np.float32]] = []
    handle = layer.register_forward_hook(lambda _, __, out: taken.append(out.mean(dim=(2, 3)).cpu().numpy()))
    model.to(device).eval()
    for first in range(0, len(pixels), AT_ONCE):
        with torch.no_grad(), quiet():
            model(_as_input(pixels[first : first + AT_ONCE], device))
    handle.remove()
    features = np.concatenate(taken).astype(np.float64)
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12))
