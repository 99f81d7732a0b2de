"""What every source of frames has in common."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from tasks.core.entities import Frame, to_utc
from tasks.core.errors import SettingsError


class Source(Protocol):
    """Frames of one camera, in their order.

    is_live: frames come when they come, and the iteration ends only by `close`. skipped: what was not handed out, by
    reason. last_error: the newest of these, one line; empty while there was none.
    """

    camera: str
    is_live: bool
    skipped: dict[str, int]
    last_error: str

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Timeline:
    """When the frames of a recording were captured: start + index / fps * time_scale, in UTC.

    start: None for the modification time of the recording. fps: None for the recording's own rate.
    """

    def __init__(self, start: datetime | None = None, fps: float | None = None, time_scale: float = 1.0) -> None:
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise SettingsError(f"fps is {fps}: set it above 0 frames a second")
        if not (math.isfinite(time_scale) and time_scale > 0):
            raise SettingsError(f"time_scale is {time_scale}: set it above 0")
        self._start = start
        self._fps = fps
        self._time_scale = time_scale

    def anchored(self, recording: Path, default_fps: float) -> Timeline:
        """The same, with what was left open taken from a file."""
        start = self._start or datetime.fromtimestamp(recording.stat().st_mtime, timezone.utc)
        return Timeline(to_utc(start), self._fps or default_fps, self._time_scale)

    def at(self, index: int) -> datetime:
        """Capture time of the frame at a position from 0; the timeline must be anchored."""
        if self._start is None or self._fps is None:
            raise ValueError("a timeline without start or rate has no times: call anchored first")
        return to_utc(self._start + timedelta(seconds=index / self._fps * self._time_scale))


_Self = TypeVar("_Self", bound="ClosableSource")


class ClosableSource(ABC):
    """Counting and closing. `close` may be called from another thread, and more than once: iterations end at their next
    frame and release what they hold."""

    is_live = False

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self.skipped: dict[str, int] = {}
        self.last_error = ""
        self._closed = threading.Event()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        self._closed.set()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _skip(self, reason: str, message: str, count: int = 1) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count
        self.last_error = message
