"""Does a server honour conditional writes? Numbers of segments, releases and turns stand or fall with it."""

from __future__ import annotations

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tasks.adapters.bucket.store import TransientBucketError
from tasks.core import layout
from tasks.core.entities.base import Record
from tasks.core.errors import BucketError, ObjectConflict, ObjectMissing, RecordInvalid

if TYPE_CHECKING:
    from tasks.adapters.bucket.access import Bucket

_RACERS = 8
_RACES = 3


class ConditionalWrites(Record):
    """The marker of a bucket that passed."""

    place: str


def check_conditional_writes(bucket: Bucket) -> None:
    """Let writers race for a key that none has written; one of them must win, and nobody after it.

    Raises BucketError for a server that ignores If-None-Match, as some do in silence. The marker names the server: a
    bucket that was copied to another one is tried again.
    """
    key, marker = layout.conditional_writes(), ConditionalWrites(place=_place(bucket))
    try:
        if bucket.read_record(key, ConditionalWrites) == marker:
            return
    except (ObjectMissing, RecordInvalid):
        pass
    for _ in range(_RACES):
        winners = _winners(bucket)
        if winners != 1:
            raise BucketError(
                f"{bucket.url}: the server ignores conditional writes (If-None-Match): {winners} of {_RACERS + 1} "
                f"writers of one key won, so that work could be lost: use a server that honours them"
            )
    bucket.write_record(key, marker)


def _winners(bucket: Bucket) -> int:
    """How many of several writers at once, and of one that comes later, were told that they created a key."""
    key = f"{layout.SELF_TEST}/{secrets.token_hex(8)}.txt"
    start = threading.Barrier(_RACERS)

    def create(writer: int) -> bool:
        try:
            return bucket.create(key, f"writer {writer}\n".encode())
        except ObjectConflict:
            return False

    def race(writer: int) -> bool:
        start.wait()
        try:
            return create(writer)
        except TransientBucketError:  # too much at once for some servers; the one that comes later tells of those
            return False

    try:
        with ThreadPoolExecutor(_RACERS) as pool:
            won = sum(pool.map(race, range(_RACERS)))
        return won + create(_RACERS)
    finally:
        bucket.remove(key)


def _place(bucket: Bucket) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    server = urlsplit(endpoint).netloc.rpartition("@")[2] if bucket.url.startswith("s3:") else ""
    return f"{bucket.url} {server}".strip()
