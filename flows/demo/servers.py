"""Prefect's own server on loopback, for one machine. Imports no Prefect: it sets its environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from tasks.core.errors import EdgeloopError

LOOPBACK = "127.0.0.1"
START_SECONDS = 90.0
DELIVERY_SECONDS = 10.0


class ServerDown(EdgeloopError):
    """A server of the demo did not start."""


def prefect_environment(folder: Path, port: int) -> dict[str, str]:
    """Prefect wholly inside `folder`: SQLite database, no analytics, nothing from the internet."""
    home = (folder / "prefect").absolute()
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": f"{LOOPBACK},localhost",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


@contextmanager
def prefect_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Prefect server on loopback while the block runs; its address. To be entered before Prefect is imported."""
    port = port or free_port()
    environment = prefect_environment(folder, port)
    os.environ.update(environment)
    Path(environment["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    log = folder / "prefect" / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://{LOOPBACK}:{port}/api/health", process, log)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        deliver_what_waits()
        stop(process)


def deliver_what_waits() -> None:
    """Logs and events of this process to the server, while it is there: at exit Prefect would try for minutes."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=DELIVERY_SECONDS)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with opener.open(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.25)
    stop(process)
    raise ServerDown(f"{url} does not answer: see {log}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """The whole session of a server, politely first."""
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            process.wait()
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
