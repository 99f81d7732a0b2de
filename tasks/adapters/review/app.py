"""FiftyOne's App: the page that reviewers open. Loopback only.

It has no accounts, and its server hands out any file of the machine that it may read. People elsewhere come through
SSH or an authenticating proxy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

from tasks.adapters.review.mongod import LOOPBACK, PLUGINS_VARIABLE, ensure_database
from tasks.core.errors import ReviewUnavailable

DEFAULT_PORT = 5151
PROJECT_VARIABLE = "EDGELOOP_PROJECT"  # path of the project's settings, for our plugin
PLUGIN = Path(__file__).resolve().parents[3] / "deployments" / "fiftyone_plugin"


def app_url(dataset: str = "", view: str = "", port: int = DEFAULT_PORT) -> str:
    """The link of a dataset, or of one of its saved views by slug."""
    address = f"http://{LOOPBACK}:{port}/"
    if dataset:
        address += f"datasets/{quote(dataset)}"
    return address + (f"?{urlencode({'view': view})}" if view else "")


def launch_command(
    folder: Path, port: int = DEFAULT_PORT, project: Path | None = None, address: str = LOOPBACK
) -> tuple[list[str], dict[str, str]]:
    """The command that serves the App until it is stopped, and the environment to run it in.

    project: the file of the project's settings, for the operators and the panel of our plugin. address: to listen on;
    anything but loopback needs an authenticating proxy in front.

    Starts the database of `folder`, so it may be called in a process that never imports FiftyOne. The home directory
    of the server is the folder: FiftyOne writes an id of its user there, wherever else it is told to write.
    """
    if not 1024 <= port <= 65535:
        raise ReviewUnavailable(f"port {port} cannot serve the App: use one from 1024 to 65535")
    ensure_database(folder)
    bring_plugin(Path(os.environ[PLUGINS_VARIABLE]))
    command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port), "--address", address]
    own = {PROJECT_VARIABLE: str(project.resolve())} if project else {}
    return command, {**os.environ, "HOME": str(folder.resolve()), **own}


def bring_plugin(plugins: Path) -> None:
    """A link to our plugin in the folder where FiftyOne looks for plugins; what else is there stays.

    Without the repository around this file there is no plugin, and the App is as it comes.
    """
    link = plugins / "edgeloop"
    if not PLUGIN.is_dir() or (link.is_symlink() and link.resolve() == PLUGIN):
        return
    if link.exists() and not link.is_symlink():
        raise ReviewUnavailable(f"{link} is in the place of our plugin: move it elsewhere")
    plugins.mkdir(parents=True, exist_ok=True)
    made = plugins / f".edgeloop-{os.getpid()}"
    made.symlink_to(PLUGIN, target_is_directory=True)
    made.replace(link)  # in one step, as two may do this at once
