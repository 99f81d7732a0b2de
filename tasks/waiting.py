"""What is known of a batch while people have it: when they got it, how far they are, who closed it, why it ended.

Nothing holds a worker for that. Each of these is an object of the batch in the bucket, created once, so that days, two
who look at once, and restarts of everything change nothing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from tasks.adapters.labelling import LabellingStatus
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, Label, Record, UtcTime, to_utc
from tasks.core.errors import ObjectConflict, ObjectMissing, SettingsError
from tasks.core.people.ending import Conditions
from tasks.core.people.progress import Progress, Work, first_answers, progress_of
from tasks.core.settings import ProjectSettings
from tasks.turn import newest_turn

LONGEST = 500  # characters of a name or a note
RecordOf = TypeVar("RecordOf", bound=Record)


class FirstOffer(Record):
    """When people got a batch."""

    at: UtcTime


class Closed(Record):
    """Who ended a batch by hand. final: so that no later label is taken in."""

    at: UtcTime
    by: str
    note: str = ""
    final: bool = False

    @property
    def why(self) -> str:
        words = f"closed{' for good' if self.final else ''} by {self.by}"
        return f"{words}: {self.note}" if self.note else words


class Done(Record):
    """Why a batch ended, and with which revision; those that come later are of labels that came later."""

    revision: int
    status: LabellingStatus
    ended_at: UtcTime | None = None
    why: str = ""


class Answers(Record):
    """When the images of a batch were answered first, by sample id, over the revisions up to one."""

    revision: int = 0
    first: dict[str, UtcTime] = {}


class State(Record):
    """A batch as `edgeloop labels status` tells it. ended: why nobody waits for it; empty while it is open."""

    progress: Progress
    ended: str = ""
    revision: int = 0


# --- created once ----------------------------------------------------------------------------------------------------


def offered_at(central: Central, batch: Batch, labels: Iterable[Label] = ()) -> datetime:
    """When people got a batch first; written down by whoever asks first.

    labels: of a batch that was offered before this was written down; none of them is older.
    """
    key = layout.batch_offered(batch.batch_id)
    try:
        return central.bucket.read_record(key, FirstOffer).at
    except ObjectMissing:
        moment = min((label.labelled_at for label in labels), default=now())
        return created(central, key, FirstOffer(at=min(moment, now()))).at


def done_of(central: Central, batch_id: str) -> Done | None:
    return read(central, layout.batch_done(batch_id), Done)


def closed_of(central: Central, batch_id: str) -> Closed | None:
    """By whom it was closed; for good, where it was closed for good as well."""
    final = read(central, layout.batch_closed(batch_id, final=True), Closed)
    return final or read(central, layout.batch_closed(batch_id), Closed)


def close(central: Central, batch_id: str, by: str, note: str = "", *, final: bool = False) -> Closed:
    """End a batch by hand; it is the same to close it again. Of two who close it, the first one's name stays.

    Raises ObjectMissing for a batch that there is not, and SettingsError where nobody says who.
    """
    batch = central.batch(batch_id)
    if not by.strip() or len(by) > LONGEST or len(note) > LONGEST:
        raise SettingsError(f"edgeloop labels close: --by needs a name, and it and --note {LONGEST} characters at most")
    closed = Closed(at=now(), by=by, note=note, final=final)
    return created(central, layout.batch_closed(batch.batch_id, final), closed)


def end(central: Central, batch_id: str, done: Done) -> Done:
    """The end of a batch as the bucket holds it: of two who see it end, one writes it."""
    return created(central, layout.batch_done(batch_id), done)


def created(central: Central, key: str, record: RecordOf) -> RecordOf:
    """The record of that key: this one, or the one that was there first."""
    try:
        central.bucket.create_record(key, record)
    except ObjectConflict:
        return central.bucket.read_record(key, type(record))
    return record


def read(central: Central, key: str, model: type[RecordOf]) -> RecordOf | None:
    try:
        return central.bucket.read_record(key, model)
    except ObjectMissing:
        return None


# --- counted ---------------------------------------------------------------------------------------------------------


def look_at(
    central: Central, batch: Batch, offered: Sequence[str], revision: int, labels: Sequence[Label]
) -> tuple[Progress, Conditions]:
    """How far people are with a batch, and what would end it. labels: in force at `revision`, see `Work`."""
    moment = offered_at(central, batch, labels)
    closed = closed_of(central, batch.batch_id)
    conditions = Conditions.of(central.project.labelling, moment, closed.why if closed else "")
    work = Work(batch.batch_id, offered, moment, labels, answers_of(central, batch, revision).first)
    return progress_of(work, conditions, now(), np.random.default_rng(central.project.seed)), conditions


def answers_of(central: Central, batch: Batch, revision: int) -> Answers:
    """When each image was answered first. Revisions that were read once are remembered in the work folder."""
    path = central.work / "answers" / f"{batch.batch_id}.json"
    try:
        known = Answers.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        known = Answers()
    if known.revision > revision:  # of another bucket of that name
        known = Answers()
    if known.revision == revision:
        return known
    for number in range(known.revision + 1, revision + 1):
        first = first_answers(known.first, central.labels(batch, number).values())
        known = Answers(revision=number, first=first)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    temporary.write_bytes(known.to_json())
    os.replace(temporary, path)
    return known


def newest_labels(central: Central, batch: Batch, after: int = 0) -> tuple[int, list[Label]]:
    """The newest revision of a batch and its labels, without asking the place where people label."""
    revision = central.bucket.latest_number(partial(layout.labels, batch.batch_id), after)
    labels = central.labels(batch, revision) if revision else {}
    return revision, [labels[sample_id] for sample_id in sorted(labels)]


def batches_known(project: ProjectSettings) -> dict[str, int]:
    """The batches that people have, by the newest turn, and the revision that it knows: open ones, then late ones."""
    turn = newest_turn(project)
    if turn is None:
        return {}
    return {batch: turn.batches.get(batch, 0) for batch in (*turn.open_batches, *turn.late_batches)}


def takes_labels(central: Central, batch_id: str) -> bool:
    """Does a batch still take labels: it has not ended, or not long ago, and was not closed for good."""
    done = done_of(central, batch_id)
    if done is None:
        return True
    closed = closed_of(central, batch_id)
    late = timedelta(days=central.project.labelling.late_days)
    return not (closed and closed.final) and done.ended_at is not None and now() < done.ended_at + late


def now() -> datetime:
    """Central's clock, in the resolution of records."""
    return to_utc(datetime.now(timezone.utc))
