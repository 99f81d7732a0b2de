"""Evaluation + traffic + budget -> sampling settings to propose, with a forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import flow

from tasks.artifacts import tell_markdown
from tasks.core.entities import Alternative, Estimate, Suggestion
from tasks.core.settings import ProjectSettings
from tasks.core.suggestion.track_record import ScoredFigure, track_record
from tasks.suggest import make_suggestion, scored_forecasts

FORECAST_NAMES = {
    "images_a_day": "images a day",
    "images_a_day_random": "of them drawn at random",
    "share_with_miss": "share of the chosen images with a miss",
    "share_with_miss_random": "share of random images with a miss",
    "misses_an_image": "misses an image",
    "misses_a_box": "misses a box",
    "misses_reached": "share of all misses in images that may be chosen",
    "misses_collected": "share of all misses that would be collected",
    "misses_blind": "share of all misses that no confidence can show",
}


@flow(name="suggest", flow_run_name="suggest for {model_version}")
def suggest(
    project: ProjectSettings,
    model_version: str,
    evaluation: str,
    forecast_scores: Mapping[str, Mapping[str, float]] | None = None,
) -> Suggestion:
    """Propose what devices should collect next. Nothing goes live here.

    forecast_scores: what came true of earlier forecasts, by suggestion, to be shown beside this one.
    """
    suggestion = make_suggestion(project, model_version, evaluation)
    scored = scored_forecasts(project, forecast_scores or {})
    tell_markdown(f"suggestion-{model_version}", story(suggestion, scored), "What to collect next")
    return suggestion


def story(suggestion: Suggestion, scored: Sequence[ScoredFigure] = ()) -> str:
    """A suggestion as a person reads it, and how earlier ones came true."""
    lines = [
        f"# Suggestion {suggestion.suggestion} for model {suggestion.model_version}",
        "",
        f"For {suggestion.budget_images_a_day:g} images a day out of {suggestion.frames_a_day:g} frames, "
        f"{suggestion.way}.",
        "",
        *threshold_row(suggestion),
        *comparison(suggestion),
        "",
        *rule_rows(suggestion),
        *(f"- {warning}" for warning in suggestion.warnings),
        "",
        "Changes to the settings in force:",
        "",
        *(f"- `{change}`" for change in suggestion.diff),
        *track_record_rows(scored),
    ]
    return "\n".join(lines)


def comparison(suggestion: Suggestion) -> list[str]:
    """The forecast of the way that is suggested, and of the others beside it: each figure with its 95% interval."""
    ways: list[Suggestion | Alternative] = [suggestion, *suggestion.alternatives]
    return [
        "| forecast | " + " | ".join(way.way for way in ways) + " |",
        "|---" * (len(ways) + 1) + "|",
        *(
            f"| {name} | " + " | ".join(figure(getattr(way.forecast, field)) for way in ways) + " |"
            for field, name in FORECAST_NAMES.items()
        ),
    ]


def threshold_row(suggestion: Suggestion) -> list[str]:
    """The operating thresholds, and how they were chosen."""
    thresholds = ", ".join(f"{name} {value:.3g}" for name, value in suggestion.settings.thresholds.items())
    if not thresholds:
        return []
    return [f"Operating thresholds: {thresholds}" + (f"; {suggestion.criterion}" if suggestion.criterion else ""), ""]


def rule_rows(suggestion: Suggestion) -> list[str]:
    """The rules, where there are some, with what speaks for them."""
    if not suggestion.rules:
        return []
    return [
        "| rule | images with a miss | of images matched |",
        "|---|---|---|",
        *(
            f"| {rule.minimum_objects}+ {rule.class_name} in {rule.low:.2f} to {rule.high:.2f} "
            f"| {rule.images_with_miss} | {rule.images} |"
            for rule in suggestion.rules
        ),
        "",
    ]


def track_record_rows(scored: Sequence[ScoredFigure]) -> list[str]:
    """Earlier forecasts against what came true, in all and one by one; nothing where none was scored."""
    if not scored:
        return []
    return [
        "",
        "How earlier forecasts came true (a score is the width of an interval and 40 times how far it missed: less is "
        "better):",
        "",
        "| figure | forecasts | inside their interval | mean score | of the base rate |",
        "|---|---|---|---|---|",
        *(
            f"| {spoken(r.figure)} | {r.forecasts} | {r.inside} | {r.interval_score:.3g} | "
            + (f"{r.base_rate_score:.3g} |" if r.base_rate_score is not None else "|")
            for r in track_record(scored)
        ),
        "",
        "| suggestion | figure | forecast | came true | |",
        "|---|---|---|---|---|",
        *(
            f"| {row.suggestion} | {spoken(row.figure)} | {figure(row.forecast)} | {row.came_true:.3g} | "
            f"{'inside' if row.inside else 'outside'} |"
            for row in scored
        ),
    ]


def spoken(field: str) -> str:
    """The name of a figure as people say it."""
    return FORECAST_NAMES.get(field, field)


def figure(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"
