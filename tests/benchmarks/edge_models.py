"""What the edge benchmark runs on: ultralytics exports and a video, made when they are asked for."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import probe_frame

SMALL_INPUT = 256  # pixels
SMALL_CLASSES = 5
LARGE_INPUT = 640


def prepare_ultralytics(folder: Path) -> None:
    """Keep ultralytics off the network and out of the home folder; before its first import."""
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_VERBOSE"] = "false"


def export_small_model(
    folder: Path, architecture: str = "11/yolo11", *, pictures: Sequence[NDArray[np.uint8]] = (), **arguments: object
) -> Path:
    """An untrained YOLO of an eighth of the full width, exported for 256 x 256 pixels; needs ultralytics.

    It sees next to nothing; fitted to `pictures` it answers such pictures with many different boxes and confidences.
    """
    network = {"scales": {"n": [0.50, 0.125, 1024]}, "nc": SMALL_CLASSES}
    name = f"{Path(architecture).name}n-small"
    return _export(folder, architecture, name, network, pictures=pictures, imgsz=SMALL_INPUT, **arguments)


def export_large_model(folder: Path, architecture: str = "11/yolo11") -> Path:
    """An untrained YOLO11n as it is, 80 classes, exported for 640 x 640 pixels; needs ultralytics. It sees nothing."""
    return _export(folder, architecture, f"{Path(architecture).name}n-{LARGE_INPUT}", {}, imgsz=LARGE_INPUT)


def _export(
    folder: Path,
    architecture: str,
    name: str,
    network: dict[str, object],
    *,
    pictures: Sequence[NDArray[np.uint8]] = (),
    **arguments: object,
) -> Path:
    """network: what of the architecture is replaced."""
    import torch
    import yaml
    from ultralytics import YOLO
    from ultralytics.utils import ROOT

    config = yaml.safe_load((ROOT / "cfg" / "models" / f"{architecture}.yaml").read_text())
    config.update(network)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    model = YOLO(str(path), task="detect")
    model.model.pt_path = str(path.with_suffix(".pt"))  # the export goes beside it, not into the working folder
    if pictures:
        enliven(model.model, pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing names everything that it freezes
        return Path(model.export(format="onnx", simplify=False, verbose=False, **arguments))


def enliven(network: Any, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Fit the batch norms to pictures and scale the last layers, so that outputs vary with the picture.

    Without it an untrained network answers nearly the same everywhere, and equal confidences have no order.
    """
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all pictures
    scaled = np.stack([cv2.resize(picture, (SMALL_INPUT, SMALL_INPUT))[:, :, ::-1] for picture in pictures])
    batch = torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    last_layers = [
        (branch[-1], name.endswith("cv3"))
        for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3")
        for branch in getattr(network.model[-1], name, None) or ()
    ]
    seen: dict[int, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, _: seen.update({id(layer): inputs[0]}))
        for layer, _ in last_layers
    ]
    network.train()
    with torch.no_grad():
        network(batch)
    network.eval()
    for hook in hooks:
        hook.remove()
    for layer, gives_scores in last_layers:
        layer.weight.data.normal_(0, 1.5 / float(seen[id(layer)].square().sum(dim=1).mean()) ** 0.5)
        layer.bias.data.fill_(-4.5 if gives_scores else 1.0)


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
