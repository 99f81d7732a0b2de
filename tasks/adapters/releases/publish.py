"""Releases as central publishes them: numbered, signed, and only then seen by devices.

    publisher = Publisher(bucket, read_keys(Path("keys"), "yard"))
    publisher.publish(release)    # the record, then targets and snapshot, and last the timestamp, which devices ask for
    publisher.sign_again()        # once a day: what is signed stays valid

Everything but the timestamp is created conditionally. A writer of a number that is taken builds on what is there and
takes the next one, so that no signature of another publisher is lost; the timestamp's version is its snapshot's, so
that the last one to write it, whoever that is, writes the newest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases.keys import SigningKeys, new_root, remove_replaced_keys
from tasks.adapters.releases.metadata import LIFETIMES, SIGNED_AT, Role, expires, is_past_half, numbers_of
from tasks.adapters.releases.signed import Signed, load_signed, load_timestamp, read_release, signed_at
from tasks.core import layout
from tasks.core.entities import STUB, Release, format_utc
from tasks.core.errors import BucketError, ObjectConflict, ObjectMissing, ReleaseRefused, ReleaseUntrusted

KEPT_RELEASES = 50  # of a group; older ones stay in the bucket, and leave the list that every device fetches
_TIMESTAMP_AGE = timedelta(days=1)
_ATTEMPTS = 60  # to write on top of what others are writing


class Publisher:
    """Signs and writes for one project. `now` is the time of the signatures. Raises BucketError, as the bucket does,
    and ReleaseUntrusted where the bucket holds what other keys have signed.
    """

    def __init__(self, bucket: Bucket, keys: SigningKeys, *, now: datetime | None = None) -> None:
        self._bucket = bucket
        self._keys = keys
        self._now = (now or datetime.now(timezone.utc)).replace(microsecond=0)

    def publish(self, release: Release) -> Release:
        """Publish `release` as the next number of its group; the release as it was published.

        Its own `number` and `previous` are replaced. Calling it again with an equal release that is still the newest
        writes nothing new, so that a retried task does not publish twice. Raises ReleaseRefused when the model's file
        is not in the bucket, or is another one: no device could install it.
        """
        model = self._model_target(release)
        with self._keys.held():
            published = self._claim_and_sign(release, model)
            self._sign_snapshot()
        return published

    def newest(self, group: str) -> Release | None:
        """The newest signed release of a group."""
        return load_signed(self._bucket, self._keys).newest(self._bucket, group)

    def last(self, group: str, count: int) -> list[Release]:
        """The last releases of a group as they were signed, newest first."""
        signed = load_signed(self._bucket, self._keys)
        numbers = numbers_of(signed.targets, group)[::-1] if signed.targets else []
        return [signed.release(self._bucket, group, number) for number in numbers[:count]]

    def release(self, group: str, number: int) -> Release:
        """A release as it was signed. Raises ReleaseRefused when there is none, or its record is another one."""
        return load_signed(self._bucket, self._keys).release(self._bucket, group, number)

    def sign_again(self) -> list[str]:
        """Sign anew what has lost half of its life, and the timestamp when it is a day old; the roles that were signed.

        Also completes what an interrupted publisher left: the last timestamp always leads to the newest snapshot.
        """
        done: list[str] = []
        with self._keys.held():
            signed = load_signed(self._bucket, self._keys)
            if signed.targets is None:
                return done
            if is_past_half("targets", signed.targets, self._now):
                with suppress(ObjectConflict):  # somebody else has just signed them
                    self._sign_targets(signed, {})
                done.append("targets")
            if done or self._timestamp_is_old(signed):
                self._sign_snapshot()
                done += ["snapshot", "timestamp"]
        return done

    def replace_root(self, replace: frozenset[Role] = frozenset(), root_folder: Path | None = None) -> SigningKeys:
        """Publish the next version of the root, and sign with the keys that it names; the keys from now on.

        Cut off at any point, the next call of any method goes on with it. root_folder: as of `new_root`.
        """
        with self._keys.held():
            signed = load_signed(self._bucket, self._keys)
            self._keys = new_root(self._keys, replace, root_folder=root_folder, now=self._now)
            if signed.targets is not None:
                if "targets" in replace:
                    self._sign_targets(signed, {})
                self._sign_snapshot()
            else:
                self._write_roots()
            for folder in {self._keys.folder, root_folder or self._keys.folder}:
                remove_replaced_keys(self._keys, folder)
        return self._keys

    # --- inside ------------------------------------------------------------------------------------------------------

    def _model_target(self, release: Release) -> dict[str, TargetFile]:
        """The model's file as a target; it is read whole, so that nothing is signed that is not there."""
        if release.model_version == STUB:
            return {}
        key = layout.model_file(release.model_version, "model.onnx")
        url = self._bucket.url_of(key)
        try:
            data = self._bucket.get(key)
        except ObjectMissing:
            raise ReleaseRefused(f"{url}: is not there: upload the model before its release") from None
        if hashlib.sha256(data).hexdigest() != release.model_sha256:
            raise ReleaseRefused(f"{url}: is not the model of the release: upload it again")
        return {key: TargetFile.from_data(key, data, ["sha256"])}

    def _claim_and_sign(self, release: Release, model: Mapping[str, TargetFile]) -> Release:
        """The release under a number of its own, among the targets."""
        claimed: Release | None = None
        for _ in range(_ATTEMPTS):
            signed = load_signed(self._bucket, self._keys)
            newest = signed.newest(self._bucket, release.group)
            if newest is not None and _same_orders(newest, release):
                return newest
            claimed = claimed or self._claim(release, newest.number if newest else 0)
            try:
                self._sign_targets(signed, {**model, **_target_of(claimed)})
            except ObjectConflict:
                continue  # somebody else was quicker; theirs stays, ours comes on top of it
            return claimed
        raise BucketError(f"{self._bucket!r}: other publishers took every number: try again")

    def _claim(self, release: Release, newest: int) -> Release:
        """Write the record under the first free number; one of ours that was left unsigned is taken up again."""
        number = self._bucket.latest_number(partial(layout.release, release.group), newest)
        left = _readable(self._bucket, release.group, number) if number > newest else None
        if left is not None and _same_orders(left, release):
            return left
        while True:
            number += 1
            numbered = release.model_copy(update={"number": number, "previous": newest})
            try:
                self._bucket.create_record(layout.release(release.group, number), numbered)
            except ObjectConflict:
                continue
            return numbered

    def _sign_targets(self, signed: Signed, added: Mapping[str, TargetFile]) -> None:
        """The next version of targets. Raises ObjectConflict when somebody else has written it."""
        targets = Targets(
            version=signed.highest_targets + 1,
            expires=expires("targets", self._now),
            targets=_kept({**(signed.targets.targets if signed.targets else {}), **added}),
        )
        data = self._keys.sign("targets", Metadata(targets))
        self._bucket.create(layout.tuf_metadata("targets", targets.version), data)

    def _sign_snapshot(self) -> None:
        """The next snapshot, unless the newest one has the newest targets and is still young; then the timestamp."""
        for _ in range(_ATTEMPTS):
            signed = load_signed(self._bucket, self._keys)
            if signed.targets is None or self._is_current(signed):
                break
            snapshot = Snapshot(
                version=signed.highest_snapshot + 1,
                expires=expires("snapshot", self._now),
                meta={"targets.json": MetaFile(signed.targets.version)},
                unrecognized_fields={SIGNED_AT: format_utc(self._now)},
            )
            data = self._keys.sign("snapshot", Metadata(snapshot))
            try:
                self._bucket.create(layout.tuf_metadata("snapshot", snapshot.version), data)
            except ObjectConflict:
                continue
            break
        self._write_roots()  # before the timestamp, which may be signed by keys that only the new root names
        self._write_timestamp()

    def _is_current(self, signed: Signed) -> bool:
        """Whether the newest snapshot leads to the newest targets, was signed today and under the root of today."""
        if signed.snapshot is None or signed.targets is None:
            return False
        leads_there = signed.snapshot.meta["targets.json"].version == signed.targets.version
        is_young = self._now - signed_at(signed.snapshot) < _TIMESTAMP_AGE
        return leads_there and is_young and self._bucket.exists(layout.tuf_metadata("root", len(self._keys.roots)))

    def _write_roots(self) -> None:
        for version, data in enumerate(self._keys.roots, start=1):
            try:
                self._bucket.create(layout.tuf_metadata("root", version), data)
            except ObjectConflict:
                raise ReleaseUntrusted(
                    f"{self._bucket.url_of(layout.tuf_metadata('root', version))}: is not that of {self._keys.folder}: "
                    f"use the keys of this project"
                ) from None

    def _write_timestamp(self) -> None:
        """The timestamp of the newest snapshot. Equal snapshots give equal bytes: whoever writes it writes the same."""
        number = partial(layout.tuf_metadata, "snapshot")
        while (signed := load_signed(self._bucket, self._keys)).snapshot is not None:
            timestamp = Timestamp(
                version=signed.snapshot.version,
                expires=expires("timestamp", signed_at(signed.snapshot)),
                snapshot_meta=MetaFile(signed.snapshot.version),
            )
            self._bucket.put(layout.tuf_timestamp(), self._keys.sign("timestamp", Metadata(timestamp)))
            if self._bucket.latest_number(number, signed.highest_snapshot) == signed.highest_snapshot:
                return

    def _timestamp_is_old(self, signed: Signed) -> bool:
        """Whether it is older than a day, not ours, or leads to another snapshot than the newest."""
        timestamp = load_timestamp(self._bucket, [self._keys.root])
        if timestamp is None or signed.snapshot is None or timestamp.version != signed.snapshot.version:
            return True
        return timestamp.expires - self._now < LIFETIMES["timestamp"] - _TIMESTAMP_AGE


def _readable(bucket: Bucket, group: str, number: int) -> Release | None:
    try:
        return read_release(bucket, group, number)
    except (ReleaseRefused, ObjectMissing):
        return None


def _target_of(release: Release) -> dict[str, TargetFile]:
    key = layout.release(release.group, release.number)
    target = TargetFile.from_data(key, release.to_json(), ["sha256"])
    target.unrecognized_fields["custom"] = {"model": release.model_version}
    return {key: target}


def _kept(targets: Mapping[str, TargetFile]) -> dict[str, TargetFile]:
    """The newest releases of each group, and the models that they name."""
    by_group: dict[str, list[str]] = {}
    for path in sorted(targets):
        if path.startswith("releases/"):
            by_group.setdefault(path.rpartition("/")[0], []).append(path)
    newest = {path for paths in by_group.values() for path in paths[-KEPT_RELEASES:]}
    models = {targets[path].custom["model"] for path in newest}
    wanted = newest | {layout.model_file(model, "model.onnx") for model in models if model != STUB}
    return {path: target for path, target in targets.items() if path in wanted}


def _same_orders(published: Release, release: Release) -> bool:
    return published == release.model_copy(update={"number": published.number, "previous": published.previous})
