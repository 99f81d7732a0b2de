"""`edgeloop labels ...`: batches to people elsewhere and back (adapters/labelling/FILES.md)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from flows import labels_people, labels_quality, labels_suspects, review, wait_cli
from tasks.core.errors import LabelsInvalid, SettingsError

if TYPE_CHECKING:
    from tasks.core.settings import ProjectSettings
    from tasks.import_labels import Return, Taken

app = typer.Typer(
    help="Batches of images that people label: how far they are, how good, out and back.", no_args_is_help=True
)
app.command()(wait_cli.status)
app.command()(wait_cli.close)
app.command()(review.submit)
labels_people.register(app)
labels_quality.register(app)
labels_suspects.register(app)

ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]
CONFIG = Path("configs/project.yaml")
SHOWN = 20  # problems on the terminal; the first 1,000 are in the report


@app.command(name="export")
def export_labels(
    batch: Annotated[Optional[str], typer.Argument(help="its id, as edgeloop loop names it")] = None,  # noqa: UP045
    to: Annotated[Optional[Path], typer.Option("--to", help="file to write; else BATCH.zip here")] = None,  # noqa: UP045
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--format", help="coco, yolo, voc or labelstudio, also several; else coco and yolo"),
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="what people have said, not what is to be done")] = False,
    dataset: Annotated[Optional[str], typer.Option(help="a dataset version, with its splits")] = None,  # noqa: UP045
    images: Annotated[bool, typer.Option(help="with the images; those to label always are")] = True,
    config: ConfigFile = CONFIG,
) -> None:
    """One zip: a batch to label, or with --labelled or --dataset what has been labelled. Equal content, equal bytes."""
    from tasks import export_labels as export
    from tasks.adapters.config import read_project

    if (batch is None) == (dataset is None) or (dataset is not None and labelled):
        raise SettingsError("edgeloop labels export: name a batch, with --labelled or without, or a --dataset")
    project = read_project(config)
    chosen = export.formats_named(formats or (), ("coco", "yolo"))
    target = to or Path(f"{batch or dataset}{'-labels' if labelled else ''}.zip")
    if dataset is not None:
        done = export.export_dataset(project, dataset, target, chosen, images)
    elif labelled:
        done = export.export_labels(project, str(batch), target, chosen, images)
    else:
        done = export.export_batch(project, str(batch), target, chosen, thresholds_of(project))
    seeded = f" to begin with in {done.seeded} of them" if done.seeded else ""
    print(f"{done.path}: {done.images} images, {done.boxes} boxes{seeded}")
    for line in done.left_out:
        warn(f"left out: {line}")


@app.command(name="import")
def import_labels(
    batch: Annotated[str, typer.Argument(help="the batch that they are of")],
    source: Annotated[Path, typer.Argument(help="zip or folder that came back")],
    annotator: Annotated[str, typer.Option(help="who labelled")],
    rename: Annotated[Optional[list[str]], typer.Option(help="class of the return = class of the batch")] = None,  # noqa: UP045
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="take a return without a single box where boxes were sent")
    ] = False,
    untouched: Annotated[
        bool, typer.Option("--untouched", help="take pre-annotations that came back as they were sent, too")
    ] = False,
    config: ConfigFile = CONFIG,
) -> None:
    """Take a return in: checked to the last box, as the batch's next label revision.

    Exit code 0 when something was usable, with what was wrong beside the return in NAME.problems.txt and .csv; 2 when
    nothing was. The same return twice makes no second revision.
    """
    from flows.cli import renames_of
    from tasks.adapters.config import read_project
    from tasks.import_labels import Return, take_in

    returned = Return(read_project(config), batch, source, annotator, renames_of(rename or []), allow_empty, untouched)
    try:
        taken = take_in(returned)
    except LabelsInvalid:
        tell_problems(returned)
        raise
    tell_problems(returned)
    tell(taken, returned)


def tell(taken: Taken, returned: Return) -> None:
    skipped = f" ({taken.skipped} of them skipped)" if taken.skipped else ""
    print(f"{taken.batch_id}: {taken.images} images{skipped} with {taken.boxes} boxes of {returned.annotator}")
    if taken.missing:
        print(f"  {taken.missing} images of the batch are not among them and keep what they have")
    for what, count in returned.passed_over.items():
        print(f"  passed over: {count} {what}")
    for name, count in returned.renamed.items():
        print(f"  renamed: {count} boxes of class {name!r}")
    if taken.emptied:
        print(f"  {taken.emptied} images that had boxes are empty now")
    if taken.new:
        before = f"; revision {taken.before} stays as it was" if taken.before else ""
        print(f"revision {taken.revision}: {taken.new} images are new or changed{before}")
    else:
        print(f"nothing is new: revision {taken.revision} says the same")


def tell_problems(returned: Return) -> None:
    """The first problems on the terminal, and how many there are; all that are kept beside the return."""
    from tasks.import_labels import write_report

    for line in returned.warnings:
        warn(line)
    problems = returned.problems
    try:
        report = write_report(returned.source, problems)
    except OSError as error:
        warn(f"the report could not be written beside {returned.source} ({error.strerror or error})")
        report = None
    for line in problems.lines[:SHOWN]:
        print(line)
    if total := problems.counts.total():
        more = f", {total - SHOWN} more than shown" if total > SHOWN else ""
        print(f"{total} problems{more}: {report or 'no report'}")


def thresholds_of(project: ProjectSettings) -> dict[str, float]:
    """The operating thresholds in force, as the loop offers batches with."""
    from tasks.redeploy import thresholds_in_force

    return dict(thresholds_in_force(project))


def warn(line: str) -> None:
    print(f"edgeloop: {line}", file=sys.stderr)
