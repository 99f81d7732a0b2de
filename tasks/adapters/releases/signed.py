"""What is signed now, as central reads it: the base that the next signature is put on, and the release in force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pydantic import ValidationError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases.keys import SigningKeys
from tasks.adapters.releases.metadata import (
    LONGEST,
    SIGNED_AT,
    AnyRole,
    numbers_of,
    parse,
    release_target,
    verified,
)
from tasks.core import layout
from tasks.core.entities import Release
from tasks.core.errors import ObjectMissing, ReleaseRefused, ReleaseUntrusted

_NEWER = ("extra_forbidden", "union_tag_invalid")  # faults of a field, or of a type of strategy, of a later version
_LOOKED_BACK = 20  # numbers below the highest in which one that we have signed must be


@dataclass(frozen=True)
class Signed:
    """The newest metadata of ours, and the highest numbers that anybody has taken; none before the first release."""

    targets: Targets | None
    highest_targets: int
    snapshot: Snapshot | None
    highest_snapshot: int

    def newest(self, bucket: Bucket, group: str) -> Release | None:
        """The newest signed release of a group."""
        numbers = numbers_of(self.targets, group) if self.targets else []
        return self.release(bucket, group, numbers[-1]) if numbers else None

    def release(self, bucket: Bucket, group: str, number: int) -> Release:
        """A release as it was signed. Raises ReleaseRefused when there is none, or its record is another one."""
        if self.targets is None or release_target(self.targets, group, number) is None:
            raise ReleaseRefused(f"release {number} of group {group}: is not among the signed ones: choose another")
        return _read(bucket, self.targets, group, number)


def load_signed(bucket: Bucket, keys: SigningKeys) -> Signed:
    """The newest metadata that our keys have signed. Raises ReleaseUntrusted when there is only other people's."""
    roots = _trusted_roots(bucket, keys)
    known = load_timestamp(bucket, roots)
    after = known.snapshot_meta.version if known else 0
    highest_snapshot = bucket.latest_number(partial(layout.tuf_metadata, "snapshot"), after)
    snapshot = _newest_of(Snapshot, highest_snapshot, bucket, keys, roots)
    after = snapshot.meta["targets.json"].version if snapshot else 0
    # Read after the snapshot: what another publisher has put into targets and not yet into a snapshot counts, too.
    highest_targets = bucket.latest_number(partial(layout.tuf_metadata, "targets"), after)
    targets = _newest_of(Targets, highest_targets, bucket, keys, roots)
    return Signed(targets, highest_targets, snapshot, highest_snapshot)


def load_timestamp(bucket: Bucket, roots: list[Root]) -> Timestamp | None:
    """The timestamp, when it is there and the keys of one of the roots have signed it."""
    try:
        data = bucket.get(layout.tuf_timestamp(), at_most=LONGEST["timestamp"])
    except ObjectMissing:
        return None
    return _ours(Timestamp, data, roots)


def signed_at(snapshot: Snapshot) -> datetime:
    return datetime.fromisoformat(str(snapshot.unrecognized_fields[SIGNED_AT]).replace("Z", "+00:00"))


def latest_release(bucket: Bucket, group: str, after: int = 0) -> Release | None:
    """The newest published release of `group` above number `after`; None when there is none.

    For central, which trusts its own bucket: signatures are not looked at. Raises BucketError when the bucket does not
    answer and ReleaseRefused when a record is not what it should be.
    """
    try:
        timestamp = parse(Timestamp, bucket.get(layout.tuf_timestamp())).signed
        snapshot = parse(Snapshot, bucket.get(layout.tuf_metadata("snapshot", timestamp.snapshot_meta.version))).signed
        version = snapshot.meta["targets.json"].version
        targets = parse(Targets, bucket.get(layout.tuf_metadata("targets", version))).signed
    except ObjectMissing:
        return None
    except (RepositoryError, KeyError) as error:
        raise ReleaseUntrusted(f"{bucket.url_of(layout.tuf_timestamp())}: leads to no releases: {error}") from None
    numbers = numbers_of(targets, group)
    return _read(bucket, targets, group, numbers[-1]) if numbers and numbers[-1] > after else None


def read_release(bucket: Bucket, group: str, number: int) -> Release:
    """One record, signed or not. Raises ObjectMissing, and ReleaseRefused when the record is not that of its key."""
    return parsed_release(bucket.get(layout.release(group, number)), group, number)


def parsed_release(data: bytes, group: str, number: int) -> Release:
    """The record of a release. Raises ReleaseRefused when it is none, or that of another group or number."""
    try:
        release = Release.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] in _NEWER:
            raise ReleaseRefused(
                f"release {number}: asks for {field}, which this version does not know: upgrade the device's software"
            ) from None
        raise ReleaseRefused(f"release {number}: is no valid release: {field}: {first['msg']}") from None
    if (release.group, release.number) != (group, number):
        raise ReleaseRefused(
            f"release {number}: its record says group {release.group!r}, number {release.number}: it was copied there"
        )
    return release


# --- inside ----------------------------------------------------------------------------------------------------------


def _trusted_roots(bucket: Bucket, keys: SigningKeys) -> list[Root]:
    """Ours, and while a new one is on its way, the one that devices still have."""
    newest = len(keys.roots)
    published = bucket.latest_number(partial(layout.tuf_metadata, "root"))
    if published > newest:
        raise ReleaseUntrusted(
            f"{bucket.url_of(layout.tuf_metadata('root', published))}: is newer than the root in {keys.folder}: use "
            f"the keys that made it"
        )
    return [parse(Root, keys.roots[n - 1]).signed for n in sorted({newest, published or newest})]


def _newest_of(
    kind: type[AnyRole], highest: int, bucket: Bucket, keys: SigningKeys, roots: list[Root]
) -> AnyRole | None:
    for number in range(highest, max(0, highest - _LOOKED_BACK), -1):
        found = _ours(kind, bucket.get(layout.tuf_metadata(kind.type, number)), roots)
        if found is not None and found.version == number:
            return found
    if highest:
        raise ReleaseUntrusted(
            f"{bucket.url_of(layout.tuf_metadata(kind.type, highest))}: is not signed by the keys in {keys.folder}: "
            f"use the keys of this project"
        )
    return None


def _ours(kind: type[AnyRole], data: bytes, roots: list[Root]) -> AnyRole | None:
    """Metadata that the keys of one of the roots have signed; None for anything else."""
    for root in reversed(roots):
        try:
            return verified(kind, data, root)
        except RepositoryError:
            continue
    return None


def _read(bucket: Bucket, targets: Targets, group: str, number: int) -> Release:
    """The record of a target, which is the one that was signed."""
    target = release_target(targets, group, number)
    data = bucket.get(layout.release(group, number))
    try:
        if target is not None:
            target.verify_length_and_hashes(data)
    except RepositoryError as error:
        raise ReleaseUntrusted(f"release {number} of group {group}: {error}") from None
    return parsed_release(data, group, number)
