"""Releases on a device: fetched, verified, smoke-tested, and then in force all at once.

    {folder}/models/{model_version}/model.onnx    one file a model, never changed
    {folder}/current.json                         the release in force and the one before it, replaced atomically
    {folder}/trusted.json                         the signed metadata that was verified last

A crash at any instant leaves the old pointer or the new one, and both lead to a model that is there and verified.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.adapters.releases.pointer import ModelClasses, Pointer, read_pointer, write_pointer
from tasks.adapters.releases.smoke import Limits, smoke_test
from tasks.adapters.releases.trusted import TrustedReleases
from tasks.core import layout
from tasks.core.entities import STUB, Release
from tasks.core.errors import BucketError, ReleaseRefused, SettingsError
from tasks.core.settings import load_sampling_settings


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """A release that can run: `model` is the path of its ONNX file, or "stub"."""

    release: Release
    model: str
    model_classes: ModelClasses = None
    on_probation: bool = False


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What this device says of models: its own class list, names for a file without metadata, execution providers."""

    project_classes: Sequence[str] | None = None
    model_classes: Sequence[str] | str | None = None
    providers: Sequence[str] = ("cpu",)


def install(
    trusted: TrustedReleases,
    release: Release,
    folder: str | Path,
    device: DeviceModel = DeviceModel(),  # noqa: B008 - frozen
    *,
    limits: Limits | None = None,
) -> InstalledRelease:
    """Fetch, verify and try `release`, and put it in force, on probation; the one before it stays on the disk.

    limits: of the smoke test, by default those of the execution provider. Raises ReleaseRefused with the reason: it is
    not worth a second try; ReleaseUntrusted or BucketError where the model cannot be had now: it is.
    """
    folder = Path(folder)
    pointer = read_pointer(folder)
    _check_orders(release)
    _check_classes(release, pointer.current, device)
    names = _class_names(release, device)
    model = _fetched(trusted, release, folder)
    if model != STUB and not _was_tried(release, pointer):
        smoke_test(Path(model), release, device.project_classes, names, device.providers, limits)
    _put_in_force(folder, release, names)
    return InstalledRelease(release, model, names, on_probation=True)


def installed_release(folder: str | Path) -> InstalledRelease | None:
    """The release in force, its model verified; the one before it when that model is damaged; None without either."""
    pointer = read_pointer(Path(folder))
    candidates = [
        (pointer.current, pointer.model_classes, pointer.on_probation),
        (pointer.previous, pointer.previous_model_classes, pointer.previous_on_probation),
    ]
    for release, names, on_probation in candidates:
        model = _intact_model(Path(folder), release) if release else None
        if release and model:
            return InstalledRelease(release, model, names, on_probation)
    return None


# --- probation, across restarts --------------------------------------------------------------------------------------


def started(folder: str | Path) -> str | None:
    """A process begins to run what is installed; says why it first had to go back, where it had to.

    A process that died within the probation of a release is counted here, by the next one: after as many deaths as the
    release allows, the device goes back.
    """
    folder = Path(folder)
    pointer = read_pointer(folder)
    if pointer.current is None:
        return None
    died = pointer.running and pointer.on_probation
    pointer = pointer.model_copy(update={"running": True, "deaths": pointer.deaths + died})
    write_pointer(folder, pointer)
    allowed = pointer.current.probation.deaths
    if not pointer.on_probation or pointer.deaths < allowed:
        return None
    reason = f"the process died {pointer.deaths} times within its probation"
    go_back(folder, pointer.current.number, reason)
    return f"release {pointer.current.number}: {reason}"


def ended(folder: str | Path) -> None:
    """The process ends in order: the next start is no sign of a crash."""
    pointer = read_pointer(Path(folder))
    if pointer.running:
        write_pointer(Path(folder), pointer.model_copy(update={"running": False}))


def passed(folder: str | Path, number: int) -> None:
    """A release has kept to its limits for the whole of its probation: from now on it is what later ones go back to."""
    pointer = read_pointer(Path(folder))
    if pointer.current is not None and pointer.current.number == number and pointer.on_probation:
        write_pointer(Path(folder), pointer.model_copy(update={"on_probation": False, "deaths": 0}))


def refuse(folder: str | Path, number: int, reason: str) -> None:
    """Remember a release that is not to be tried again."""
    pointer = read_pointer(Path(folder))
    write_pointer(Path(folder), pointer.model_copy(update={"refused_number": number, "refused_reason": reason}))


def refused(folder: str | Path) -> tuple[int, str]:
    """Number and reason of the release that was refused last; 0 for none."""
    pointer = read_pointer(Path(folder))
    return pointer.refused_number, pointer.refused_reason


def go_back(folder: str | Path, from_number: int | None = None, reason: str = "") -> InstalledRelease | None:
    """Put the previous release in force again; None when there is none that can run, and then none is in force.

    from_number: go back only when that release is the one in force; a newer one may have come in between, and then
    nothing changes. reason: why; with one, the release that is left is remembered as refused.
    """
    folder = Path(folder)
    pointer = read_pointer(folder)
    if pointer.current is None or (from_number is not None and pointer.current.number != from_number):
        return None
    model = _intact_model(folder, pointer.previous) if pointer.previous else None
    refusal = {"refused_number": pointer.refused_number, "refused_reason": pointer.refused_reason}
    if reason:
        refusal = {"refused_number": pointer.current.number, "refused_reason": reason}
    if pointer.previous is None or model is None:
        write_pointer(folder, Pointer(running=pointer.running, **refusal))
        return None
    back = Pointer(
        current=pointer.previous,
        model_classes=pointer.previous_model_classes,
        on_probation=pointer.previous_on_probation,
        running=pointer.running,
        **refusal,
    )
    write_pointer(folder, back)
    return InstalledRelease(pointer.previous, model, back.model_classes, back.on_probation)


# --- what is refused before anything is fetched ----------------------------------------------------------------------


def _check_orders(release: Release) -> None:
    """Refuse settings that cannot be obeyed, or that were fitted to another model."""
    what = f"release {release.number}"
    settings = release.settings
    try:
        load_sampling_settings(settings.model_dump(), what)
    except SettingsError as error:
        raise ReleaseRefused(str(error)) from None
    if settings.model_digest and not settings.portable and settings.model_digest != release.model_version:
        raise ReleaseRefused(
            f"{what}: its sampling settings were fitted to model {settings.model_digest}, it brings "
            f"{release.model_version}: evaluate that model, or set portable"
        )
    if release.model_version == STUB:
        return
    if not release.model_sha256.startswith(release.model_version) or len(release.model_sha256) != 64:
        raise ReleaseRefused(
            f"{what}: model {release.model_version} is not the beginning of its sha256 {release.model_sha256!r}"
        )


def _check_classes(release: Release, current: Release | None, device: DeviceModel) -> None:
    """Class lists are append-only: a release for a list that this device's own does not begin, or begin with, is none
    of its orders.
    """
    known = list(device.project_classes or (current.class_names if current else ()))
    new = list(release.class_names)
    length = min(len(known), len(new))
    if known[:length] != new[:length]:
        raise ReleaseRefused(
            f"release {release.number}: is for the class list {_shown(new)}, this device's is {_shown(known)}: class lists "
            f"may only be appended to; give the device a group of its own"
        )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _class_names(release: Release, device: DeviceModel) -> ModelClasses:
    """Names of a model file that has none: what the device was told, else what the release says."""
    given = device.model_classes if device.model_classes is not None else release.model_classes or None
    return given if given is None or isinstance(given, str) else tuple(given)


def _was_tried(release: Release, pointer: Pointer) -> bool:
    """Whether this very model runs here already, in the same way: new settings need no second trial of it."""
    current = pointer.current
    return (
        current is not None
        and not pointer.on_probation
        and current.model_version == release.model_version
        and current.class_names == release.class_names
        and current.nms_iou == release.nms_iou
        and current.settings.confidence_floor == release.settings.confidence_floor
        and current.probe == release.probe
    )


# --- the model's file ------------------------------------------------------------------------------------------------


def _fetched(trusted: TrustedReleases, release: Release, folder: Path) -> str:
    """The verified file of the release's model, fetched when it is not there yet."""
    present = _intact_model(folder, release)
    if present is not None:
        return present
    path = _model_path(folder, release)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BucketError(f"{path.parent}: cannot be made: {error.strerror or error}: free some space") from error
    try:
        trusted.fetch_model(release, path)
    except (BucketError, ReleaseRefused):
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    return str(path)


def _intact_model(folder: Path, release: Release) -> str | None:
    """The model's file when it is what the release says, "stub" when it needs none, else None."""
    if release.model_version == STUB:
        return STUB
    path = _model_path(folder, release)
    return str(path) if _sha256_of(path) == release.model_sha256 else None


def _model_path(folder: Path, release: Release) -> Path:
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


# --- the pointer -----------------------------------------------------------------------------------------------------


def _put_in_force(folder: Path, release: Release, names: ModelClasses) -> None:
    """Replace the pointer, and then remove models that neither it nor its predecessor needs.

    Going back leads to the last release that has passed its probation, where there is one.
    """
    before = read_pointer(folder)
    is_proven = before.current is not None and not before.on_probation
    keeps_previous = before.previous is not None and not is_proven
    same = before.current is not None and before.current.number == release.number
    if keeps_previous or same:
        previous, previous_names, unproven = (
            before.previous,
            before.previous_model_classes,
            before.previous_on_probation,
        )
    else:
        previous, previous_names, unproven = before.current, before.model_classes, before.on_probation
    if previous is not None and _intact_model(folder, previous) is None:
        previous, previous_names, unproven = None, None, False
    pointer = Pointer(
        current=release,
        model_classes=names,
        previous=previous,
        previous_model_classes=previous_names,
        previous_on_probation=unproven,
        on_probation=True,
        running=before.running,
        refused_number=before.refused_number,
        refused_reason=before.refused_reason,
    )
    write_pointer(folder, pointer)
    _remove_other_models(folder, {r.model_version for r in (release, previous) if r})


def _remove_other_models(folder: Path, needed: set[str]) -> None:
    models = folder / "models"
    for entry in os.scandir(models) if models.is_dir() else ():
        if entry.name not in needed:
            shutil.rmtree(entry.path, ignore_errors=True)
