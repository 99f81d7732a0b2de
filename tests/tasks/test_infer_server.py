"""`POST /infer` answers real requests over real sockets with what the real detector sees."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from contextlib import closing
from datetime import datetime, timezone

import pytest

from tasks.adapters.camera import decode_image
from tasks.adapters.detector import open_detector
from tasks.collector.consumers import Message, at_or_above
from tasks.collector.server import InferServer
from tasks.core.entities import detection_records
from tasks.core.errors import ImageUnreadable, SettingsError
from tests.adapters.models import constant_detector
from tests.tasks.inferring import BOXES, KEY, THRESHOLDS, a_socket, ask, picture, serving
from tests.tasks.seeing import device_with, until


@pytest.fixture
def detector(tmp_path):
    return open_detector(constant_detector(tmp_path / "model.onnx", BOXES), project_classes=None, threads=1)


# --- what it answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_detections_are_those_of_the_detector(detector, suffix):
    """The answer holds what the detector sees in the same pixels at or above the thresholds, and what it was."""
    image = picture(suffix=suffix)
    with serving(detector) as (server, collector, drops):
        status, answer, headers = ask(
            server, image, path="/infer?camera=dock&captured_at=2026-05-01T14:00:00.040%2B02:00"
        )
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    direct = detector.detect(decode_image(image, "x"))
    expected = detection_records(at_or_above(direct, THRESHOLDS))
    assert [d.class_name for d in expected] == ["car", "truck"]
    message = Message.model_validate(answer)
    assert message.detections == expected
    assert (message.device, message.project, message.camera) == ("gate-1", "yard", "dock")
    assert (message.width, message.height) == (64, 48)
    assert message.model_version == detector.model_version
    assert message.frame_id == "2026-05-01T12:00:00.040Z#0"
    captured = collector.seen[0]
    assert captured.is_live
    assert (captured.frame.pixels == decode_image(image, "x")).all()
    assert drops == {}


def test_headers_name_camera_and_time_too(detector):
    """Camera and capture time may come as headers; without them they are the server's camera and now."""
    with serving(detector, camera="app") as (server, collector, _):
        ask(server, picture(), X_Camera="belt-2", X_Captured_At="2026-05-01T12:00:00Z")
        before = datetime.now(timezone.utc).replace(microsecond=0)
        ask(server, picture())
        ask(server, picture())
    frames = [captured.frame for captured in collector.seen]
    assert [(frame.camera, frame.index) for frame in frames] == [("belt-2", 0), ("app", 0), ("app", 1)]
    assert frames[0].captured_at == datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    assert frames[1].captured_at >= before


def test_one_connection_serves_many_requests(detector):
    """An application keeps its connection; each request is a frame of its own."""
    with serving(detector) as (server, _, _):
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "image/jpeg"}
            answers = []
            for number in range(20):
                connection.request("POST", "/infer", picture(seed=number), headers)
                answers.append(json.loads(connection.getresponse().read()))
        assert [answer["frame"] for answer in answers] == list(range(20))
        assert server.answered == 20


def test_concurrent_clients_get_their_own_answers(detector):
    """Ten clients at once: every request is answered, frames have consecutive numbers in the order of the queue."""
    sizes: dict[int, tuple[int, int]] = {}

    def client(number: int) -> None:
        for turn in range(5):
            width = 32 + 4 * number + turn
            while True:
                status, answer, headers = ask(server, picture(width=width))
                if status == 200:
                    break
                assert status == 503
                assert headers["Retry-After"] == "1"
                time.sleep(0.02)
            sizes[answer["frame"]] = (answer["width"], width)

    with serving(detector) as (server, collector, _):
        clients = [threading.Thread(target=client, args=(number,)) for number in range(10)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    assert sorted(sizes) == list(range(50))
    assert all(told == sent for told, sent in sizes.values())
    assert [captured.frame.index for captured in collector.seen] == list(range(50))


def test_an_upright_picture_is_what_boxes_lie_in(detector):
    """A photograph that EXIF turns is detected upright, and the answer says the upright size."""
    jpeg = picture(width=64, height=48)
    exif = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    with serving(detector) as (server, _, _):
        _, answer, _ = ask(server, turned)
    assert (answer["width"], answer["height"]) == (48, 64)


def test_a_model_that_fails_is_answered(detector):
    """What the model raises on a frame is a 500 without its details; what it calls no image is a 400."""
    with serving(detector) as (server, collector, drops):
        collector.detector = type("Failing", (), {"detect": lambda self, pixels: 1 / 0})()
        assert ask(server, picture())[:2] == (500, {"error": "the model failed on this frame"})

        def refuse(self, pixels):
            raise ImageUnreadable("no\nframe")

        collector.detector = type("Refusing", (), {"detect": refuse})()
        assert ask(server, picture())[:2] == (400, {"error": "no frame"})
    assert drops == {
        "request to /infer refused, model failed": 1,
        "request to /infer refused, no image": 1,
    }


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong-key-of-some-length", f"Basic {KEY}", f"Bearer {KEY}x", KEY, "Bearer \xff\xfe"],
)
def test_a_wrong_key_gets_nothing(detector, authorization):
    """Without the key the answer is 401, before anything of the image is looked at."""
    headers = {} if authorization is None else {"Authorization": authorization}
    with serving(detector) as (server, collector, drops):
        status, answer, given = ask(server, picture(), key=None, **headers)
    assert status == 401
    assert answer == {"error": "the key is missing or wrong: send it as 'Authorization: Bearer KEY'"}
    assert given["WWW-Authenticate"].startswith("Bearer")
    assert collector.seen == []
    assert drops == {"request to /infer refused, no key": 1}


def test_without_a_key_only_this_machine_is_served(detector):
    """On loopback the key may be missing; then a page whose own name leads here is still refused."""
    with serving(detector, key=None) as (server, _, _):
        assert ask(server, picture(), key=None)[0] == 200
        assert ask(server, picture(), key=None, Host=f"localhost:{server.port}")[0] == 200
        assert ask(server, picture(), key=None, Host="[::1]")[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[", "localhost.evil:80"):
            assert ask(server, picture(), key=None, Host=host)[0] == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "2001:db8::1"])
def test_others_are_not_served_without_a_key(detector, host):
    """An address that others can reach is refused at the start when there is no key."""
    with pytest.raises(SettingsError, match="EDGELOOP_INFER_KEY holds no key"), serving(detector, key=None, host=host):
        pass


def test_weak_keys_and_names_are_refused(detector):
    """A short key, a host that is no address, and a device without a server are errors of one line."""
    with pytest.raises(SettingsError, match="too short"), serving(detector, key="short"):
        pass
    with pytest.raises(SettingsError, match="is no IP address"), serving(detector, host="edge.example"):
        pass
    with pytest.raises(SettingsError, match="has no server"), serving(detector, device=device_with()):
        pass


def test_ipv6_loopback_is_served(detector):
    """The server listens on ::1 as well as on 127.0.0.1."""
    with serving(detector, host="::1") as (server, _, _):
        if "running" not in server.state:
            pytest.skip("this machine has no IPv6")
        with closing(http.client.HTTPConnection("::1", server.port, timeout=30)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200


# --- beginning and end -----------------------------------------------------------------------------------------------


def test_health_is_told_without_a_key(detector):
    """GET and HEAD of /healthz say that the server takes requests, and nothing else."""
    with serving(detector) as (server, _, drops):
        assert ask(server, method="GET", path="/healthz", key=None)[:2] == (200, {"status": "ok"})
        assert ask(server, method="HEAD", path="/healthz", key=None)[:2] == (200, None)
    assert drops == {}


def test_a_port_that_is_taken_is_waited_for(detector, monkeypatch):
    """The server comes up once the program that has its port is gone; until then it says so, once."""
    monkeypatch.setattr("tasks.collector.server._RETRY_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        errors: list[str] = []
        server = InferServer(
            device_with(server={"port": port}),
            submit=lambda captured: False,
            in_force=lambda: ({}, "stub"),
            tell_error=errors.append,
            secret_of=lambda name: KEY,
        )
        server.start()
        assert "cannot listen" in server.state
        time.sleep(0.3)
    until(lambda: server.state == f"running on 127.0.0.1:{port}")
    assert ask(server, picture())[0] == 503
    server.stop(2)
    assert len(errors) == 1
    assert "Address already in use" in errors[0]


def test_stopping_ends_what_is_under_way(detector):
    """A request that waits for the model gets its answer; idle and slow clients are hung up on, new ones refused."""
    with serving(detector) as (server, collector, _):
        collector.may_run.clear()
        results: list[int] = []
        client = threading.Thread(target=lambda: results.append(ask(server, picture())[0]))
        client.start()
        until(lambda: collector.taken == 1)
        idle = a_socket(server)
        threading.Timer(0.3, collector.may_run.set).start()
        began = time.monotonic()
        server.stop(5)
        assert time.monotonic() - began < 4
        client.join()
        assert results == [200]
        assert idle.recv(10) == b""
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            ask(server, picture())
