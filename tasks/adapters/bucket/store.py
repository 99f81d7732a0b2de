"""What the bucket needs of a place to store objects, and how keys are checked before they reach one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from tasks.core.errors import BucketError, SettingsError

LARGEST_SINGLE_WRITE = 100 * 2**20  # bytes; from here on s3fs writes in parts, which no server makes conditional
_SMALL, _SMALL_RATE = 256 * 2**10, 128 * 2**10  # bytes, bytes/s: an image has two seconds more than an empty object
_LARGE_RATE = 16 * 2**10  # bytes/s of what is above that: a model may take its time, but a link that drips has an end

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*\Z")
_PREFIX = re.compile(r"[A-Za-z0-9._=/-]*\Z")
_LONGEST_KEY = 900  # bytes; S3 allows 1,024 and the root and the project come before the key


class TransientBucketError(BucketError):
    """A failure that a second try may cure: a timeout, a broken connection, a server that is busy."""


def patience(size: int) -> float:
    """Seconds that an object of so many bytes may take longer than an empty one."""
    return min(size, _SMALL) / _SMALL_RATE + max(0, size - _SMALL) / _LARGE_RATE


class Store(Protocol):
    """A place for objects. Paths are keys below the store's root; every verb raises BucketError or its subclasses."""

    def write(self, path: str, data: bytes) -> None:
        """Write or overwrite an object; a reader sees the old content or the new one, never a part."""

    def create(self, path: str, data: bytes) -> bool:
        """Write an object only when there is none of that path; False when there is."""

    def read(self, path: str) -> Iterator[bytes]:
        """The content in pieces, all of one version. Raises ObjectMissing."""

    def exists(self, path: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]:
        """Paths that begin with `prefix`, in any order."""

    def children(self, folder: str) -> Iterator[str]:
        """Names directly below `folder`, which ends with a slash, in any order."""

    def remove(self, path: str) -> None:
        """Remove an object; no error when it is not there."""

    def url_of(self, path: str) -> str: ...

    def close(self) -> None: ...


def checked_key(key: str) -> str:
    """`key`, when it is a plain relative path; a SettingsError that says what is wrong with it otherwise.

    Keys are made of names that come from outside, so `..`, absolute paths, empty parts, control characters and
    hidden names are refused here whatever the caller has checked.
    """
    parts = key.split("/")
    if len(key) > _LONGEST_KEY or not all(_PART.match(part) for part in parts):
        raise SettingsError(
            f"bucket key {key[:120]!r} is refused: use parts of letters, digits and . _ = - joined by '/', no part "
            f"beginning with '.', at most {_LONGEST_KEY} characters"
        )
    return key


def checked_prefix(prefix: str) -> str:
    """`prefix`, when listing it stays inside the project."""
    if not _PREFIX.match(prefix) or prefix.startswith("/") or ".." in prefix.split("/"):
        raise SettingsError(f"bucket prefix {prefix[:120]!r} is refused: use the beginning of a relative key")
    return prefix
