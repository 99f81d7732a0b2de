"""Releases as central signs them: the project's keys, what they have signed, and that it stays valid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import ROLES, Publisher, SigningKeys, create_keys, read_keys, try_model
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, Probe, Release
from tasks.core.errors import ReleaseRefused, SettingsError
from tasks.core.settings import ProjectSettings

_ROOT_IS_RENEWED = timedelta(days=120)  # before its end, of the 365 that it is valid for
_ROOT_IS_URGENT = timedelta(days=60)


@dataclass(frozen=True)
class Kept:
    """What was done so that releases stay signed, and what a person has to do."""

    done: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()


def publisher(project: ProjectSettings) -> Publisher:
    """Raises SettingsError without the project's keys."""
    return Publisher(Central(project).bucket, read_keys(Path(project.signing_keys), project.project))


def keep_signed(project: ProjectSettings) -> Kept:
    """Keys where a project on one machine has none yet; signatures that are about to end are made anew."""
    bucket = Central(project).bucket
    made = prepare_keys(project, bucket)
    keys = read_keys(Path(project.signing_keys), project.project)
    done = [made] if made else []
    waits_for = []
    ends = keys.root.expires
    left = ends - datetime.now(timezone.utc)
    if left < _ROOT_IS_RENEWED:
        if len(keys.signers("root")) >= keys.root.roles["root"].threshold:
            keys = Publisher(bucket, keys).replace_root()
            done.append(f"renewed the root of the signing keys: valid until {keys.root.expires:%Y-%m-%d}")
        elif left < _ROOT_IS_URGENT:
            waits_for.append(
                f"a new root of the signing keys, this one ends on {ends:%Y-%m-%d} (edgeloop keys rotate-root)"
            )
    if signed := Publisher(bucket, keys).sign_again():
        done.append(f"signed the releases again ({', '.join(signed)})")
    return Kept(tuple(done), tuple(waits_for))


def prepare_keys(project: ProjectSettings, bucket: Bucket) -> str:
    """Make the keys of a project whose bucket is a folder of this machine, when it has none; what was made.

    Raises SettingsError where a person has to make them, has lost them, or wants them where they would be given away.
    """
    folder = Path(project.signing_keys)
    refuse_inside_bucket(folder, project.bucket)
    if folder.exists():
        read_keys(folder, project.project)
        return ""
    if bucket.exists(layout.tuf_timestamp()):
        raise SettingsError(
            f"{folder}: holds no signing keys, and the releases in {project.bucket} are signed: put the keys back from "
            f"their copy (RELEASES.md says what to do when there is none)"
        )
    if urlsplit(project.bucket).scheme != "file":
        raise SettingsError(
            f"{folder}: holds no signing keys: make them once, with edgeloop keys init --folder {folder} --project "
            f"{project.project}, and keep a copy"
        )
    create_keys(folder, project.project)
    return f"made the keys that sign releases in {folder}: devices get {folder / 'root.json'} as their trusted_root"


def refuse_inside_bucket(folder: Path, bucket: str) -> None:
    """Keys in the bucket would be everybody's."""
    parts = urlsplit(bucket)
    if parts.scheme == "file" and folder.absolute().is_relative_to(Path(unquote(parts.path))):
        raise SettingsError(f"keys {folder}: lies inside the bucket {bucket}: name another folder")


def probe_of(central: Central, release: Release) -> Probe | None:
    """What the release's model makes of the probe frames here; none for the stub.

    Raises ReleaseRefused for a model that does not run even here.
    """
    if release.model_version == STUB:
        return None
    return try_model(
        central.model_path(release.model_version),
        class_names=release.class_names,
        model_classes=release.model_classes or None,
        confidence_floor=release.settings.confidence_floor,
        nms_iou=release.nms_iou,
        embedding=release.settings.embedding_output,
    ).probe


def back(project: ProjectSettings, group: str, to: int = 0, reason: str = "") -> Release:
    """Publish the orders of an earlier release again, under a new number.

    to: its number; 0 for the one before the release in force, and once more for the one before that. Raises
    ReleaseRefused when there is none, or its record is not what was signed.
    """
    signed = publisher(project)
    live = signed.newest(group)
    if live is None:
        raise ReleaseRefused(f"group {group}: has no release yet: there is nothing to go back from")
    left = signed.release(group, live.back_to) if live.back_to else live
    number = to or left.previous
    if not number:
        raise ReleaseRefused(f"group {group}: release {left.number} was the first: there is nothing before it")
    orders = signed.release(group, number)
    now = datetime.now(timezone.utc)
    fresh = {"created_at": now, "back_to": number, "reason": reason or f"Back to the orders of release {number}."}
    return signed.publish(orders.model_copy(update=fresh))


def signed_releases(project: ProjectSettings, group: str, last: int) -> list[Release]:
    """The last releases of a group as they were signed, newest first."""
    return publisher(project).last(group, last)


def rotate_root(
    project: ProjectSettings, roles: frozenset[str] = frozenset(), root_folder: Path | None = None
) -> SigningKeys:
    """Publish a new root: valid for another year, with fresh keys for `roles`."""
    if unknown := sorted(set(roles) - set(ROLES)):
        raise SettingsError(f"--replace {', '.join(unknown)}: is no role: use {', '.join(ROLES)}")
    return publisher(project).replace_root(frozenset(role for role in ROLES if role in roles), root_folder)
