"""Releases on a device: fetched, verified, smoke-tested, and then in force all at once.

    {folder}/models/{model_version}/model.onnx    one file a model, never changed
    {folder}/current.json                         the release in force and the one before it, replaced atomically

A crash at any instant leaves the old pointer or the new one, and both lead to a model that is there and verified.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import read_checked, write_checked
from tasks.adapters.releases.smoke import MEMORY_BYTES, TIMEOUT_S, smoke_test
from tasks.core import layout
from tasks.core.entities import STUB, ModelVersion, Record, Release
from tasks.core.errors import BucketError, ObjectMissing, RecordInvalid, ReleaseRefused, SettingsError
from tasks.core.settings import load_sampling_settings

_POINTER = "current.json"

ModelClasses = tuple[str, ...] | str | None


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """A release that can run: `model` is the path of its ONNX file, or "stub"."""

    release: Release
    model: str
    model_classes: ModelClasses = None


class _Pointer(Record):
    """What `current.json` holds. The class names are those of a model file that has none itself."""

    current: Release
    model_classes: ModelClasses = None
    previous: Release | None = None
    previous_model_classes: ModelClasses = None


def install(
    bucket: Bucket,
    release: Release,
    folder: str | Path,
    *,
    project_classes: Sequence[str] | None = None,
    model_classes: Sequence[str] | str | None = None,
    memory_bytes: int = MEMORY_BYTES,
    timeout: float = TIMEOUT_S,
) -> InstalledRelease:
    """Fetch, verify and try `release`, and put it in force; the one before it stays on the disk.

    project_classes: the class list of the device, the release's own by default. model_classes: class names of a model
    file without metadata, by default those of the model's record in the bucket. memory_bytes, timeout: limits of the
    smoke test. Raises ReleaseRefused with the reason: it is not worth a second try. Raises BucketError when the bucket
    does not answer: it is.
    """
    folder = Path(folder)
    _check_orders(release)
    names = _class_names(bucket, release, model_classes)
    model = _fetched(bucket, release, folder)
    if model != STUB:
        smoke_test(
            Path(model),
            project_classes=list(project_classes or release.class_names),
            model_classes=names,
            confidence_floor=release.settings.confidence_floor,
            nms_iou=release.nms_iou,
            memory_bytes=memory_bytes,
            timeout=timeout,
        )
    _put_in_force(folder, release, names)
    return InstalledRelease(release, model, names)


def installed_release(folder: str | Path) -> InstalledRelease | None:
    """The release in force, its model verified; the one before it when that model is damaged; None without either."""
    pointer = _read_pointer(Path(folder))
    if pointer is None:
        return None
    candidates = [(pointer.current, pointer.model_classes), (pointer.previous, pointer.previous_model_classes)]
    for release, names in candidates:
        model = _intact_model(Path(folder), release) if release else None
        if release and model:
            return InstalledRelease(release, model, names)
    return None


def go_back(folder: str | Path, from_number: int | None = None) -> InstalledRelease | None:
    """Put the previous release in force again; None, changing nothing, when there is none that can run.

    from_number: go back only when that release is the one in force; a newer one may have come in between.
    """
    pointer = _read_pointer(Path(folder))
    if pointer is None or pointer.previous is None:
        return None
    if from_number is not None and pointer.current.number != from_number:
        return None
    model = _intact_model(Path(folder), pointer.previous)
    if model is None:
        return None
    back = _Pointer(current=pointer.previous, model_classes=pointer.previous_model_classes)
    _write_pointer(Path(folder), back)
    return InstalledRelease(pointer.previous, model, pointer.previous_model_classes)


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


def _class_names(bucket: Bucket, release: Release, given: Sequence[str] | str | None) -> ModelClasses:
    """Names of a model file that has none: what the device was told, else what the model's record says."""
    if given is not None or release.model_version == STUB:
        return given if given is None or isinstance(given, str) else tuple(given)
    try:
        return bucket.read_record(layout.model_file(release.model_version, "model.json"), ModelVersion).class_names
    except (ObjectMissing, RecordInvalid):
        return None  # the file may well name its classes itself


# --- the model's file ------------------------------------------------------------------------------------------------


def _fetched(bucket: Bucket, release: Release, folder: Path) -> str:
    """The verified file of the release's model, fetched when it is not there yet."""
    present = _intact_model(folder, release)
    if present is not None:
        return present
    path = _model_path(folder, release)
    key = layout.model_file(release.model_version, "model.onnx")
    try:
        bucket.download(key, path)
    except ObjectMissing:
        raise ReleaseRefused(f"release {release.number}: {bucket.url_of(key)} is not there") from None
    digest = _sha256_of(path)
    if digest != release.model_sha256:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise ReleaseRefused(
            f"release {release.number}: the sha256 of its model is {digest[:16]}..., the release says "
            f"{release.model_sha256[:16]}..."
        )
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
    """Replace the pointer, and then remove models that neither it nor its predecessor needs."""
    before = installed_release(folder)
    previous = before if before is not None and before.release != release else None
    pointer = _Pointer(
        current=release,
        model_classes=names,
        previous=previous.release if previous else None,
        previous_model_classes=previous.model_classes if previous else None,
    )
    _write_pointer(folder, pointer)
    needed = {r.model_version for r in (pointer.current, pointer.previous) if r}
    models = folder / "models"
    for entry in os.scandir(models) if models.is_dir() else ():
        if entry.name not in needed:
            shutil.rmtree(entry.path, ignore_errors=True)


def _write_pointer(folder: Path, pointer: _Pointer) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_checked(folder / _POINTER, pointer.to_json())
    except OSError as error:
        raise BucketError(f"{folder}: cannot be written: {error.strerror or error}: free some space") from error


def _read_pointer(folder: Path) -> _Pointer | None:
    data = read_checked(folder / _POINTER)
    if data is None:
        return None
    try:
        return _Pointer.model_validate_json(data)
    except ValidationError:
        return None  # of a version of this program that wrote other records; the bucket still has the release
