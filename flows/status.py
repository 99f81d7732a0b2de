"""`edgeloop status`: the fleet as a table, from what each device wrote into the bucket."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.core.errors import BucketError, SettingsError

if TYPE_CHECKING:
    from tasks.core.fleet import DeviceRow

TROUBLE = 1  # exit code when a device needs somebody
WIDE = 140  # columns, where nobody says how wide the reader is


def status(
    config: Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")] = Path(
        "configs/project.yaml"
    ),
    watch: Annotated[bool, typer.Option("--watch", help="show it again and again, until Ctrl-C")] = False,
    every: Annotated[float, typer.Option(min=1, help="seconds between two looks of --watch")] = 10.0,
    trouble: Annotated[bool, typer.Option("--trouble", help="only the devices that need somebody")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects, for programs")] = False,
) -> None:
    """How every device is doing. Exit code 1 when one is silent, degraded or unreadable, 0 when none is.

    Silent: no word for three of its intervals. Degraded: an alert, a camera that is down, or the newest release
    refused. Behind (not yet on the newest release) and stopped (by somebody, in order) are no trouble.
    """
    from tasks.adapters.bucket import Bucket
    from tasks.adapters.config import read_project
    from tasks.status import fleet

    if watch and as_json:
        raise SettingsError("--watch and --json: choose one of them")
    project = read_project(config)
    bucket = Bucket(project.bucket, project.project)

    def look() -> list[DeviceRow]:
        return fleet(bucket, datetime.now(timezone.utc))

    if watch:
        with suppress(KeyboardInterrupt):  # how it is ended
            show_for_ever(look, every, trouble)
        return
    rows = look()
    if as_json:
        shown = [row for row in rows if row.in_trouble or not trouble]
        print(json.dumps([dataclasses.asdict(row) for row in shown], indent=1))
    else:
        show(rows, trouble)
    if any(row.in_trouble for row in rows):
        raise typer.Exit(TROUBLE)


def show(rows: list[DeviceRow], trouble: bool) -> None:
    from rich.console import Console

    from tasks.adapters.fleet_table import fleet_table

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    shown = [row for row in rows if row.in_trouble or not trouble]
    console.print(fleet_table(rows, shown, width=console.width))


def show_for_ever(look: Callable[[], list[DeviceRow]], every: float, trouble: bool) -> None:
    """Until Ctrl-C. A bucket that does not answer for a while is said below what was known before."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from tasks.adapters.fleet_table import fleet_table, printable

    rows = look()
    with Live(auto_refresh=False, screen=True, vertical_overflow="ellipsis") as live:
        problem = ""
        while True:
            shown = [row for row in rows if row.in_trouble or not trouble]
            table = fleet_table(rows, shown, width=live.console.width)
            line = Text(f"{datetime.now():%H:%M:%S}, every {every:g} s, Ctrl-C ends  {printable(problem)}", style="dim")
            live.update(Group(table, line), refresh=True)
            time.sleep(every)
            try:
                rows, problem = look(), ""
            except BucketError as error:
                problem = str(error)
