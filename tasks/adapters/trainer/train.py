"""Training: a dataset folder in, a checkpoint out."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.adapters.trainer.library import first_line, load_checkpoint, quiet, ultralytics
from tasks.core.errors import LabelsInvalid, ModelError, NotEnoughData, SettingsError, TrainingFailed
from tasks.core.settings import TrainingSettings

RUN = "run"  # the folder of the library's own files below `out`
OURS = {
    "data", "model", "project", "name", "save_dir", "exist_ok", "resume", "cfg", "mode", "task", "save", "pretrained",
}  # fmt: skip

OnEpoch = Callable[[int, int, dict[str, float]], None]

# Training ends in one of these when memory, data or an architecture is not what it takes.
_CRASHES = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, OSError, MemoryError,
    ZeroDivisionError, NotImplementedError, ImportError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """checkpoint: the best epoch's. epochs: figures of each epoch (losses, learning rates, mAP on calibration images).

    best_epoch: counted from 1. seconds: all of it, the loading of the library left out.
    """

    checkpoint: Path
    epochs: tuple[Mapping[str, float], ...]
    best_epoch: int
    seconds: float


def train(
    data_yaml: Path,
    settings: TrainingSettings,
    *,
    weights: Path | None,
    project_classes: Sequence[str],
    out: Path,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
) -> TrainingResult:
    """Train a detection model on a folder that `labels.write_yolo` wrote; nothing is written elsewhere than in `out`.

    But for the library's own caches of labels, which it puts into the dataset folder.

    weights: a checkpoint to start from, whose parts are taken where they fit: with another number of classes all but
    the last layer. Without it the architecture `settings.model` starts from scratch. on_epoch: called after each epoch
    with its number from 1, the number of epochs, and its figures; what it raises ends the training. resume: go on with
    the run that was interrupted in `out`, if there is one.

    Raises NotEnoughData without labelled training images, ModelError for weights or an architecture that cannot be
    used, SettingsError for settings that the library does not know, TrainingFailed without a usable model at the end.
    """
    _check_data(data_yaml, project_classes)
    arguments = _arguments(data_yaml, settings, out)
    library = ultralytics()
    last = out / RUN / "weights" / "last.pt"
    if resume and last.is_file() and _is_unfinished(last):
        model, arguments = load_checkpoint(last), arguments | {"resume": str(last)}
    else:
        model = _start(library, settings, weights, out)
    history = _History(on_epoch)
    model.add_callback("on_fit_epoch_end", history.record)
    before = time.monotonic()
    try:
        with quiet():
            model.train(**arguments)
    except SyntaxError as error:  # how it refuses an unknown setting
        raise SettingsError(f"training.extra: {first_line(error)}") from None
    except _CRASHES as error:
        if history.interrupted is error:  # the caller's own error
            raise
        raise TrainingFailed(f"training in {out.name}: {type(error).__name__}: {first_line(error)}") from error
    best = out / RUN / "weights" / "best.pt"
    if not best.is_file() or not history.epochs:
        raise TrainingFailed(f"training in {out.name}: ended without a checkpoint; look at {RUN}/results.csv there")
    checkpoint = Path(shutil.copyfile(best, out / "weights.pt"))
    return TrainingResult(checkpoint, tuple(history.epochs), history.best_epoch, time.monotonic() - before)


class _History:
    """Collects the figures of each epoch and hands them on."""

    def __init__(self, on_epoch: OnEpoch | None) -> None:
        self.on_epoch = on_epoch
        self.epochs: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_fitness = -math.inf
        self.is_over = False
        self.interrupted: Exception | None = None

    def record(self, trainer: Any) -> None:
        """The library calls it after each epoch, and once more after its final validation."""
        if self.is_over:
            return
        self.is_over = bool(trainer.stop)
        losses = trainer.label_loss_items(trainer.tloss, prefix="train")
        figures = {**losses, **trainer.metrics, **trainer.lr, "fitness": trainer.fitness}
        epoch = trainer.epoch + 1
        self.epochs.append({"epoch": float(epoch)} | {name: float(value) for name, value in figures.items()})
        if trainer.fitness is not None and trainer.fitness > self.best_fitness:
            self.best_fitness, self.best_epoch = float(trainer.fitness), epoch
        if self.on_epoch is not None:
            self._hand_on(epoch, int(trainer.epochs))

    def _hand_on(self, epoch: int, epochs: int) -> None:
        try:
            if self.on_epoch is not None:
                self.on_epoch(epoch, epochs, dict(self.epochs[-1]))
        except _CRASHES as error:
            self.interrupted = error
            raise


def _start(library: Any, settings: TrainingSettings, weights: Path | None, out: Path) -> Any:
    """The model before training."""
    if weights is None and settings.model.endswith(".pt"):
        weights = Path(settings.model)
    if weights is not None:
        return load_checkpoint(weights)
    try:
        with quiet():
            return library.YOLO(settings.model, task="detect")
    except (*_CRASHES, SyntaxError) as error:
        raise ModelError(f"architecture {settings.model}: cannot be built: {first_line(error)}") from None


def _arguments(data_yaml: Path, settings: TrainingSettings, out: Path) -> dict[str, Any]:
    refused = sorted(OURS & set(settings.extra))
    if refused:
        raise SettingsError(f"training.extra: {', '.join(refused)} cannot be set there: edgeloop sets it itself")
    return {
        "data": str(data_yaml.resolve()),
        "epochs": settings.epochs,
        "imgsz": settings.imgsz,
        "batch": settings.batch,
        "lr0": settings.lr0,
        "optimizer": settings.optimizer,
        "freeze": settings.freeze or None,
        "patience": settings.patience,
        "seed": settings.seed,
        "device": settings.device or _device(),
        "workers": settings.workers,
        "project": str(out.resolve()),
        "name": RUN,
        "exist_ok": True,
        "plots": False,
        "verbose": False,
        "amp": False,  # its check would download a model; bf16 in `extra` needs none
        **settings.extra,
    }


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return "0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _is_unfinished(last: Path) -> bool:
    """Whether a checkpoint still holds what its run needs to go on; a finished run drops it."""
    checkpoint = load_checkpoint(last).ckpt
    return checkpoint.get("epoch", -1) >= 0 and checkpoint.get("optimizer") is not None


def _check_data(data_yaml: Path, project_classes: Sequence[str]) -> None:
    """Raises NotEnoughData and LabelsInvalid, before the library is even loaded."""
    try:
        data = yaml.safe_load(data_yaml.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LabelsInvalid(f"{data_yaml}: cannot be read: {first_line(error)}") from None
    names = data.get("names") if isinstance(data, dict) else None
    listed = [names[key] for key in sorted(names)] if isinstance(names, dict) else names
    if listed != list(project_classes):
        raise LabelsInvalid(f"{data_yaml}: its class names are not the project's: write it with labels.write_yolo")
    if "download" in data:
        raise LabelsInvalid(f"{data_yaml}: has a `download` entry, which the trainer would run: remove it")
    folder = Path(data.get("path") or data_yaml.parent)
    for stale in folder.glob("labels/*.cache"):  # a pickle that the library would trust
        stale.unlink()
    label_files = list((folder / "labels" / "train").glob("*.txt"))
    boxes = sum(1 for path in label_files for line in path.read_text().splitlines() if line.strip())
    if not boxes:
        raise NotEnoughData(
            f"{data_yaml.parent.name}: {len(label_files)} training images with no labelled box: label images that show "
            f"the classes before training"
        )
