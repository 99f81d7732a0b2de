"""FiftyOne's App: the page that reviewers open. Loopback only.

It has no accounts, and its server hands out any file of the machine that it may read. People elsewhere come through
SSH or an authenticating proxy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

from tasks.adapters.review.mongod import LOOPBACK, ensure_database
from tasks.core.errors import ReviewUnavailable

DEFAULT_PORT = 5151


def app_url(dataset: str = "", view: str = "", port: int = DEFAULT_PORT) -> str:
    """The link of a dataset, or of one of its saved views by slug."""
    address = f"http://{LOOPBACK}:{port}/"
    if dataset:
        address += f"datasets/{quote(dataset)}"
    return address + (f"?{urlencode({'view': view})}" if view else "")


def launch_command(folder: Path, port: int = DEFAULT_PORT) -> tuple[list[str], dict[str, str]]:
    """The command that serves the App until it is stopped, and the environment to run it in.

    Starts the database of `folder`, so it may be called in a process that never imports FiftyOne. The home directory
    of the server is the folder: FiftyOne writes an id of its user there, wherever else it is told to write.
    """
    if not 1024 <= port <= 65535:
        raise ReviewUnavailable(f"port {port} cannot serve the App: use one from 1024 to 65535")
    ensure_database(folder)
    command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port), "--address", LOOPBACK]
    return command, {**os.environ, "HOME": str(folder.resolve())}
