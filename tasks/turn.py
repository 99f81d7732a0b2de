"""The state of the loop between turns, in the bucket."""

from __future__ import annotations

from datetime import datetime, timezone

from prefect import task

from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Evaluation, Turn
from tasks.core.settings import ProjectSettings
from tasks.retries import may_pass


@task(task_run_name="check bucket", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def check_bucket(project: ProjectSettings) -> None:
    """Refuse a bucket on which two writers of one number could both win; it is tried once, then remembered."""
    Central(project).bucket.check_conditional_writes()


@task(task_run_name="open turn", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def open_turn(project: ProjectSettings) -> Turn:
    """The turn that was interrupted, or the one after the last, with what the last one knew."""
    last, now = newest_turn(project), datetime.now(timezone.utc)
    if last is None:
        return Turn(number=1, started_at=now)
    if last.finished_at is None:
        return last.model_copy(update={"waits_for": ()})  # what it waited for when it was cut off may be there by now
    fresh = {
        "number": last.number + 1,
        "started_at": now,
        "finished_at": None,
        "ingested": {},
        "done": (),
        "waits_for": (),
    }
    fresh |= {"newly_scored": {}, "replaced_test_evaluation": ""}
    return last.model_copy(update=fresh)


@task(task_run_name="save turn {turn.number}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def save_turn(project: ProjectSettings, turn: Turn) -> Turn:
    """Keep what is known so far, so that an interrupted turn goes on from here. Central alone writes turns."""
    Central(project).bucket.write_record(layout.turn(turn.number), turn)
    return turn


def newest_turn(project: ProjectSettings) -> Turn | None:
    """What the loop knows; None before the first turn. Costs a few requests, however many turns there were."""
    bucket = Central(project).bucket
    number = bucket.latest_number(layout.turn)
    return bucket.read_record(layout.turn(number), Turn) if number else None


def read_turns(project: ProjectSettings) -> list[Turn]:
    """All turns, oldest first: a request for each. `newest_turn` knows all that the loop goes on with."""
    bucket = Central(project).bucket
    numbers = range(1, bucket.latest_number(layout.turn) + 1)
    return [bucket.read_record(layout.turn(number), Turn) for number in numbers]


def recorded_batches(project: ProjectSettings) -> frozenset[str]:
    """The batches that the newest turn knows of: those that will be offered, pulled and trained on."""
    turn = newest_turn(project)
    return frozenset(turn.batches) if turn else frozenset()


def read_evaluation(project: ProjectSettings, evaluation: str) -> Evaluation:
    return Central(project).evaluation(evaluation)
