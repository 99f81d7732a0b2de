"""Allocate: share the labels of a week out over cameras, strategies and bands, and draw the samples to be labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, partial

from prefect import task
from pydantic import BaseModel

from tasks.adapters.bucket import Bucket
from tasks.batching import prepared
from tasks.central import Central, batches_of, results_of
from tasks.core import allocation as shares
from tasks.core import layout
from tasks.core.allocation import Cell, LabelledImage
from tasks.core.bands import threshold_column
from tasks.core.entities import (
    STUB,
    Allocation,
    Batch,
    DatasetEntry,
    Sample,
)
from tasks.core.errors import RecordInvalid, SettingsError
from tasks.core.matching import match
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.core.splits import is_imported
from tasks.retries import may_pass
from tasks.turn import newest_turn

WEEK = timedelta(days=7)


class Drawn(BaseModel):
    """What a draw brought, or what it waits for."""

    allocation: Allocation | None = None
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a device obeyed when it wrote a sample, as far as yields ask: were its detections written down?"""

    thresholds: Thresholds
    persist_predictions: bool


OrdersOf = Callable[[str], Orders]  # by settings version


@dataclass(frozen=True, slots=True)
class Measured:
    """Labelled images with their cells, and sentences about those that say nothing."""

    images: list[LabelledImage]
    problems: tuple[str, ...]


# --- a plan ----------------------------------------------------------------------------------------------------------


def plan(project: ProjectSettings, labels: int, weeks_back: float | None, now: datetime) -> Allocation:
    """How `labels` are shared out over what waits for a draw, else over what devices brought in their last week.

    Stored as the next allocation; nothing is offered. Raises SettingsError and NotEnoughData where nothing can be
    shared out.
    """
    central = Central(project)
    turn = newest_turn(project)
    waiting = unique(central.batch(batch_id) for batch_id in turn.waiting_batches) if turn else []
    samples = waiting or last_week_of(central, now)
    made = share_out(central, samples, labels, now, orders_by_version(central), weeks_back)
    return central.bucket.append_record(layout.allocation, lambda number: made.model_copy(update={"number": number}))


def share_out(
    central: Central,
    samples: Iterable[Sample],
    labels: int,
    now: datetime,
    orders: OrdersOf,
    weeks_back: float | None = None,
) -> Allocation:
    """The next allocation, of `labels` over the cells of `samples`, by the newest labels; not stored."""
    turn = newest_turn(central.project)
    measured = measure_yields(central, turn.dataset_version if turn else "", orders, now, weeks_back)
    rules = shares.Rules(exploration=central.project.exploration)
    return shares.allocate(
        shares.evidence_of(measured.images, rules.half_life_weeks),
        Counter(cell_of(sample, orders) for sample in samples),
        labels,
        rules,
        number=central.bucket.latest_number(layout.allocation) + 1,
        created_at=now,
        before=of_earlier_week(central, now),
        weeks_back=weeks_back,
        warnings=measured.problems,
    )


def last_week_of(central: Central, now: datetime) -> list[Sample]:
    """What devices brought in the seven days before the newest sample of all, read backwards from their last segments.

    A camera that has gone brought nothing. What says that it lies in the future does not move the seven days.
    """
    newest_first = {device: segments_backwards(central.bucket, device) for device in central.devices()}
    begun = {device: next(segments, []) for device, segments in newest_first.items()}
    moments = [sample.captured_at for samples in begun.values() for sample in samples if sample.captured_at <= now]
    since = max(moments, default=now) - WEEK
    found: dict[str, Sample] = {}
    for device, samples in begun.items():
        while samples and max(sample.captured_at for sample in samples) >= since:
            found |= {sample.sample_id: sample for sample in samples if sample.captured_at >= since}
            samples = next(newest_first[device], [])
    return list(found.values())


def segments_backwards(bucket: Bucket, device: str) -> Iterator[list[Sample]]:
    """The samples of a device's segments, the newest first; a segment that is damaged or empty is passed over."""
    for number in range(bucket.latest_number(partial(layout.segment, device)), 0, -1):
        try:
            samples, _ = bucket.read_lines(layout.segment(device, number), Sample)
        except RecordInvalid:
            continue
        if samples:
            yield samples


# --- the draw of a week ----------------------------------------------------------------------------------------------


@task(task_run_name="draw labels", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def draw_labels(project: ProjectSettings, waiting: Sequence[str], now: datetime | None = None) -> Drawn:
    """Draw the samples of the `waiting` batches that people label this week, and store them as batches.

    There is one draw in a calendar week (UTC), and each sample takes part in one, so that it has one probability. The
    draw is made as soon as a week's labels are outnumbered, else with the first samples of an earlier week. One that
    an interrupted turn made is found again. Raises SettingsError where the labels cannot be shared out.
    """
    now = now or datetime.now(timezone.utc)
    labels = project.labels_a_week
    if labels is None:
        raise SettingsError("labels_a_week is not set: set it in configs/project.yaml to have samples drawn each week")
    central = Central(project)
    last = newest_draw(central.bucket)
    if last is not None and set(waiting) & set(last.drawn_from):
        return Drawn(allocation=last)
    if last is not None and last.created_at >= monday(now):
        return Drawn(waits_for=f"the week of {monday(now) + WEEK:%Y-%m-%d}: the labels of this one have been drawn")
    batches = [central.batch(batch_id) for batch_id in waiting]
    samples = unique(batches)
    if len(samples) < labels and all(sample.captured_at >= monday(now) for sample in samples):
        missing = labels - len(samples)
        return Drawn(waits_for=f"{missing} more samples, or the end of the week, before its {labels} labels are drawn")
    return Drawn(allocation=draw(central, batches, samples, labels, now))


def draw(
    central: Central, batches: Sequence[Batch], samples: Sequence[Sample], labels: int, now: datetime
) -> Allocation:
    """Share `labels` out over `samples`, draw, and store first the batches of what was drawn, then the allocation."""
    orders = orders_by_version(central)
    made = share_out(central, samples, labels, now, orders)
    offered = shares.choose(samples, made, central.project.seed, partial(cell_of, orders=orders))
    sources = tuple(batch.batch_id for batch in batches)
    chosen = [sample for sample in samples if sample.sample_id in offered]
    batches_drawn = batches_of(f"draw-{made.number:06d}", chosen, central.project, offered, sources)
    drawn = [central.store_batch(batch) for batch in prepared(central, batches_drawn)]
    made = made.model_copy(update={"drawn_from": sources, "batches": tuple(batch.batch_id for batch in drawn)})
    central.bucket.create_record(layout.allocation(made.number), made)
    return made


def newest_draw(bucket: Bucket) -> Allocation | None:
    """The newest allocation that was more than a plan."""
    return next((made for made in newest_allocations(bucket) if made.drawn_from), None)


def of_earlier_week(central: Central, now: datetime) -> Allocation | None:
    """The newest allocation of a week before that of `now`: of the draws where there are any, else of the plans."""
    has_draws = central.project.labels_a_week is not None
    earlier = (made for made in newest_allocations(central.bucket) if made.created_at < monday(now))
    return next((made for made in earlier if made.drawn_from or not has_draws), None)


def newest_allocations(bucket: Bucket) -> Iterator[Allocation]:
    """One after the other, each read when it is asked for."""
    for number in range(bucket.latest_number(layout.allocation), 0, -1):
        yield bucket.read_record(layout.allocation(number), Allocation)


def monday(moment: datetime) -> datetime:
    """When the week of `moment` began (UTC)."""
    midnight = moment.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday())


def unique(batches: Iterable[Batch]) -> list[Sample]:
    """The samples of batches, each image once."""
    return list({sample.sample_id: sample for batch in batches for sample in batch.samples}.values())


# --- what people corrected -------------------------------------------------------------------------------------------


def measure_yields(
    central: Central,
    dataset_version: str,
    orders: OrdersOf,
    now: datetime,
    weeks_back: float | None = None,
) -> Measured:
    """The labelled images of a dataset version that a model saw on a device, with what people corrected in each.

    Predictions that were accepted in bulk tell nothing: nobody looked for what they lack.
    """
    entries = [
        entry
        for entry in (central.entries(dataset_version) if dataset_version else [])
        if entry.sample.model_version != STUB and not is_imported(entry.sample) and entry.label.origin == "human"
    ]
    if weeks_back is not None:
        entries = [entry for entry in entries if now - entry.label.labelled_at <= WEEK * weeks_back]
    seen = [
        entry
        for entry in entries
        if entry.sample.detections or orders(entry.sample.settings_version).persist_predictions
    ]
    by_thresholds: dict[tuple[tuple[str, float], ...], list[DatasetEntry]] = {}
    for entry in seen:
        by_thresholds.setdefault(tuple(sorted(orders(entry.sample.settings_version).thresholds.items())), []).append(
            entry
        )
    images: list[LabelledImage] = []
    bad = 0
    for thresholds, some in sorted(by_thresholds.items()):
        found = corrected(some, dict(thresholds), central.project.classes, now)
        bad += len(some) - len(found)
        images += found
    problems = []
    if len(seen) < len(entries):
        problems.append(f"labelled images whose detections were not kept, left out: {len(entries) - len(seen)}")
    if bad:
        problems.append(f"labelled images whose boxes cannot be used, left out: {bad}")
    return Measured(images, tuple(problems))


def corrected(
    entries: Iterable[DatasetEntry], thresholds: Thresholds, class_names: tuple[str, ...], now: datetime
) -> list[LabelledImage]:
    """What people corrected in images of the same thresholds; one whose boxes cannot be used is left out."""
    kept, results = results_of(entries, class_names)
    missed, false_alarms, boxes = shares.corrections_by_image(match(results), threshold_column(thresholds, class_names))
    return [
        LabelledImage(
            cell=shares.cell_of(entry.sample, thresholds),
            missed=int(missed[row]),
            false_alarms=int(false_alarms[row]),
            boxes=int(boxes[row]),
            weeks_old=(now - entry.label.labelled_at) / WEEK,
        )
        for row, entry in enumerate(kept)
    ]


def cell_of(sample: Sample, orders: OrdersOf) -> Cell:
    return shares.cell_of(sample, orders(sample.settings_version).thresholds)


def orders_by_version(central: Central) -> OrdersOf:
    """Each version is read once."""
    return cache(partial(read_orders, central))


def read_orders(central: Central, settings_version: str) -> Orders:
    """The release that a sample was taken under; what is in force now where there is no such release."""
    found = central.release_under(settings_version)
    if found is None:
        return Orders({}, central.project.sampling.persist_predictions)
    return Orders(found.thresholds, found.settings.persist_predictions)
