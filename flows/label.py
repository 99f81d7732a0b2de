"""Offer batches to people, and take in what they have done. Nothing here waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import flow

from tasks.artifacts import tell_table
from tasks.core.errors import BucketError, DataError, LabellingUnavailable
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.label import Pulled, offer_batch, pull_batch
from tasks.wait import tell_events


@flow(name="label", flow_run_name="label {project.project}")
def label(
    project: ProjectSettings,
    new: Sequence[str],
    open_batches: Mapping[str, int],
    thresholds: Thresholds,
    late: Mapping[str, int] | None = None,
) -> list[Pulled]:
    """Offer the `new` batches; pull all open ones (batch -> the revision that is known).

    late: batches that have ended and of which later labels are taken in; one that cannot be asked stops nobody.
    """
    offered = [offer_batch(project, batch, thresholds) for batch in new]
    pulled = [pull_batch(project, batch, revision) for batch, revision in open_batches.items()]
    told = [(o.batch_id, line) for o in offered for line in o.left_out]
    told += [(p.batch_id, line) for p in pulled for line in p.problems]
    for batch, revision in (late or {}).items():
        try:
            pulled.append(pull_batch(project, batch, revision))
        except (BucketError, DataError, LabellingUnavailable) as error:
            told.append((batch, str(error)))
            pulled.append(Pulled.unasked(batch, revision))
    for p in pulled:
        if p.progress and p.ended:
            tell_events(project, p.progress, p.ended, p.revision)
    where = {o.batch_id: o.where for o in offered}
    rows = [
        {
            "batch": p.batch_id,
            "offered": p.status.offered,
            "done": p.status.done,
            "skipped": p.status.skipped,
            "boxes": p.boxes,
            "corrections": p.corrections,
            "revision": p.revision,
            "where": where.get(p.batch_id, ""),
        }
        for p in pulled
        if p.batch_id in open_batches
    ]
    problems = [{"batch": batch, "left out": line} for batch, line in told]
    tell_table("labelling", [*rows, *problems], "Batches that people have in hand")
    return pulled
