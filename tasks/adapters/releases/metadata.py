"""The signed metadata of releases: TUF's four roles, how long each is valid, and how it is read."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from tasks.core import layout

Role = Literal["root", "targets", "snapshot", "timestamp"]
AnyRole = TypeVar("AnyRole", Root, Targets, Snapshot, Timestamp)

ROLES: tuple[Role, ...] = ("root", "targets", "snapshot", "timestamp")

# A device stops following new releases, and says so, when one of these has passed; it goes on with what it has. The
# timestamp's is how long somebody who holds a device's link back could hide a new release from it.
LIFETIMES: dict[Role, timedelta] = {
    "root": timedelta(days=365),
    "targets": timedelta(days=180),
    "snapshot": timedelta(days=180),
    "timestamp": timedelta(days=14),
}
LONGEST = {"root": 512_000, "targets": 5_000_000, "snapshot": 200_000, "timestamp": 16_384}  # bytes

PROJECT = "edgeloop-project"  # field of the root that says whose releases it is for
SIGNED_AT = "edgeloop-signed-at"  # field of the snapshot from which its timestamp follows

_RELEASE = re.compile(r"releases/([a-z0-9-]{1,63})/([0-9]{6,})\.json\Z")


def parse(kind: type[AnyRole], data: bytes) -> Metadata[AnyRole]:
    """Metadata of one role, its signatures not looked at. Raises tuf's RepositoryError for anything else."""
    metadata: Metadata[AnyRole] = Metadata.from_bytes(data)
    if metadata.signed.type != kind.type:
        raise RepositoryError(f"is {metadata.signed.type} metadata, not {kind.type}")
    return metadata


def verified(kind: type[AnyRole], data: bytes, root: Root) -> AnyRole:
    """Metadata of one role, signed by the keys that `root` names for it. Raises tuf's RepositoryError otherwise."""
    metadata = parse(kind, data)
    root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def numbers_of(targets: Targets, group: str) -> list[int]:
    """The numbers of the group's releases, lowest first."""
    found = [_RELEASE.match(path) for path in targets.targets]
    return sorted(int(match[2]) for match in found if match and match[1] == group)


def release_target(targets: Targets, group: str, number: int) -> TargetFile | None:
    return targets.targets.get(layout.release(group, number))


def project_of(root: Root) -> str:
    """The project that a root was made for; empty when it does not say."""
    return str(root.unrecognized_fields.get(PROJECT, ""))


def expires(role: Role, signed_at: datetime) -> datetime:
    """When metadata that is signed now ends, in whole seconds."""
    return signed_at.astimezone(timezone.utc).replace(microsecond=0) + LIFETIMES[role]


def is_past_half(role: Role, signed: Signed, now: datetime) -> bool:
    """Whether less than half of its life is left."""
    return signed.expires - now < LIFETIMES[role] / 2


__all__ = [
    "LIFETIMES",
    "LONGEST",
    "PROJECT",
    "ROLES",
    "SIGNED_AT",
    "DeserializationError",
    "Role",
    "expires",
    "is_past_half",
    "numbers_of",
    "parse",
    "project_of",
    "release_target",
    "verified",
]
