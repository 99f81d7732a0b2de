"""Ingest: what devices have committed becomes batches for labelling. Costs what is new, never what is there."""

from __future__ import annotations

from collections.abc import Iterable

from prefect import task
from pydantic import BaseModel

from tasks.adapters.bucket import Bucket, decode_lines
from tasks.core import layout
from tasks.core.entities import Batch, Record, Sample, content_id
from tasks.core.errors import ObjectMissing, RecordInvalid
from tasks.core.settings import ProjectSettings
from tasks.core.splits import assign_split


class Cursor(Record):
    """How many segments of a device have been taken in."""

    segments: int = 0


class Ingested(BaseModel):
    """What one device brought."""

    device: str
    samples: int = 0
    segments: int = 0
    batches: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@task(task_run_name="find devices", retries=3, retry_delay_seconds=[1, 5, 20])
def find_devices(project: ProjectSettings) -> list[str]:
    """Names of all devices that have written to the bucket."""
    return Bucket(project.bucket, project.project).children("devices")


@task(task_run_name="ingest {device}", retries=3, retry_delay_seconds=[1, 5, 20])
def ingest_device(project: ProjectSettings, device: str) -> Ingested:
    """Take in the segments that a device has committed since the last time.

    Batches follow from the segments, so that a repeat after a crash writes the same batches again.
    """
    bucket = Bucket(project.bucket, project.project)
    cursor = read_cursor(bucket, device)
    samples, problems, segments = read_segments(bucket, device, after=cursor.segments)
    batches = [
        batch
        for batch in make_batches(samples, project, device)
        if bucket.create_record(layout.batch(batch.batch_id), batch)
    ]
    if segments != cursor.segments:
        bucket.write_record(layout.ingest_cursor(device), Cursor(segments=segments))
    return Ingested(
        device=device,
        samples=len(samples),
        segments=segments - cursor.segments,
        batches=tuple(batch.batch_id for batch in batches),
        problems=tuple(problems),
    )


def read_cursor(bucket: Bucket, device: str) -> Cursor:
    try:
        return bucket.read_record(layout.ingest_cursor(device), Cursor)
    except ObjectMissing:
        return Cursor()


def read_segments(bucket: Bucket, device: str, after: int) -> tuple[list[Sample], list[str], int]:
    """New samples, one line for each record left out, and the number of the last segment there is."""
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
        foreign = [r for r in records if r.device != device]
        problems += invalid + [f"{key}: sample {r.sample_id} says it is of {r.device!r}: left out" for r in foreign]
        samples += [r for r in records if r.device == device]


def make_batches(samples: Iterable[Sample], project: ProjectSettings, device: str) -> list[Batch]:
    """Samples as batches of at most `labelling.max_images`, by the name that the batching strategy gave them."""
    by_name: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.batch or "batch", {})[sample.sample_id] = sample
    size = project.labelling.max_images
    batches = []
    for name, unique in sorted(by_name.items()):
        ordered = sorted(unique.values(), key=lambda s: (s.captured_at, s.sample_id))
        batches += [make_batch(name, ordered[i : i + size], project, device) for i in range(0, len(ordered), size)]
    return batches


def make_batch(name: str, samples: list[Sample], project: ProjectSettings, device: str) -> Batch:
    """One batch; its id follows from its content. Test and calibration images are labelled without pre-annotations."""
    readable = "-".join(part for part in f"{name}-{device}".lower().replace("_", "-").split("-") if part)
    readable = "".join(c for c in readable if c.isascii() and (c.isalnum() or c == "-"))[:45].strip("-")
    return Batch(
        batch_id=f"{readable or 'batch'}-{content_id(*(s.sample_id for s in samples))}",
        created_at=max(s.captured_at for s in samples),
        class_names=project.classes,
        class_list_version=project.class_list_version,
        samples=tuple(samples),
        unseeded=tuple(s.sample_id for s in samples if assign_split(s) != "train"),
    )
