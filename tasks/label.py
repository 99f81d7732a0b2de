"""Label: offer batches to people, and take in what they have done as numbered revisions. Nothing here waits."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from pydantic import BaseModel

from tasks.adapters.labelling import FilesLabelling, Labelling, LabellingStatus, pre_annotations, with_corrections
from tasks.adapters.labelling.labelstudio import LabelStudioLabelling
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Label, Record
from tasks.core.errors import DataError, ObjectMissing
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.retries import may_pass

PROBLEMS_TOLD = 20  # of a batch; all of them are with the labels


class Offered(BaseModel):
    """A batch as people find it."""

    batch_id: str
    where: str
    images: int
    left_out: tuple[str, ...] = ()


class Pulled(BaseModel):
    """What people have done of a batch, and the revision that holds it; 0 when there is none yet."""

    batch_id: str
    revision: int
    status: LabellingStatus
    boxes: int = 0
    corrections: int = 0
    problems: tuple[str, ...] = ()


def labelling_of(project: ProjectSettings) -> Labelling:
    """Where this project's people label."""
    if project.labelling.interface == "labelstudio":
        return LabelStudioLabelling.of(project)
    return FilesLabelling(Path(project.labelling.folder))


@task(task_run_name="offer {batch_id}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def offer_batch(project: ProjectSettings, batch_id: str, thresholds: Thresholds) -> Offered:
    """Lay a batch out for people. Offering it again changes nothing that they have done."""
    central = Central(project)
    batch = central.batch(batch_id)
    cache = central.images
    left_out, readable = [], []
    for sample in batch.samples:
        try:
            cache.path_of(sample)
            readable.append(sample)
        except (DataError, ObjectMissing) as error:
            left_out.append(str(error))
    labelling = labelling_of(project)
    offered = batch.model_copy(update={"samples": tuple(readable)})
    labelling.push(offered, cache.path_of, pre_annotations(offered, thresholds))
    return Offered(batch_id=batch_id, where=labelling.where(batch_id), images=len(readable), left_out=tuple(left_out))


@task(task_run_name="pull {batch_id}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def pull_batch(project: ProjectSettings, batch_id: str, revision: int) -> Pulled:
    """Take in the labels of a batch; what is new becomes the next revision, never overwritten.

    revision: the newest one that is known. Labels that were taken in once stay, also when their file is gone or
    damaged, until there is another label of their image.
    """
    central = Central(project)
    batch = central.batch(batch_id)
    labelling = labelling_of(project)
    seeds = labelling.seeds(batch)
    pulled = [with_corrections(label, seeds.get(label.sample_id)) for label in labelling.pull(batch)]
    revision, labels = central.store_labels(batch, pulled, after=revision)
    status = LabellingStatus.of(labelling.offered(batch), labels)
    if status.complete:
        central.bucket.write_record(layout.batch_done(batch_id), Done(revision=revision, status=status))
    return Pulled(
        batch_id=batch_id,
        revision=revision,
        status=status,
        boxes=sum(len(label.boxes) for label in labels),
        corrections=sum(label.corrections for label in labels),
        problems=tuple(labelling.problems(batch)[:PROBLEMS_TOLD]),
    )


class Done(Record):
    """A batch that people have finished, and with which revision."""

    revision: int
    status: LabellingStatus
