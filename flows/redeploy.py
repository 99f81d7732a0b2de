"""The gate on a candidate, and what devices are told."""

from __future__ import annotations

from prefect import flow

from tasks.artifacts import tell_markdown
from tasks.core.entities import Release, Verdict
from tasks.core.settings import ProjectSettings, SamplingSettings, Thresholds
from tasks.redeploy import judge, release


@flow(name="gate", flow_run_name="gate {candidate}")
def gate(
    project: ProjectSettings,
    candidate: str,
    live: str,
    dataset_version: str,
    candidate_thresholds: Thresholds,
    live_thresholds: Thresholds,
) -> Verdict:
    """May `candidate` replace `live`?"""
    verdict = judge(project, candidate, live, dataset_version, candidate_thresholds, live_thresholds)
    lines = [f"# {candidate}: {verdict.verdict}", "", *(f"- {reason}" for reason in verdict.reasons)]
    tell_markdown(f"verdict-{candidate}", "\n".join(lines), "The gate's verdict")
    return verdict


@flow(name="redeploy", flow_run_name="redeploy {model_version}")
def redeploy(
    project: ProjectSettings, model_version: str, thresholds: Thresholds, settings: SamplingSettings, reason: str
) -> Release:
    """Publish the next release of the project's group; devices install it within their poll interval."""
    published = release(project, model_version, thresholds, settings, reason)
    lines = [
        f"# Release {published.group}/{published.number}",
        "",
        f"Model {published.model_version}, replacing release {published.previous or 'none'}. {published.reason}",
        "",
        "Strategies: " + ", ".join(f"`{s.name}` ({s.type})" for s in published.settings.sampling_strategies),
    ]
    tell_markdown(f"release-{published.group}", "\n".join(lines), "What devices are told")
    return published
