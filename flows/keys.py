"""`edgeloop keys ...`: the keys that sign releases; they stay on central's disk (adapters/releases/RELEASES.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(help="On central: the keys that sign releases.", no_args_is_help=True)

ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]
CONFIG = Path("configs/project.yaml")


@app.command()
def init(
    project: Annotated[str, typer.Option(help="name of the project whose releases they sign")],
    folder: Annotated[Path, typer.Option(help="made for them, readable by you alone")] = Path("keys"),
    root_keys: Annotated[int, typer.Option(help="root keys, which may be kept by different people")] = 1,
    threshold: Annotated[int, typer.Option(help="root keys that a new root needs")] = 1,
) -> None:
    """Make a project's keys, once. Each device gets root.json, and nothing else of them, as its trusted_root."""
    from tasks.adapters.releases import create_keys

    keys = create_keys(folder, project, root_keys=root_keys, threshold=threshold)
    print(f"{folder}: keys of project {project}; {folder / 'root.json'} is for devices (device.yaml: trusted_root)")
    print("Keep a copy of the folder where nobody else reads it: without the root keys every device has to be visited.")
    print(
        f"The root is valid until {keys.root.expires:%Y-%m-%d}; the turns of central renew it where its keys are here."
    )


@app.command()
def show(config: ConfigFile = CONFIG) -> None:
    """Which keys are here, and until when what they have signed is valid."""
    from tasks.adapters.config import read_project
    from tasks.adapters.releases import ROLES, read_keys

    settings = read_project(config)
    keys = read_keys(Path(settings.signing_keys), settings.project)
    root = keys.root
    print(f"{keys.folder}: root {root.version} of project {keys.project}, valid until {root.expires:%Y-%m-%d}")
    for role in ROLES:
        named, here = root.roles[role], len(keys.signers(role))
        print(f"  {role}: {here} of {len(named.keyids)} keys are here, {named.threshold} needed")


@app.command()
def sign(config: ConfigFile = CONFIG) -> None:
    """Sign again what will end, as every turn of central does: for a daily timer where turns are rarer."""
    from tasks.adapters.config import read_project
    from tasks.signing import keep_signed

    kept = keep_signed(read_project(config))
    for sentence in kept.done or ("nothing had to be signed",):
        print(sentence)
    for sentence in kept.waits_for:
        print(f"waits for: {sentence}")


@app.command()
def rotate_root(
    config: ConfigFile = CONFIG,
    replace: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="role that gets fresh keys: root, targets, snapshot or timestamp; several are several roles"),
    ] = None,
    root_folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="where the root keys are, when they are not with the others"),
    ] = None,
) -> None:
    """Publish a new root: valid for another year, with fresh keys for the roles named. Devices walk to it."""
    from tasks.adapters.config import read_project
    from tasks.signing import rotate_root as rotate

    keys = rotate(read_project(config), frozenset(replace or ()), root_folder)
    print(
        f"root {keys.root.version}, valid until {keys.root.expires:%Y-%m-%d}: devices follow it from their next poll on"
    )
    if "targets" in (replace or ()):
        print(
            "Were its keys stolen? Look at edgeloop release show of each group: what they signed is still among them."
        )
