"""What is installed on a device: the release in force and the one before it, and how the probation of it goes on
across restarts.

Every change is one replacement of the pointer: a crash at any instant leaves the old one or the new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.adapters.releases.pointer import Held, ModelClasses, read_pointer, write_pointer
from tasks.core import layout
from tasks.core.entities import STUB, Release

_changing = threading.RLock()  # of the pointer: the main loop goes back while the orders thread installs


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """A release that can run: `model` is the path of its ONNX file, or "stub"."""

    release: Release
    model: str
    model_classes: ModelClasses = None
    on_probation: bool = False


def installed_release(folder: str | Path) -> InstalledRelease | None:
    """The release in force, its model verified; the one before it when that model is damaged; None without either."""
    pointer = read_pointer(Path(folder))
    return _runnable(Path(folder), pointer.current) or _runnable(Path(folder), pointer.previous)


def put_in_force(folder: Path, release: Release, names: ModelClasses) -> None:
    """Replace the pointer, and then remove models that neither it nor its predecessor needs.

    What it leads back to is the last release that has passed its probation, where there is one.
    """
    with _changing:
        before = read_pointer(folder)
        is_again = before.current is not None and before.current.release.number == release.number
        is_unproven = before.current is None or before.current.on_probation
        previous = before.previous if is_again or (is_unproven and before.previous) else before.current
        if _runnable(folder, previous) is None:
            previous = None
        current = Held(release=release, model_classes=names)
        changes = {"current": current, "previous": previous, "deaths": 0}
        write_pointer(folder, before.model_copy(update=changes))
        _remove_other_models(folder, {held.release.model_version for held in (current, previous) if held})


def go_back(folder: str | Path, from_number: int | None = None, reason: str = "") -> InstalledRelease | None:
    """Put the previous release in force again; None when there is none that can run, and then none is in force.

    from_number: go back only when that release is the one in force; a newer one may have come in between, and then
    nothing changes. reason: why; with one, the release that is left is remembered as refused.
    """
    folder = Path(folder)
    with _changing:
        pointer = read_pointer(folder)
        if pointer.current is None or from_number not in (None, pointer.current.release.number):
            return None
        back = _runnable(folder, pointer.previous)
        changes: dict[str, Any] = {"current": pointer.previous if back else None, "previous": None, "deaths": 0}
        if reason:
            changes |= {"refused_number": pointer.current.release.number, "refused_reason": reason}
        write_pointer(folder, pointer.model_copy(update=changes))
        return back


# --- probation and refusals, across restarts -------------------------------------------------------------------------


def started(folder: str | Path) -> None:
    """A process begins with what is installed, or goes back first, from a release that has killed too many before it.

    Every end of a process that was not in order, within the probation of a release, counts.
    """
    folder = Path(folder)
    with _changing:
        pointer = read_pointer(folder)
        current = pointer.current
        died = pointer.running and current is not None and current.on_probation
        pointer = pointer.model_copy(update={"running": True, "deaths": pointer.deaths + died})
        write_pointer(folder, pointer)
        if current is not None and current.on_probation and pointer.deaths >= current.release.probation.deaths:
            number = current.release.number
            go_back(folder, number, f"the process died {pointer.deaths} times within its probation")


def ended(folder: str | Path) -> None:
    """The process ends in order: the next start is no sign of a crash."""
    _change(Path(folder), running=False)


def passed(folder: str | Path, number: int) -> None:
    """A release has kept to its limits for the whole of its probation: from now on later ones lead back to it."""
    with _changing:
        current = read_pointer(Path(folder)).current
        if current is not None and current.release.number == number:
            _change(Path(folder), current=current.model_copy(update={"on_probation": False}), deaths=0)


def refuse(folder: str | Path, number: int, reason: str) -> None:
    """Remember a release that is not to be tried again."""
    _change(Path(folder), refused_number=number, refused_reason=reason)


def refused(folder: str | Path) -> tuple[int, str]:
    """Number and reason of the release that was refused last; 0 for none."""
    pointer = read_pointer(Path(folder))
    return pointer.refused_number, pointer.refused_reason


def _change(folder: Path, **changes: Any) -> None:
    with _changing:
        before = read_pointer(folder)
        after = before.model_copy(update=changes)
        if after != before:
            write_pointer(folder, after)


# --- the models' files -----------------------------------------------------------------------------------------------


def _runnable(folder: Path, held: Held | None) -> InstalledRelease | None:
    """What is held, when its model is there and is what its release says."""
    model = intact_model(folder, held.release) if held else None
    return InstalledRelease(held.release, model, held.model_classes, held.on_probation) if held and model else None


def _remove_other_models(folder: Path, needed: set[str]) -> None:
    models = folder / "models"
    for entry in os.scandir(models) if models.is_dir() else ():
        if entry.name not in needed:
            shutil.rmtree(entry.path, ignore_errors=True)


def intact_model(folder: Path, release: Release) -> str | None:
    """The model's file when it is what the release says, "stub" when it needs none, else None."""
    if release.model_version == STUB:
        return STUB
    path = model_path(folder, release)
    return str(path) if _sha256_of(path) == release.model_sha256 else None


def model_path(folder: Path, release: Release) -> Path:
    # Alone in its folder: a model that keeps tensors in other files finds none beside it.
    layout.model_file(release.model_version, "model.onnx")  # refuses a version that is no plain id
    return folder / "models" / release.model_version / "model.onnx"


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()
