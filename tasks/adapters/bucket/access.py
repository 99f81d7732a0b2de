"""`Bucket`: what everybody uses. Checks keys, retries what may pass, and reads and writes records."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import stamina
from pydantic import BaseModel, ValidationError

from tasks.adapters.bucket.conditional import check_conditional_writes
from tasks.adapters.bucket.folder import FolderStore
from tasks.adapters.bucket.lines import DecodedLines, decode_lines, encode_lines, problem_of
from tasks.adapters.bucket.s3 import S3Store
from tasks.adapters.bucket.store import (
    LARGEST_SINGLE_WRITE,
    Store,
    TransientBucketError,
    checked_key,
    checked_prefix,
)
from tasks.core import layout
from tasks.core.entities.base import Record, read_tolerantly
from tasks.core.errors import BucketError, ObjectConflict, ObjectTooLong, RecordInvalid, SettingsError

RecordType = TypeVar("RecordType", bound=BaseModel)
RecordOf = TypeVar("RecordOf", bound=Record)
Result = TypeVar("Result")

_ATTEMPTS = 4  # of one call
_TRIED_FOR = 2.0  # s; a call that failed later is not repeated, so that an error comes within this and one timeout


class Bucket:
    """The objects of one project in a bucket.

    url: `file:///folder` or `s3://bucket/prefix`. project: the first part of every key. timeout: seconds until a call
    without an answer ends with a BucketError; calls that fail within two seconds are repeated, so that with the default
    an error comes within 10 s. Large objects have longer, in proportion to their size.

    Every method raises SettingsError for a key that leaves the project and BucketError, in one line and without
    secrets, when the bucket cannot be reached, read or written. Safe to share between threads and to pickle: only the
    address travels.
    """

    def __init__(self, url: str, project: str, *, timeout: float = 8.0) -> None:
        self.project = layout.name(project, "project")
        self.timeout = timeout
        self.url = url
        self._store = _open_store(url, timeout)

    def __repr__(self) -> str:
        return f"Bucket({self.url!r}, {self.project!r})"

    def __reduce__(self) -> tuple[Callable[[str, str, float], Bucket], tuple[str, str, float]]:
        return _reopen, (self.url, self.project, self.timeout)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._store.close()

    # --- objects -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        """Write `data`, whatever was there. Repeating it changes nothing."""
        path = self._path(key)
        self._tried(lambda: self._store.write(path, data))

    def create(self, key: str, data: bytes) -> bool:
        """Write `data` if there is nothing yet; of many writers one wins.

        True when this call or an earlier one with equal content has written it: a lost reply looks the same.
        Raises ObjectConflict when other content is there.
        """
        path = self._path(key)
        if len(data) >= LARGEST_SINGLE_WRITE:
            raise BucketError(
                f"{self.url_of(key)}: {len(data)} bytes cannot be created conditionally: keep it below 100 MiB"
            )

        def once() -> bool:
            return self._store.create(path, data) or self._content(path) == data

        if not self._tried(once):
            raise ObjectConflict(f"{self.url_of(key)}: already holds other content: take the next number")
        return True

    def get(self, key: str, at_most: int | None = None) -> bytes:
        """The content. Raises ObjectMissing, and ObjectTooLong as soon as it proves longer than `at_most` bytes."""
        path = self._path(key)
        return self._tried(lambda: self._content(path, at_most))

    def exists(self, key: str) -> bool:
        path = self._path(key)
        return self._tried(lambda: self._store.exists(path))

    def children(self, folder: str) -> list[str]:
        """The names directly below `folder`, sorted; costs one listing of that level alone."""
        path = f"{self.project}/{checked_prefix(folder)}/"
        return sorted(self._tried(lambda: list(self._store.children(path))))

    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        checked_prefix(prefix)
        root = f"{self.project}/"
        found = self._tried(lambda: list(self._store.list(root + prefix)))
        return sorted(path.removeprefix(root) for path in found)

    def remove(self, key: str) -> None:
        """Remove an object; no error when it is not there."""
        path = self._path(key)
        self._tried(lambda: self._store.remove(path))

    def upload(self, key: str, path: str | Path) -> None:
        """Write the content of a local file."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BucketError(f"{path}: cannot be read for upload: {error.strerror or error}") from error
        self.put(key, data)

    def download(self, key: str, path: str | Path, sha256: str | None = None, at_most: int | None = None) -> None:
        """Fetch an object to a local file, which appears whole and, where `sha256` is given, checked, or not at all.

        Raises ObjectMissing, and ObjectTooLong as soon as it proves longer than `at_most` bytes.
        """
        source, target = self._path(key), Path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = self._tried(lambda: self._fetch(source, temporary, at_most))
            if sha256 is not None and digest != sha256:
                raise BucketError(
                    f"{self.url_of(key)}: sha256 is {digest[:16]}..., not {sha256[:16]}...: upload it again"
                )
            os.replace(temporary, target)
        except OSError as error:
            raise BucketError(f"{target}: cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def url_of(self, key: str) -> str:
        return self._store.url_of(self._path(key))

    # --- records -----------------------------------------------------------------------------------------------------

    def read_record(self, key: str, model: type[RecordType], *, from_device: bool = False) -> RecordType:
        """The JSON record of `key`. Raises ObjectMissing, and RecordInvalid naming the field that is wrong.

        from_device: who wrote it may be one schema version ahead; fields that are unknown here are then left out.
        """
        data = self.get(key)
        try:
            return read_tolerantly(model, data)[0] if from_device else model.model_validate_json(data)
        except ValidationError as error:
            raise RecordInvalid(f"{self.url_of(key)}: is no valid {model.__name__}: {problem_of(error)}") from None

    def write_record(self, key: str, record: Record) -> None:
        self.put(key, record.to_json())

    def create_record(self, key: str, record: Record) -> bool:
        """`create` for a record."""
        return self.create(key, record.to_json())

    def append_record(self, number_key: Callable[[int], str], record_of: Callable[[int], RecordOf]) -> RecordOf:
        """The record of the next number, created under it; where another writer has just taken it, of the one after.

        number_key, record_of: the key and the record of a number. Numbers are consecutive.
        """
        number = self.latest_number(number_key)
        while True:
            number += 1
            record = record_of(number)
            try:
                self.create_record(number_key(number), record)
            except ObjectConflict:
                continue
            return record

    def read_lines(self, key: str, model: type[RecordType]) -> DecodedLines[RecordType]:
        """The records of a segment or traffic object, and one line for each that is left out as invalid."""
        return decode_lines(self.get(key), model, self.url_of(key))

    def create_lines(self, key: str, records: Iterable[Record]) -> bool:
        """`create` for a segment or a traffic object."""
        return self.create(key, encode_lines(records))

    def latest_number(self, number_key: Callable[[int], str], after: int = 0) -> int:
        """The highest number whose key exists, given that numbers are consecutive; `after` when none is above it.

        Asks for after + 1, doubles its steps while keys exist, then halves them: one request when nothing is new and
        about 2 log2(n) for n new ones, without listing.
        """
        known, step = after, 1
        while self.exists(number_key(known + step)):
            known, step = known + step, step * 2
        missing = known + step
        while missing - known > 1:
            middle = (known + missing) // 2
            if self.exists(number_key(middle)):
                known = middle
            else:
                missing = middle
        return known

    # --- is this bucket good enough? ---------------------------------------------------------------------------------

    def check_writable(self, prefix: str = "self-test") -> None:
        """Write, read and remove a small object below `prefix`; BucketError says what fails."""
        key = f"{prefix}/{secrets.token_hex(8)}.txt"
        content = b"edgeloop asks whether it may write here\n"
        self.put(key, content)
        if self.get(key) != content:
            raise BucketError(f"{self.url_of(key)}: gives back other bytes than were written: use another bucket")
        self.remove(key)

    def check_conditional_writes(self) -> None:
        """Refuse a bucket on which two writers of one number could both win; BucketError says why.

        Once for a bucket: a marker remembers the outcome, so that every later call costs one read.
        """
        check_conditional_writes(self)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self.project}/{checked_key(key)}"

    def _content(self, path: str, at_most: int | None = None) -> bytes:
        return b"".join(self._pieces(path, at_most))

    def _pieces(self, path: str, at_most: int | None) -> Iterator[bytes]:
        """The content piece by piece, no more of it than is allowed: it may have no end."""
        length = 0
        for piece in self._store.read(path):
            length += len(piece)
            if at_most is not None and length > at_most:
                raise ObjectTooLong(
                    f"{self._store.url_of(path)}: has more than the {at_most} bytes that it should have"
                )
            yield piece

    def _fetch(self, path: str, target: Path, at_most: int | None) -> str:
        digest = hashlib.sha256()
        with open(target, "wb") as file:
            for piece in self._pieces(path, at_most):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _tried(self, call: Callable[[], Result]) -> Result:
        """The one layer of retries: transient failures only, a few times, all within one timeout."""
        for attempt in stamina.retry_context(
            on=TransientBucketError,
            attempts=_ATTEMPTS,
            timeout=min(_TRIED_FOR, self.timeout),
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.2,
        ):
            with attempt:
                return call()
        raise BucketError(f"{self!r}: was not tried at all")  # unreachable; stamina raises the last failure


def _reopen(url: str, project: str, timeout: float) -> Bucket:
    return Bucket(url, project, timeout=timeout)


def _open_store(url: str, timeout: float) -> Store:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise SettingsError("bucket: the URL holds credentials or options: leave them out and use the environment")
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        prefix = parts.path.strip("/")
        return S3Store(parts.netloc, checked_key(prefix) if prefix else "", timeout)
    raise SettingsError(f"bucket {url!r}: use file:///absolute/folder or s3://bucket/prefix")
