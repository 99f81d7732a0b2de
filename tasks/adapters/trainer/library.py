"""ultralytics, imported so that it stays at home: offline, quiet, and without running code from checkpoints.

A `.pt` file is a pickle, and a pickle can run any program when it is read. With `ULTRALYTICS_SAFE_LOAD` only the
classes that a model is made of are rebuilt; whatever else a file asks for is refused. The library would also ask the
internet for fonts and weights, count its users, install packages, and keep settings in the home folder: all of that is
off, and what it must write lies in a temporary folder of the process.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from tasks.core.errors import ModelError

ENVIRONMENT = {
    "ULTRALYTICS_SAFE_LOAD": "1",
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "YOLO_VERBOSE": "0",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime would report to its maker from its import on
}
INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg")
FONTS = ("Arial.ttf", "Arial.Unicode.ttf")  # those that it would download before it reads any dataset

# What reading a checkpoint raises when it is cut, is something else, or asks for what is not on the allow-list.
UNREADABLE = (
    RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError, EOFError, OSError, AssertionError,
    SyntaxError, ImportError, pickle.UnpicklingError,
)  # fmt: skip
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@cache
def ultralytics() -> ModuleType:
    """The library, set up once a process."""
    home = tempfile.TemporaryDirectory(prefix="edgeloop-trainer-")
    _HOMES.append(home)
    os.environ |= {**ENVIRONMENT, "YOLO_CONFIG_DIR": home.name}
    plain_open = vars(Image)["open"]
    # Somebody may have imported it before us; its replacement holds on to what it replaced.
    plain_open = plain_open.__globals__.get("_image_open", plain_open)
    with quiet():
        library = import_module("ultralytics")
        utils, checks, tasks = (import_module(f"ultralytics.{name}") for name in ("utils", "utils.checks", "nn.tasks"))
        # Somebody may have imported it before us, with another environment.
        folder = Path(home.name)
        vars(tasks)["SAFE_LOAD"] = True
        for module in (utils, checks):
            vars(module).update(ONLINE=False, USER_CONFIG_DIR=folder)
        utils.SETTINGS.file = folder / "settings.json"
        folders = {key: str(folder / key) for key in ("datasets_dir", "weights_dir", "runs_dir")}
        utils.SETTINGS.update(folders | dict.fromkeys(INTEGRATIONS, False))
        _put_fonts(folder)
    # It replaces Pillow's `open` for the whole process by one that wants to install packages for a corrupt image.
    vars(Image)["open"] = plain_open
    return library


_HOMES: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def _put_fonts(home: Path) -> None:
    import matplotlib

    ours = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in FONTS:
        shutil.copyfile(ours, home / name)


@contextmanager
def quiet() -> Iterator[None]:
    """What libraries warn each other of is not for our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_checkpoint(path: Path) -> Any:
    """A detection model (`ultralytics.YOLO`) from a `.pt` file.

    Raises ModelError for a file that is missing, cut, no ultralytics checkpoint, made for another task, or that asks
    for anything but the parts of a model, as a malicious one does. Nothing in it is run.
    """
    if not path.is_file():
        raise ModelError(f"checkpoint {path}: there is no such file")
    library = ultralytics()
    try:
        with quiet(), tempfile.TemporaryDirectory(prefix="edgeloop-checkpoint-") as folder:
            # The library changes names that it knows, and downloads those that it does not find.
            model = library.YOLO(str(Path(shutil.copyfile(path, Path(folder) / "checkpoint.pt"))), task="detect")
    except UNREADABLE as error:
        raise ModelError(f"checkpoint {path.name}: cannot be loaded: {first_line(error)}") from None
    if model.task != "detect":
        raise ModelError(f"checkpoint {path.name}: is a model for {model.task}; give one for detection")
    return model


def first_line(error: BaseException) -> str:
    """The first line of an error of the library, without colours and emojis."""
    lines = [line for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return "".join(c for c in text if ord(c) < 0x2000).strip()[:200]
