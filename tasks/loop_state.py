"""The state of the loop in one look: every batch, the live model, and the suggestion with what becomes of it.

Reads the bucket, writes nothing. What has ended costs one small request a batch, so that hundreds are a second's work.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tasks.batching import assignee_of, decision_of
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Approval, Batch, Suggestion, Turn
from tasks.core.errors import BucketError, DataError
from tasks.core.settings import ProjectSettings
from tasks.turn import newest_turn
from tasks.waiting import Done, closed_of, done_of, newest_labels

AT_ONCE = 16  # requests; reading is waiting for an answer


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as people ask for it. state: a few words; problem: why it cannot be read, in place of all else."""

    batch_id: str
    state: str
    images: int = 0
    done: int = 0
    skipped: int = 0
    assignee: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LoopState:
    """turn: None before the first one. suggestion: the newest one; approval: a person's word on it."""

    turn: Turn | None
    batches: tuple[BatchState, ...] = ()
    suggestion: Suggestion | None = None
    approval: Approval | None = None

    @property
    def suggestion_state(self) -> str:
        """What becomes of the suggestion, in words."""
        if self.turn is None or self.suggestion is None:
            return "There is no suggestion yet."
        made_for = self.suggestion.model_version
        if self.turn.suggestion_release:
            return f"It went out with release {self.turn.suggestion_release}."
        if made_for != self.turn.live_model:
            return f"It was made for model {made_for}, and {self.turn.live_model} is live now: wait for the next one."
        if self.approval is not None:
            when = f"{self.approval.approved_at:%Y-%m-%d %H:%M} UTC"
            return f"Accepted by {self.approval.approved_by}, {when}: the next turn releases it."
        return "It waits for somebody to accept it."


def loop_state(project: ProjectSettings) -> LoopState:
    """What the newest turn knows, and how far people are with its batches now. Raises BucketError."""
    central = Central(project)
    turn = newest_turn(project)
    if turn is None:
        return LoopState(None)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="state") as pool:
        batches = tuple(pool.map(partial(batch_state, central, turn), reversed(turn.batches)))
    return LoopState(
        turn=turn,
        batches=batches,
        suggestion=newest_suggestion(central, turn),
        approval=approval_of(central, turn.suggestion),
    )


def batch_state(central: Central, turn: Turn, batch_id: str) -> BatchState:
    """Nothing that lies in the bucket makes this fail, but the bucket itself."""
    try:
        done = done_of(central, batch_id)
        return ended_batch(batch_id, done) if done is not None else open_batch(central, turn, batch_id)
    except (DataError, BucketError) as error:
        return BatchState(batch_id, "cannot be read", problem=str(error))


def ended_batch(batch_id: str, done: Done) -> BatchState:
    status = done.status
    return BatchState(batch_id, f"ended: {done.why or 'all done'}", status.offered, status.done, status.skipped)


def open_batch(central: Central, turn: Turn, batch_id: str) -> BatchState:
    batch = central.batch(batch_id)
    _, labels = newest_labels(central, batch, turn.batches.get(batch_id, 0))
    states = [label.status for label in labels]
    return BatchState(
        batch_id,
        words_of(central, turn, batch),
        len(batch.samples),
        states.count("done"),
        states.count("skipped"),
        assignee_of(central, batch),
    )


def words_of(central: Central, turn: Turn, batch: Batch) -> str:
    """Where a batch that has not ended is."""
    batch_id = batch.batch_id
    if closed := closed_of(central, batch_id):
        return closed.why
    if batch_id in turn.waiting_batches:
        return "waits for the week's draw"
    if batch_id in turn.held_batches:
        return held_words(central, batch)
    if batch_id in turn.open_batches:
        return "with people" if batch.purpose == "labels" else f"with people ({batch.purpose})"
    return "imported" if batch.origin == "import" else "drawn from"


def held_words(central: Central, batch: Batch) -> str:
    if batch.after and decision_of(central, batch.after) is None:
        return f"waits until trial {batch.after} is accepted"
    return "waits for the labels of its images" if batch.purpose == "seeded-twin" else "held back"


def newest_suggestion(central: Central, turn: Turn) -> Suggestion | None:
    """None where there is none, or it cannot be read any more."""
    if not turn.suggestion:
        return None
    with suppress(DataError, BucketError):
        return central.bucket.read_record(layout.suggestion(turn.suggestion), Suggestion)
    return None


def approval_of(central: Central, suggestion: str) -> Approval | None:
    if not suggestion:
        return None
    with suppress(DataError, BucketError):
        return central.bucket.read_record(layout.approval(suggestion), Approval)
    return None
