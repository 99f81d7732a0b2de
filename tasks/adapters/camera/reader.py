"""One connection to a live camera, read in a thread that can be given up.

The libraries below have time limits, but not everywhere: a name that is looked up, a driver, a file system may hold a
call for as long as they like. Whoever waits for pictures waits here with a limit of his own, and leaves a thread behind
whose call has not returned; it ends by itself when the call does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.camera.images import MAX_IMAGE_PIXELS
from tasks.adapters.camera.pace import Pace
from tasks.adapters.camera.source import ABOVE_FRAME_RATE
from tasks.adapters.camera.view import View

CONNECTION_FAILED, CONNECTION_LOST, CONNECTION_STUCK = "connection_failed", "connection_lost", "connection_stuck"
REPLACED, OVERSIZED = "replaced_by_newer", "oversized"
SLACK_S = 2.0  # beyond the library's own time limit, before a thread is given up
_MEASURED_PICTURES = 64  # over which the rate is measured


class Capture(Protocol):
    """What is used of a cv2.VideoCapture."""

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Any]: ...

    def release(self) -> None: ...


class CannotConnect(Exception):
    """Why a camera could not be connected. is_away: found out at next to no cost, so it may be tried again soon."""

    def __init__(self, reason: str, *, is_away: bool = False) -> None:
        super().__init__(reason)
        self.is_away = is_away


@dataclass(frozen=True, slots=True)
class Picture:
    """BGR pixels (height, width, 3), and when they were read."""

    pixels: NDArray[np.uint8]
    read_at: datetime


@dataclass(frozen=True, slots=True)
class End:
    """Why a connection has ended; kind is the key that it is counted under, empty where we ended it ourselves."""

    kind: str = ""
    reason: str = ""
    is_away: bool = False


@dataclass(frozen=True, slots=True)
class Handling:
    """What becomes of the pictures of one camera, over all its connections.

    clock: wall clock, for capture times. count: told what is left out, by reason.
    """

    pace: Pace
    view: View
    clock: Callable[[], datetime]
    count: Callable[[str], None]


class Reader(threading.Thread):
    """Connects, then reads picture after picture and keeps the newest until it is taken."""

    def __init__(
        self, name: str, connect: Callable[[], Capture], handling: Handling, *, open_limit: float, read_limit: float
    ) -> None:
        """open_limit, read_limit: seconds that `connect` and the reading of one picture may take."""
        super().__init__(name=name, daemon=True)
        self._connect = connect
        self._handling = handling
        self._read_limit = read_limit
        self._deadline = time.monotonic() + open_limit + SLACK_S
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._end: End | None = None
        self._times: deque[float] = deque(maxlen=_MEASURED_PICTURES)

    # --- for whoever waits for pictures ------------------------------------------------------------------------------

    def take(self) -> Picture | End:
        """Wait for the next picture, or for the end of the connection; never longer than the time limits."""
        with self._changed:
            while self._picture is None and self._end is None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._end = End(CONNECTION_STUCK, "keeps a call of the library from returning")
                else:
                    self._changed.wait(left)
            if self._picture is None:
                assert self._end is not None
                return self._end
            picture, self._picture = self._picture, None
            return picture

    def end(self, end: End = End()) -> None:
        """End the connection, from whatever thread; the first reason counts."""
        with self._changed:
            self._end = self._end or end
            self._changed.notify_all()

    @property
    def has_ended(self) -> bool:
        return self._end is not None

    @property
    def last_picture(self) -> float | None:
        """When the newest picture came, by the monotonic clock; None before the first. Those left out count, too."""
        return self._times[-1] if self._times else None

    @property
    def rate(self) -> float:
        """Pictures a second that the camera gives, measured over its last ones."""
        span = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / span if span > 0 else 0.0

    # --- the thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        capture: Capture | None = None
        try:
            capture = self._connect()
            while not self.has_ended:
                self._deadline = time.monotonic() + self._read_limit + SLACK_S
                self._read_one(capture)
        except CannotConnect as error:
            self.end(End(CONNECTION_FAILED, str(error), error.is_away))
        except Exception as error:  # noqa: BLE001 - a camera that makes a library fail is connected again, like any other
            self.end(End(CONNECTION_LOST if self._times else CONNECTION_FAILED, _in_one_line(error)))
        finally:
            if capture is not None:
                capture.release()

    def _read_one(self, capture: Capture) -> None:
        began = time.monotonic()
        is_read = capture.grab()
        now, read_at = time.monotonic(), self._handling.clock()
        if not is_read or now - began > self._read_limit:
            # Beyond the limit FFmpeg gives what its decoder still held, and would be waited for once more (measured).
            self.end(End(CONNECTION_LOST, "gives no frames"))
            return
        self._times.append(now)
        if self.has_ended:  # perhaps long ago, and another thread reads the camera by now
            return
        if self._handling.pace.is_due(now):
            self._keep(capture, read_at)
        else:
            self._handling.count(ABOVE_FRAME_RATE)

    def _keep(self, capture: Capture, read_at: datetime) -> None:
        is_read, pixels = capture.retrieve()
        if not is_read or pixels is None or pixels.size == 0:
            self.end(End(CONNECTION_LOST, "gives frames that cannot be decoded"))
        elif pixels.shape[0] * pixels.shape[1] > MAX_IMAGE_PIXELS:
            self._handling.count(OVERSIZED)
        else:
            self._put(Picture(self._handling.view(pixels), read_at))

    def _put(self, picture: Picture) -> None:
        with self._changed:
            if self._end is not None:
                return
            if self._picture is not None:
                self._handling.count(REPLACED)
            self._picture = picture
            self._changed.notify_all()


def _in_one_line(error: Exception) -> str:
    """Without the message: what a library says may hold the camera's address."""
    return f"makes the library fail ({type(error).__name__})"
