"""Label: offer batches to people, and take in what they have done as numbered revisions. Nothing here waits."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from pydantic import BaseModel

from tasks.adapters.labelling import FilesLabelling, Labelling, LabellingStatus
from tasks.adapters.labels import revision_bytes
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, Label, LabelBox, Record
from tasks.core.errors import DataError, ObjectMissing
from tasks.core.settings import ProjectSettings, Thresholds


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


def labelling_of(project: ProjectSettings) -> Labelling:
    """Where this project's people label."""
    return FilesLabelling(Path(project.labelling.folder))


@task(task_run_name="offer {batch_id}", retries=3, retry_delay_seconds=[1, 5, 20])
def offer_batch(project: ProjectSettings, batch_id: str, thresholds: Thresholds) -> Offered:
    """Lay a batch out for people. Offering it again changes nothing that they have done."""
    central = Central(project)
    batch = read_batch(central, batch_id)
    cache = central.images
    left_out, readable = [], []
    for sample in batch.samples:
        try:
            cache.path_of(sample)
            readable.append(sample)
        except (DataError, ObjectMissing) as error:
            left_out.append(str(error))
    labelling = labelling_of(project)
    labelling.push(batch.model_copy(update={"samples": tuple(readable)}), cache.path_of, thresholds)
    return Offered(batch_id=batch_id, where=labelling.where(batch_id), images=len(readable), left_out=tuple(left_out))


@task(task_run_name="pull {batch_id}", retries=3, retry_delay_seconds=[1, 5, 20])
def pull_batch(project: ProjectSettings, batch_id: str, revision: int) -> Pulled:
    """Take in the labels of a batch; what is new becomes the next revision after `revision`, never overwritten."""
    central = Central(project)
    batch = read_batch(central, batch_id)
    labelling = labelling_of(project)
    labels = labelling.pull(batch)
    seeds = labelling.seeds(batch)
    labels = [with_corrections(label, seeds.get(label.sample_id)) for label in labels]
    if labels:
        revision = store_revision(central, batch, labels, revision)
    status = labelling.status(batch)
    if status.complete:
        central.bucket.write_record(layout.batch_done(batch_id), Done(revision=revision, status=status))
    return Pulled(
        batch_id=batch_id,
        revision=revision,
        status=status,
        boxes=sum(len(label.boxes) for label in labels),
        corrections=sum(label.corrections for label in labels),
    )


class Done(Record):
    """A batch that people have finished, and with which revision."""

    revision: int
    status: LabellingStatus


def read_batch(central: Central, batch_id: str) -> Batch:
    return central.bucket.read_record(layout.batch(batch_id), Batch)


def store_revision(central: Central, batch: Batch, labels: list[Label], revision: int) -> int:
    """The number of the revision that holds `labels`: the one there is, when nothing changed, else the next."""
    samples = {sample.sample_id: sample for sample in batch.samples}
    content = revision_bytes(labels, samples, batch.class_names, class_list_version=batch.class_list_version)
    if revision and central.bucket.get(layout.labels(batch.batch_id, revision)) == content:
        return revision
    central.bucket.create(layout.labels(batch.batch_id, revision + 1), content)
    return revision + 1


def with_corrections(label: Label, seed: Label | None) -> Label:
    """The label with what central knows better than the file: was it seeded, and how much of the seed was corrected.

    A correction is a box of the seed that is gone, moved or renamed, or a box that was added.
    """
    if seed is None:
        return label.model_copy(update={"seeded": False, "corrections": 0})
    kept = sum(any(same_box(ours, theirs) for theirs in label.boxes) for ours in seed.boxes)
    return label.model_copy(update={"seeded": True, "corrections": len(seed.boxes) + len(label.boxes) - 2 * kept})


def same_box(a: LabelBox, b: LabelBox) -> bool:
    """The same class, and no corner moved by a pixel or more."""
    return a.class_name == b.class_name and all(abs(x - y) < 1 for x, y in zip(a.xyxy, b.xyxy))
