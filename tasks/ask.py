"""Ask: samples that somebody picks go to people, for a first label or for a second look.

The batches are in the bucket at once; the next turn takes them in and offers them. Whoever asks never writes what a
turn writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from prefect import task
from pydantic import Field

from tasks.central import Central, batches_of
from tasks.core import layout
from tasks.core.entities import Record, Sample, UtcTime
from tasks.core.errors import NotEnoughData, ObjectMissing, RecordInvalid, SettingsError
from tasks.core.settings import ProjectSettings
from tasks.retries import may_pass
from tasks.turn import newest_turn
from tasks.waiting import now

NAME = "asked"  # what the ids of such batches begin with


class LabellingRequest(Record):
    """Batches that somebody asked for, and who; numbered, so that two who ask at once are both heard."""

    number: int = Field(ge=1)
    batches: dict[str, int] = Field(description="batch -> images")
    asked_by: str
    asked_at: UtcTime


def send_to_labelling(
    project: ProjectSettings, picked: Mapping[str, Collection[str]], by: str, name: str = NAME
) -> LabellingRequest:
    """Batches of the picked samples, batch -> sample ids of it; the next turn offers them.

    The same samples picked again on the same day are the same batches, and asked for once. What people say of an image
    that is labelled already replaces its label, as the newest one counts. Raises NotEnoughData where nothing was
    picked, SettingsError for what is not in the bucket, or was asked for already.
    """
    central = Central(project)
    samples = [sample for batch_id, ids in picked.items() for sample in samples_of(central, batch_id, ids)]
    if not samples:
        raise NotEnoughData("no image is selected: select those to send to labelling")
    moment = now()
    unique = {sample.sample_id: sample for sample in samples}.values()
    batches = batches_of(f"{name}-{moment:%Y-%m-%d}", unique, project)
    known = {batch for request in requests_newer_than(central, {}) for batch in request.batches}
    if asked := [batch.batch_id for batch in batches if batch.batch_id in known]:
        raise SettingsError(f"these images were sent to labelling today already, as {', '.join(asked)}")
    for batch in batches:
        central.store_batch(batch)
    sizes = {batch.batch_id: len(batch.samples) for batch in batches}
    return central.bucket.append_record(
        layout.request, lambda number: LabellingRequest(number=number, batches=sizes, asked_by=by, asked_at=moment)
    )


def samples_of(central: Central, batch_id: str, sample_ids: Collection[str]) -> list[Sample]:
    """Those samples of a batch. Raises SettingsError where there is no such batch, or one is not in it."""
    try:
        found = {sample.sample_id: sample for sample in central.batch(batch_id).samples}
    except (ObjectMissing, SettingsError):
        raise SettingsError(
            f"batch {batch_id!r} is not in the bucket: bring FiftyOne into step (edgeloop loop)"
        ) from None
    if missing := sorted(set(sample_ids) - set(found)):
        raise SettingsError(f"batch {batch_id} does not hold sample {missing[0]}: bring FiftyOne into step")
    return [found[sample_id] for sample_id in sorted(sample_ids)]


@task(task_run_name="batches asked for", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def asked_batches(project: ProjectSettings, known: Collection[str]) -> dict[str, int]:
    """The batches that somebody asked for and no turn knows of yet, batch -> images, the oldest first.

    known: the batches of the turn. Costs what is new: a turn takes all requests that there are.
    """
    requests = requests_newer_than(Central(project), known)
    return {batch: n for request in reversed(requests) for batch, n in request.batches.items() if batch not in known}


def requests_newer_than(central: Central, known: Collection[str]) -> list[LabellingRequest]:
    """The newest request first, down to one that a turn knows; one that cannot be read is passed over."""
    found: list[LabellingRequest] = []
    for number in range(central.bucket.latest_number(layout.request), 0, -1):
        try:
            request = central.bucket.read_record(layout.request(number), LabellingRequest)
        except RecordInvalid:
            continue
        if request.batches and all(batch in known for batch in request.batches):
            break
        found.append(request)
    return found


def find_sample(project: ProjectSettings, sample_id: str, batch_ids: Iterable[str]) -> Sample:
    """A sample as its device wrote it down, from the first of the batches that holds it. Raises SettingsError."""
    central = Central(project)
    for batch_id in batch_ids:
        try:
            batch = central.batch(batch_id)
        except (ObjectMissing, SettingsError):
            continue
        for sample in batch.samples:
            if sample.sample_id == sample_id:
                return sample
    raise SettingsError(
        f"sample {sample_id} is in no batch that is known here: bring FiftyOne into step (edgeloop loop)"
    )


def known_batches(project: ProjectSettings) -> list[str]:
    """The batches of the newest turn, the newest first."""
    turn = newest_turn(project)
    return list(reversed(turn.batches)) if turn else []
