"""Fine-tuning real weights on real photographs, as the first turn of the loop does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from shared_data import SHARED, VEHICLE_CLASSES, VEHICLES, needs

from tasks.adapters.trainer import check_parity, export_onnx, train
from tasks.core.settings import TrainingSettings

BACKBONE = SHARED / "weights" / "yolov5nu_coco_backbone.pt"
pytestmark = [needs(VEHICLES, BACKBONE), pytest.mark.slow]


def few(folder: Path, images: int) -> Path:
    """The first `images` training photographs, and a quarter as many for calibration, in the trainer's layout."""
    for part, count in (("train", images), ("val", images // 4)):
        for source in sorted((VEHICLES / "images" / part).iterdir())[:count]:
            for kind, name in (("images", source.name), ("labels", f"{source.stem}.txt")):
                target = folder / kind / part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((VEHICLES / kind / part / name).read_bytes())
    names = dict(enumerate(VEHICLE_CLASSES))
    data = {"path": str(folder), "train": "images/train", "val": "images/val", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return folder / "data.yaml"


def test_a_coco_backbone_is_fine_tuned_exported_and_sees_the_same(tmp_path):
    """One epoch on 16 photographs with ten frozen layers: five classes, and an ONNX file that agrees."""
    settings = TrainingSettings(epochs=1, imgsz=128, batch=8, freeze=10, device="cpu", workers=0)
    result = train(
        few(tmp_path / "data", 16), settings, weights=BACKBONE, project_classes=VEHICLE_CLASSES, out=tmp_path / "out"
    )
    assert len(result.epochs) == 1
    assert all(value == value for value in result.epochs[0].values())
    onnx = export_onnx(result.checkpoint, tmp_path / "model.onnx", 128)
    assert 4_000_000 < onnx.stat().st_size < 12_000_000
    parity = check_parity(result.checkpoint, onnx, sorted((VEHICLES / "images" / "test").iterdir())[:4])
    assert parity["box_pixels"] < 0.05
    assert parity["confidence"] < 1e-3
