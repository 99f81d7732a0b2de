"""HTTP connections that cannot hold up each other: time limits for a whole request, and a limit on their number.

`http.server` of the standard library parses and has a thread a connection; it has neither limit. Importing it takes
4 ms and 0.3 MB, uvicorn with Starlette 100 ms of CPU and 7 MB (measured), and both limits would have to be added to
those, too: uvicorn waits for the head of a request for ever.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

MOST_CONNECTIONS = 64
_LINGER_S = 2.0  # for what a client still sends after it was refused
_LINGER_BYTES = 1 << 24
_CHUNK = 1 << 16
_NO_DESCRIPTOR_PAUSE_S = 0.1
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connections(ThreadingHTTPServer):
    """Takes connections; where there are too many, the one that has been silent or slow for longest has to go."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, handler: Callable[..., Any]) -> None:
        self.address_family = family
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}  # since when each waits for its client; infinity: it does not
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the name of this machine, for which HTTPServer would ask the network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:  # no file descriptor left, perhaps; the connection waits
            time.sleep(_NO_DESCRIPTOR_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._since) >= MOST_CONNECTIONS
            longest = min(self._since, key=self._since.__getitem__) if is_full else None
            if longest is not None and self._since[longest] == float("inf"):
                longest, is_refused = None, True
            else:
                is_refused = False
                self._since[request] = time.monotonic()
            if longest is not None:
                del self._since[longest]
                _hang_up(longest)
        if is_refused:
            self._refuse(request)
        else:
            super().process_request(request, client_address)

    def waits_for_client(self, request: socket.socket, does_wait: bool) -> None:
        """A connection in which we are at work is not hung up."""
        with self._lock:
            if request in self._since:
                self._since[request] = time.monotonic() if does_wait else float("inf")

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def hang_up_all(self) -> None:
        with self._lock:
            for request in self._since:
                _hang_up(request)

    @property
    def at_work(self) -> int:
        """Connections with a request that is being answered."""
        with self._lock:
            return sum(since == float("inf") for since in self._since.values())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away; what goes wrong with a request is answered and counted where it is handled."""

    def _refuse(self, request: socket.socket) -> None:
        with suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        self.shutdown_request(request)


def _hang_up(connection: socket.socket) -> None:
    """Its thread notices, and ends it."""
    with suppress(OSError):  # the client has done so already
        connection.shutdown(socket.SHUT_RDWR)


class TimedHandler(BaseHTTPRequestHandler):
    """One connection, a request at a time. The whole of a request has to be there within `seconds`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer's head and content are two packets; the second would wait 40 ms
    seconds: float
    server: Connections

    def setup(self) -> None:
        super().setup()
        self.rfile.close()  # it has no deadline, and would keep the socket open
        self._deadline = 0.0
        self.rfile = io.BufferedReader(_TimedReader(self.connection, lambda: self._deadline))

    def give_time(self) -> None:
        """The client has the full time again, for what comes next."""
        self._deadline = time.monotonic() + self.seconds

    def handle_one_request(self) -> None:
        self.give_time()
        self.server.waits_for_client(self.connection, True)
        super().handle_one_request()

    def handle_expect_100(self) -> bool:
        """Not yet: the client is to send its image only once the rest of its request was found good."""
        return True

    def send_whole(
        self, status: HTTPStatus, content: bytes, content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        """A response with its length; its client has to take it in time, too."""
        self.connection.settimeout(self.seconds)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def linger(self) -> None:
        """Read and forget what a refused client still sends, for a while.

        Closed with bytes unread, the connection is reset, and the client may never see why it was refused.
        """
        self.server.waits_for_client(self.connection, True)
        self._deadline = time.monotonic() + _LINGER_S
        left = _LINGER_BYTES
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (read := self.rfile.read1(_CHUNK)):
                left -= len(read)
        except OSError:
            return

    def version_string(self) -> str:
        return "edgeloop"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are counted, and a line for each would fill a disk."""


class _TimedReader(io.RawIOBase):
    """What comes from a socket until a deadline, after which every read raises TimeoutError."""

    def __init__(self, connection: socket.socket, deadline: Callable[[], float]) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline() - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not arrive in time")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)
