"""MQTT consumers, against a real broker that is killed, stopped, and asks for passwords and certificates."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tasks.collector.consumers import Consumers, mqtt, thread
from tests.tasks.broker import Broker, Line, Listener, free_port, needed
from tests.tasks.seeing import Drops, a_frame, device_with, some_detections, until


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


def consumers_of(port: int, tell_error=lambda message: None, secrets=None, **fields) -> tuple[Consumers, Drops]:
    drops = Drops()
    device = device_with({"type": "mqtt", "host": "127.0.0.1", "port": port, **fields})
    consumers = Consumers(device, drops, tell_error, secret_of=(secrets or {}).get)
    consumers.start()
    return consumers, drops


def tell(consumers: Consumers, count: int = 1, first: int = 0, camera: str = "gate") -> None:
    for index in range(first, first + count):
        consumers.tell(a_frame(index, camera), some_detections((0, 0.9)), {}, "ab" * 8)


def is_connected(consumers: Consumers) -> bool:
    return consumers.states()["mqtt"] == "running"


def lost(drops: Drops) -> int:
    return sum(drops.values())


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_arrive_under_their_topic_in_order(broker, qos):
    """Each frame is one message under a topic with the names of device, project and camera."""
    listener = Listener(broker)
    consumers, drops = consumers_of(broker.port, qos=qos, topic="site/{project}/{device}/{camera}/seen")
    tell(consumers, 300)
    tell(consumers, 1, 300, camera="yard-2")
    assert consumers.stop(20)
    until(lambda: len(listener.messages) == 301)
    listener.stop()
    assert listener.frames == list(range(301))
    assert {topic for topic, _ in listener.messages} == {"site/yard/gate-1/gate/seen", "site/yard/gate-1/yard-2/seen"}
    assert listener.messages[0][1]["detections"][0]["class_name"] == "car"
    assert drops == {}


@pytest.mark.slow
@pytest.mark.parametrize("qos", [0, 1])
def test_a_broker_that_is_killed_is_found_again(broker, qos):
    """After kill -9 of the broker what fits the queue waits for it; the rest is counted, and nothing comes twice."""
    listener = Listener(broker)
    consumers, drops = consumers_of(broker.port, qos=qos, waiting_messages=50)
    tell(consumers, 20)
    until(lambda: len(listener.messages) == 20)
    listener.lost_its_broker()
    broker.kill()
    until(lambda: "trying again" in consumers.states()["mqtt"])
    tell(consumers, 200, 20)
    broker.start()
    listener.wait_until_subscribed()
    until(lambda: is_connected(consumers))
    tell(consumers, 10, 220)
    assert consumers.stop(20)
    until(lambda: listener.frames[-1:] == [229])
    listener.stop()
    assert listener.frames[:20] == list(range(20))
    assert listener.frames == sorted(set(listener.frames))
    assert drops["message to mqtt dropped, broker away"] >= 150
    # While the listener itself comes back, the broker may deliver to nobody; what is counted as dropped never arrives.
    assert len(listener.frames) + lost(drops) <= 230


@pytest.mark.slow
@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_cut_line_costs(broker, qos, monkeypatch):
    """The line is cut in the midst of messages, over and over: QoS 1 loses none, QoS 0 gives none twice."""
    monkeypatch.setattr(thread, "FIRST_PAUSE_S", 0.05)
    listener = Listener(broker)
    line = Line(broker.port)
    consumers, drops = consumers_of(line.port, qos=qos, waiting_messages=10_000)
    for turn in range(5):
        until(lambda turn=turn: line.connections == turn + 1 and is_connected(consumers))
        tell(consumers, 200, 200 * turn)
        until(lambda turn=turn: len(listener.messages) > 40 * (turn + 1))
        line.cut()
        until(lambda: not is_connected(consumers))
    until(lambda: is_connected(consumers))
    assert consumers.stop(30)
    if qos:
        until(lambda: set(listener.frames) == set(range(1000)))
        assert drops == {}
    else:
        assert listener.frames == sorted(set(listener.frames))
        assert set(drops) <= {"message to mqtt dropped, connection lost"}
    listener.stop()
    line.stop()


def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path):
    """A device starts before its broker: telling never waits, the queue is bounded, and the newest messages arrive."""
    errors: list[str] = []
    port = free_port()
    consumers, drops = consumers_of(port, errors.append, qos=1, waiting_messages=30)
    began = time.monotonic()
    tell(consumers, 1000)
    assert time.monotonic() - began < 2
    until(lambda: "broker away" in consumers.states()["mqtt"])
    assert drops == {"message to mqtt dropped, broker away": 970}
    consumers.stop(1)
    assert drops["message to mqtt dropped, not sent when stopped"] == 30
    assert len(errors) == 1
    assert errors[0].startswith("consumer mqtt: broker away, trying again")


@pytest.mark.slow
def test_a_broker_that_stands_still_costs_messages_and_no_memory(broker, monkeypatch):
    """A broker that takes nothing (SIGSTOP) fills its socket and the queue, is noticed, and found again."""
    monkeypatch.setattr(mqtt, "KEEPALIVE_S", 1)
    listener = Listener(broker)
    consumers, drops = consumers_of(broker.port, waiting_messages=100)
    tell(consumers)
    until(lambda: len(listener.messages) == 1)
    broker.signal(signal.SIGSTOP)
    big = some_detections(*[(0, 0.9)] * 300)
    for index in range(1, 1500):
        consumers.tell(a_frame(index), big, {}, "stub")
        time.sleep(0.001)
    until(lambda: lost(drops) > 500)
    until(lambda: "trying again" in consumers.states()["mqtt"])
    assert (
        drops["message to mqtt dropped, connection lost"] <= 2
    )  # what paho held; the rest waited in the bounded queue
    broker.signal(signal.SIGCONT)
    until(lambda: is_connected(consumers))
    consumers.tell(a_frame(5000), big, {}, "stub")
    until(lambda: listener.frames[-1:] == [5000])
    consumers.stop(10)
    listener.stop()
    assert listener.frames == sorted(set(listener.frames))


def test_something_that_is_no_broker_is_reported(tmp_path, monkeypatch):
    """A port that takes connections and says nothing counts as a broker that is away; stopping keeps its time."""
    monkeypatch.setattr(mqtt, "CONNECT_S", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        consumers, drops = consumers_of(silent.getsockname()[1])
        tell(consumers)
        until(lambda: "no MQTT broker answers" in consumers.states()["mqtt"])
        began = time.monotonic()
        consumers.stop(2)
        assert time.monotonic() - began < 4
    assert drops == {"message to mqtt dropped, not sent when stopped": 1}


def test_user_and_password_come_from_the_environment(tmp_path):
    """A wrong password is reported as a refusal, without the password; the right one connects."""
    passwords = tmp_path / "passwords"
    passwords.write_text("device:plain-password\n")
    subprocess.run([needed("mosquitto_passwd"), "-U", str(passwords)], check=True)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    names = {"user_environment": "BROKER_USER", "password_environment": "BROKER_PASSWORD"}
    errors: list[str] = []
    try:
        wrong = {"BROKER_USER": "device", "BROKER_PASSWORD": "a-wrong-password"}
        consumers, drops = consumers_of(broker.port, errors.append, secrets=wrong, **names)
        tell(consumers)
        until(lambda: "refused by the broker" in consumers.states()["mqtt"])
        consumers.stop(1)
        assert drops == {"message to mqtt dropped, not sent when stopped": 1}
        assert "a-wrong-password" not in " ".join([*errors, *consumers.states().values()])

        right = {"BROKER_USER": "device", "BROKER_PASSWORD": "plain-password"}
        listener = Listener(broker, user="device", password="plain-password")
        consumers, drops = consumers_of(broker.port, secrets=right, **names)
        tell(consumers)
        until(lambda: listener.frames == [0])
        assert consumers.stop(5)
        listener.stop()
    finally:
        broker.kill()
    assert drops == {}


def certificate_of(folder: Path, name: str) -> tuple[str, str]:
    """A certificate that signs itself, and its key, for 127.0.0.1."""
    certificate, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    command = [
        needed("openssl", "openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *extensions], check=True, capture_output=True)
    return certificate, key


def test_tls_goes_to_the_right_broker_only(tmp_path):
    """With TLS messages go to a broker whose certificate is checked; one with another certificate gets none."""
    certificate, key = certificate_of(tmp_path, "broker")
    other, _ = certificate_of(tmp_path, "other")
    broker = Broker(tmp_path, f"certfile {certificate}", f"keyfile {key}")
    try:
        listener = Listener(broker, ca=certificate)
        consumers, drops = consumers_of(broker.port, tls=True, certificate_authority=other)
        tell(consumers)
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in consumers.states()["mqtt"])
        consumers.stop(1)
        assert lost(drops) == 1

        missing, _ = consumers_of(broker.port, tls=True, certificate_authority=str(tmp_path / "none.pem"))
        until(lambda: "No such file" in missing.states()["mqtt"])
        missing.stop(1)

        consumers, drops = consumers_of(broker.port, tls=True, certificate_authority=certificate, qos=1)
        tell(consumers, 50)
        until(lambda: listener.frames == list(range(50)))
        assert consumers.stop(5)
        listener.stop()
    finally:
        broker.kill()
    assert drops == {}
