"""Live cameras: ones that are not there, that are lost and come back, and libraries that do not return or fail.

What a real server can show is in test_camera_rtsp.py; here are the cases that none can be made to produce.
"""

import contextlib
import itertools
import os
import socket
import ssl
import threading
import time
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.adapters.camera import NetworkCamera, live, open_source, reader
from tasks.adapters.camera.live import LiveCamera
from tasks.adapters.camera.reader import CannotConnect
from tasks.adapters.camera.rtsp import RtspAddress
from tasks.core.errors import SourceUnavailable
from tasks.core.settings import CameraSettings
from tests.adapters.rtsp import Watcher, held, until

START = datetime(2026, 3, 1, 8, 0, tzinfo=timezone.utc)


def picture(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def quick(monkeypatch):
    """Short pauses and time limits."""
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(live, "LONGEST_PAUSE_S", 0.04)
    monkeypatch.setattr(reader, "SLACK_S", 0.2)


class ShortCapture:
    """A cv2.VideoCapture that gives a few frames a connection, each once the last one was taken."""

    def __init__(self, *frames, pause=0.02):
        self.frames, self.pause, self.released = list(frames), pause, False

    def grab(self):
        time.sleep(self.pause)
        return bool(self.frames)

    def retrieve(self):
        frame = self.frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        return True, frame

    def release(self):
        self.released = True


class Scripted(LiveCamera):
    """A live camera whose connections are given: captures, reasons for failing, or functions that make them."""

    def __init__(self, *connections, **settings):
        given = CameraSettings(name="gate", source="0", **{"read_timeout_seconds": 1, **settings})
        super().__init__("gate", given, clock=lambda: START + timedelta(microseconds=1500))
        self.connections = list(connections)

    def _open(self):
        if not self.connections:
            self.close()
        connection = self.connections.pop(0) if self.connections else "is not there"
        if callable(connection):
            return connection()
        if isinstance(connection, Exception):
            raise connection
        if isinstance(connection, str):
            raise CannotConnect(connection)
        return connection

    def _address(self):
        return "scripted"


def test_a_lost_camera_is_connected_again_and_goes_on_counting(quick):
    """Frames of three connections, one of which fails, have consecutive positions and times of the wall clock."""
    first, last = ShortCapture(picture(1), picture(2)), ShortCapture(picture(3))
    source = Scripted(first, "fails", last)
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2, 3]
    assert {frame.captured_at for frame in frames} == {START + timedelta(milliseconds=1)}
    assert source.skipped["connection_lost"] == 2
    assert source.skipped["connection_failed"] >= 1
    assert first.released
    assert last.released


def test_a_library_that_fails_is_one_more_lost_connection(quick):
    """cv2.error while decoding, OSError while opening, an oversized and an empty picture: the camera goes on."""
    source = Scripted(
        OSError("rtsp://user:secret@host"),
        ShortCapture(picture(1), cv2.error("rtsp://user:secret@host")),
        ShortCapture(np.zeros((0, 0, 3), np.uint8)),
        ShortCapture(np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), picture(2)),
    )
    seen = []
    frames = []
    for frame in source:
        frames.append(frame)
        seen.append(source.last_error)
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2]
    assert source.skipped["connection_lost"] == 3
    assert source.skipped["oversized"] == 1
    assert "makes the library fail (OSError)" in seen[0]
    assert "secret" not in "".join([*seen, source.last_error])


def test_pauses_grow_while_a_camera_is_away_and_start_again_after_a_frame(monkeypatch):
    """One that does not answer: every second. One that refuses: up to 30 s. After a frame: half a second."""
    away = CannotConnect("does not answer", is_away=True)
    source = Scripted(
        *[away] * 4, *["refuses"] * 7, away, "refuses", ShortCapture(picture(1)), "refuses", "refuses", "refuses"
    )
    pauses = []
    wait = source._closed.wait
    monkeypatch.setattr(source._closed, "wait", lambda pause: pauses.append(pause) or wait(0))
    assert len(list(source)) == 1
    assert pauses[:17] == [1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30, 1, 2, 0.5, 1, 2, 4]


@pytest.mark.slow
def test_the_state_says_how_a_camera_is(quick, monkeypatch):
    """Connecting, running with its rate, reconnecting with the reason, and silent for a time."""
    may_go_on, read = threading.Event(), threading.Event()

    def opened_later():
        may_go_on.wait(10)
        return ShortCapture(*[picture(1)] * 20, pause=0.05)

    def refused_later():
        read.wait(10)
        raise CannotConnect("is not there")

    source = Scripted(opened_later, "is not there", refused_later)
    with Watcher(source) as watcher:
        until(lambda: source.state() == "connecting, try 1", 5, "connecting")
        may_go_on.set()
        until(lambda: watcher.sees(15), 5, "15 frames")
        state = source.state()
        assert state.startswith("running, ")
        assert 8 < float(state.split()[1]) <= 20.1
        until(lambda: source.state() == "reconnecting, try 2: scripted is not there", 5, "second try")
        monkeypatch.setattr(live, "SILENT_S", 0.0)
        assert source.state() == "no frame for 0 s: scripted is not there, try 2"
        read.set()


class PipeCamera(LiveCamera):
    """FFmpeg on a pipe that nobody writes to: opening it does not return, whatever the time limits say."""

    def __init__(self, path, **settings):
        given = CameraSettings(name="gate", source="0", **settings)
        super().__init__("gate", given)
        self.path = path

    def _open(self):
        return cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)

    def _address(self):
        return "pipe"


@pytest.mark.slow
def test_a_call_that_never_returns_is_left_behind_but_not_without_end(quick, tmp_path):
    """Three threads at most hang for a camera; closing does not wait for them; they go when the call returns."""
    os.mkfifo(tmp_path / "pipe")
    source = PipeCamera(tmp_path / "pipe", open_timeout_seconds=0.1)
    before = held()
    with Watcher(source) as watcher:
        until(lambda: source.skipped.get("connection_stuck") == 3, 10, "three calls that hang")
        time.sleep(1.0)
        assert source.skipped == {"connection_stuck": 3}
        assert held()[1] == before[1] + 4  # three that hang and the watcher
        assert "3 calls of the library have not returned" in source.state()
        assert watcher.stop() < 3

    def write_and_close():
        with contextlib.suppress(OSError):
            os.close(os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK))
        return held()[1] <= before[1]

    until(write_and_close, 10, "all threads have ended")
    assert held()[0] <= before[0]


def test_a_read_that_never_returns_is_noticed_and_left_behind(quick):
    """A driver that holds a read: noticed after the limit, another connection goes on, the late frame is dropped."""
    hold = threading.Event()

    class Holding(ShortCapture):
        def grab(self):
            if len(self.frames) == 1:
                hold.wait(20)
            return super().grab()

    held_up = Holding(picture(1), picture(2))
    source = Scripted(held_up, lambda: ShortCapture(*[picture(3)] * 1000), read_timeout_seconds=0.3)
    with Watcher(source) as watcher:
        until(lambda: watcher.sees(10), 10, "frames of the second connection")
        assert source.skipped == {"connection_stuck": 1}
        assert source.last_error == ("camera gate: scripted keeps a call of the library from returning; trying again")
        hold.set()
        until(lambda: held_up.released, 5, "the first connection is released")
    assert {int(frame.pixels[0, 0, 0]) for frame in watcher.frames} == {1, 3}


@pytest.mark.slow
def test_closing_does_not_wait_for_a_frame(quick):
    """A camera of one frame a minute is closed at once."""
    released = threading.Event()

    class Slow(ShortCapture):
        def grab(self):
            released.wait(60)
            return False

    watcher = Watcher(Scripted(Slow(), read_timeout_seconds=100))
    time.sleep(0.2)
    assert watcher.stop() < 3
    released.set()


@pytest.mark.slow
def test_a_webcam_that_is_not_there_is_waited_for(capfd):
    """By number or device file: it is named in the state, counted, tried again, and nothing is printed about it."""
    for which in ("97", "/dev/video-none"):
        source = open_source(which, "gate")
        assert source.is_live
        with Watcher(source):
            until(lambda source=source: source.skipped.get("connection_failed", 0) >= 2, 5, "two tries")
            assert f"webcam {which} is not there: plug it in" in source.state()
    assert capfd.readouterr() == ("", "")


def test_a_device_that_is_no_camera_is_tried_again(capfd):
    """It is there, and cannot be opened: refused with what to check."""
    with Watcher(open_source("/dev/null", "gate")) as watcher:
        until(lambda: watcher.source.skipped.get("connection_failed", 0) >= 1, 5, "a try")
        assert "webcam /dev/null is there, but cannot be opened: check the rights" in watcher.source.last_error


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host/cam", "rtsp://host:554"),
        ("RTSPS://user:secret@host/cam", "rtsps://host:322"),
        ("rtsp://user:s@cret@host:8554/secret?token=secret#secret", "rtsp://host:8554"),
        ("rtsp://host:8554/user=admin&password=secret_channel=1.sdp", "rtsp://host:8554"),
        ("rtsp://[2001:db8::1]/cam", "rtsp://[2001:db8::1]:554"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url, shown):
    """Neither user nor password nor path, in which some cameras want theirs."""
    assert str(RtspAddress.of(url, "gate")) == shown


@pytest.mark.parametrize("url", ["rtsp://", "rtsp:///cam", "rtsp://user:secret/x@host/cam", "rtsp://host:secret/cam"])
def test_an_address_that_is_none_is_refused_without_its_secrets(url):
    """One line that says how to write it."""
    with pytest.raises(SourceUnavailable, match="camera gate: its rtsp:// address") as error:
        open_source(url, "gate")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_host_that_no_name_server_knows_is_a_camera_that_is_away():
    """A name that cannot be looked up is tried again, and so is one that is no name."""
    for host in ("no-such-camera.invalid", "a" * 70):
        with Watcher(NetworkCamera(f"rtsp://{host}/cam", "gate")) as watcher:
            until(lambda: watcher.source.skipped.get("connection_failed", 0) >= 1, 15, "a try")
            assert f"rtsp://{host}:554" in watcher.source.last_error


def test_two_iterations_of_a_source_share_nothing_but_the_camera(quick):
    """A source that was left and is iterated again connects again."""
    source = Scripted(ShortCapture(picture(1), picture(2)), ShortCapture(picture(3)))
    assert [int(frame.pixels[0, 0, 0]) for frame in itertools.islice(source, 1)] == [1]
    assert [int(frame.pixels[0, 0, 0]) for frame in source] == [3]


# --- rtsps -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """The key and the certificate, signed by itself, of a camera, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(START - timedelta(days=9000))
        .not_valid_after(START + timedelta(days=9000))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "camera.pem").write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return tmp_path / "camera.pem"


class TlsCamera(threading.Thread):
    """Answers the first request of every connection, and remembers it."""

    def __init__(self, certificate):
        super().__init__(daemon=True)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.requests = []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.server.accept()
                with plain, contextlib.suppress(OSError), self.context.wrap_socket(plain, server_side=True) as secure:
                    self.requests.append(secure.recv(4096))
                    secure.sendall(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def test_an_rtsps_camera_is_asked_and_connected_through_tls(certificate):
    """Both the question and FFmpeg's request arrive encrypted, at a camera that vouches for itself."""
    with TlsCamera(certificate) as camera:
        url = f"rtsps://127.0.0.1:{camera.server.getsockname()[1]}/cam"
        with Watcher(open_source(url, "gate")) as watcher:
            until(lambda: watcher.source.skipped.get("connection_failed"), 10, "a try")
            assert "answers, but gives no video" in watcher.source.last_error
    assert camera.requests[0].startswith(b"OPTIONS rtsps://127.0.0.1:")
    assert b"User-Agent: edgeloop" not in camera.requests[1]
    assert camera.requests[1].startswith(b"OPTIONS ")


def test_a_camera_without_tls_is_none_at_an_rtsps_address():
    """A server that does not speak TLS cannot be reached, within the time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = RtspAddress.of(f"rtsps://127.0.0.1:{silent.getsockname()[1]}/cam", "gate")
        assert address.silence(0.3) == "does not answer within 0.3 s"
