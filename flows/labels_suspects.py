"""`edgeloop labels suspects`: labels that deserve a second look, by a model that surely disagrees."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.core.errors import SettingsError

if TYPE_CHECKING:
    from tasks.suspects import Suspected, SuspectedBox

CONFIG = Path("configs/project.yaml")
ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]


def register(app: typer.Typer) -> None:
    """The command of this file, as part of `edgeloop labels`."""
    app.command()(suspects)


def suspects(
    as_json: Annotated[bool, typer.Option("--json", help="an object with all there is to know")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="a table with a header")] = False,
    view: Annotated[bool, typer.Option("--view", help="save them as a view of the FiftyOne App, too")] = False,
    limit: Annotated[int, typer.Option(min=1, help="boxes of each group at most")] = 200,
    config: ConfigFile = CONFIG,
) -> None:
    """Labels that the live model surely disagrees with, the likeliest errors first; nothing is changed.

    Images that the model trained on are a group of their own, at the end: it has learned what their labels say.
    """
    if as_json and as_csv:
        raise SettingsError("--json and --csv: choose one of them")
    from tasks.adapters.config import read_project
    from tasks.suspects import save_view, suspected_labels

    project = read_project(config)
    found = suspected_labels(project, limit)
    link = save_view(project, found) if view else ""
    if as_json:
        told = {"model": found.model_version, "dataset": found.dataset_version, "images": found.images, "view": link}
        told |= {"held_out": found.held_out, "trained_on": found.trained_on, "problems": found.problems}
        print(json.dumps({**told, "boxes": [box.told() for box in found.boxes]}, indent=1))
    elif as_csv:
        write_csv(found)
    else:
        tell(found)
    if link and not as_json:
        print(f"edgeloop: view Suspected label errors: {link}", file=sys.stderr)


def write_csv(found: Suspected) -> None:
    from tasks.suspects import SuspectedBox

    rows = csv.DictWriter(sys.stdout, [field.name for field in fields(SuspectedBox)], lineterminator="\n")
    rows.writeheader()
    rows.writerows({name: plain(value) for name, value in box.told().items()} for box in found.boxes)


def plain(value: object) -> object:
    """Boxes as numbers with spaces between; text that a spreadsheet would take for a formula with a ' before it."""
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def tell(found: Suspected) -> None:
    for old, count, title in (
        (False, found.held_out, f"suspected by model {found.model_version}"),
        (True, found.trained_on, "trained on: the model has learned what these labels say"),
    ):
        shown = [box for box in found.boxes if box.trained_on is old]
        if shown:
            print(f"{title}: {count}" + (f", the first {len(shown)}" if count > len(shown) else ""))
        for box in shown:
            print(line_of(box))
    print(f"{found.held_out + found.trained_on} boxes to look at again in {found.images} labelled images")
    if found.problems:
        print(f"{len(found.problems)} images left out, the first: {found.problems[0]}", file=sys.stderr)


def line_of(box: SuspectedBox) -> str:
    where = " ".join(f"{value:.0f}" for value in box.xyxy)
    return f"  {box.gain:.3f}  {box.sample_id}  {box.what}, at {where}; {box.split}, batch {box.batch}"
