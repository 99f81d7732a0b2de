"""Wait: tell how far people are, and say once when a batch has ended or when somebody should be reminded of it.

An event is sent at least once. Its id follows from the project, the batch and what it says, so that the server keeps
one of it and a receiver can tell a second arrival from news; that it has arrived is read back from the server, and only
then written down. Whoever is killed in between, and whatever restarts, the next look sends it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect import task
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from tasks.artifacts import cleaned, tell_markdown, tell_progress, tell_table, without_secrets
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Record, UtcTime, content_id
from tasks.core.errors import SettingsError
from tasks.core.people.ending import Conditions, reminders_due
from tasks.core.people.progress import Progress
from tasks.core.people.words import annotator_rows, markdown_of, summary_row
from tasks.core.settings import ProjectSettings
from tasks.retries import may_pass
from tasks.turn import newest_turn
from tasks.waiting import batches_known, created, now

COMPLETED = "edgeloop.labels.completed"
REMINDER = "edgeloop.labels.reminder"


class Told(Record):
    """An event of a batch that the server was seen to have."""

    event: str
    id: UUID
    seen_at: UtcTime


# --- which batches ---------------------------------------------------------------------------------------------------


@task(task_run_name="batches in hand", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def batches_in_hand(project: ProjectSettings) -> dict[str, int]:
    """The batches that people have, by the newest turn, and the revision that it knows: open ones, then late ones."""
    return batches_known(project)


# --- artifacts -------------------------------------------------------------------------------------------------------


@task(task_run_name="show {progress.batch_id}")
def show_progress(progress: Progress, ended: str, problems: Sequence[str] = ()) -> None:
    """A bar, a table of who, and a page; each only when it says something new. Without secrets."""
    batch = progress.batch_id
    page = without_secrets(markdown_of(progress, ended, problems))
    tell_progress(f"labels-progress-{batch}", 100 * progress.share, f"Labelled or skipped of batch {batch}")
    tell_table(f"labels-people-{batch}", cleaned(annotator_rows(progress)), f"Who labelled batch {batch}", anew=False)
    tell_markdown(f"labels-{batch}", page, f"How far people are with batch {batch}", anew=False)


@task(task_run_name="show all of {project.project}")
def show_all(project: ProjectSettings, batches: Sequence[tuple[Progress, str]], problems: Sequence[str]) -> None:
    """The table of all batches in hand, and of those that could not be asked."""
    rows = [summary_row(progress, ended) for progress, ended in batches]
    rows += [{"batch": line} for line in problems]
    tell_table(f"labels-{project.project}", cleaned(rows), "Batches that people have in hand", anew=False)


# --- events ----------------------------------------------------------------------------------------------------------


@task(task_run_name="tell of {progress.batch_id}", retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=may_pass)
def tell_events(project: ProjectSettings, progress: Progress, ended: str, revision: int) -> list[str]:
    """Send what should have been told of a batch by now and was not; the names of the events that were sent.

    A batch that has ended: that it has. Another one: reminders that are due. Nothing where there is no server: what is
    due goes out with the first look that has one.
    """
    if not has_server():
        return []
    figures = {"offered": progress.offered, "labelled": progress.done, "skipped": progress.skipped}
    about = {"project": project.project, "batch": progress.batch_id, **figures}
    if ended:
        payload = {**about, "why": ended, "revision": revision}
        return [COMPLETED] if tell_once(project, progress.batch_id, "completed", COMPLETED, payload) else []
    conditions = Conditions.of(project.labelling, progress.offered_at)
    return [
        REMINDER
        for due in reminders_due(progress, conditions, project.labelling.remind_after_days, now())
        if tell_once(project, progress.batch_id, due.name, REMINDER, {**about, "why": due.why})
    ]


def tell_once(project: ProjectSettings, batch_id: str, name: str, event: str, payload: Mapping[str, object]) -> bool:
    """Send an event unless the server has it; True when it was sent now. `name` is its own within the batch."""
    central = Central(project)
    key = layout.batch_told(batch_id, name)
    if central.bucket.exists(key):
        return False
    identity = event_id(central, batch_id, name)
    if server_has(identity):
        created(central, key, Told(event=event, id=identity, seen_at=now()))
        return False
    emit_event(
        event,
        {"prefect.resource.id": f"edgeloop.batch.{project.project}.{batch_id}", "prefect.resource.name": batch_id},
        related=[{"prefect.resource.id": f"edgeloop.project.{project.project}", "prefect.resource.role": "project"}],
        payload=cleaned([payload])[0],
        id=identity,
    )
    return True


def event_id(central: Central, batch_id: str, name: str) -> UUID:
    """The same for the same batch and name, whoever sends it and whenever."""
    return uuid5(NAMESPACE_URL, central.bucket.url_of(layout.batch_told(batch_id, name)))


def server_has(identity: UUID) -> bool:
    with get_client(sync_client=True) as client:
        found = client.read_events(EventFilter(id=EventIDFilter(id=[identity])), limit=1)
    return bool(found.events)


def has_server() -> bool:
    """Is there a Prefect server to tell? None is started for an event."""
    return bool(get_current_settings().api.url)


# --- what may follow -------------------------------------------------------------------------------------------------


@task(task_run_name="start {deployment}")
def start_once(project: ProjectSettings, deployment: str, ended: Sequence[str]) -> str:
    """Start a deployment for batches that have ended: once for the same ones after the same turn.

    The id of its flow run, new or not. Raises SettingsError where the server knows no such deployment.
    """
    turn = newest_turn(project)
    key = content_id(project.bucket, project.project, str(turn.number if turn else 0), *sorted(ended))
    try:
        run = run_deployment(deployment, timeout=0, idempotency_key=f"edgeloop-{key}", as_subflow=False)
    except ObjectNotFound:
        raise SettingsError(f"deployment {deployment!r}: the Prefect server knows none of that name") from None
    return str(getattr(run, "id", ""))
