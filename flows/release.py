"""`edgeloop release ...`: what devices are told, and how to take it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.core.entities import Release

app = typer.Typer(help="On central: the releases that devices obey.", no_args_is_help=True)

ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]
Group = Annotated[str, typer.Option("--group", help="device group; empty: the project's")]
CONFIG = Path("configs/project.yaml")


@app.command()
def show(
    group: Group = "",
    config: ConfigFile = CONFIG,
    last: Annotated[int, typer.Option(help="so many, newest first")] = 10,
) -> None:
    """The last releases of a group, as they were signed."""
    from tasks.adapters.config import read_project
    from tasks.signing import signed_releases

    project = read_project(config)
    releases = signed_releases(project, group or project.group, last)
    for release in releases:
        print(line_of(release))
    if not releases:
        print(f"group {group or project.group}: no release yet")


@app.command()
def back(
    group: Group = "",
    config: ConfigFile = CONFIG,
    to: Annotated[int, typer.Option(help="number of the release whose orders come back; 0: the one before")] = 0,
    reason: Annotated[str, typer.Option(help="told in the release")] = "",
) -> None:
    """Publish earlier orders again, under a new number: devices have them within their poll interval."""
    from tasks.adapters.config import read_project
    from tasks.signing import back as go_back

    project = read_project(config)
    print(line_of(go_back(project, group or project.group, to, reason)))


def line_of(release: Release) -> str:
    """`all/4  2026-05-01 12:00  model 1f0c...  orders of 2  Back to the orders of release 2.`"""
    again = f"  orders of {release.back_to}" if release.back_to else ""
    when = f"{release.created_at:%Y-%m-%d %H:%M}"
    return f"{release.group}/{release.number}  {when}  model {release.model_version}{again}  {release.reason}".rstrip()
