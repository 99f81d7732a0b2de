"""What tests of `POST /infer` share: a server with a small collector behind it, pictures, and requests."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import struct
import threading
import zlib
from contextlib import closing, contextmanager

import cv2
import numpy as np

from tasks.collector.ahead import Captured
from tasks.collector.server import InferServer
from tasks.core.entities import Detections
from tests.tasks.seeing import Drops, device_with

KEY = "a-key-of-the-application-1234"
THRESHOLDS = {"car": 0.5, "truck": 0.35}
BOXES = [(20, 20, 16, 16, 0, 0.9), (32, 32, 20, 10, 1, 0.4), (50, 50, 8, 8, 0, 0.2)]


class Collecting(threading.Thread):
    """A collector in small: a bounded queue in order, and one thread that runs the detector."""

    def __init__(self, detector, room: int = 4) -> None:
        super().__init__(daemon=True)
        self.detector = detector
        self.frames: queue.Queue[Captured | None] = queue.Queue(room)
        self.taken = 0
        self.seen: list[Captured] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.start()

    def submit(self, captured: Captured) -> bool:
        try:
            self.frames.put_nowait(captured)
        except queue.Full:
            return False
        return True

    def run(self) -> None:
        while (captured := self.frames.get()) is not None:
            self.taken += 1
            self.may_run.wait(30)
            self.seen.append(captured)
            assert captured.answer is not None
            try:
                detections: Detections | Exception = self.detector.detect(captured.frame.pixels)
            except Exception as error:  # noqa: BLE001 - as the collector does
                detections = error
            captured.answer(detections)


@contextmanager
def serving(detector, key: str | None = KEY, room: int = 4, device=None, **fields):
    """A server on a free port, with a collector behind it; yields (server, collector, drops)."""
    collector, drops = Collecting(detector, room), Drops()
    server = InferServer(
        device or device_with(server={"port": 0, **fields}, cameras=[{"name": "gate", "source": "0"}]),
        submit=collector.submit,
        in_force=lambda: (THRESHOLDS, detector.model_version),
        tell_drop=drops,
        secret_of={"EDGELOOP_INFER_KEY": key}.get,
    )
    server.start()
    try:
        yield server, collector, drops
    finally:
        collector.may_run.set()
        server.stop(5)
        collector.frames.put(None)
        collector.join(30)


def picture(width: int = 64, height: int = 48, suffix: str = ".jpg", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(suffix, cv2.blur(pixels, (5, 5)))[1].tobytes()


def png_of(width: int, height: int) -> bytes:
    """A well-formed PNG whose header promises so many pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def ask(server, body: bytes = b"", method="POST", path="/infer", key: str | None = KEY, timeout=30, **headers):
    """(status, JSON, headers) of one request."""
    sent = {"Content-Type": "image/jpeg", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)) as connection:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None, response.headers


def a_socket(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def full_head(length: int) -> str:
    return (
        f"POST /infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
