"""Batches as people get them: in order, with gold samples, behind a trial, and what is labelled twice (PEOPLE.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from prefect import task
from pydantic import BaseModel, Field

from tasks.adapters.images import picture_hash
from tasks.adapters.manifest import read_matches
from tasks.central import Central
from tasks.core import layout
from tasks.core.bands import threshold_column
from tasks.core.entities import Assignment, Batch, Gold, GoldLabel, Sample, TrialDecision, content_id
from tasks.core.errors import DataError, ObjectConflict, ObjectMissing, RecordInvalid
from tasks.core.people.batching import (
    Doubts,
    choose_gold,
    choose_trial,
    in_order,
    mix_in,
    priorities,
    priority_of_batch,
    to_label_twice,
)
from tasks.core.people.repeats import repeats
from tasks.core.people.trial import Agreement, agreement_with_gold, verdict
from tasks.core.settings import ProjectSettings
from tasks.core.splits import assign_split
from tasks.core.suggestion.weights import fit_weights
from tasks.retries import may_pass
from tasks.turn import newest_turn

TWIN = "twin-"  # what the ids of twin batches begin with
BY_ITSELF = "agreement with gold labels"


class Sorted(BaseModel):
    """Open batches: those that people may have, the first to offer first, and what the others wait for."""

    ready: tuple[str, ...]
    held: dict[str, str] = Field({}, description="batch -> what it waits for, as a sentence")
    opened: str = Field("", description="a trial batch that no turn knows of yet; it is `ready`")
    dropped: tuple[str, ...] = Field((), description="trial batches that were rejected: nobody waits for them any more")
    done: tuple[str, ...] = Field((), description="sentences: what was decided")


# --- batches are made ------------------------------------------------------------------------------------------------


def prepared(central: Central, batches: Sequence[Batch]) -> list[Batch]:
    """New batches as people get them, the best first, and after them those that are labelled twice; not stored."""
    if not batches:
        return []
    project = central.project
    doubts, gold = doubts_of(central), gold_labels(central)
    known = {sample_id: label.sample for sample_id, label in gold.items()}
    after = trial_to_come(central) if project.labelling.trial_images else ""
    made = [as_people_get_it(batch, project, doubts, known, after) for batch in batches]
    made.sort(key=lambda batch: -batch.priority)
    return [*made, *twins_of(batches, project)]


def as_people_get_it(
    batch: Batch, project: ProjectSettings, doubts: Doubts | None, known: Mapping[str, Sample], after: str
) -> Batch:
    """A batch in the order of priority, with gold samples among its own; they come blank where they did before."""
    own = {sample.sample_id for sample in batch.samples}
    share = project.labelling.gold_share
    gold = choose_gold(known, own, len(own), share, project.seed, batch.batch_id)
    ordered = in_order(batch.samples, priorities(batch.samples, doubts))
    return batch.model_copy(
        update={
            "samples": tuple(mix_in(ordered, gold, project.seed, batch.batch_id)),
            "unseeded": (*batch.unseeded, *blank(gold)),
            "gold": tuple(sorted(sample.sample_id for sample in gold)),
            "after": after,
            "priority": priority_of_batch(batch.samples, doubts),
        }
    )


def twins_of(batches: Sequence[Batch], project: ProjectSettings) -> list[Batch]:
    """Images that measure, a share of them, once more with pre-annotations; offered when the first label is there."""
    samples = {sample.sample_id: sample for batch in batches for sample in batch.samples}
    twice = to_label_twice(samples.values(), project.labelling.twice_share, project.seed)
    size = project.labelling.max_images
    made = []
    for first in range(0, len(twice), size):
        ids = {sample.sample_id for sample in twice[first : first + size]}
        sources = [batch for batch in batches if any(sample.sample_id in ids for sample in batch.samples)]
        made.append(
            Batch(
                batch_id=f"{TWIN}{content_id('seeded-twin', *sorted(ids))}",
                created_at=max(batch.created_at for batch in sources),
                class_names=project.classes,
                class_list_version=project.class_list_version,
                samples=tuple(twice[first : first + size]),
                drawn_from=tuple(batch.batch_id for batch in sources),
                purpose="seeded-twin",
            )
        )
    return made


def blank(samples: Sequence[Sample]) -> list[str]:
    """The sample ids that people label without pre-annotations."""
    return [sample.sample_id for sample in samples if assign_split(sample) != "train"]


def doubts_of(central: Central) -> Doubts | None:
    """How much the live model misses by what it saw, by its newest evaluation; None while there is none."""
    turn = newest_turn(central.project)
    if turn is None or not turn.evaluation:
        return None
    key = layout.evaluation_file(turn.evaluation, "matches.parquet")
    try:
        found, stored = central.evaluation(turn.evaluation), read_matches(central.bucket.get(key), key)
        thresholds = threshold_column(found.thresholds, stored.class_names)
        weights = fit_weights(stored.matches, None, thresholds, stored.class_names, found.confidence_floor)
    except (ObjectMissing, DataError):  # the order of a batch is no reason to keep it from people
        return None
    return Doubts(tuple(stored.class_names), weights, thresholds, found.confidence_floor)


def gold_labels(central: Central) -> dict[str, GoldLabel]:
    """Sample id -> the label that was vouched for last; of classes that the project still has."""
    found: dict[str, GoldLabel] = {}
    for number in range(1, central.bucket.latest_number(layout.gold) + 1):
        for gold in central.bucket.read_record(layout.gold(number), Gold).labels:
            found[gold.sample.sample_id] = gold
    classes = set(central.project.classes)
    return {key: gold for key, gold in found.items() if {box.class_name for box in gold.label.boxes} <= classes}


# --- batches are offered ---------------------------------------------------------------------------------------------


def without_repeats(central: Central, batch: Batch, samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """The samples to offer, of those whose image can be read, and a sentence for each that repeats another."""
    rules = central.project.labelling
    if not rules.near_duplicates or batch.purpose != "labels":
        return list(samples), []
    cache, hashes = central.images, {}
    for sample in samples:
        try:
            hashes[sample.sample_id] = picture_hash(cache.path_of(sample))
        except (DataError, ObjectMissing):
            continue  # whoever offers it says so
    repeated = repeats(samples, hashes, batch.class_names, rules.maximum_hash_distance, spared=batch.gold)
    lines = [f"sample {one} shows what {other} of the same camera shows: left out" for one, other in repeated.items()]
    return [sample for sample in samples if sample.sample_id not in repeated], lines


def assignee_of(central: Central, batch: Batch) -> str:
    """Who is asked to label a batch, by the last word; empty: whoever comes."""
    try:
        return central.bucket.read_record(layout.assignment(batch.batch_id), Assignment).assignee
    except (ObjectMissing, RecordInvalid):
        return batch.assignee


@task(task_run_name="sort batches", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def sort_batches(project: ProjectSettings, open_batches: Sequence[str], revisions: Mapping[str, int]) -> Sorted:
    """Which open batches people may have now. revisions: batch -> the label revision that is known, 0: none yet.

    What people have begun they keep. A twin waits for the labels of its images, and everything that was made while
    trials were asked for waits until one of them is accepted; the trial itself is drawn from what waits.
    """
    central = Central(project)
    new = [central.batch(batch_id) for batch_id in open_batches if not revisions.get(batch_id)]
    held = {batch.batch_id: line for batch in new if (line := waits_for_labels(batch, open_batches))}
    trial = Trial()
    behind = [batch for batch in new if batch.after and batch.batch_id not in held]
    if behind and project.labelling.trial_images:
        trial = look_at_trial(central, behind, open_batches, revisions)
        held |= {batch.batch_id: trial.waits_for for batch in behind if trial.waits_for}
    first = sorted(
        (batch for batch in new if batch.batch_id not in held and batch.batch_id not in trial.dropped),
        key=lambda batch: (batch.purpose != "trial", -batch.priority),
    )
    begun = [batch_id for batch_id in open_batches if revisions.get(batch_id) and batch_id not in trial.dropped]
    ready = (*begun, *([trial.opened] if trial.opened else []), *(batch.batch_id for batch in first))
    return Sorted(ready=ready, held=held, opened=trial.opened, dropped=trial.dropped, done=trial.done)


def waits_for_labels(batch: Batch, open_batches: Sequence[str]) -> str:
    """What a twin waits for, as a sentence: whoever has seen the model's boxes no longer labels as if blank."""
    first = [batch_id for batch_id in batch.drawn_from if batch_id in open_batches]
    if batch.purpose != "seeded-twin" or not first:
        return ""
    return f"labels of {', '.join(first)}, before batch {batch.batch_id} asks for some of them with pre-annotations"


# --- trials ----------------------------------------------------------------------------------------------------------


class Trial(BaseModel):
    """Where the newest trial stands. waits_for: what must happen before others are offered; empty: nothing."""

    waits_for: str = ""
    opened: str = ""
    dropped: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


def trial_name(number: int) -> str:
    return f"trial-{number:06d}"


def trial_key(number: int) -> str:
    return layout.batch(trial_name(number))


def decision_of(central: Central, batch_id: str) -> TrialDecision | None:
    try:
        return central.bucket.read_record(layout.trial_decision(batch_id), TrialDecision)
    except ObjectMissing:
        return None


def trial_to_come(central: Central) -> str:
    """The trial that new batches wait for: the newest where it is open, else the next; empty once one is accepted."""
    newest = central.bucket.latest_number(trial_key)
    decided = decision_of(central, trial_name(newest)) if newest else None
    if decided is not None and decided.decision == "accepted":
        return ""
    return trial_name(newest if newest and decided is None else newest + 1)


def look_at_trial(
    central: Central, behind: Sequence[Batch], open_batches: Sequence[str], revisions: Mapping[str, int]
) -> Trial:
    """Where the newest trial stands, and what follows from it; the first and the one after a rejected one are drawn."""
    newest = central.bucket.latest_number(trial_key)
    name = trial_name(newest)
    decided = decision_of(central, name) if newest else None
    if decided is not None and decided.decision == "accepted":
        return Trial()
    if newest == 0 or decided is not None:
        dropped = (name,) if name in open_batches else ()
        made = draw_trial(central, trial_name(newest + 1), behind)
        line = f"drew trial batch {made.batch_id} of {len(made.samples)} images, {len(made.gold)} of them gold"
        return Trial(waits_for=waits_for_trial(made.batch_id), opened=made.batch_id, dropped=dropped, done=(line,))
    if name not in revisions:  # drawn by a turn that was cut off
        return Trial(waits_for=waits_for_trial(name), opened=name)
    agreement = trial_agreement(central, central.batch(name), revisions[name])
    is_complete = bool(revisions[name]) and name not in open_batches
    found = verdict(agreement, is_complete, central.project.labelling.trial_agreement)
    if found == "accepted":
        decision = decide(central, name, "accepted", BY_ITSELF, agreement=agreement)
        waits_for = "" if decision.decision == "accepted" else f"the next trial: {name} was rejected by {decision.by}"
        return Trial(waits_for=waits_for, done=(f"trial batch {name} was {decision.decision}, {described(agreement)}",))
    if found == "open":
        return Trial(waits_for=waits_for_trial(name))
    return Trial(
        waits_for=f"a decision on trial batch {name}, {described(agreement)}: edgeloop labels accept {name}, or reject"
    )


def waits_for_trial(name: str) -> str:
    return f"trial batch {name}, which must be labelled and accepted before others are offered"


def described(agreement: Agreement) -> str:
    """How well people agree with gold labels, in words."""
    if agreement.f1 is None:
        return "which holds no gold sample to tell by"
    return f"which agrees {agreement.f1:.3f} (F1) with the labels of {agreement.images} gold samples"


def draw_trial(central: Central, name: str, behind: Sequence[Batch]) -> Batch:
    """The trial batch of that name, drawn from what waits for it; one that is there already stays as it is."""
    project = central.project
    gold = {sample_id: label.sample for sample_id, label in gold_labels(central).items()}
    waiting = {s.sample_id: s for batch in behind for s in batch.samples if s.sample_id not in batch.gold}
    others, known = choose_trial(waiting.values(), gold, project.labelling.trial_images, project.seed, name)
    samples = mix_in(others, known, project.seed, name)
    return central.store_batch(
        Batch(
            batch_id=name,
            created_at=datetime.now(timezone.utc),
            class_names=project.classes,
            class_list_version=project.class_list_version,
            samples=tuple(samples),
            unseeded=tuple(blank(samples)),
            gold=tuple(sorted(sample.sample_id for sample in known)),
            drawn_from=tuple(batch.batch_id for batch in behind),
            purpose="trial",
        )
    )


def trial_agreement(central: Central, trial: Batch, revision: int) -> Agreement:
    """How well the newest labels of a trial agree with the gold labels among them."""
    gold = {key: label.label for key, label in gold_labels(central).items() if key in trial.gold}
    return agreement_with_gold(central.labels(trial, revision) if revision else {}, gold)


def decide(
    central: Central, batch_id: str, decision: str, by: str, note: str = "", agreement: Agreement | None = None
) -> TrialDecision:
    """The decision on a trial; the one that was made first where somebody else has just made it."""
    made = TrialDecision.model_validate(
        {
            "batch_id": batch_id,
            "decision": decision,
            "by": by,
            "at": datetime.now(timezone.utc),
            "note": note,
            "agreement": agreement.f1 if agreement else None,
        }
    )
    try:
        central.bucket.create_record(layout.trial_decision(batch_id), made)
    except ObjectConflict:
        return central.bucket.read_record(layout.trial_decision(batch_id), TrialDecision)
    return made
