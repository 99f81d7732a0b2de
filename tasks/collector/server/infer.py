"""What happens to a request: checked, read, decoded, handed to the collector, and answered with what the model saw."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.camera import decode_image
from tasks.collector.ahead import Captured
from tasks.collector.consumers.message import Message, message_of
from tasks.collector.server.connections import TimedHandler
from tasks.collector.server.requests import Asked, Refused, bad_request, behind, check_key, read_head, size_of
from tasks.core.entities import Detections, Frame, to_utc
from tasks.core.errors import ImageUnreadable
from tasks.core.settings import Thresholds
from tasks.core.settings.device import ServerSettings

_MOST_CAMERAS = 32  # names that requests may bring; each has counters of its own in the sampler and in limits
_MOST_BODIES = 4  # times the largest request: what bodies on their way may have in all


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a frame, with what was in force when its detections were made."""

    result: Detections | Exception
    thresholds: Thresholds
    model_version: str


class Room:
    """How much of something may be there at a time: pieces, and their sizes together."""

    def __init__(self, pieces: int, size: float) -> None:
        self._lock = threading.Lock()
        self._pieces, self._size = pieces, size

    def enter(self, size: float) -> bool:
        with self._lock:
            if self._pieces < 1 or self._size < size:
                return False
            self._pieces -= 1
            self._size -= size
            return True

    def leave(self, size: float) -> None:
        with self._lock:
            self._pieces += 1
            self._size += size


class Infer:
    """Frames of requests into detections. Used by the threads of all connections."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        device: str,
        project: str,
        key: str | None,
        submit: Callable[[Captured], bool],
        in_force: Callable[[], tuple[Thresholds, str]],
        now: Callable[[], datetime],
        taken: Collection[str],
        tell_drop: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.key = key
        self.tell_drop = tell_drop
        self.is_stopping = False
        self.answered = 0
        self._device = device
        self._project = project
        self._submit = submit
        self._in_force = in_force
        self._now = now
        self._taken = frozenset(taken)
        self.bodies = Room(10**9, settings.megabytes * 1e6 * _MOST_BODIES)
        self._frames = Room(settings.waiting_frames, settings.megapixels * 1e6 * 2)
        self._decoding = threading.Lock()  # one at a time: each takes a core from the model
        self._handing_over = threading.Lock()
        self._next_index: Counter[str] = Counter()

    def check_camera(self, camera: str) -> None:
        if camera in self._taken:
            raise bad_request(f"camera: {camera} is a camera of this device: take another name")
        if camera not in self._next_index and len(self._next_index) >= _MOST_CAMERAS:
            raise bad_request(f"camera: there are {_MOST_CAMERAS} names already: use one of them")

    def detections_of(self, content: bytes, asked: Asked) -> Message:
        """Raises Refused."""
        width, height = size_of(content, self.settings)
        size = width * height
        if not self._frames.enter(size):
            raise behind("as many frames as allowed wait for the model: try again")
        try:
            return self._message(self._pixels(content), asked)
        finally:
            self._frames.leave(size)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _pixels(self, content: bytes) -> NDArray[np.uint8]:
        try:
            with self._decoding:
                return decode_image(content, "the image")
        except ImageUnreadable as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error), "no image") from None
        except MemoryError:
            raise behind("there is no memory for the image: try again") from None

    def _message(self, pixels: NDArray[np.uint8], asked: Asked) -> Message:
        frame, outcome = self._outcome(pixels, asked)
        result = outcome.result
        if isinstance(result, ImageUnreadable):
            raise Refused(HTTPStatus.BAD_REQUEST, _line(result), "no image")
        if isinstance(result, Exception):
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the model failed on this frame", "model failed")
        self.answered += 1
        return message_of(
            frame,
            result,
            outcome.thresholds,
            device=self._device,
            project=self._project,
            model_version=outcome.model_version,
        )

    def _outcome(self, pixels: NDArray[np.uint8], asked: Asked) -> tuple[Frame, Outcome]:
        """Hand the frame over and wait for what comes of it."""
        outcomes: list[Outcome] = []
        is_there = threading.Event()

        def answer(result: Detections | Exception) -> None:
            """Called by the thread that detects, between this frame and the next: nothing is exchanged meanwhile."""
            outcomes.append(Outcome(result, *self._in_force()))
            is_there.set()

        with self._handing_over:  # frames of a camera come in the order of their numbers
            self.check_camera(asked.camera)
            index = self._next_index[asked.camera]
            frame = Frame(pixels, asked.camera, asked.captured_at or to_utc(self._now()), index)
            if self.is_stopping or not self._submit(Captured(frame, is_live=True, answer=answer)):
                raise behind("the model is behind: try again")
            self._next_index[asked.camera] += 1
        if not is_there.wait(self.settings.timeout_seconds):
            raise behind(f"the model did not answer within {self.settings.timeout_seconds:g} s: try again")
        return frame, outcomes[0]


class InferHandler(TimedHandler):
    """`POST /infer` and `GET /healthz`; everything else is refused."""

    def __init__(self, infer: Infer, *arguments: Any) -> None:
        self._infer = infer
        self.seconds = infer.settings.timeout_seconds
        super().__init__(*arguments)

    def do_POST(self) -> None:  # noqa: N802 - http.server calls it so
        address = urlsplit(self.path)
        try:
            if address.path != "/infer":
                raise _not_here(address.path, "GET")
            check_key(self.headers, self._infer.key)
            asked = read_head(address.query, self.headers, self._infer.settings)
            self._infer.check_camera(asked.camera)
            message = self._infer.detections_of(self._body(asked.length), asked)
        except Refused as refused:
            self._refuse(refused)
        except ConnectionError:  # the client is gone
            raise
        except Exception:  # noqa: BLE001 - whatever a request brings: counted, its client told, the server goes on
            self._refuse(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed", "failed"))
        else:
            self.send_whole(HTTPStatus.OK, message.model_dump_json().encode(), "application/json")

    def do_GET(self) -> None:  # noqa: N802
        self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        path = urlsplit(self.path).path
        if path != "/healthz":
            self._refuse(_not_here(path, "POST"))
        elif self._infer.is_stopping:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "stopping"})
        else:
            self._send(HTTPStatus.OK, {"status": "ok"})

    do_HEAD = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the parser refuses, as JSON like the rest."""
        status = HTTPStatus(code)
        self._refuse(Refused(status, message or status.phrase, "bad request"))

    def _body(self, length: int) -> bytes:
        """The image, once there is room for it."""
        if not self._infer.bodies.enter(length):
            raise behind("too many images are on their way: try again")
        try:
            if self.headers.get("Expect", "").lower() == "100-continue" and self.request_version != "HTTP/1.0":
                self.send_response_only(HTTPStatus.CONTINUE)
                self.end_headers()
            self.give_time()
            content = self.rfile.read(length)
        except TimeoutError:
            message = f"the image did not arrive within {self.seconds:g} s"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, message, "too slow") from None
        finally:
            self._infer.bodies.leave(length)
        if len(content) < length:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the image ends after {len(content)} of {length} bytes", "no image")
        self._has_read_all = True
        self.server.waits_for_client(self.connection, False)
        return content

    def _refuse(self, refused: Refused) -> None:
        """One line that says why. A client that may still be sending is heard out, and then hung up on."""
        self._infer.tell_drop(f"request to /infer refused, {refused.why}")
        self.close_connection = self.close_connection or not self._has_read_all
        self._send(refused.status, {"error": _line(refused)}, refused.headers)
        if not self._has_read_all:
            self.wfile.flush()
            self.linger()

    def _send(self, status: HTTPStatus, content: dict[str, str], headers: dict[str, str] | None = None) -> None:
        self.send_whole(status, json.dumps(content).encode(), "application/json", headers)

    def handle_one_request(self) -> None:
        self._has_read_all = False
        super().handle_one_request()


def _not_here(path: str, allowed: str) -> Refused:
    if path in ("/infer", "/healthz"):
        message = "send images with POST to /infer, and GET to /healthz"
        return Refused(HTTPStatus.METHOD_NOT_ALLOWED, message, "bad request", {"Allow": allowed})
    return Refused(HTTPStatus.NOT_FOUND, "there is only /infer and /healthz", "bad request")


def _line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:300]
