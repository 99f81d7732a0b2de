"""The pages of a demo: the Prefect UI with its runs, the FiftyOne App with its dataset, until Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from flows.demo.servers import LOOPBACK, ServerDown, is_free, prefect_server, stop
from flows.demo.state import PROJECT_FILE
from tasks.adapters.review import app_url, launch_command
from tasks.core.errors import SettingsError


def serve(folder: Path, *, prefect_port: int, fiftyone_port: int) -> None:
    """Both pages on loopback. Raises SettingsError where there is no demo or a port is taken."""
    if not (folder / "demo.json").exists():
        raise SettingsError(f"{folder}: there is no demo here: run make demo first, or name its folder with FOLDER=")
    for port in (prefect_port, fiftyone_port):
        if not is_free(port):
            raise SettingsError(f"port {port} of {LOOPBACK} is taken: stop what uses it, or choose another port")
    for number in (signal.SIGINT, signal.SIGTERM):  # so that both servers are ended then too
        signal.signal(number, signal.default_int_handler)
    project = folder / PROJECT_FILE
    review = (folder / "work" / "fiftyone").resolve()
    command, environment = launch_command(review, fiftyone_port, project if project.exists() else None)
    with prefect_server(folder, prefect_port) as address, (folder / "fiftyone.log").open("ab") as log:
        app = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            print(f"Prefect UI:   {address}/runs")
            print(f"FiftyOne App: {app_url(port=fiftyone_port)}")
            print(f"The page:     {(folder / 'page.html').resolve().as_uri()}")
            print("Ctrl-C ends both.", flush=True)
            while app.poll() is None:
                time.sleep(0.5)
            raise ServerDown(f"the FiftyOne App ended: see {folder / 'fiftyone.log'}")
        finally:
            stop(app)
