"""Traffic of the live model, now against its first days -> what has changed, with an event and a picture."""

from __future__ import annotations

from prefect import flow

from flows.drift import headline, story
from tasks.artifacts import picture, tell_markdown
from tasks.core.entities import Drift
from tasks.core.errors import NotEnoughData
from tasks.core.settings import ProjectSettings
from tasks.drift import draw, look_for_drift, tell_event


@flow(name="drift", flow_run_name="drift of {project.project}")
def find_drift(project: ProjectSettings, days: float = 1.0) -> Drift | None:
    """A look at all cameras, stored and told; None where there is not enough traffic yet."""
    try:
        look = look_for_drift(project, days)
    except NotEnoughData:
        return None
    tell_event(project, look.drift)
    text = [f"# {headline(look.drift) or 'No drift'}", "", *(f"    {line}" for line in story(look.drift))]
    text += ["", picture(draw(project, look), "figures of each camera, reference and now")]
    tell_markdown(f"drift-{project.project}", "\n".join(text), "What has changed at the cameras")
    return look.drift
