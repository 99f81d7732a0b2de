"""One collector a device: whoever holds the lock of the outbox folder."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tasks.core.errors import AlreadyRunning

_LOCK = "lock"


class DeviceLock:
    """Holds a folder for this process until it is closed or the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Raises AlreadyRunning, naming the other process, when the folder is held."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _pid_in(folder)
            os.close(self._file)
            raise AlreadyRunning(
                f"{folder}: is held by the collector with process id {holder or 'unknown'}: stop that one, "
                f"or give this device an outbox of its own"
            ) from None
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


def _pid_in(folder: Path) -> int | None:
    try:
        return int((folder / _LOCK).read_text())
    except (OSError, ValueError):
        return None
