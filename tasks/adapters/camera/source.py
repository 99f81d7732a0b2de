"""What every source of frames has in common."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from tasks.adapters.camera.pace import Pace
from tasks.adapters.camera.view import View
from tasks.core.entities import Frame, to_utc
from tasks.core.errors import SettingsError
from tasks.core.settings import CameraSettings

RUNNING = "running"
ABOVE_FRAME_RATE = "above_frame_rate"


class Source(Protocol):
    """Frames of one camera, in their order.

    is_live: frames come when they come, and the iteration ends only by `close`. skipped: what was not handed out, by
    reason. last_error: the newest of these that is a fault, one line; empty while there was none.
    """

    camera: str
    is_live: bool
    skipped: dict[str, int]
    last_error: str

    def __iter__(self) -> Iterator[Frame]: ...

    def state(self) -> str:
        """How it is, for the device's status; it begins with `running` where all is well."""
        ...

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
    """Counting, closing, and what of a camera is looked at. `close` may be called from another thread, and more than
    once: iterations end at their next frame and release what they hold.

    settings: `frame_rate`, `region` and `masks` of the camera; without them every frame is handed out, whole.
    skipped: `above_frame_rate`, frames that the limit left out, and what the kinds of sources say of themselves.
    """

    is_live = False

    def __init__(self, camera: str, settings: CameraSettings | None = None) -> None:
        self.camera = camera
        self.skipped: dict[str, int] = {}
        self.last_error = ""
        self._frame_rate = settings.frame_rate if settings is not None else None
        self._view = View.of(settings)
        self._closed = threading.Event()
        self._counting = threading.Lock()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def state(self) -> str:
        return RUNNING

    def close(self) -> None:
        self._closed.set()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pace(self) -> Pace:
        """The limit of frames a second, for one iteration."""
        return Pace(self._frame_rate)

    def _skip(self, reason: str, message: str, count: int = 1) -> None:
        """Something is wrong with a frame or with the camera."""
        self._count(reason, count)
        self.last_error = message

    def _count(self, reason: str, count: int = 1) -> None:
        with self._counting:
            self.skipped[reason] = self.skipped.get(reason, 0) + count


class NarrowedSource(ClosableSource):
    """Another recording under the settings of a camera: for sources that know nothing of them."""

    def __init__(self, source: Source, settings: CameraSettings) -> None:
        super().__init__(source.camera, settings)
        self._source = source

    @classmethod
    def of(cls, source: Source, settings: CameraSettings | None) -> Source:
        """The source itself, where the settings ask for nothing."""
        if settings is None or (settings.frame_rate is None and View.of(settings).is_whole):
            return source
        return cls(source, settings)

    def __iter__(self) -> Iterator[Frame]:
        pace = self._pace()
        for frame in self._source:
            if self._closed.is_set():
                return
            if pace.is_due(frame.captured_at.timestamp()):
                yield replace(frame, pixels=self._view(frame.pixels.copy()))
            else:
                self._count(ABOVE_FRAME_RATE)
            self._take_over()
        self._take_over()

    def close(self) -> None:
        super().close()
        self._source.close()

    def _take_over(self) -> None:
        """What the other source has skipped is skipped here, too."""
        with self._counting:
            self.skipped.update(self._source.skipped)
        self.last_error = self._source.last_error
