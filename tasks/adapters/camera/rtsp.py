"""The address of an RTSP camera, and whether anything there speaks RTSP at this moment.

Asking costs one short connection, so that a camera that is away can be asked every second and is met again at once,
and FFmpeg, which takes its whole time limit to find out, is called only where somebody answers.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.core.errors import SourceUnavailable

ANSWER_S = 2.0  # longest wait for a connection and for its answer
_PORTS = {"rtsp": 554, "rtsps": 322}
_GREETING = b"RTSP/"


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """Where a camera is. As a string without anything that may be a secret: some cameras want theirs in the path."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str, camera: str) -> RtspAddress:
        """Raises SourceUnavailable for an address without a host or with a port that is none."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise SourceUnavailable(
                f"camera {camera}: its rtsp:// address names no host, or a port that is no number: write "
                "rtsp://user:password@host:554/path, with %2F for a / and %40 for an @ in the password"
            )
        return cls(scheme, host, port or _PORTS.get(scheme, 554))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def silence(self, limit: float = ANSWER_S) -> str:
        """Ask it (OPTIONS, RFC 2326). Empty when it answers in RTSP within `limit` seconds, else what is wrong."""
        deadline = time.monotonic() + limit
        try:
            with self._connected(limit) as connection:
                connection.sendall(f"OPTIONS {self} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgeloop\r\n\r\n".encode())
                answer = _received(connection, deadline)
        except TimeoutError:
            return f"does not answer within {limit:g} s"
        except UnicodeError:
            return "has a host name that is none"
        except OSError as error:
            return f"cannot be reached ({(error.strerror or type(error).__name__).lower()})"
        if not answer:
            return "closes the connection without an answer"
        return "" if answer == _GREETING else "answers, but not in RTSP"

    def _connected(self, limit: float) -> socket.socket:
        connection = socket.create_connection((self.host, self.port), timeout=limit)
        if self.scheme != "rtsps":
            return connection
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing secret is sent or believed
        try:
            return context.wrap_socket(connection, server_hostname=self.host)
        except (OSError, ValueError):
            connection.close()
            raise


def _received(connection: socket.socket, deadline: float) -> bytes:
    """The first bytes of an answer, as many as the greeting has."""
    answer = b""
    while len(answer) < len(_GREETING) and _GREETING.startswith(answer):
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        more = connection.recv(len(_GREETING) - len(answer))
        if not more:
            break
        answer += more
    return answer
