"""One collector a device: whoever holds the lock of the outbox folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tasks.core.errors import AlreadyRunning

_LOCK = "lock"
_STARTING = "starting"
_PROBED_S = 0.5  # `holder_of` holds a share of the lock for microseconds: that is not another collector


class DeviceLock:
    """Holds a folder for this process until it is closed or the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Raises AlreadyRunning, naming the other process, when the folder is held."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not _taken(self._file):
            holder = _pid_in(folder)
            os.close(self._file)
            raise AlreadyRunning(
                f"{folder}: is held by the collector with process id {holder or 'unknown'}: stop that one, "
                f"or give this device an outbox of its own"
            )
        with suppress(OSError):  # a full disk: the folder is held all the same
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> DeviceLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def starting(folder: Path) -> Iterator[None]:
    """One at a time starts a collector for `folder`; who comes second waits, and finds it running."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / _STARTING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def holder_of(folder: Path) -> int | None:
    """Process id of the collector that holds `folder`; None when nobody does."""
    try:
        file = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(folder)
    finally:
        os.close(file)
    return None


def _taken(file: int) -> bool:
    deadline = time.monotonic() + _PROBED_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _pid_in(folder: Path) -> int | None:
    try:
        return int((folder / _LOCK).read_text())
    except (OSError, ValueError):
        return None
