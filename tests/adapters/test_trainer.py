"""Training, resuming and exporting with the real library, on tiny models, and nothing a checkpoint can do about it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from label_files import picture, put

from tasks.adapters.trainer import check_parity, export_onnx, train
from tasks.core.errors import (
    ImageUnreadable,
    LabelsInvalid,
    ModelError,
    NotEnoughData,
    SettingsError,
    TrainingFailed,
)
from tasks.core.settings import TrainingSettings

pytestmark = pytest.mark.slow  # real trainings, however tiny

NAMES = ("car", "bus")
ARCHITECTURE = """
nc: 80
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""
NMS_FREE = ARCHITECTURE.replace("nc: 80", "nc: 80\nend2end: True\nreg_max: 1")
REPOSITORY = Path(__file__).resolve().parents[2]


def dataset(root: Path, names=NAMES, labels=16) -> Path:
    """16 pictures of 96 x 64 with a bright square each; data.yaml."""
    for n in range(16):
        part = "train" if n < 12 else "val"
        picture(root / f"images/{part}/{n:02d}.jpg")
        text = f"{n % len(names)} 0.5 0.5 0.4 0.4\n" if n < labels else ""
        put(root / f"labels/{part}/{n:02d}.txt", text)
    data = {"path": str(root), "train": "images/train", "val": "images/val", "names": dict(enumerate(names))}
    return put(root / "data.yaml", yaml.safe_dump(data))


def tiny(folder: Path, architecture=ARCHITECTURE, **changes) -> TrainingSettings:
    path = put(folder / "tiny.yaml", architecture)
    base = {"model": str(path), "epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "workers": 0}
    return TrainingSettings(**(base | changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, list]:
    """data.yaml, a checkpoint of two epochs, and what `on_epoch` was told."""
    folder = tmp_path_factory.mktemp("trained")
    told: list = []
    data = dataset(folder / "data")
    result = train(
        data, tiny(folder, epochs=2), weights=None, project_classes=NAMES, out=folder / "out",
        on_epoch=lambda *figures: told.append(figures),
    )  # fmt: skip
    assert result.checkpoint == folder / "out" / "weights.pt"
    assert [e["epoch"] for e in result.epochs] == [1, 2]
    assert result.best_epoch in (1, 2)
    assert result.seconds > 0
    return data, result.checkpoint, told


def test_training_from_scratch_tells_each_epoch(trained):
    """`on_epoch` is called once an epoch, with its number, how many there are, and its figures."""
    _, checkpoint, told = trained
    assert [(epoch, epochs) for epoch, epochs, _ in told] == [(1, 2), (2, 2)]
    for _, _, figures in told:
        assert {"train/box_loss", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "fitness"} <= set(figures)
        assert all(isinstance(v, float) for v in figures.values())
    assert checkpoint.stat().st_size > 10_000


def test_training_goes_on_from_weights(trained, tmp_path):
    """With a checkpoint as the start, its architecture and its weights are taken; frozen layers stay as they are."""
    from ultralytics import YOLO

    data, checkpoint, _ = trained
    result = train(
        data, tiny(tmp_path, freeze=2), weights=checkpoint, project_classes=NAMES, out=tmp_path / "out"
    )  # fmt: skip
    before, after = (YOLO(str(p)).model.state_dict() for p in (checkpoint, result.checkpoint))
    changed = {k for k in before if not np.array_equal(before[k].numpy(), after[k].numpy())}
    assert not any(k.endswith("conv.weight") for k in changed if k.startswith(("model.0.", "model.1.")))
    assert any(k.startswith("model.5.") for k in changed)


def test_a_checkpoint_of_other_classes_gives_what_fits(trained, tmp_path):
    """Two classes to three: the new model names three, and starts from the old one's layers."""
    from ultralytics import YOLO

    _, checkpoint, _ = trained
    names = ("bus", "lorry", "tram")
    data = dataset(tmp_path / "data", names)
    # With every layer but the head frozen, the trunk must be the old one's.
    result = train(data, tiny(tmp_path, freeze=5), weights=checkpoint, project_classes=names, out=tmp_path / "out")
    before, after = (YOLO(str(p)).model for p in (checkpoint, result.checkpoint))
    assert list(after.names.values()) == list(names)
    for key, old in before.state_dict().items():
        if key.startswith(("model.0.", "model.4.")) and key.endswith("conv.weight"):
            np.testing.assert_array_equal(old.numpy(), after.state_dict()[key].numpy())


def test_an_interrupted_training_is_resumed(trained, tmp_path):
    """What `on_epoch` raises ends the training as it is; with `resume` it goes on where it was, else it starts anew."""
    data, _, _ = trained

    def interrupt(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        if epoch == 2:
            raise ConnectionError("the API is gone")

    options = {"weights": None, "project_classes": NAMES, "out": tmp_path / "out"}
    settings = tiny(tmp_path, epochs=3)
    with pytest.raises(ConnectionError, match="the API is gone"):
        train(data, settings, **options, on_epoch=interrupt)
    assert [e["epoch"] for e in train(data, settings, **options, resume=True).epochs] == [3]
    assert [e["epoch"] for e in train(data, settings, **options, resume=True).epochs] == [1, 2, 3]


def test_a_training_that_stops_early_counts_no_epoch_twice(trained, tmp_path):
    """Out of time after the first of six epochs: the library's final validation is not taken for a second one."""
    data, _, _ = trained
    settings = tiny(tmp_path, epochs=6, extra={"time": 1e-6})
    told: list = []
    result = train(
        data, settings, weights=None, project_classes=NAMES, out=tmp_path / "out", on_epoch=lambda *x: told.append(x)
    )
    assert [e["epoch"] for e in result.epochs] == [1]
    assert len(told) == 1


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [ARCHITECTURE, NMS_FREE], ids=["raw", "nms-free"])
def test_the_export_sees_what_the_checkpoint_sees(tmp_path, architecture):
    """One file, metadata in it, the head as it was trained, the same bytes again, equal outputs on real pixels."""
    data = dataset(tmp_path / "data")
    settings = tiny(tmp_path, architecture)
    checkpoint = train(data, settings, weights=None, project_classes=NAMES, out=tmp_path / "out").checkpoint
    path = export_onnx(checkpoint, tmp_path / "models" / "model.onnx", 96)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["names"] == "{0: 'car', 1: 'bus'}"
    assert (metadata["imgsz"], metadata["stride"]) == ("[96, 96]", "32")
    assert str(tmp_path) not in str(metadata)
    shape = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    anchors = 12 * 12 + 6 * 6 + 3 * 3
    assert shape == ([1, 6, anchors] if architecture == ARCHITECTURE else [1, anchors, 6])
    again = export_onnx(checkpoint, tmp_path / "again.onnx", 96)
    assert again.read_bytes() == path.read_bytes()
    images = [*sorted((tmp_path / "data/images/val").iterdir()), np.full((50, 200, 3), 90, np.uint8)]
    parity = check_parity(checkpoint, path, images)
    assert parity["images"] == 5
    assert parity["box_pixels"] < 0.01
    assert parity["confidence"] < 1e-4


def test_parity_sees_another_model(trained, tmp_path):
    """Weights that differ a little give differences that show; a file that is no model or no image is an error."""
    _, checkpoint, _ = trained
    path = export_onnx(checkpoint, tmp_path / "model.onnx", 64)
    model = onnx.load(path)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.frombuffer(weights.raw_data, np.float32) * np.float32(1.05)
    weights.raw_data = values.tobytes()
    onnx.save(model, tmp_path / "other.onnx")
    image = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    same, other = (check_parity(checkpoint, p, [image]) for p in (path, tmp_path / "other.onnx"))
    assert other["box_pixels"] + other["confidence"] > 100 * (same["box_pixels"] + same["confidence"])
    with pytest.raises(ImageUnreadable, match=r"gone\.jpg"):
        check_parity(checkpoint, path, [tmp_path / "gone.jpg"])
    put(tmp_path / "noise.onnx", "not a model")
    with pytest.raises(ModelError, match=r"noise\.onnx: cannot be run"):
        check_parity(checkpoint, tmp_path / "noise.onnx", [image])


# --- what is refused --------------------------------------------------------------------------------------------------


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def malicious(path: Path, marker: Path, form: str) -> Path:
    """A pickle that runs a command, bare or in the zip that torch writes, alone or in place of a checkpoint's model."""
    content: object = Payload(marker)
    if form == "checkpoint":
        content = {"epoch": -1, "model": Payload(marker), "ema": None, "train_args": {}}
    data = pickle.dumps(content)
    if form == "bare":
        path.write_bytes(data)
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


@pytest.mark.parametrize("form", ["bare", "zip", "checkpoint"])
def test_a_malicious_checkpoint_is_refused_and_does_not_run(tmp_path, form):
    """os.system in a .pt: ModelError, one line, and the command never ran, in training and in export."""
    marker = tmp_path / "ran"
    weights = malicious(tmp_path / "evil.pt", marker, form)
    data = dataset(tmp_path / "data")
    for attempt in (
        lambda: train(data, tiny(tmp_path), weights=weights, project_classes=NAMES, out=tmp_path / "out"),
        lambda: export_onnx(weights, tmp_path / "model.onnx", 64),
    ):
        with pytest.raises(ModelError, match=r"evil\.pt: cannot be loaded") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload would have worked"


def test_a_checkpoint_that_asks_for_code_through_its_yaml_does_not_run_it(trained, tmp_path):
    """A model's own architecture may name an activation as code; building it again runs none of it."""
    import torch

    data, checkpoint, _ = trained
    marker = tmp_path / "ran"
    content = torch.load(checkpoint, weights_only=False)
    content["model"].yaml["activation"] = f"__import__('os').system('touch {marker}')"
    torch.save(content, tmp_path / "evil.pt")
    with pytest.raises((ModelError, TrainingFailed)):
        train(data, tiny(tmp_path), weights=tmp_path / "evil.pt", project_classes=NAMES, out=tmp_path / "out")
    assert not marker.exists()


def test_a_label_cache_in_the_dataset_folder_is_not_trusted(tmp_path):
    """The library would unpickle `labels/train.cache`; one that lies there before training is removed unread."""
    data, marker = dataset(tmp_path / "data"), tmp_path / "ran"
    cache = np.array(Payload(marker), dtype=object)
    with (tmp_path / "data/labels/train.cache").open("wb") as file:
        np.save(file, cache, allow_pickle=True)
    train(data, tiny(tmp_path), weights=None, project_classes=NAMES, out=tmp_path / "out")
    assert not marker.exists()


def test_weights_that_are_missing_or_broken_are_one_line(trained, tmp_path):
    """No such file, noise, an image, a cut checkpoint, tensors without a model: ModelError naming the file."""
    import torch

    data, checkpoint, _ = trained
    put(tmp_path / "noise.pt", "not a checkpoint")
    picture(tmp_path / "image.png").rename(tmp_path / "image.pt")
    (tmp_path / "cut.pt").write_bytes(checkpoint.read_bytes()[:-5000])
    (tmp_path / "empty.pt").touch()
    torch.save({"weight": torch.zeros(3)}, tmp_path / "tensors.pt")
    for name in ("gone", "noise", "image", "cut", "empty", "tensors"):
        with pytest.raises(ModelError, match=f"{name}.pt") as caught:
            train(
                data, tiny(tmp_path), weights=tmp_path / f"{name}.pt", project_classes=NAMES, out=tmp_path / "out"
            )  # fmt: skip
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"yolo26n\.pt: there is no such file"):
        train(data, tiny(tmp_path, model="yolo26n.pt"), weights=None, project_classes=NAMES, out=tmp_path / "out")


@pytest.mark.parametrize("architecture", ["not: [yaml", "nc: 2", ARCHITECTURE.replace("Detect", "Detector")])
def test_an_architecture_that_cannot_be_built_is_one_line(tmp_path, architecture):
    """Broken YAML, no layers, an unknown layer."""
    data = dataset(tmp_path / "data")
    with pytest.raises(ModelError, match=r"tiny\.yaml: cannot be built"):
        train(data, tiny(tmp_path, architecture), weights=None, project_classes=NAMES, out=tmp_path / "out")


def test_data_that_cannot_be_trained_on_is_refused_before_anything_starts(tmp_path):
    """No images, no boxes, other classes, a download entry, no file."""
    options = {"weights": None, "project_classes": NAMES, "out": tmp_path / "out"}
    settings = tiny(tmp_path)
    with pytest.raises(NotEnoughData, match="12 training images with no labelled box"):
        train(dataset(tmp_path / "empty", labels=0), settings, **options)
    nothing = put(tmp_path / "nothing/data.yaml", yaml.safe_dump({"names": list(NAMES)}))
    with pytest.raises(NotEnoughData, match="0 training images"):
        train(nothing, settings, **options)
    with pytest.raises(LabelsInvalid, match="class names are not the project's"):
        train(dataset(tmp_path / "other", ("bus", "car")), settings, **options)
    with pytest.raises(LabelsInvalid, match="cannot be read"):
        train(tmp_path / "gone.yaml", settings, **options)
    data = dataset(tmp_path / "data")
    data.write_text(data.read_text() + "download: import os; os.system('touch ran')\n")
    with pytest.raises(LabelsInvalid, match="`download`"):
        train(data, settings, **options)
    assert not (tmp_path / "out").exists()


def test_settings_that_do_not_fit_the_library(trained, tmp_path):
    """Ours cannot be overridden, unknown ones are refused, those it chokes on end as TrainingFailed."""
    data, _, _ = trained
    options = {"weights": None, "project_classes": NAMES, "out": tmp_path / "out"}
    with pytest.raises(SettingsError, match="project, resume cannot be set there"):
        train(data, tiny(tmp_path, extra={"project": "elsewhere", "resume": True}), **options)
    with pytest.raises(SettingsError, match=r"training\.extra: .*mosaik"):
        train(data, tiny(tmp_path, extra={"mosaik": 0.5}), **options)
    with pytest.raises(TrainingFailed, match="Adamant"):
        train(data, tiny(tmp_path, optimizer="Adamant"), **options)
    result = train(data, tiny(tmp_path, extra={"mosaic": 0.0, "close_mosaic": 0}), **options)
    assert "mosaic: 0.0" in (tmp_path / "out/run/args.yaml").read_text()
    assert len(result.epochs) == 1


@pytest.mark.slow
def test_training_stays_at_home_and_offline(tmp_path):
    """In a process of its own: no connection is tried, nothing is printed, and only `out` is written to."""
    data = dataset(tmp_path / "data")
    settings = tiny(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    program = f"""
        import socket, sys
        tried = []
        def refuse(*arguments, **options):
            tried.append(arguments)
            raise OSError("no network in this test")
        socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
        from pathlib import Path
        from tasks.adapters import trainer
        from tasks.core.settings import TrainingSettings
        assert "ultralytics" not in sys.modules and "torch" not in sys.modules
        settings = TrainingSettings.model_validate_json({settings.model_dump_json()!r})
        result = trainer.train(Path({str(data)!r}), settings, weights=None, project_classes={NAMES!r}, out=Path("out"))
        trainer.export_onnx(result.checkpoint, Path("out/model.onnx"), 64)
        assert not tried, tried
        from ultralytics.nn import tasks
        assert tasks.SAFE_LOAD
    """
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
        "TMPDIR": str(home),
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout == ""
    written = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*") if p.is_file()}
    caches = {p.name for p in (tmp_path / "data").rglob("*.cache")}
    assert written <= {"data", "out", "tiny.yaml", "home"}
    assert caches <= {"train.cache", "val.cache"}
    left = [p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()]
    assert all(name.startswith((".cache/matplotlib", ".config/matplotlib")) for name in left), left  # a list of fonts
