"""Live cameras: webcams and RTSP. They never end by themselves; a dead one is tried again for ever, ever more slowly.

Frames are handed out as they come. Who wants only the newest takes them in a thread of its own and drops the rest.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import cv2

from tasks.adapters.camera.images import MAX_IMAGE_PIXELS
from tasks.adapters.camera.source import ClosableSource
from tasks.core.entities import Frame, to_utc
from tasks.core.errors import SourceUnavailable

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000  # without it a read of a frozen camera was still blocked after 45 s (measured)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


def _wall_clock() -> datetime:
    return datetime.now(timezone.utc)


class LiveCamera(ClosableSource):
    """Frames stamped with the wall clock when they were read.

    skipped: `connection_failed` (could not be opened) and `connection_lost` (stopped giving frames), one each time.
    """

    is_live = True

    def __init__(self, camera: str, clock: Callable[[], datetime] = _wall_clock) -> None:
        super().__init__(camera)
        self._clock = clock

    def __iter__(self) -> Iterator[Frame]:
        index, pause = 0, FIRST_PAUSE_S
        while not self._closed.is_set():
            for frame in self._connection(index):
                yield frame
                index, pause = frame.index + 1, FIRST_PAUSE_S
            self._closed.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _connection(self, index: int) -> Iterator[Frame]:
        """Frames of one connection, until it is lost."""
        capture = self._open()
        try:
            if not _usable(capture):
                self._skip(
                    "connection_failed", f"camera {self.camera}: {self._address()} cannot be opened; trying again"
                )
                return
            while not self._closed.is_set():
                read, pixels = capture.read()
                if not read:
                    self._skip(
                        "connection_lost", f"camera {self.camera}: {self._address()} gives no frames; reconnecting"
                    )
                    return
                yield Frame(pixels, self.camera, to_utc(self._clock()), index)  # type: ignore[arg-type]
                index += 1
        finally:
            capture.release()

    @abstractmethod
    def _open(self) -> cv2.VideoCapture: ...

    @abstractmethod
    def _address(self) -> str:
        """The camera for messages, without secrets."""


class NetworkCamera(LiveCamera):
    """An RTSP camera (over TCP), with a time limit on every open and read. The first connection may fail, too."""

    def __init__(self, url: str, camera: str, clock: Callable[[], datetime] = _wall_clock) -> None:
        super().__init__(camera, clock)
        self._url = url

    def _open(self) -> cv2.VideoCapture:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)

    def _address(self) -> str:
        return re.sub(r"//[^/]*@", "//", self._url).partition("?")[0]


class Webcam(LiveCamera):
    """A camera of this machine, by its number. It must be there at the start; unplugged later, it is waited for."""

    def __init__(self, number: int, camera: str, clock: Callable[[], datetime] = _wall_clock) -> None:
        super().__init__(camera, clock)
        self._number = number
        capture = self._open()
        is_there = _usable(capture)
        capture.release()
        if not is_there:
            raise SourceUnavailable(f"camera {camera}: there is no webcam {number}: check its number and its rights")

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(self._number)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a frame that waited in the driver is an old one
        return capture

    def _address(self) -> str:
        return f"webcam {self._number}"


def _usable(capture: cv2.VideoCapture) -> bool:
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    return capture.isOpened() and pixels <= MAX_IMAGE_PIXELS
