"""Wait for labels: look at the bucket and at where people label; what is done, what may follow, start it once.

Nothing waits in here. A look takes seconds and ends; the next one goes on from what is in the bucket, in another
process, on another machine or after days.
"""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_logger
from pydantic import BaseModel

from tasks.core.errors import BucketError, DataError, LabellingUnavailable, SettingsError
from tasks.core.people.progress import Progress
from tasks.core.settings import ProjectSettings
from tasks.label import Pulled, labelling_of, pull_batch
from tasks.quality import quality, show_quality
from tasks.wait import batches_in_hand, show_all, show_progress, start_once, tell_events


class Look(BaseModel):
    """What one look found. open: batches that people have not ended; started: the flow run that follows, if any."""

    batches: dict[str, Progress] = {}
    ended: dict[str, str] = {}
    problems: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    started: str = ""

    @property
    def open(self) -> tuple[str, ...]:
        return tuple(batch for batch in self.batches if batch not in self.ended)

    @property
    def is_over(self) -> bool:
        """People have ended every batch, and whoever should be told has been."""
        return not (self.open or self.problems or self.events)


@flow(name="wait-for-labels", flow_run_name="look at the labels of {project.project}")
def wait_for_labels(project: ProjectSettings, then: str = "") -> Look:
    """One look at every batch that people have. A batch that cannot be asked about stops no other.

    then: a deployment, `flow/name`, that is started once when batches have ended; empty: nobody is started.
    """
    known = batches_in_hand(project)
    pulled, problems = pull_each(project, known)
    found = {p.batch_id: p.progress for p in pulled if p.progress}
    ended = {p.batch_id: p.ended for p in pulled if p.ended}
    events: list[str] = []
    for p in pulled:
        if p.progress:
            show_progress(p.progress, p.ended, p.problems)
            sent = tell_events(project, p.progress, p.ended, p.revision)
            if p.ended and (sent or p.revision != known[p.batch_id]):
                tell_quality(project, p.batch_id)
            events += sent
    show_all(project, [(progress, ended.get(batch, "")) for batch, progress in found.items()], problems)
    started = start_once(project, then, list(ended)) if then and ended else ""
    return Look(batches=found, ended=ended, problems=tuple(problems), events=tuple(events), started=started)


def tell_quality(project: ProjectSettings, batch: str) -> None:
    """How good the labels of a batch that has ended are. Where that cannot be told, the look goes on without."""
    try:
        show_quality(batch, quality(project, labelling_of(project), [batch]))
    except (BucketError, DataError, LabellingUnavailable, SettingsError) as error:
        get_logger("edgeloop").warning("how good the labels of %s are is not told: %s", batch, error)


def pull_each(project: ProjectSettings, batches: dict[str, int]) -> tuple[list[Pulled], list[str]]:
    """What people have done of each batch, and a line for each that could not be asked about."""
    pulled, problems = [], []
    for batch, revision in batches.items():
        try:
            pulled.append(pull_batch(project, batch, revision))
        except (BucketError, DataError, LabellingUnavailable) as error:
            problems.append(f"{batch}: {error}")
    return pulled, problems
