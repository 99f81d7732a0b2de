"""JSON lines: to standard output, or to a file that is put aside when it is full."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tasks.collector.consumers.message import Seen
from tasks.collector.consumers.thread import ConsumerThread
from tasks.core.settings.device import JsonLinesConsumer

_PIPE_BUF = select.PIPE_BUF  # bytes that a pipe which can be written to takes without waiting (POSIX)
_POLL_MS = 200
_TAIL_BYTES = 1 << 20  # in which the last newline of a file is looked for; a line has some 30 kB at most


class LineSink(Protocol):
    """Where lines go. `write` raises OSError and has then written nothing that a reader would take for a line."""

    def write(self, line: bytes) -> None: ...

    def close(self) -> None: ...


class LinesThread(ConsumerThread):
    """Messages as lines."""

    def __init__(
        self,
        label: str,
        settings: JsonLinesConsumer,
        tell_drop: Callable[[str], None],
        tell_error: Callable[[str], None],
        stdout: int = 1,
    ) -> None:
        """stdout: the file descriptor that `type: stdout` writes to."""
        super().__init__(label, settings, tell_drop, tell_error)
        self._sink: LineSink = (
            LineFile(Path(settings.path), settings.megabytes * 10**6, settings.files)
            if settings.type == "file"
            else LineStream(stdout, self._abandoned.is_set)
        )

    def _deliver_while_it_goes(self) -> None:
        seen = self.next_message()
        if seen is not None:
            self._write(seen)

    def _write(self, seen: Seen) -> None:
        line = seen.json() + b"\n"
        try:
            self._sink.write(line)
        except OSError:
            self._waiting.put_back(seen)
            raise
        self.sent += 1
        self.goes_well()

    def _close(self) -> None:
        self._sink.close()


class LineStream:
    """A pipe, a terminal or a file that somebody else has opened. A reader that stands still stops only `write`."""

    def __init__(self, descriptor: int, give_up: Callable[[], bool]) -> None:
        """give_up: asked while a reader stands still; True ends the write in the middle of its line."""
        self._descriptor = os.dup(descriptor)
        self._give_up = give_up
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._is_cut = False

    def write(self, line: bytes) -> None:
        """In pieces that a pipe takes at once, so that it can be given up. A line that was cut gets a newline."""
        rest = memoryview(b"\n" + line if self._is_cut else line)
        while rest:
            if not self._poll.poll(_POLL_MS):
                if self._give_up():
                    raise TimeoutError(errno.ETIMEDOUT, "the reader stands still")
                continue
            written = os.write(self._descriptor, rest[:_PIPE_BUF])
            rest = rest[written:]
            self._is_cut = bool(rest)

    def close(self) -> None:
        os.close(self._descriptor)


class LineFile:
    """`path` takes lines until it has `limit` bytes and becomes `path.1`, which was `path.2` before, up to `files`.

    Whole lines only, also after a crash and on a full disk. A file that somebody moves or deletes is begun anew; one
    that another process writes to in this way is left to it.
    """

    def __init__(self, path: Path, limit: int, files: int) -> None:
        self._path = path
        self._limit = limit
        self._files = files
        self._descriptor: int | None = None
        self._size = 0

    def write(self, line: bytes) -> None:
        descriptor = self._opened()
        if self._size and self._size + len(line) > self._limit:
            self._put_aside()
            descriptor = self._opened()
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError:
            self._cut_back(descriptor)
            raise
        self._size += written

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is not None and not self._is_still_there(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not waiting: opening a named pipe would, until somebody reads it.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, 0o640)
            try:
                self._size = self._checked_size(descriptor)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        return self._descriptor

    def _checked_size(self, descriptor: int) -> int:
        """Of a file that is ours alone, after a line that a crash has cut was taken away."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(self._path))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "another one writes to it", str(self._path)) from None
        start = max(0, status.st_size - _TAIL_BYTES)
        tail = os.pread(descriptor, _TAIL_BYTES, start)
        whole = start + tail.rfind(b"\n") + 1
        if whole < status.st_size:
            os.ftruncate(descriptor, whole)
        return whole

    def _is_still_there(self, descriptor: int) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def _put_aside(self) -> None:
        """The oldest goes, the others move up by one."""
        names = [self._path, *(Path(f"{self._path}.{n}") for n in range(1, self._files + 1))]
        for older, newer in reversed(list(zip(names[1:], names[:-1]))):
            if newer.exists():
                os.replace(newer, older)
        self.close()

    def _cut_back(self, descriptor: int) -> None:
        """What was written of a line is taken away; where even that fails, opening the file again does it."""
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:
            self.close()
