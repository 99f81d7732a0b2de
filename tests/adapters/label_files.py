"""What the tests of label files share: samples, boxes, pictures, and small data sets."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import yaml
from hypothesis import strategies as st
from PIL import Image

from tasks.core.entities import LabelBox, Sample

NAMES = ("car", "bus", "véhicule long")
NOW = datetime(2026, 3, 1, 12, 30, 1, 5000, tzinfo=timezone.utc)
W, H = 96, 64


def sample(key: str, width=W, height=H) -> Sample:
    sha = hashlib.sha256(key.encode()).hexdigest()
    return Sample(
        sample_id=sha[:20], sha256=sha, device="pi-1", camera="gate", captured_at=NOW, width=width, height=height,
        strategy="random", matched=("random",), probability=0.1, random_slice=True, model_version="stub",
        settings_version="all/1",
    )  # fmt: skip


def box(name: str, *xyxy: float, crowd=False) -> LabelBox:
    return LabelBox(class_name=name, xyxy=xyxy, crowd=crowd)


def picture(path: Path, width=W, height=H, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo_folder(root: Path, labels: dict[str, str | None], layout="images/{}", names=("car", "bus")) -> Path:
    """A dataset with a training image a label; None writes no label file."""
    folder = root / layout.format("train")
    for name, text in labels.items():
        picture(folder / f"{name}.jpg")
        if text is not None:
            put(root / layout.replace("images", "labels").format("train") / f"{name}.txt", text)
    put(root / "data.yaml", yaml.safe_dump({"train": layout.format("train"), "names": list(names)}))
    return root


@st.composite
def boxes_in(draw, width=W, height=H, whole=False):
    """Boxes in an image, on a grid of 1/100 pixel, or of whole ones."""
    step = 1 if whole else 100
    found = []
    for _ in range(draw(st.integers(0, 6))):
        x1, x2 = sorted(draw(st.lists(st.integers(0, width * step), min_size=2, max_size=2, unique=True)))
        y1, y2 = sorted(draw(st.lists(st.integers(0, height * step), min_size=2, max_size=2, unique=True)))
        corners = (x1 / step, y1 / step, x2 / step, y2 / step)
        found.append(box(draw(st.sampled_from(NAMES)), *corners, crowd=draw(st.booleans())))
    return tuple(found)


def coco_content(**changes) -> dict:
    """A COCO file of one image with one car; `changes` replace whole lists."""
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": W, "height": H}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
    }
    return content | changes
