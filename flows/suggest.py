"""Evaluation + traffic + budget -> sampling settings to propose, with a forecast."""

from __future__ import annotations

from prefect import flow

from tasks.artifacts import tell_markdown
from tasks.core.entities import Estimate, Suggestion
from tasks.core.settings import ProjectSettings
from tasks.suggest import make_suggestion


@flow(name="suggest", flow_run_name="suggest for {model_version}")
def suggest(project: ProjectSettings, model_version: str, evaluation: str) -> Suggestion:
    """Propose what devices should collect next. Nothing goes live here."""
    suggestion = make_suggestion(project, model_version, evaluation)
    tell_markdown(f"suggestion-{model_version}", story(suggestion), "What to collect next")
    return suggestion


def story(suggestion: Suggestion) -> str:
    """A suggestion as a person reads it."""
    forecast = suggestion.forecast
    lines = [
        f"# Suggestion {suggestion.suggestion} for model {suggestion.model_version}",
        "",
        f"For {suggestion.budget_images_a_day:g} images a day out of {suggestion.frames_a_day:g} frames.",
        "",
        "| forecast | | 95% interval |",
        "|---|---|---|",
        row("images a day", forecast.images_a_day),
        row("of them drawn at random", forecast.images_a_day_random),
        row("share of the rules' images with a miss", forecast.share_with_miss),
        row("share of random images with a miss", forecast.share_with_miss_random),
        row("misses an image", forecast.misses_an_image),
        row("misses a box", forecast.misses_a_box),
        row("share of all misses within reach of the rules", forecast.misses_reached),
        row("share of all misses that no rule can see", forecast.misses_blind),
        "",
        "| rule | images with a miss | of images matched |",
        "|---|---|---|",
    ]
    lines += [
        f"| {r.minimum_objects}+ {r.class_name} in {r.low:.2f} to {r.high:.2f} | {r.images_with_miss} | {r.images} |"
        for r in suggestion.rules
    ]
    lines += ["", *(f"- {warning}" for warning in suggestion.warnings)]
    lines += ["", "Changes to the settings in force:", "", *(f"- `{change}`" for change in suggestion.diff)]
    return "\n".join(lines)


def row(name: str, estimate: Estimate) -> str:
    return f"| {name} | {estimate.value:.3g} | {estimate.low:.3g} to {estimate.high:.3g} |"
