"""What `POST /infer` refuses, and that no client holds up another, over real sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.adapters.detector import open_detector
from tasks.collector.server import connections
from tests.adapters.models import constant_detector
from tests.tasks.inferring import BOXES, KEY, a_socket, ask, full_head, picture, png_of, serving
from tests.tasks.seeing import until


@pytest.fixture
def detector(tmp_path):
    return open_detector(constant_detector(tmp_path / "model.onnx", BOXES), project_classes=None, threads=1)


@pytest.fixture
def shared_server(detector):
    with serving(detector) as (server, _, _):
        yield server


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "says"),
    [
        ("/infer", {}, b"", 415, "no JPEG or PNG"),
        ("/infer", {}, b"GIF89a" + bytes(100), 415, "no JPEG or PNG"),
        ("/infer", {}, b"BM" + bytes(100), 415, "no JPEG or PNG"),
        ("/infer", {"Content_Type": "text/plain"}, picture(), 415, "Content-Type"),
        ("/infer", {"Content_Type": "multipart/form-data; boundary=x"}, picture(), 415, "Content-Type"),
        ("/infer", {}, picture()[:-200], 400, "cut off or damaged"),
        ("/infer", {}, b"\xff\xd8\xff" + bytes(50), 400, "cut off or damaged"),
        ("/infer", {}, png_of(20_000, 20_000), 413, "20000 x 20000 pixels, more than 12 million"),
        ("/infer", {}, png_of(4001, 3000), 413, "more than 12 million"),
        ("/infer", {}, png_of(0, 0), 400, "cut off or damaged"),
        ("/infer", {}, png_of(64, 48), 400, "cannot be decoded"),
        ("/infer?camera=Gate%202", {}, picture(), 400, "camera: 1 to 63"),
        ("/infer?camera=../x", {}, picture(), 400, "camera: 1 to 63"),
        ("/infer?camera=gate", {}, picture(), 400, "gate is a camera of this device"),
        ("/infer?captured_at=yesterday", {}, picture(), 400, "captured_at"),
        ("/infer?captured_at=99999-01-01", {}, picture(), 400, "captured_at"),
        ("/infer?kamera=x", {}, picture(), 400, "takes camera and captured_at"),
        ("/infer?camera=a&camera=b", {}, picture(), 400, "each once"),
        ("/infer?camera", {}, picture(), 400, "readable parameters"),
        ("/infer/x", {}, picture(), 404, "only /infer"),
        ("/healthz", {}, b"", 405, "POST to /infer"),
    ],
)
def test_what_is_no_good_request_is_refused(detector, path, headers, body, status, says):
    """The answer is one line of JSON that says what is wrong, and the collector never sees the frame."""
    with serving(detector) as (server, collector, drops):
        answered, answer, _ = ask(server, body, path=path, **headers)
        assert ask(server, picture())[0] == 200
    assert answered == status
    assert says in answer["error"]
    assert "\n" not in answer["error"]
    assert len(collector.seen) == 1
    assert sum(drops.values()) == 1


def test_other_methods_are_refused(detector):
    """GET of /infer says which method it takes; methods that nobody knows are answered, too."""
    with serving(detector) as (server, _, _):
        status, _, headers = ask(server, method="GET")
        assert (status, headers["Allow"]) == (405, "POST")
        assert ask(server, method="GET", path="/")[0] == 404
        status, answer, _ = ask(server, method="BREW")
        assert status == 501
        assert set(answer) == {"error"}


def test_a_huge_body_is_refused_before_it_is_read(detector):
    """A body above the cap is refused by its length: the answer comes before the client has sent any of it."""
    with serving(detector, megabytes=0.1) as (server, _, drops):
        with closing(a_socket(server)) as client:
            head = "POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100001\r\n"
            client.sendall(f"{head}Authorization: Bearer {KEY}\r\n\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
        status, answer, _ = ask(server, bytes(5_000_000))  # a client that sends first and listens then
        assert status == 413
        assert "more than 0.1 MB" in answer["error"]
    assert drops == {"request to /infer refused, too large": 2}


def test_a_client_that_asks_first_is_told_before_it_sends(detector):
    """With `Expect: 100-continue` the image is asked for only after key and length were found good."""
    image = picture()
    head = f"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n"
    head += "Expect: 100-continue\r\n"
    with serving(detector) as (server, _, _):
        with closing(a_socket(server)) as client:
            client.sendall(f"{head}\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 401 ")
        with closing(a_socket(server)) as client:
            client.sendall(f"{head}Authorization: Bearer {KEY}\r\n\r\n".encode())
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(image)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], b"411"),
        (["Transfer-Encoding: chunked"], b"411"),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], b"411"),
        (["Content-Length: 5", "Content-Length: 6"], b"400"),
        (["Content-Length: -5"], b"400"),
        (["Content-Length: 5x"], b"400"),
        (["Content-Length: " + "9" * 30], b"400"),
    ],
)
def test_lengths_that_mean_two_things_are_refused(detector, lines, status):
    """A request has one Content-Length and nothing else that says how long it is; its connection is closed."""
    head = ["POST /infer HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", "Content-Type: image/jpeg", *lines]
    with serving(detector) as (server, _, _), closing(a_socket(server)) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode())
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(10_000), b""))
    assert answer.split()[1] == status
    assert answer.count(b"HTTP/1.1") == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300), position=st.integers(0, 3000))
def test_damaged_images_and_garbage_end_nothing(shared_server, noise, position):
    """Bytes changed anywhere in an image give detections or an error of one line, and the next request is answered."""
    image = bytearray(picture())
    position %= len(image)
    image[position : position + len(noise)] = noise
    status, answer, _ = ask(shared_server, bytes(image))
    assert status in (200, 400, 413, 415)
    assert status == 200 or "\n" not in answer["error"]
    with closing(a_socket(shared_server)) as client:
        client.sendall(noise + b"\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        while client.recv(10_000):
            pass
    assert ask(shared_server, method="GET", path="/healthz")[0] == 200


# --- slow clients, a slow model --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_clients_that_stand_still_block_nobody(detector):
    """More clients than there are connections, each with half a request: the oldest have to go, others are answered."""
    with serving(detector) as (server, _, _):
        slow = []
        for number in range(connections.MOST_CONNECTIONS + 20):
            client = a_socket(server)
            length = "POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n"
            client.sendall((length + ("" if number % 2 else f"Authorization: Bearer {KEY}\r\n\r\nabc")).encode())
            slow.append(client)
        for _ in range(10):
            assert ask(server, picture(), timeout=5)[0] == 200
        for client in slow[:20]:  # the first ones had to go
            assert client.recv(10_000) == b""
        for client in slow:
            client.close()


@pytest.mark.slow
def test_a_request_has_to_arrive_in_time(detector):
    """One byte now and then does not keep a connection: head and image each have to be there in time."""
    with serving(detector, timeout_seconds=1) as (server, _, drops):
        for head in ("POST /infer HTTP/1.1\r\n", full_head(1000)):
            with closing(a_socket(server)) as client:
                client.sendall(head.encode())
                began, answer = time.monotonic(), b""
                client.settimeout(0.2)
                while time.monotonic() - began < 8:
                    try:
                        client.sendall(b"x")
                        answer += (got := client.recv(1000))
                        if not got:
                            break
                    except TimeoutError:
                        continue
                    except OSError:
                        break
                assert time.monotonic() - began < 6
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert drops == {"request to /infer refused, too slow": 1}


def test_a_model_that_is_behind_refuses_and_loses_no_order(detector):
    """Frames wait in order, as many as there is room for; more get 503 with Retry-After, and none is replaced."""
    with serving(detector, room=2, waiting_frames=4) as (server, collector, drops):
        collector.may_run.clear()
        results: list[int] = []
        clients = [threading.Thread(target=lambda: results.append(ask(server, picture())[0])) for _ in range(12)]
        for client in clients:
            client.start()
        until(lambda: len(results) >= 8)
        assert set(results) == {503}
        collector.may_run.set()
        for client in clients:
            client.join()
    assert 3 <= results.count(200) <= 4
    assert [captured.frame.index for captured in collector.seen] == list(range(results.count(200)))
    assert drops == {"request to /infer refused, model behind": results.count(503)}


def test_large_frames_are_bounded_together(detector):
    """However many may wait, all that wait have no more pixels than twice the largest image."""
    with serving(detector, megapixels=0.1, waiting_frames=64) as (server, collector, _):
        collector.may_run.clear()
        big = picture(width=400, height=240)  # 96,000 pixels: two of them fit
        results: list[int] = []
        clients = [threading.Thread(target=lambda: results.append(ask(server, big)[0])) for _ in range(5)]
        for client in clients:
            client.start()
        until(lambda: len(results) == 3)
        collector.may_run.set()
        for client in clients:
            client.join()
    assert sorted(results) == [200, 200, 503, 503, 503]


def test_a_model_that_does_not_answer_is_given_up(detector):
    """After the time limit the client gets 503; the frame stays in the queue, and its late answer harms nobody."""
    with serving(detector, timeout_seconds=0.5) as (server, collector, _):
        collector.may_run.clear()
        status, answer, headers = ask(server, picture())
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "did not answer within 0.5 s" in answer["error"]
        collector.may_run.set()
        until(lambda: len(collector.seen) == 1)
        assert ask(server, picture())[0] == 200


def test_a_client_that_leaves_harms_nobody(detector):
    """Clients that hang up in the midst of sending or waiting leave no room taken behind them."""
    image = picture()
    with serving(detector, waiting_frames=2, timeout_seconds=5) as (server, _, _):
        for sent in (b"", full_head(len(image)).encode(), full_head(len(image)).encode() + image[:100]):
            for _ in range(5):
                with closing(a_socket(server)) as client:
                    client.sendall(sent)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(5):
            with closing(a_socket(server)) as client:
                client.sendall(full_head(len(image)).encode() + image)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: ask(server, image)[0] == 200)
        until(lambda: ask(server, image)[0] == 200)


def test_names_of_cameras_are_bounded(detector):
    """Each camera name has counters of its own, so an application can bring 32 of them and no more."""
    with serving(detector) as (server, _, _):
        statuses = [ask(server, picture(), path=f"/infer?camera=c{number}")[0] for number in range(33)]
        assert statuses == [200] * 32 + [400]
        assert ask(server, picture(), path="/infer?camera=c5")[0] == 200
