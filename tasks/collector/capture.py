"""Capture: a thread a camera, and the short queue between them and the detector.

Recordings hand over every frame and wait when the detector is slower; of a live camera the latest frame wins, and the
ones that it replaces are counted. Nothing here waits for a disk or a network other than the camera's own.

Frames of recordings are also letterboxed here, while the model runs on another one. Those of a live camera are not:
most of them may be replaced, and the work would be for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from tasks.adapters.camera import Source
from tasks.collector.ahead import Captured
from tasks.collector.config import Position
from tasks.core.entities import Frame
from tasks.core.errors import EdgeloopError
from tasks.core.settings import CameraSettings

_READ_AHEAD = 2  # frames a recording may be ahead of the model; each with an input of it, 2 MB for 416 x 416 pixels
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_MOST_ASKED_FOR = 64  # frames from outside that wait; the server lets fewer in
ASKED_FOR = ":asked for"  # the lane of frames from outside, whatever camera they name; no camera can be called so


class OpenSource(Protocol):
    """How a source is opened: `camera.open_source`, or a test's."""

    def __call__(
        self,
        source: str,
        camera: str,
        *,
        start: datetime | None,
        time_scale: float,
        settings: CameraSettings | None = None,
    ) -> Source: ...


class FrameTaker(Protocol):
    """Whom frames are handed to: a `FrameQueue`, or several projects behind one."""

    def put_and_wait(self, captured: Captured) -> bool: ...

    def put_latest(self, captured: Captured) -> bool: ...

    def end_lane(self, camera: str) -> None: ...


class CaptureTally(Protocol):
    """What a capture thread reports to: a `Tally`, or those of several projects."""

    def camera(self, name: str, state: str) -> None: ...

    def error(self, message: str) -> None: ...

    def count_also(self, drops: Callable[[], Mapping[str, int]], *, rebuilt: bool = False) -> None: ...

    def survive(self, what: str) -> AbstractContextManager[None]: ...


class FrameQueue:
    """Frames of all cameras, each in a lane of its own, handed out in turn."""

    def __init__(self, cameras: list[str]) -> None:
        self._changed = threading.Condition()
        self._lanes: dict[str, deque[Captured]] = {camera: deque() for camera in cameras}
        self._open_lanes = set(cameras)
        self._turn: deque[str] = deque(cameras)
        self._closed = False
        self.replaced = 0

    def put_and_wait(self, captured: Captured) -> bool:
        """Hand over a frame of a recording, waiting for room; False when nobody takes frames any more."""
        with self._changed:
            lane = self._lanes[captured.frame.camera]
            while len(lane) >= _READ_AHEAD and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            lane.append(captured)
            self._changed.notify_all()
        return True

    def put_latest(self, captured: Captured) -> bool:
        """Hand over a frame of a live camera in place of one that nobody has taken yet."""
        with self._changed:
            if self._closed:
                return False
            lane = self._lanes[captured.frame.camera]
            self.replaced += len(lane)
            lane.clear()
            lane.append(captured)
            self._changed.notify_all()
        return True

    def put_in_order(self, captured: Captured) -> bool:
        """Hand over a frame that somebody waits for, behind those before it; False where there is no room, at once."""
        with self._changed:
            lane = self._lanes.get(ASKED_FOR)
            if self._closed or lane is None or len(lane) >= _MOST_ASKED_FOR:
                return False
            lane.append(captured)
            self._changed.notify_all()
        return True

    def get(self, timeout: float) -> Captured | None:
        """The next frame; None when none comes within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for _ in range(len(self._turn)):
                    camera = self._turn[0]
                    self._turn.rotate(-1)
                    if self._lanes[camera]:
                        item = self._lanes[camera].popleft()
                        self._changed.notify_all()
                        return item
                left = deadline - time.monotonic()
                if left <= 0 or self._closed or not self._open_lanes:
                    return None
                self._changed.wait(left)

    def end_lane(self, camera: str) -> None:
        with self._changed:
            self._open_lanes.discard(camera)
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more frames; those that wait can still be had."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_finished(self) -> bool:
        """No frame waits, and none will come."""
        with self._changed:
            return (self._closed or not self._open_lanes) and not any(self._lanes.values())


class CaptureThread(threading.Thread):
    """Reads one camera until it ends or is stopped. A recording is read once; a live camera is never given up."""

    def __init__(
        self,
        settings: CameraSettings,
        queue: FrameTaker,
        tally: CaptureTally,
        position: Position | None,
        open_this: Callable[[], Source],
        prepare: Callable[[Captured], None],
    ) -> None:
        """prepare: makes a frame of a recording the input of the model in force, while that runs on another frame."""
        super().__init__(name=f"capture-{settings.name}", daemon=True)
        self._settings = settings
        self._queue = queue
        self._tally = tally
        self._open = open_this
        self._prepare = prepare
        self._stopping = threading.Event()
        self._source: Source | None = None
        known = position if position is not None and position.source == settings.source else None
        self._position = known or Position(source=settings.source)
        self.camera = settings.name
        self.failure: EdgeloopError | None = None
        self.came_to_its_end = False
        self.last_index: int | None = None  # of the last frame of a recording that was handed over
        self._is_reading = False
        self._told = ""
        self._skipped_before: dict[str, int] = {}  # of a live camera, by sources that failed and were opened anew
        tally.count_also(self._skipped_of_recording, rebuilt=True)
        tally.count_also(self._skipped_of_live)

    def run(self) -> None:
        pause = _FIRST_RETRY_S
        try:
            while not self._read_once() and not self._stopping.wait(pause):
                pause = min(pause * 2, _LONGEST_RETRY_S)
        finally:
            self._queue.end_lane(self.camera)

    def stop(self) -> None:
        self._stopping.set()
        if self._source is not None:
            self._source.close()

    def report(self) -> None:
        """Say how the camera is, and what was wrong last."""
        source = self._source
        if source is None or self._stopping.is_set():
            return
        if self._is_reading and source.is_live:
            self._tally.camera(self.camera, source.state())
        if source.last_error != self._told:
            self._told = source.last_error
            self._tally.error(self._told)

    def skipped(self) -> dict[str, int]:
        """Bad images of a recording since its beginning, by reason; what the next run does not count again."""
        return dict(self._source.skipped) if self._source is not None and not self._source.is_live else {}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _read_once(self) -> bool:
        """Read to the end; is that all there will be? Not of a live camera, whatever happened to it."""
        with self._tally.survive(f"camera {self.camera}"):
            try:
                self._read()
                return True
            except EdgeloopError as error:
                self.failure = error
                self._say(f"unavailable: {error}")
                self._tally.error(str(error))
                return not self._is_live()
        self._say("failed: see the last error")
        return not self._is_live()

    def _read(self) -> None:
        with self._open() as source:
            self._remember_skipped()
            self._source, self._is_reading = source, True
            if self._stopping.is_set():  # asked to stop while it was being opened
                return
            self._tally.camera(self.camera, source.state())
            for frame in source:
                if not source.is_live and frame.index < self._position.next_index:
                    continue  # decided before the restart
                if not self._hand_over(frame, source.is_live) or self._stopping.is_set():
                    break
            else:
                self.came_to_its_end = not self._stopping.is_set()
            self._say("ended" if self.came_to_its_end else "stopped")

    def _say(self, state: str) -> None:
        """A state that is not the source's own, and stays."""
        self._is_reading = False
        self._tally.camera(self.camera, state)

    def _is_live(self) -> bool:
        return self._source is not None and self._source.is_live

    def _hand_over(self, frame: Frame, is_live: bool) -> bool:
        captured = Captured(frame, is_live)
        if is_live:
            return self._queue.put_latest(captured)
        self._prepare(captured)
        self.last_index = frame.index
        return self._queue.put_and_wait(captured)

    def _skipped_of_recording(self) -> Mapping[str, int]:
        before = self._position.skipped_before
        return {reason: max(0, count - before.get(reason, 0)) for reason, count in self.skipped().items()}

    def _skipped_of_live(self) -> Mapping[str, int]:
        source = self._source
        if source is None or not source.is_live:
            return {}
        return dict(Counter(self._skipped_before) + Counter(dict(source.skipped)))

    def _remember_skipped(self) -> None:
        self._skipped_before = dict(self._skipped_of_live())
