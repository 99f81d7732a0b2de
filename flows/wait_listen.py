"""Hints for `edgeloop wait --listen`: a webhook hurries the next look, and says nothing that is believed.

Whoever has the token can cause one look, and no more than that: nothing of the body is used. Without a hint the wait
looks as often as ever, so that a lost one costs time and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, HTTPServer

from tasks.adapters.labelling.labelstudio_webhook import HEADER, webhook_token
from tasks.core.errors import SettingsError

LARGEST = 64 * 2**10  # bytes of a body
PATIENCE = 2.0  # s that one who calls may hold the line; there is one line


class Hints(HTTPServer):
    """Hears one caller at a time; `heard` is set by each that has the token."""

    def __init__(self, address: tuple[str, int], token: str) -> None:
        self.token = token.encode()
        self.heard = threading.Event()
        super().__init__(address, Caller)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller who hangs up or says nothing is no news, and ends nothing."""


class Caller(BaseHTTPRequestHandler):
    """One call, and then the line is free again."""

    server: Hints
    timeout = PATIENCE

    def do_POST(self) -> None:
        if not compare_digest(self.headers.get(HEADER, "").encode(), self.server.token):
            return self.answer(401)
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST:
            return self.answer(413)
        self.rfile.read(int(length))
        self.server.heard.set()
        return self.answer(204)

    def answer(self, code: int) -> None:
        self.close_connection = True
        self.send_response(code)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is for looks."""


@contextmanager
def hints(listen: str | None) -> Iterator[threading.Event]:
    """An event that is set by every hint to `listen`, HOST:PORT; by nobody where that is None. Raises SettingsError."""
    if listen is None:
        yield threading.Event()
        return
    token = webhook_token("edgeloop wait --listen")
    host, _, port = listen.rpartition(":")
    try:
        if not host:
            raise ValueError("no host")
        server = Hints((host, int(port)), token)
    except (ValueError, OverflowError, OSError) as error:
        raise SettingsError(f"--listen {listen!r}: write a free HOST:PORT, as in 127.0.0.1:8099: {error}") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
