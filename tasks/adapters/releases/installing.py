"""Releases on a device: fetched, verified, smoke-tested, and then in force all at once.

    {folder}/models/{model_version}/model.onnx    one file a model, never changed
    {folder}/current.json                         the release in force and the one before it, replaced atomically
    {folder}/trusted.json                         the signed metadata that was verified last

A crash at any instant leaves the old pointer or the new one, and both lead to a model that is there and verified.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.adapters.releases.installed import InstalledRelease, intact_model, model_path, put_in_force
from tasks.adapters.releases.pointer import ModelClasses, Pointer, read_pointer
from tasks.adapters.releases.smoke import Limits, smoke_test
from tasks.adapters.releases.trusted import TrustedReleases
from tasks.core.entities import STUB, Release
from tasks.core.errors import BucketError, ReleaseRefused, SettingsError
from tasks.core.settings import load_sampling_settings


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
    device: DeviceModel = DeviceModel(),
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
    current = pointer.current.release if pointer.current else None
    _check_classes(release, current, device)
    names = _class_names(release, device)
    model = _fetched(trusted, release, folder)
    if model != STUB and not _was_tried(release, pointer):
        smoke_test(Path(model), release, names, device.providers, limits)
    put_in_force(folder, release, names)
    return InstalledRelease(release, model, names, on_probation=True)


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
            f"release {release.number}: is for the class list {_shown(new)}, this device's is {_shown(known)}: class "
            f"lists may only be appended to; give the device a group of its own"
        )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _class_names(release: Release, device: DeviceModel) -> ModelClasses:
    """Names of a model file that has none: what the device was told, else what the release says."""
    given = device.model_classes if device.model_classes is not None else release.model_classes or None
    return given if given is None or isinstance(given, str) else tuple(given)


def _was_tried(release: Release, pointer: Pointer) -> bool:
    """Whether this very model runs here already, in the same way: new settings need no second trial of it."""
    if pointer.current is None or pointer.current.on_probation:
        return False
    current = pointer.current.release
    return (
        current.model_version == release.model_version
        and current.class_names == release.class_names
        and current.nms_iou == release.nms_iou
        and current.settings.confidence_floor == release.settings.confidence_floor
        and current.probe == release.probe
    )


def _fetched(trusted: TrustedReleases, release: Release, folder: Path) -> str:
    """The verified file of the release's model, fetched when it is not there yet."""
    present = intact_model(folder, release)
    if present is not None:
        return present
    path = model_path(folder, release)
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
