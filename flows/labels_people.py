"""`edgeloop labels ...`: who labels what, whose labels are trusted, and predictions that are taken as labels."""

from __future__ import annotations

import getpass
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from tasks.core.settings import ProjectSettings

CONFIG = Path("configs/project.yaml")
BatchId = Annotated[str, typer.Argument(help="its id, as edgeloop loop names it")]
ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]
By = Annotated[Optional[str], typer.Option(help="who says so; else the user of this machine")]  # noqa: UP045

gold_app = typer.Typer(help="Images whose label is trusted; mixed in, they measure people.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """The commands of this file, as part of `edgeloop labels`."""
    app.add_typer(gold_app, name="gold")
    app.command()(assign)
    app.command()(accept)
    app.command()(reject)
    app.command(name="accept-predictions")(accept_predictions)
    app.command()(seeding)


@gold_app.command()
def add(
    batch: BatchId,
    samples: Annotated[list[str], typer.Argument(help="sample ids: the names of its images without .jpg")],
    by: By = None,
    config: ConfigFile = CONFIG,
) -> None:
    """Vouch for the newest labels of some images; batches made from now on have them mixed in, unknown to people."""
    from tasks.people import add_gold

    made = add_gold(project_of(config), batch, samples, by or getpass.getuser())
    boxes = sum(len(one.label.boxes) for one in made.labels)
    print(f"gold {made.number}: {len(made.labels)} images of batch {batch} with {boxes} boxes, by {made.added_by}")


@gold_app.command(name="list")
def list_gold(
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects, for programs")] = False,
    config: ConfigFile = CONFIG,
) -> None:
    """The images whose label is known."""
    from tasks.people import list_gold

    known = sorted(list_gold(project_of(config)).items())
    rows = [
        {"sample": key, "boxes": len(one.label.boxes), "annotator": one.label.annotator, "camera": one.sample.camera}
        for key, one in known
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['sample']}  {row['boxes']} boxes  by {row['annotator']}  camera {row['camera']}")
    print(f"{len(rows)} gold images")


def assign(
    batch: BatchId,
    to: Annotated[str, typer.Option("--to", help='who is asked to label it; "" for whoever comes')],
    by: By = None,
    config: ConfigFile = CONFIG,
) -> None:
    """Say who is asked to label a batch; the last word counts, and nobody else is kept from it."""
    from tasks.label import offer_batch
    from tasks.people import assign as assign_batch
    from tasks.redeploy import thresholds_in_force
    from tasks.turn import newest_turn

    project = project_of(config)
    made = assign_batch(project, batch, to, by or getpass.getuser())
    turn = newest_turn(project)
    if turn is not None and batch in turn.open_batches:
        offer_batch.fn(project, batch, thresholds_in_force(project))  # again: the place shows who is asked
    print(f"batch {batch}: {made.assignee or 'whoever comes'} is asked to label it, says {made.by}")


def accept(
    trial: BatchId,
    by: By = None,
    note: Annotated[str, typer.Option(help="why")] = "",
    config: ConfigFile = CONFIG,
) -> None:
    """Accept a trial batch, for good: what waits behind it is offered with the next turn."""
    decide(trial, True, by, note, config)


def reject(
    trial: BatchId,
    by: By = None,
    note: Annotated[str, typer.Option(help="why")] = "",
    config: ConfigFile = CONFIG,
) -> None:
    """Reject a trial batch, for good: the next turn draws another one of other images."""
    decide(trial, False, by, note, config)


def decide(trial: str, accepted: bool, by: str | None, note: str, config: Path) -> None:
    from tasks.people import decide_trial

    made = decide_trial(project_of(config), trial, accepted, by or getpass.getuser(), note)
    agreement = "" if made.agreement is None else f", agreement with gold labels {made.agreement:.3f}"
    print(f"trial batch {trial}: {made.decision} by {made.by}{agreement}")


def accept_predictions(
    batch: BatchId,
    above: Annotated[float, typer.Option(min=0, max=1, help="confidence that every pre-annotation must be above")],
    classes: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--class", help="images all of whose pre-annotations are of these classes; else of any"),
    ] = None,
    below_misses: Annotated[
        float,
        typer.Option(min=0, help="objects expected to be missed in an image, fewer than this"),
    ] = 0.1,
    by: By = None,
    config: ConfigFile = CONFIG,
) -> None:
    """Take the model's boxes as labels where it is sure of all of them. They train, and never measure anything.

    Never of test or calibration images, nor over a person's label; what a person says of such an image later counts.
    """
    from tasks.people import accept_predictions as accept_in_bulk
    from tasks.redeploy import thresholds_in_force

    project = project_of(config)
    found = accept_in_bulk(
        project,
        batch,
        thresholds_in_force(project),
        above=above,
        below_misses=below_misses,
        by=by or getpass.getuser(),
        classes=classes or (),
    )
    print(
        f"batch {batch}: took {found.images} images with {found.boxes} boxes from the model, revision {found.revision}"
    )
    for reason, number in sorted(found.refused.items()):
        print(f"  left: {number} {reason}")


def seeding(
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects, for programs")] = False,
    config: ConfigFile = CONFIG,
) -> None:
    """What pre-annotations change, by the test and calibration images that were labelled with and without."""
    from tasks.core.people.seeding import seeding_row, seeding_sentence
    from tasks.people import seeding as compare

    found = compare(project_of(config))
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    elif not found:
        print("no image is labelled both ways yet: twin batches ask for it (labelling.twice_share)", file=sys.stderr)
    else:
        for row in map(seeding_row, found[1:]):
            print("  ".join(f"{name} {value}" for name, value in row.items()))
        print(seeding_sentence(found[0]))


def project_of(config: Path) -> ProjectSettings:
    from tasks.adapters.config import read_project

    return read_project(config)
