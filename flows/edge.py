"""`edgeloop edge ...`: what runs on a device, without any Prefect.

Import nothing heavy here: a device's service starts with this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="On a device: the collector as a service, its health, its rights.", no_args_is_help=True)

DeviceFile = Annotated[Path, typer.Option("--device", help="the device, as in configs/device.yaml")]
DEVICE = Path("configs/device.yaml")


@app.command()
def run(device: DeviceFile = DEVICE) -> None:
    """The device's collector in the foreground, for a service manager; SIGTERM drains and ends it within 10 s."""
    from tasks.adapters.config import read_device
    from tasks.adapters.service import notify
    from tasks.collector import run_collector
    from tasks.collector.health import Watchdog

    settings = read_device(device)
    watchdog = Watchdog(settings.cameras)
    notify("STATUS=waiting for the first orders")
    run_collector(settings, follow=True, on_progress=watchdog.saw)
    notify("STOPPING=1")


@app.command()
def health(device: DeviceFile = DEVICE) -> None:
    """Exit code 0 when the device's collector runs and speaks, 1 with the reason when it does not."""
    from tasks.adapters.config import read_device
    from tasks.collector.health import problem_of

    problem = problem_of(read_device(device))
    if problem:
        typer.echo(f"edgeloop: {problem}", err=True)
        raise typer.Exit(1)


@app.command()
def check(device: DeviceFile = DEVICE) -> None:
    """Is everything there that the collector needs? Settings, spool, libraries; asks no camera and no bucket."""
    from tasks.adapters.config import read_device
    from tasks.adapters.selftest import check_installation

    for line in check_installation(read_device(device)):
        typer.echo(line)


@app.command()
def policy(
    device: DeviceFile = DEVICE,
    principal: Annotated[str, typer.Option(help="ARN of the device's user, for a bucket policy")] = "",
) -> None:
    """The S3 policy of this device: write below its own prefix, read what is published for it, nothing else."""
    from tasks.adapters.config import read_device
    from tasks.core.policy import device_policy

    settings = read_device(device)
    statements = [device_policy(each, principal) for each in settings.of_each_project()]
    merged = {**statements[0], "Statement": [s for policy in statements for s in policy["Statement"]]}
    typer.echo(json.dumps(merged, indent=2))
