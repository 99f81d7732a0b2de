"""A real MQTT broker (Debian's mosquitto) and a client that listens to it, for tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.tasks.seeing import until


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def needed(program: str, package: str = "mosquitto") -> str:
    """The path of a program; the test is skipped where its Debian package is not installed."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        pytest.skip(f"needs the Debian package {package}")
    return path


class Broker:
    """mosquitto on a port of its own, which it keeps when it is started again."""

    def __init__(self, folder: Path, *settings: str) -> None:
        program = needed("mosquitto")
        self.port = free_port()
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        lines = [f"listener {self.port} 127.0.0.1", "max_queued_messages 100000", *settings]
        if not any(line.startswith("allow_anonymous") for line in lines):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes a user who cannot read the test's files
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Line:
    """A TCP connection to the broker that can be cut, both ways and without a word, and taken up again."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Bytes that lie in a buffer are lost."""
        ends, self._ends = self._ends, []
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):  # the other side has closed it
                end.shutdown(socket.SHUT_RD)
            end.close()

    def stop(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to_port))
            self._ends += [near, far]
            self.connections += 1
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(500):
                time.sleep(0.0005)
                other.sendall(data)
        except OSError:
            return


class Listener:
    """Notes every message of a topic filter, as (topic, JSON), across restarts of the broker."""

    def __init__(self, broker: Broker, topics: str = "#", *, ca: str = "", user: str = "", password: str = "") -> None:
        self.messages: list[tuple[str, dict]] = []
        self._topics = topics
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: (self._subscribed.clear(), client.subscribe(topics, qos=1))
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda client, data, message: self.messages.append(
            (message.topic, json.loads(message.payload))
        )
        if ca:
            self._client.tls_set(ca)
        if user:
            self._client.username_pw_set(user, password)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self.wait_until_subscribed()

    def wait_until_subscribed(self) -> None:
        assert self._subscribed.wait(20)

    def lost_its_broker(self) -> None:
        """To be called before the broker is killed, so that `wait_until_subscribed` means the next one."""
        self._subscribed.clear()

    @property
    def frames(self) -> list[int]:
        return [message["frame"] for _, message in list(self.messages)]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
