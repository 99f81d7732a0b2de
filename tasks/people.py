"""People decide: gold labels, trial batches, who labels what, and predictions that are taken as labels in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial

from pydantic import BaseModel, Field

from tasks.adapters.labelling import pre_annotation
from tasks.adapters.labels import revision_bytes
from tasks.adapters.releases import latest_release
from tasks.batching import TWIN, decide, decision_of, doubts_of, gold_labels, trial_agreement
from tasks.central import Central, truths_of
from tasks.core import layout
from tasks.core.bands import threshold_column
from tasks.core.entities import (
    AcceptedPredictions,
    Assignment,
    Batch,
    Detections,
    Gold,
    GoldLabel,
    Label,
    Sample,
    TrialDecision,
    Turn,
    detections_from_records,
)
from tasks.core.errors import DataError, NotEnoughData, ObjectConflict, ObjectMissing, RecordInvalid, SettingsError
from tasks.core.people.accepting import acceptable
from tasks.core.people.seeding import BothWays, SeedingDifference, seeding_difference
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.core.splits import cluster_of
from tasks.turn import newest_turn

LONGEST_NAME = 100  # characters of who did something
ATTEMPTS = 5  # to write the next revision while others write theirs


class Accepted(BaseModel):
    """What was taken from a model in bulk, and what was not, by reason."""

    batch_id: str
    images: int
    boxes: int
    revision: int = Field(description="of the batch's labels; the one that was there where nothing was taken")
    refused: dict[str, int]


# --- gold ------------------------------------------------------------------------------------------------------------


def add_gold(project: ProjectSettings, batch_id: str, sample_ids: Sequence[str], by: str) -> Gold:
    """Vouch for the newest labels of some samples of a batch: from then on they measure people.

    Raises SettingsError for a sample that the batch does not have or whose label nobody can vouch for.
    """
    central = Central(project)
    batch = known_batch(central, batch_id)
    revision = newest_revision(central, batch_id)
    labels = central.labels(batch, revision) if revision else {}
    samples = {sample.sample_id: sample for sample in batch.samples}
    chosen = []
    for sample_id in dict.fromkeys(sample_ids):
        check_gold(batch_id, samples.get(sample_id), labels.get(sample_id), sample_id)
        chosen.append(GoldLabel(sample=samples[sample_id], label=labels[sample_id]))
    if not chosen:
        raise SettingsError(f"batch {batch_id}: name the samples whose labels are gold")

    def record(number: int) -> Gold:
        return Gold(
            number=number,
            batch_id=batch_id,
            revision=revision,
            added_by=checked_name(by),
            added_at=now(),
            labels=tuple(chosen),
        )

    return central.bucket.append_record(layout.gold, record)


def check_gold(batch_id: str, sample: Sample | None, label: Label | None, sample_id: str) -> None:
    """Raises SettingsError for a sample whose label cannot be gold."""
    if sample is None:
        raise SettingsError(f"batch {batch_id} has no sample {sample_id!r}: name one of its images, without .jpg")
    if label is None:
        raise SettingsError(
            f"sample {sample_id} of batch {batch_id} is not labelled yet: edgeloop loop takes labels in"
        )
    if label.status != "done":
        raise SettingsError(f"sample {sample_id} of batch {batch_id} was skipped: label it before it is gold")
    if label.origin != "human":
        raise SettingsError(f"sample {sample_id} of batch {batch_id} was labelled by a model: a person must look first")


def list_gold(project: ProjectSettings) -> dict[str, GoldLabel]:
    """Sample id -> its gold label."""
    return gold_labels(Central(project))


# --- trials and assignment -------------------------------------------------------------------------------------------


def decide_trial(project: ProjectSettings, batch_id: str, accepted: bool, by: str, note: str = "") -> TrialDecision:
    """Accept or reject a trial batch, once. Raises SettingsError for one that cannot be decided on."""
    central = Central(project)
    batch = known_batch(central, batch_id)
    if batch.purpose != "trial":
        raise SettingsError(f"batch {batch_id} is no trial batch: only those are accepted or rejected")
    before = decision_of(central, batch_id)
    wanted = "accepted" if accepted else "rejected"
    if before is None:
        revision = newest_revision(central, batch_id)
        if not revision:
            raise SettingsError(f"trial batch {batch_id} has no labels yet to decide on: edgeloop loop takes them in")
        agreement = trial_agreement(central, batch, revision)
        before = decide(central, batch_id, wanted, checked_name(by), note, agreement)
    if before.decision != wanted:
        raise SettingsError(
            f"trial batch {batch_id} was {before.decision} by {before.by} at {before.at:%Y-%m-%d %H:%M}"
        )
    return before


def assign(project: ProjectSettings, batch_id: str, to: str, by: str) -> Assignment:
    """Say who is asked to label a batch; an empty name: whoever comes. The last word counts."""
    central = Central(project)
    known_batch(central, batch_id)
    assignee = checked_name(to) if to.strip() else ""
    made = Assignment(batch_id=batch_id, assignee=assignee, by=checked_name(by), at=now())
    central.bucket.write_record(layout.assignment(batch_id), made)
    return made


# --- predictions as labels -------------------------------------------------------------------------------------------


def accept_predictions(
    project: ProjectSettings,
    batch_id: str,
    thresholds: Thresholds,
    *,
    above: float,
    below_misses: float,
    by: str,
    classes: Sequence[str] = (),
) -> Accepted:
    """Take pre-annotations as labels where the model is sure of each and has hardly missed any (core/people/accepting).

    thresholds: the operating ones in force. Never of test and calibration images, and never over a label. Raises
    NotEnoughData while no model has been evaluated, SettingsError for a batch that measures people.
    """
    central = Central(project)
    batch = known_batch(central, batch_id)
    if batch.purpose != "labels" or batch.origin != "devices":
        raise SettingsError(f"batch {batch_id} ({batch.origin}, {batch.purpose}): its labels are not a model's to make")
    if unknown := [name for name in classes if name not in batch.class_names]:
        raise SettingsError(f"--class {unknown[0]!r}: batch {batch_id} has {', '.join(batch.class_names)}")
    doubts = doubts_of(central)
    if doubts is None:
        raise NotEnoughData("no model has been evaluated yet, so that nobody knows what it misses: label images first")
    who = checked_name(by)
    for _ in range(ATTEMPTS):
        revision = newest_revision(central, batch_id)
        labels = central.labels(batch, revision) if revision else {}
        choice = acceptable(batch, labels, thresholds, doubts, above=above, below_misses=below_misses, classes=classes)
        made = [as_label(sample, batch.class_names, thresholds) for sample in choice.samples]
        if not made:
            return Accepted(batch_id=batch_id, images=0, boxes=0, revision=revision, refused=choice.refused)
        try:
            stored = store_beside(central, batch, labels, made, revision + 1)
        except ObjectConflict:  # somebody labelled meanwhile: look again
            continue
        record = AcceptedPredictions(
            batch_id=batch_id,
            revision=stored,
            by=who,
            at=now(),
            above=above,
            below_misses=below_misses,
            images=tuple(label.sample_id for label in made),
        )
        central.bucket.create_record(layout.accepted_predictions(batch_id, stored), record)
        boxes = sum(len(label.boxes) for label in made)
        return Accepted(batch_id=batch_id, images=len(made), boxes=boxes, revision=stored, refused=choice.refused)
    raise SettingsError(f"batch {batch_id}: others wrote labels at every attempt: try again")


def store_beside(
    central: Central, batch: Batch, labels: Mapping[str, Label], made: Sequence[Label], revision: int
) -> int:
    """The next label revision, with `made` beside `labels`. Raises ObjectConflict when somebody else was faster.

    Not by `Central.store_labels`, whose new labels replace whatever was written meanwhile.
    """
    merged = {label.sample_id: label for label in made} | dict(labels)
    samples = {sample.sample_id: sample for sample in batch.samples}
    content = revision_bytes(merged.values(), samples, batch.class_names, class_list_version=batch.class_list_version)
    central.bucket.create(layout.labels(batch.batch_id, revision), content)
    return revision


def as_label(sample: Sample, class_names: Sequence[str], thresholds: Thresholds) -> Label:
    """A sample's pre-annotations as its label, signed by the model."""
    shown = pre_annotation(sample, class_names, thresholds)
    return shown.model_copy(update={"origin": "model", "seeded": False, "labelled_at": now()})


# --- what pre-annotations change -------------------------------------------------------------------------------------


def seeding(project: ProjectSettings, turn: Turn | None = None) -> list[SeedingDifference]:
    """Recall of the models that people were shown, against labels made blank and made with pre-annotations.

    All classes first, then each; empty while no image is labelled both ways. turn: the newest one where none is given.
    """
    central = Central(project)
    turn = turn or newest_turn(project)
    images = labelled_both_ways(central, turn.batches) if turn else []
    zeros = threshold_column(dict.fromkeys(project.classes, 0.0), project.classes)  # what was not shown is not there
    return seeding_difference(images, project.classes, zeros, seed=project.seed) if images else []


def labelled_both_ways(central: Central, revisions: Mapping[str, int]) -> list[BothWays]:
    """The images of twin batches that people have labelled both ways; batch -> label revision."""
    found: dict[str, BothWays] = {}
    for batch_id, revision in sorted(revisions.items()):
        if not revision or not is_twin(batch_id):
            continue
        twin = central.batch(batch_id)
        if twin.purpose != "seeded-twin":
            continue
        seeded = by_people(central.labels(twin, revision))
        blank = blank_labels(central, twin, revisions)
        for sample in twin.samples:
            label, first = seeded.get(sample.sample_id), blank.get(sample.sample_id)
            if label is None or first is None or not label.seeded or first.seeded:
                continue
            classes = central.project.classes
            try:
                shown = shown_to_people(central, sample)
                both = BothWays(shown, truths_of(first, classes), truths_of(label, classes), cluster_of(sample))
            except DataError:  # a box that cannot be used
                continue
            found[sample.sample_id] = both
    return list(found.values())


def is_twin(batch_id: str) -> bool:
    """Whether a batch may be a twin, by its name alone; its purpose says for certain."""
    return batch_id.startswith(TWIN)


def blank_labels(central: Central, twin: Batch, revisions: Mapping[str, int]) -> dict[str, Label]:
    """Sample id -> what people said first, in the batches that the twin was drawn from."""
    found: dict[str, Label] = {}
    for batch_id in twin.drawn_from:
        if revision := revisions.get(batch_id, 0):
            found |= by_people(central.labels(central.batch(batch_id), revision))
    return found


def by_people(labels: Mapping[str, Label]) -> dict[str, Label]:
    return {key: label for key, label in labels.items() if label.origin == "human" and label.status == "done"}


def shown_to_people(central: Central, sample: Sample) -> Detections:
    """What the device's model saw at the operating thresholds that it had: the boxes that people began with."""
    try:
        release = central.release_of(sample.settings_version)
    except (ObjectMissing, RecordInvalid):
        release = None
    release = release or latest_release(central.bucket, central.project.group)
    classes = central.project.classes
    seen = detections_from_records(sample.detections, classes)
    thresholds = threshold_column(release.thresholds if release else {}, classes)
    return seen[seen.confidence >= thresholds[seen.class_id]]


# --- inside ----------------------------------------------------------------------------------------------------------


def known_batch(central: Central, batch_id: str) -> Batch:
    """Raises SettingsError for a batch that is not there."""
    try:
        return central.batch(batch_id)
    except ObjectMissing:
        raise SettingsError(
            f"project {central.project.project} has no batch {batch_id!r}: edgeloop loop names those that are open"
        ) from None


def newest_revision(central: Central, batch_id: str) -> int:
    return central.bucket.latest_number(partial(layout.labels, batch_id))


def checked_name(name: str) -> str:
    """Who did something, in one line. Raises SettingsError for an empty or long name, or one with odd characters."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise SettingsError(f"name {name[:40]!r}: give 1 to {LONGEST_NAME} printable characters")
    return name


def now() -> datetime:
    return datetime.now(timezone.utc)
