"""Releases in the bucket: published under consecutive numbers, asked for by number."""

from __future__ import annotations

from functools import partial

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import STUB, Release
from tasks.core.errors import ObjectConflict, RecordInvalid, ReleaseRefused


def publish(bucket: Bucket, release: Release) -> Release:
    """Write `release` as the next number of its group; the release as it was written.

    Its own `number` and `previous` are replaced. Calling it again with an equal release that is still the newest
    writes nothing, so that a retried task does not publish twice. Raises ReleaseRefused when the model's file is not
    in the bucket: no device could install it.
    """
    if release.model_version != STUB:
        key = layout.model_file(release.model_version, "model.onnx")
        if not bucket.exists(key):
            raise ReleaseRefused(f"{bucket.url_of(key)}: is not there: upload the model before its release")
    newest = bucket.latest_number(partial(layout.release, release.group))
    published = _readable(bucket, release.group, newest)
    if published is not None and _same_orders(published, release):
        return published
    while True:
        numbered = release.model_copy(update={"number": newest + 1, "previous": newest})
        try:
            bucket.create_record(layout.release(release.group, numbered.number), numbered)
        except ObjectConflict:
            newest += 1  # somebody else was quicker; theirs stays, ours comes after it
            continue
        return numbered


def latest_release(bucket: Bucket, group: str, after: int = 0) -> Release | None:
    """The newest release of `group` above number `after`; None when there is none.

    Raises BucketError when the bucket does not answer and ReleaseRefused when the record cannot be obeyed.
    """
    newest = bucket.latest_number(partial(layout.release, group), after)
    return read_release(bucket, group, newest) if newest > after else None


def read_release(bucket: Bucket, group: str, number: int) -> Release:
    """One release. Raises ObjectMissing, and ReleaseRefused when the record is not that of its key."""
    key = layout.release(group, number)
    try:
        release = bucket.read_record(key, Release)
    except RecordInvalid as error:
        raise ReleaseRefused(f"release {number}: {error}") from None
    # Releases are to be signed; the signature is to be verified here, before anything in the record is believed.
    if (release.group, release.number) != (group, number):
        raise ReleaseRefused(
            f"release {number}: its record says group {release.group!r}, number {release.number}: it was copied there"
        )
    return release


def _readable(bucket: Bucket, group: str, number: int) -> Release | None:
    """The release, or None when there is none of that number or its record cannot be obeyed."""
    try:
        return read_release(bucket, group, number) if number else None
    except ReleaseRefused:
        return None


def _same_orders(published: Release, release: Release) -> bool:
    return published == release.model_copy(update={"number": published.number, "previous": published.previous})
