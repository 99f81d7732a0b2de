"""Label: offer batches to people, and take in what they have done as numbered revisions. Nothing here waits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from prefect import task
from pydantic import BaseModel, Field

from tasks.adapters.labelling import FilesLabelling, Labelling, LabellingStatus, with_corrections
from tasks.adapters.labelling.fiftyone import FiftyOneLabelling
from tasks.adapters.labelling.labelstudio import LabelStudioLabelling
from tasks.adapters.preannotate import seeds_of
from tasks.batching import assignee_of, without_repeats
from tasks.central import Central
from tasks.core.entities import Batch, Label
from tasks.core.errors import DataError, LabellingUnavailable, ObjectMissing, SettingsError
from tasks.core.people.consensus import consensus
from tasks.core.people.ending import ended
from tasks.core.people.progress import Progress, future_warning
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.opinions import keep_opinions, opinions_of
from tasks.retries import may_pass
from tasks.waiting import (
    Done,
    State,
    closed_of,
    done_of,
    end,
    look_at,
    newest_labels,
    now,
    offered_at,
    takes_labels,
)

__all__ = ["Done", "Offered", "Pulled", "labelling_of", "labels_state", "offer_batch", "pull_batch"]

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
    progress: Progress | None = None
    ended: str = Field("", description="why nobody waits for it any more; empty while it is open")
    takes_later: bool = Field(True, description="labels that come later are still taken in")

    @classmethod
    def unasked(cls, batch_id: str, revision: int) -> Pulled:
        """A batch that has ended, where nobody could be asked this time for what came later."""
        nothing = LabellingStatus(offered=0, done=0)
        return cls(batch_id=batch_id, revision=revision, status=nothing, ended="nobody could be asked")


def labelling_of(project: ProjectSettings) -> Labelling:
    """Where this project's people label."""
    if project.labelling.interface == "labelstudio":
        return LabelStudioLabelling.of(project)
    if project.labelling.interface == "fiftyone":
        return FiftyOneLabelling.of(project)
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
    readable, repeated = without_repeats(central, batch, readable)
    left_out += repeated
    labelling = labelling_of(project)
    offered = batch.model_copy(update={"samples": tuple(readable), "assignee": assignee_of(central, batch)})
    seeds = seeds_of(project, offered, thresholds, cache.pixels_of, lambda: labelling.seeds(offered))
    labelling.push(offered, cache.path_of, seeds)
    offered_at(central, batch)
    return Offered(batch_id=batch_id, where=labelling.where(batch_id), images=len(readable), left_out=tuple(left_out))


@task(task_run_name="pull {batch_id}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def pull_batch(project: ProjectSettings, batch_id: str, revision: int) -> Pulled:
    """Take in the labels of a batch; what is new becomes the next revision, never overwritten.

    revision: the newest one that is known. Labels that were taken in once stay, also when their file is gone or
    damaged, until there is another label of their image. A batch that has ended takes later labels in the same way,
    unless it was closed for good: then nothing more is asked of the place where people label.
    """
    central = Central(project)
    batch = central.batch(batch_id)
    labelling = labelling_of(project)
    done, closed = done_of(central, batch_id), closed_of(central, batch_id)
    is_final = done is not None and closed is not None and closed.final
    given, problems = ([], []) if is_final else given_labels(labelling, batch, now())
    opinions = keep_opinions(central, batch_id, given)
    revision, labels = central.store_labels(batch, consensus([*opinions, *given]), after=revision)
    offered = labelling.offered(batch)
    status = LabellingStatus.of(offered, labels)
    progress, conditions = look_at(central, batch, offered, revision, every_label(opinions, labels))
    if done is None and (why := ended(progress, conditions, now())):
        done = end(central, batch_id, Done(revision=revision, status=status, ended_at=now(), why=why))
    return Pulled(
        batch_id=batch_id,
        revision=revision,
        status=status,
        boxes=sum(len(label.boxes) for label in labels),
        corrections=sum(label.corrections for label in labels),
        problems=tuple(problems[:PROBLEMS_TOLD]),
        progress=progress,
        ended=(done.why or "all of its images are labelled or skipped") if done else "",
        takes_later=takes_labels(central, batch_id),
    )


def labels_state(project: ProjectSettings, batch_id: str) -> State:
    """How far people are with a batch by the labels that were taken in last; nothing is asked for and no end is made.

    Raises SettingsError for a batch that there is not.
    """
    central = Central(project)
    try:
        batch = central.batch(batch_id)
    except ObjectMissing:
        raise SettingsError(f"batch {batch_id!r}: there is none of that name: see edgeloop labels status") from None
    revision, labels = newest_labels(central, batch)
    try:
        offered = labelling_of(project).offered(batch)
    except LabellingUnavailable:  # the figures are in the bucket; only images that were left out count as offered
        offered = tuple(sample.sample_id for sample in batch.samples)
    said = every_label(opinions_of(central, batch_id), labels)
    progress, _ = look_at(central, batch, offered, revision, said)
    done = done_of(central, batch_id)
    return State(progress=progress, ended=done.why or "complete" if done else "", revision=revision)


def given_labels(labelling: Labelling, batch: Batch, now: datetime) -> tuple[list[Label], list[str]]:
    """What people have done, as it is kept, and what is wrong with it, a line each.

    No label is kept as later than now: it would be the newest one for ever.
    """
    seeds = labelling.seeds(batch)
    labels = [with_corrections(label, seeds.get(label.sample_id)) for label in labelling.pull(batch)]
    told = future_warning(labels, now)
    kept = [label.model_copy(update={"labelled_at": min(label.labelled_at, now)}) for label in labels]
    return kept, [*told, *labelling.problems(batch)]


def every_label(opinions: Sequence[Label], stored: Sequence[Label]) -> list[Label]:
    """What people have said so far: of an image that several have labelled each label, else the one that is stored."""
    several = {label.sample_id for label in opinions}
    return [*opinions, *(label for label in stored if label.sample_id not in several)]
