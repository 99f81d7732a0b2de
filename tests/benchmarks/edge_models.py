"""What the edge benchmark runs on: a small ultralytics export and a video, both made when they are asked for."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tasks.adapters.detector import probe_frame

SMALL_INPUT = 256  # pixels
SMALL_CLASSES = 5


def prepare_ultralytics(folder: Path) -> None:
    """Keep ultralytics off the network and out of the home folder; before its first import."""
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_VERBOSE"] = "false"


def export_small_model(
    folder: Path, architecture: str = "11/yolo11", *, lively: bool = False, **arguments: object
) -> Path:
    """An untrained YOLO of an eighth of the full width, exported for 256 x 256 pixels; needs ultralytics.

    An untrained one sees next to nothing; a `lively` one answers with many different boxes and confidences.
    """
    import torch
    import yaml
    from ultralytics import YOLO
    from ultralytics.utils import ROOT

    config = yaml.safe_load((ROOT / "cfg" / "models" / f"{architecture}.yaml").read_text())
    config.update(scales={"n": [0.50, 0.125, 1024]}, nc=SMALL_CLASSES)
    path = folder / f"{Path(architecture).name}n-small.yaml"
    path.write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    model = YOLO(str(path), task="detect")
    if lively:
        enliven(model.model)
    return Path(model.export(format="onnx", imgsz=SMALL_INPUT, simplify=False, verbose=False, **arguments))


def enliven(network: Any) -> None:
    """Random batch-norm statistics and a wide last layer, so that outputs depend strongly on the picture."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 2.2)
            module.bias.data.normal_(0, 0.5)
    head = network.model[-1]
    for name in ("cv3", "one2one_cv3"):
        for scores in getattr(head, name, None) or ():
            scores[-1].weight.data.normal_(0, 0.4)
            scores[-1].bias.data.fill_(-4.0)
    for name in ("cv2", "one2one_cv2"):
        for sides in getattr(head, name, None) or ():
            sides[-1].weight.data.normal_(0, 0.3)


def render_video(path: Path, frames: int = 200, width: int = 640, height: int = 480) -> Path:
    """A moving picture with texture and moving blocks, 25 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    background = cv2.GaussianBlur(probe_frame(height, width), (0, 0), 3)
    noise = np.random.default_rng(0).integers(0, 12, (height, width, 3), np.uint8)
    for i in range(frames):
        picture = cv2.add(background, np.roll(noise, i * 7, axis=1))
        for block in range(6):
            x, y = (i * (3 + block) + block * 90) % width, 40 + block * 70
            cv2.rectangle(picture, (x, y), (x + 60, y + 40), (40 * block, 255 - 40 * block, 128), cv2.FILLED)
        writer.write(picture)
    writer.release()
    return path
