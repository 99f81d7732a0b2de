"""Live cameras: webcams and RTSP. They never end by themselves; a dead one is tried again for ever.

Frames are handed out as they come, the newest in place of one that nobody has taken yet. A camera that does not answer
is asked every second, for that is cheap; one that answers and gives no pictures is tried ever more slowly, because some
cameras lock out whoever comes too often with a wrong password.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import cv2

from tasks.adapters.camera.images import MAX_IMAGE_PIXELS
from tasks.adapters.camera.reader import CannotConnect, Capture, End, Handling, Reader
from tasks.adapters.camera.rtsp import ANSWER_S, RtspAddress
from tasks.adapters.camera.source import RUNNING, ClosableSource
from tasks.core.entities import Frame, to_utc
from tasks.core.settings import CameraSettings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LONGEST_PAUSE_AWAY_S = 1.0  # while nothing answers; with the time to connect, a camera that is back is seen within 5 s
MOST_STUCK = 3  # threads of one camera whose calls have not returned; beyond it nothing new is tried
SILENT_S = 10.0  # after which a camera counts as silent
_RELEASE_S = 1.0  # how long a closed source waits for the library to let go

# OpenCV holds one lock for the opening of all streams unless it is told that its FFmpeg needs none (none has since
# version 4): without this a camera that hangs while it is opened keeps all others from being opened.
os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")
# Both libraries write to standard error for every connection and every damaged frame, day and night: what matters of it
# is counted and reported here. Who looks for more sets these.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")  # AV_LOG_FATAL
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def _wall_clock() -> datetime:
    return datetime.now(timezone.utc)


class LiveCamera(ClosableSource):
    """Frames stamped with the wall clock when they were read, their indices counted over all connections.

    skipped: `connection_failed` (could not be opened), `connection_lost` (stopped giving frames) and
    `connection_stuck` (a call did not return), one each time; `above_frame_rate`, `replaced_by_newer` and `oversized`,
    one a frame.
    """

    is_live = True

    def __init__(
        self, camera: str, settings: CameraSettings | None = None, clock: Callable[[], datetime] = _wall_clock
    ) -> None:
        super().__init__(camera, settings)
        limits = settings or CameraSettings(name="camera", source="0")
        self._open_limit, self._read_limit = limits.open_timeout_seconds, limits.read_timeout_seconds
        self._clock = clock
        self._reader: Reader | None = None
        self._threads: list[threading.Thread] = []
        self._tries = 0
        self._last_picture = time.monotonic()
        self._reason = ""

    def __iter__(self) -> Iterator[Frame]:
        handling = Handling(self._pace(), self._view, lambda: to_utc(self._clock()), self._count)
        index, pause = 0, FIRST_PAUSE_S
        try:
            while not self._closed.is_set():
                reader = self._connected(handling)
                while not isinstance(taken := reader.take(), End):
                    yield Frame(taken.pixels, self.camera, taken.read_at, index)
                    index += 1
                pause = self._pause_after(taken, pause, gave_pictures=reader.last_picture is not None)
                self._note(reader, taken)
                self._closed.wait(pause)
        finally:
            self._let_go()

    def state(self) -> str:
        """`running, 14.9 frames/s`, `reconnecting, try 4: reason` or, later, `no frame for 12 s: reason, try 4`."""
        reader = self._reader
        seen = reader.last_picture if reader is not None else None
        silence = time.monotonic() - (seen or self._last_picture)
        is_connected = reader is not None and seen is not None and not reader.has_ended
        if is_connected and silence <= max(SILENT_S, self._read_limit):
            return f"{RUNNING}, {reader.rate:.1f} frames/s" if reader is not None and reader.rate else RUNNING
        if not self._reason:
            return f"connecting, try {self._tries}"
        if silence > SILENT_S:
            return f"no frame for {silence:.0f} s: {self._reason}, try {self._tries}"
        return f"reconnecting, try {self._tries}: {self._reason}"

    def close(self) -> None:
        super().close()
        if self._reader is not None:
            self._reader.end()

    # --- connections -------------------------------------------------------------------------------------------------

    def _connected(self, handling: Handling) -> Reader:
        """A thread that connects and reads, once not too many of the last ones hang."""
        while len(self._alive()) >= MOST_STUCK and not self._closed.is_set():
            self._reason = f"{MOST_STUCK} calls of the library have not returned; one of them is waited for"
            self._closed.wait(FIRST_PAUSE_S)
        self._tries += 1
        reader = Reader(
            f"read-{self.camera}", self._open, handling, open_limit=self._longest_open(), read_limit=self._read_limit
        )
        self._reader = reader
        if self._closed.is_set():  # `close` may have come before it could know this reader
            reader.end()
        else:
            self._threads.append(reader)
            reader.start()
        return reader

    def _alive(self) -> list[threading.Thread]:
        """Threads of this camera that have not ended."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._threads

    @staticmethod
    def _pause_after(end: End, pause: float, *, gave_pictures: bool) -> float:
        if gave_pictures:
            return FIRST_PAUSE_S
        return min(pause * 2, LONGEST_PAUSE_AWAY_S if end.is_away else LONGEST_PAUSE_S)

    def _note(self, reader: Reader, end: End) -> None:
        """Count and remember how a connection has ended."""
        if reader.last_picture is not None:
            self._last_picture, self._tries = reader.last_picture, 0
        if end.kind:
            self._reason = f"{self._address()} {end.reason}"
            self._skip(end.kind, f"camera {self.camera}: {self._reason}; trying again")

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.end()
        deadline = time.monotonic() + _RELEASE_S
        for thread in self._alive():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _longest_open(self) -> float:
        return self._open_limit

    @abstractmethod
    def _open(self) -> Capture:
        """Connect, within `_longest_open()` seconds. Raises CannotConnect. Called in a thread of the connection."""

    @abstractmethod
    def _address(self) -> str:
        """The camera for messages, without secrets."""


class NetworkCamera(LiveCamera):
    """An RTSP camera, over TCP unless OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise. It may be away at the start.

    Raises SourceUnavailable for an address that is none.
    """

    def __init__(
        self,
        url: str,
        camera: str,
        settings: CameraSettings | None = None,
        clock: Callable[[], datetime] = _wall_clock,
    ) -> None:
        super().__init__(camera, settings, clock)
        self._url = url
        self._where = RtspAddress.of(url, camera)

    def _open(self) -> Capture:
        if silence := self._where.silence():
            raise CannotConnect(silence, is_away=True)
        limits = (self._open_limit, self._read_limit)
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, _ffmpeg_options(*limits))
        return _usable(capture, "answers, but gives no video: check path, user and password, or its codec")

    def _longest_open(self) -> float:
        return ANSWER_S + self._open_limit

    def _address(self) -> str:
        return str(self._where)


class Webcam(LiveCamera):
    """A camera of this machine, by its number or its device file. One that is not there is waited for."""

    def __init__(
        self,
        which: int | str,
        camera: str,
        settings: CameraSettings | None = None,
        clock: Callable[[], datetime] = _wall_clock,
    ) -> None:
        super().__init__(camera, settings, clock)
        self._which = which

    def _open(self) -> Capture:
        if not self._is_there():
            raise CannotConnect("is not there: plug it in, or check its number", is_away=True)
        capture = cv2.VideoCapture(self._which, _webcam_backend())
        _usable(capture, "is there, but cannot be opened: check the rights to it, and whether it is in use")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a frame that waited in the driver is an old one
        return capture

    def _is_there(self) -> bool:
        """On Linux a look at the device file; elsewhere only opening it tells."""
        device = self._which if isinstance(self._which, str) else f"/dev/video{self._which}"
        return not sys.platform.startswith("linux") or os.path.exists(device)

    def _address(self) -> str:
        return f"webcam {self._which}"


def _webcam_backend() -> int:
    return cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY


def _ffmpeg_options(open_limit: float, read_limit: float) -> list[int]:
    """Without time limits a read of a frozen camera was still blocked after 45 s (measured); one thread a camera."""
    return [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(open_limit * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(read_limit * 1000),
        cv2.CAP_PROP_N_THREADS,
        1,
    ]


def _usable(capture: cv2.VideoCapture, otherwise: str) -> cv2.VideoCapture:
    """The capture, when it is open and its pictures are not too large."""
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if capture.isOpened() and pixels <= MAX_IMAGE_PIXELS:
        return capture
    is_open = capture.isOpened()
    capture.release()
    too_large = f"gives pictures of more than {MAX_IMAGE_PIXELS // 10**6} million pixels: set a lower resolution"
    raise CannotConnect(too_large if is_open else otherwise)
