"""A disk that fails at a chosen call: full, broken, or the end of the process, at any point of a write."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tasks.adapters.outbox import files


class Crash(BaseException):
    """The process ends here. No `except OSError` sees it."""


class FaultyDisk:
    """Counts the calls that change the disk and fails the one of number `at`, and the `times - 1` after it.

    kind: "full" (opening, writing, syncing and renaming meet ENOSPC), "broken" (these and removing meet EIO), "crash".
    Nothing is really synced: what a power cut takes is another test's question, this one is asked thousands of times.
    """

    def __init__(self, kind: str = "full", at: int | None = None, times: int = 1) -> None:
        self.kind = kind
        self.at = at
        self.times = times
        self.calls = 0
        self.failed = 0
        self._real = {"fsync": os.fsync, "replace": os.replace, "unlink": os.unlink}

    @contextmanager
    def inserted(self) -> Iterator[FaultyDisk]:
        with (
            patch.object(os, "fsync", lambda descriptor: self._meet("fsync")),
            patch.object(os, "replace", self._replace),
            patch.object(os, "unlink", self._unlink),
            patch.object(files, "open", self._open, create=True),
        ):
            yield self

    def _meet(self, what: str) -> None:
        if what == "unlink" and self.kind == "full":
            return
        self.calls += 1
        if self.at is None or not self.at <= self.calls < self.at + self.times:
            return
        self.failed += 1
        if self.kind == "crash":
            raise Crash(what)
        code = errno.ENOSPC if self.kind == "full" else errno.EIO
        raise OSError(code, os.strerror(code))

    def _replace(self, source: Any, target: Any) -> None:
        self._meet("replace")
        self._real["replace"](source, target)

    def _unlink(self, path: Any, **arguments: Any) -> None:
        self._meet("unlink")
        self._real["unlink"](path, **arguments)

    def _open(self, path: Any, mode: str, buffering: int = -1) -> Any:
        self._meet("open")
        return _File(builtins.open(path, mode, buffering=buffering), self)


class _File:
    """A file of which a failing write takes the first half."""

    def __init__(self, file: Any, disk: FaultyDisk) -> None:
        self._file = file
        self._disk = disk

    def write(self, data: bytes) -> int:
        try:
            self._disk._meet("write")
        except BaseException:
            self._file.write(data[: len(data) // 2])
            raise
        return int(self._file.write(data))

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return int(self._file.fileno())

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
