"""Ingest: what devices have committed becomes batches for labelling. Costs what is new, never what is there."""

from __future__ import annotations

from collections.abc import Iterable

from prefect import task
from pydantic import BaseModel, Field

from tasks.adapters.bucket import Bucket, decode_lines
from tasks.batching import prepared
from tasks.central import Central, batches_of
from tasks.core import layout
from tasks.core.entities import Batch, Record, Sample
from tasks.core.errors import ObjectMissing, RecordInvalid
from tasks.core.settings import ProjectSettings
from tasks.retries import may_pass
from tasks.turn import recorded_batches


class Cursor(Record):
    """How many segments of a device have been taken in."""

    segments: int = 0
    unrecorded: dict[str, int] = Field({}, description="batches made of them that no turn knew of yet -> images")


class Ingested(BaseModel):
    """What one device brought: the batches that no turn knows of yet, and their samples."""

    device: str
    samples: int = 0
    segments: int = 0
    batches: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@task(task_run_name="find devices", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def find_devices(project: ProjectSettings) -> list[str]:
    """Names of all devices that have written to the bucket."""
    return Central(project).devices()


@task(task_run_name="ingest {device}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def ingest_device(project: ProjectSettings, device: str) -> Ingested:
    """Take in the segments that a device has committed since the last time.

    Nothing is lost to a crash: until the cursor is written, the same segments are read again, and from then on the
    cursor itself names the batches, again and again, until a turn has recorded them.
    """
    central = Central(project)
    cursor = read_cursor(central.bucket, device)
    known = recorded_batches(project) if cursor.unrecorded else frozenset()
    unrecorded = {batch: images for batch, images in cursor.unrecorded.items() if batch not in known}

    samples, problems, segments = read_segments(central.bucket, device, after=cursor.segments)
    made = make_batches(samples, project, device)
    for batch in made if project.labels_a_week is not None else prepared(central, made):  # else the draw prepares them
        central.store_batch(batch)
        unrecorded[batch.batch_id] = len(batch.samples)
    moved = Cursor(segments=segments, unrecorded=unrecorded)
    if moved != cursor:
        central.bucket.write_record(layout.ingest_cursor(device), moved)
    return Ingested(
        device=device,
        samples=sum(unrecorded.values()),
        segments=segments - cursor.segments,
        batches=tuple(unrecorded),
        problems=tuple(problems),
    )


def read_cursor(bucket: Bucket, device: str) -> Cursor:
    try:
        return bucket.read_record(layout.ingest_cursor(device), Cursor)
    except ObjectMissing:
        return Cursor()


def read_segments(bucket: Bucket, device: str, after: int) -> tuple[list[Sample], list[str], int]:
    """New samples, a line for each problem with the others, and the number of the last segment there is."""
    samples: list[Sample] = []
    problems: list[str] = []
    number = after
    while True:
        key = layout.segment(device, number + 1)
        try:
            data = bucket.get(key)
        except ObjectMissing:
            return samples, problems, number
        number += 1
        try:
            records, invalid = decode_lines(data, Sample, key)
        except RecordInvalid as error:
            problems.append(str(error))
            continue
        problems += invalid
        for sample in records:
            if lie := false_claim(sample, device):
                problems.append(f"{key}: sample {sample.sample_id} {lie}: left out")
            else:
                samples.append(sample)


def false_claim(sample: Sample, device: str) -> str:
    """What a sample says that cannot be: one device must not speak for another, nor for another's image."""
    if sample.device != device:
        return f"says that it is of {sample.device!r}"
    if not sample.sha256.startswith(sample.sample_id):
        return "has an id that does not follow from its sha256"
    return ""


def make_batches(samples: Iterable[Sample], project: ProjectSettings, device: str) -> list[Batch]:
    """Samples as batches of at most `labelling.max_images`, by the name that the batching strategy gave them.

    The same image twice, delivered again or of a scene that did not change, is one sample: the one that came last.
    """
    by_name: dict[str, list[Sample]] = {}
    for sample in {sample.sample_id: sample for sample in samples}.values():
        by_name.setdefault(sample.batch or "batch", []).append(sample)
    batches = []
    for name, unique in sorted(by_name.items()):
        batches += batches_of(readable(f"{name}-{device}"), unique, project)
    return batches


def readable(name: str) -> str:
    """A name that a batch's id can begin with."""
    slug = "-".join(part for part in name.lower().replace("_", "-").split("-") if part)
    return "".join(c for c in slug if c.isascii() and (c.isalnum() or c == "-"))[:45].strip("-") or "batch"
