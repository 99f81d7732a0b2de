"""`edgeloop review BATCH` and `edgeloop labels submit BATCH`: labelling in the FiftyOne App (labelling/APP.md)."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tasks.core.errors import ReviewUnavailable, SettingsError

if TYPE_CHECKING:
    from tasks.core.settings import ProjectSettings

CONFIG = Path("configs/project.yaml")
PORTS = 20  # tried from the first one on: each reviewer has a server of their own
START_SECONDS = 180.0  # that the App may take; 10 are usual
LOOK_SECONDS = 2.0  # between two looks after the database

BatchId = Annotated[str, typer.Argument(help="its id, as edgeloop loop names it")]
ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]


def review(
    batch: BatchId,
    port: Annotated[Optional[int], typer.Option(help="of the App; else the first free one from 5151 on")] = None,  # noqa: UP045
    browser: Annotated[bool, typer.Option(help="open the page in a browser")] = True,
    name: Annotated[Optional[str], typer.Option("--as", help="who labels; else the user of this machine")] = None,  # noqa: UP045
    host: Annotated[str, typer.Option(help="address that the App listens on")] = "127.0.0.1",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="an authenticating proxy stands in front of --host")
    ] = False,
    config: ConfigFile = CONFIG,
) -> None:
    """Open a batch in the FiftyOne App, on loopback, until Ctrl-C. Each reviewer runs one of their own."""
    from flows.in_the_app import batch_with_people
    from tasks.adapters.config import read_project
    from tasks.adapters.labelling.fiftyone import FiftyOneLabelling
    from tasks.label import labelling_of, offer_batch
    from tasks.redeploy import thresholds_in_force

    refuse_public(host, behind_proxy)
    project = read_project(config)
    labelling = labelling_of(project)
    batch_with_people(project, batch)
    if not isinstance(labelling, FiftyOneLabelling):
        raise SettingsError(
            f"batch {batch}: labelling.interface is {project.labelling.interface}: people label it at "
            f"{labelling.where(batch)}"
        )
    reviewer = (name or getpass.getuser()).strip()
    chosen = port_for(port, host)
    offered = offer_batch.fn(project, batch, thresholds_in_force(project))
    labelling.opened_by(batch, reviewer)
    for line in offered.left_out:
        print(f"edgeloop: left out: {line}", file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # so that the App is ended too
        signal.signal(number, signal.default_int_handler)
    with app_of(project, config, chosen, host, reviewer) as app:
        link = labelling.link(batch, chosen)
        print(f"{offered.images} images for {reviewer}: {link}")
        print("On the page: open an image, Annotate, correct the boxes, set review_status to done (or skip).")
        print(f"What is done is taken in by: edgeloop labels submit {batch}    Ctrl-C ends the App.", flush=True)
        if browser:
            webbrowser.open(link)
        try:
            watch(project, app)
        except KeyboardInterrupt:
            print("stopped; what was saved stays, and the same command goes on from here")


def submit(batch: BatchId, config: ConfigFile = CONFIG) -> None:
    """Check what people have done of a batch, and take in what can be as its next label revision."""
    from flows.in_the_app import submit_labels
    from tasks.adapters.config import read_project

    for line in submit_labels(read_project(config), batch):
        print(line)


def refuse_public(host: str, behind_proxy: bool) -> None:
    """The App has no accounts, and hands out every file that it may read: only this machine may see it."""
    from tasks.adapters.labelling.labelstudio_client import is_loopback

    if not behind_proxy and not is_loopback(f"http://{host}"):
        raise SettingsError(
            f"--host {host}: the App has no accounts and hands out any file of this machine: come through SSH "
            "(ssh -L 5151:127.0.0.1:5151), or put an authenticating proxy in front and say --behind-proxy"
        )


def port_for(wanted: int | None, host: str) -> int:
    """The port that was asked for, or the first free one. Raises SettingsError where it is taken."""
    from tasks.adapters.review import DEFAULT_PORT

    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS) if wanted is None else (wanted,):
        if is_free(port, host):
            return port
    taken = f"port {wanted}" if wanted is not None else f"ports {DEFAULT_PORT} to {DEFAULT_PORT + PORTS - 1}"
    raise SettingsError(f"{taken} of {host} cannot be listened on: choose another with --port")


def is_free(port: int, host: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
        return True


@contextmanager
def app_of(
    project: ProjectSettings, config: Path, port: int, host: str, reviewer: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A running App that accepts connections, ended afterwards."""
    from flows.demo.servers import stop
    from tasks.adapters.review import launch_command

    folder = (Path(project.work) / "fiftyone").resolve()
    command, environment = launch_command(folder, port, config, host)
    log = folder / f"app-{port}.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        app = subprocess.Popen(
            command,
            env={**environment, "EDGELOOP_REVIEWER": reviewer},
            stdout=output,
            stderr=output,
            cwd=os.getcwd(),
            start_new_session=True,
        )
    try:
        wait_for(app, host, port, log)
        yield app
    finally:
        stop(app)


def wait_for(app: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    """Until the App accepts connections. Raises ReviewUnavailable where it ends before, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((host, port)) == 0:
                return
        if app.poll() is not None or time.monotonic() > deadline:
            raise ReviewUnavailable(f"the FiftyOne App does not start: read {log}")
        time.sleep(0.25)


def watch(project: ProjectSettings, app: subprocess.Popen[bytes]) -> None:
    """Until the App ends; a database that went away is started again, and the App finds it where it was."""
    from tasks.adapters.review import ensure_database

    while app.poll() is None:
        try:
            ensure_database(Path(project.work) / "fiftyone")
        except ReviewUnavailable as error:
            print(f"edgeloop: {error}", file=sys.stderr)
        time.sleep(LOOK_SECONDS)
    raise ReviewUnavailable("the FiftyOne App ended; what was saved stays: start it again with the same command")
