"""Live cameras: ones that are not there, that are silent, that are lost and come back."""

import socket
import threading
import time
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from tasks.adapters.camera import NetworkCamera, live, open_source
from tasks.core.errors import SourceUnavailable

START = datetime(2026, 3, 1, 8, 0, tzinfo=timezone.utc)


def picture(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def quick(monkeypatch):
    """Short pauses and time limits."""
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(live, "LONGEST_PAUSE_S", 0.04)
    monkeypatch.setattr(live, "OPEN_TIMEOUT_MS", 300)


def drained(source, seconds):
    """Iterate in a thread for a while, close, and return the frames and how long closing took."""
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    time.sleep(seconds)
    began = time.monotonic()
    source.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    return frames, time.monotonic() - began


def test_a_camera_that_is_away_is_tried_again_until_closed(quick, capfd):
    """A refused connection is counted and retried; the secret of the address is in no message and no output."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    source = open_source(f"rtsp://user:s3cret@127.0.0.1:{port}/stream?token=s3cret", "gate")
    frames, _ = drained(source, 0.6)
    assert frames == []
    assert source.is_live
    assert source.skipped["connection_failed"] >= 2
    assert source.last_error == f"camera gate: rtsp://127.0.0.1:{port}/stream cannot be opened; trying again"
    assert "s3cret" not in "".join(capfd.readouterr())


def test_a_camera_that_accepts_and_is_silent_does_not_hold_us(quick):
    """The time limit of opening ends it; without one FFmpeg would wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = NetworkCamera(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/stream", "gate")
        _, seconds = drained(source, 1.5)
    assert source.skipped["connection_failed"] >= 1
    assert seconds < 3


class FakeCapture:
    """A cv2.VideoCapture that gives a few frames a connection."""

    def __init__(self, frames):
        self.frames = list(frames)

    def isOpened(self):  # noqa: N802 - cv2's name
        return bool(self.frames)

    def get(self, _):
        return 64.0

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.frames = []


def test_a_lost_camera_is_connected_again_and_goes_on_counting(quick, monkeypatch):
    """Frames of three connections, one of which fails, have consecutive positions and times of the wall clock."""
    connections = [FakeCapture([picture(1), picture(2)]), FakeCapture([]), FakeCapture([picture(3)])]
    source = NetworkCamera("rtsp://camera/stream", "gate", clock=lambda: START + timedelta(microseconds=1500))
    monkeypatch.setattr(source, "_open", lambda: connections.pop(0))
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 3:
            source.close()
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2, 3]
    assert {frame.captured_at for frame in frames} == {START + timedelta(milliseconds=1)}
    assert source.skipped == {"connection_lost": 1, "connection_failed": 1}


def test_pauses_grow_while_a_camera_is_away_and_start_again_after_a_frame(monkeypatch):
    """0.5 s, doubled up to 30 s; a camera that answers is back at the start."""
    captures = [FakeCapture([])] * 8 + [FakeCapture([picture(1)])] + [FakeCapture([])] * 2
    pauses = []
    source = NetworkCamera("rtsp://camera/stream", "gate")
    monkeypatch.setattr(source, "_open", lambda: captures.pop(0))
    monkeypatch.setattr(source._closed, "wait", lambda pause: (pauses.append(pause), captures or source.close()))
    assert len(list(source)) == 1
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5, 1, 2]


def test_a_webcam_that_is_not_there_is_refused():
    """A number that no camera has is a mistake in the settings; the message says which."""
    with pytest.raises(SourceUnavailable, match="no webcam 97"):
        open_source("97", "gate")
