"""`edgeloop labelstudio`: a Label Studio server on this machine, for teams that have none yet."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from tasks.core.errors import LabellingUnavailable

app = typer.Typer(name="labelstudio", help="A Label Studio server on this machine.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="where its database, images, account and token lie")]


@app.command()
def up(
    folder: Folder = Path("labelstudio"),
    port: Annotated[int, typer.Option(help="of the page")] = 8080,
    host: Annotated[str, typer.Option(help="address that it listens on; anything but loopback is open to others")] = (
        "127.0.0.1"
    ),
    environment: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="environment to install it into or to use; else one in the folder"),
    ] = None,
) -> None:
    """Install Label Studio where it is missing, start it, and make an account and a token. Ctrl-C stops it."""
    from tasks.adapters.labelling.labelstudio_client import is_loopback
    from tasks.adapters.labelling.labelstudio_server import label_studio

    for number in (signal.SIGINT, signal.SIGTERM):  # so that the server is ended too
        signal.signal(number, signal.default_int_handler)
    if not is_loopback(f"http://{host}"):
        print(
            f"edgeloop: {host} is open to the network, without encryption: put a proxy with TLS in front",
            file=sys.stderr,
        )
    print("starting Label Studio (the first time it is installed, 0.9 GB, and its database is made)", flush=True)
    with label_studio(folder, host=host, port=port, environment=environment) as server:
        print(f"Label Studio:  {server.url}")
        print(f"log in with    {folder / 'account.json'} (user, password; and the link that invites others)")
        print(f"token          {folder / 'token'} (labelling.labelstudio_token_file)")
        print(f"Ctrl-C stops it, and so does: edgeloop labelstudio down --folder {folder}", flush=True)
        while server.process.poll() is None:
            time.sleep(0.5)
    if server.process.returncode not in (-signal.SIGTERM, 0):
        raise LabellingUnavailable(f"Label Studio ended with {server.process.returncode}: see {folder / 'server.log'}")
    print("stopped")


@app.command()
def down(folder: Folder = Path("labelstudio")) -> None:
    """Stop the server of a folder, from another terminal or after its own was lost."""
    from tasks.adapters.labelling.labelstudio_server import stop_server

    print("stopped" if stop_server(folder) else f"no server runs in {folder}")
