"""`POST /infer`: an HTTP server for applications that bring their own frames. CONSUMERS.md has its reference.

    server = InferServer(device, submit=queue.put_in_order, in_force=lambda: (settings.thresholds, model_version))
    server.start()
    ...
    server.stop(timeout=2)

`connections` takes care that no client holds up another, `requests` checks what is asked, `infer` answers it.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial

from tasks.adapters.secrets import secret
from tasks.collector.ahead import Captured
from tasks.collector.server.connections import Connections
from tasks.collector.server.infer import Infer, InferHandler
from tasks.collector.server.requests import is_loopback
from tasks.core.errors import SettingsError
from tasks.core.settings import DeviceSettings, Thresholds
from tasks.core.settings.device import ServerSettings

__all__ = ["InferServer"]

_SHORTEST_KEY = 16
_RETRY_S = 5.0  # until a port that is taken is tried again
_POLL_S = 0.1

logger = logging.getLogger("edgeloop.collector.server")


class InferServer:
    """Threads of its own; hands frames to the collector and answers with what the model saw in them."""

    def __init__(
        self,
        device: DeviceSettings,
        *,
        submit: Callable[[Captured], bool],
        in_force: Callable[[], tuple[Thresholds, str]],
        tell_drop: Callable[[str], None] = lambda reason: None,
        tell_error: Callable[[str], None] = lambda message: None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        secret_of: Callable[[str], str | None] = secret,
    ) -> None:
        """submit: takes a frame for detection and sampling, in order; False when it has no room, without waiting.

        in_force: operating thresholds and model version, asked right after a frame's detections were made. tell_drop:
        called with the reason for every request that is refused. tell_error: with one line when the port is taken.
        now: the capture time of frames that bring none. secret_of: gives the key by its name in the settings.

        Raises SettingsError where the device has no server, for a key that is too short, and for an address that
        others can reach without a key.
        """
        if device.server is None:
            raise SettingsError(f"device {device.name}: has no server: add one to its settings")
        self._settings = device.server
        self._family, self._host = _resolved(self._settings.host)
        self._tell_error = tell_error
        self._stopping = threading.Event()
        self._connections: Connections | None = None
        self._thread = threading.Thread(target=self._serve, name="infer-server", daemon=True)
        self._infer = Infer(
            self._settings,
            device=device.name,
            project=device.project,
            key=_checked_key(self._settings, self._host, secret_of(self._settings.key_environment)),
            submit=submit,
            in_force=in_force,
            now=now,
            taken=[camera.name for camera in device.cameras],
            tell_drop=tell_drop,
        )
        self.state = "starting"

    def start(self) -> None:
        """Listen. A port that another program has is tried again until it is free: the collector goes on without."""
        self._listen()
        self._thread.start()

    @property
    def port(self) -> int:
        """The one that it listens on; 0 before it does."""
        return self._connections.server_port if self._connections is not None else 0

    @property
    def answered(self) -> int:
        """Requests that got detections."""
        return self._infer.answered

    def stop(self, timeout: float) -> None:
        """Take no more requests, let those that are being answered come to their end within `timeout` seconds, end."""
        deadline = time.monotonic() + timeout
        self._infer.is_stopping = True
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        connections = self._connections
        if connections is not None:
            connections.server_close()
            while connections.at_work and time.monotonic() < deadline:
                time.sleep(0.02)
            connections.hang_up_all()
        self.state = "stopped"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _listen(self) -> bool:
        try:
            self._connections = Connections(
                (self._host, self._settings.port), self._family, partial(InferHandler, self._infer)
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            state = f"cannot listen on {self._settings.host}:{self._settings.port} ({reason}), trying again"
            if state != self.state:
                self._tell_error(f"server: {state}: free the port or name another")
            self.state = state
            return False
        self._connections.timeout = _POLL_S
        self.state = f"running on {self._settings.host}:{self._connections.server_port}"
        if self._infer.key is None:
            logger.warning("server: %s takes frames from any program of this device: it has no key", self.state)
        return True

    def _serve(self) -> None:
        while self._connections is None and not self._stopping.wait(_RETRY_S):
            self._listen()
        connections = self._connections
        while connections is not None and not self._stopping.is_set():
            connections.handle_request()


def _resolved(host: str) -> tuple[socket.AddressFamily, str]:
    """The address to listen on. Other names than localhost are refused: asking for them needs a network."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise SettingsError(f"server.host: {host!r} is no IP address: name one of this device, or localhost") from None
    return (socket.AF_INET if address.version == 4 else socket.AF_INET6), str(address)


def _checked_key(settings: ServerSettings, address: str, key: str | None) -> str | None:
    name = settings.key_environment
    if key is None and not is_loopback(address):
        raise SettingsError(
            f"server.host: others can reach {settings.host}, and {name} holds no key: set it, or listen on 127.0.0.1"
        )
    if key is not None and len(key.strip()) < _SHORTEST_KEY:
        raise SettingsError(f"server: the key in {name} is too short: use {_SHORTEST_KEY} characters or more")
    return key.strip() if key is not None else None
