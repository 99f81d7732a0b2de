"""Live cameras against a real RTSP server, and against what only pretends to be one."""

import os
import re
import socket
import threading
import time

import numpy as np
import pytest

from tasks.adapters.camera import open_source
from tasks.core.settings import CameraSettings
from tests.adapters.rtsp import (
    BACK_S,
    NOTICED_S,
    RtspCamera,
    Watcher,
    drop,
    free_port,
    held,
    need_rtsp_server,
    until,
)

FIRST_FRAME_S = 20  # on a machine that is busy with other tests


@pytest.fixture(autouse=True, scope="module")
def _rtsp_server():
    need_rtsp_server()


def watch(url, pause=0.0, **settings):
    return Watcher(open_source(url, "gate", settings=CameraSettings(name="gate", source=url, **settings)), pause=pause)


@pytest.mark.slow
def test_a_camera_that_drops_is_noticed_and_seen_again():
    """SIGKILL and SIGSTOP of the server: noticed within 10 s, back within 5 s, no descriptor and no thread more."""
    with RtspCamera() as camera, watch(camera.url) as watcher:
        until(watcher.sees, FIRST_FRAME_S, "first frame")
        before = held()
        for way in ("SIGKILL", "SIGSTOP"):
            noticed, back = drop(camera, watcher, way, away=2.5)
            assert noticed <= NOTICED_S
            assert back <= BACK_S
            until(lambda: watcher.source.state().startswith("running, "), 5, "state")
        after = held()
        assert after[0] <= before[0] + 1
        assert after[1] <= before[1] + 1
        assert watcher.source.skipped["connection_lost"] == 2
        assert [frame.index for frame in watcher.frames] == list(range(len(watcher.frames)))


@pytest.mark.slow
def test_a_camera_that_comes_back_with_another_resolution_is_read_in_it():
    """Two servers one after another at the same port: frames of both sizes, the region following the picture."""
    region = {"left": 0.5, "bottom": 0.5}
    with RtspCamera(size="320x240") as camera, watch(camera.url, region=region) as watcher:
        until(watcher.sees, FIRST_FRAME_S, "first frame")
        camera.kill()
        camera.start(size="480x360")
        since = time.monotonic()
        until(lambda: watcher.sees(since=since), FIRST_FRAME_S, "frame of the second server")
    assert watcher.frames[0].pixels.shape == (120, 160, 3)
    assert watcher.frames[-1].pixels.shape == (180, 240, 3)


@pytest.mark.slow
def test_one_stream_is_limited_masked_and_newest_first():
    """Of 15 frames a second 5 are handed out and the rest counted; a mask is black; who is slow misses frames."""
    mask = {"right": 0.25}
    with RtspCamera() as camera:
        with watch(camera.url, frame_rate=5, masks=[mask]) as limited:
            until(lambda: limited.sees(20), FIRST_FRAME_S, "20 frames")
        with watch(camera.url, pause=0.5) as slow:
            until(lambda: slow.sees(4), FIRST_FRAME_S, "4 frames")
    steady = np.diff(limited.times[8:])
    assert 0.15 < np.median(steady) < 0.26
    left_out = limited.source.skipped["above_frame_rate"]
    assert left_out > len(limited.frames)
    assert limited.source.last_error == ""
    for frame in limited.frames:
        assert not frame.pixels[:, :80].any()
        assert frame.pixels.shape == (240, 320, 3)
    assert any(frame.pixels[:, 80:].any() for frame in limited.frames)
    assert slow.source.skipped["replaced_by_newer"] >= 3
    lag = [frame.captured_at.timestamp() for frame in slow.frames]
    assert min(np.diff(lag)) > 0.3


@pytest.mark.slow
def test_a_camera_asks_for_a_password_and_its_secret_is_told_to_nobody(capfd):
    """Digest authentication with the right password gives frames; a wrong one is a reason without any of its parts."""
    with RtspCamera(user="edge", password="right-Secret") as camera:
        address = f"127.0.0.1:{camera.port}"
        with watch(f"rtsp://edge:right-Secret@{address}/cam") as watcher:
            until(watcher.sees, FIRST_FRAME_S, "first frame")
        with watch(f"rtsp://edge:wrong-Secret@{address}/cam?key=other-Secret") as refused:
            until(lambda: refused.source.skipped.get("connection_failed", 0) >= 2, FIRST_FRAME_S, "two tries")
            state = refused.source.state()
    assert refused.frames == []
    assert state.startswith("reconnecting, try ")
    assert f"rtsp://{address} answers, but gives no video: check path, user and password" in state
    assert "Secret" not in "".join([state, refused.source.last_error, *capfd.readouterr()])


class Pretender:
    """A TCP server that does to every connection what it is told."""

    def __init__(self, serve):
        self.connections = 0
        self._serve = serve
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._server.getsockname()[1]}/cam"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with connection:
            try:
                self._serve(connection)
            except OSError:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def send_random_bytes(connection):
    while True:
        connection.sendall(os.urandom(4096))


def say_nothing(connection):
    while connection.recv(4096):
        pass


def hang_up(connection):
    connection.recv(10)


def answer_and_then_be_silent(connection):
    """As a camera that freezes while it is being opened."""
    if b"User-Agent: edgeloop" in connection.recv(4096):
        connection.sendall(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
    else:
        say_nothing(connection)


def answer_in_garbage(connection):
    """RTSP in its first line, and nothing of it after that."""
    connection.recv(4096)
    connection.sendall(b"RTSP/1.0 200 OK\r\n" + os.urandom(4096) + b"\r\n\r\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (send_random_bytes, "answers, but not in RTSP"),
        pytest.param(say_nothing, "does not answer within 2 s", marks=pytest.mark.slow),
        (hang_up, "(closes the connection without an answer|cannot be reached)"),
        (answer_in_garbage, "answers, but gives no video"),
    ],
)
def test_what_answers_with_garbage_is_tried_again_and_named(serve, reason):
    """Counted and retried, its state says why; nothing is held longer for it, and closing does not wait."""
    before = held()
    with Pretender(serve) as pretender:
        with watch(pretender.url, open_timeout_seconds=1) as watcher:
            until(lambda: watcher.source.skipped.get("connection_failed", 0) >= 2, 15, "two tries")
            assert re.match(f"reconnecting, try [0-9]+: rtsp://127.0.0.1:[0-9]+ {reason}", watcher.source.state())
            assert watcher.stop() < 3
        assert pretender.connections >= 2
    until(lambda: held()[0] <= before[0] and held()[1] <= before[1], 5, "all is let go")


@pytest.mark.slow
def test_a_camera_that_hangs_while_it_is_opened_keeps_no_other_from_opening():
    """One camera answers and then freezes, for its whole open timeout; meanwhile another one gives its first frame."""
    with (
        RtspCamera() as good,
        Pretender(answer_and_then_be_silent) as frozen,
        watch(frozen.url, open_timeout_seconds=15) as hangs,
    ):
        until(lambda: frozen.connections >= 2, 5, "the stream is being opened")  # the first was the question
        with watch(good.url) as watcher:
            until(watcher.sees, 10, "first frame of the other camera")
        assert hangs.source.state() == "connecting, try 1"
        assert hangs.source.skipped == {}
        assert hangs.stop() < 2


@pytest.mark.slow
def test_an_address_without_a_camera_is_asked_every_second_without_a_word(capfd):
    """A closed port: tried at once, after a second, and so on; nothing is printed about it."""
    with watch(f"rtsp://127.0.0.1:{free_port()}/cam") as watcher:
        until(lambda: watcher.source.skipped.get("connection_failed", 0) >= 4, 6, "four tries")
        assert "cannot be reached (connection refused)" in watcher.source.state()
    assert capfd.readouterr() == ("", "")
