"""Suggest: from an evaluation, the traffic and a budget to sampling settings, with a forecast that is scored later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from prefect import task

from tasks.adapters.bucket import Bucket
from tasks.adapters.manifest import StoredMatches, read_matches
from tasks.central import Central, EvaluatedImages, detect_again, of_split, truths_of
from tasks.core import layout, suggestion
from tasks.core.bands import misses_by_image, threshold_column
from tasks.core.entities import (
    DatasetEntry,
    Evaluation,
    Record,
    Release,
    Suggestion,
    TrafficRecord,
    UtcTime,
    detections_from_records,
)
from tasks.core.errors import RecordInvalid, SettingsError
from tasks.core.matching import ImageResult, match
from tasks.core.settings import CloseToThreshold, ProjectSettings, SamplingSettings

ENOUGH_TRAFFIC = 200  # logged frames of the live model; with fewer, labelled images stand in as unlabelled ones


class Approval(Record):
    """A person's word that suggested settings may go out."""

    suggestion: str
    approved_by: str
    approved_at: UtcTime


@task(task_run_name="suggest for {model_version}", retries=2, retry_delay_seconds=[1, 10])
def make_suggestion(project: ProjectSettings, model_version: str, evaluation: str) -> Suggestion:
    """Settings for the live model, from its evaluation on calibration and its traffic; stored."""
    central = Central(project)
    found = central.evaluation(evaluation)
    stored = stored_matches(central, evaluation)
    traffic = read_traffic(central.bucket, model_version)
    if len(traffic) < ENOUGH_TRAFFIC:
        traffic = random_slice_as_traffic(central, model_version, found.dataset_version)
    made = suggestion.suggest(
        stored.matches,
        stored.clusters,
        found,
        budget=project.budget_images_a_day,
        frames_a_day=project.frames_a_day,
        created_at=datetime.now(timezone.utc),
        exploration=project.exploration,
        traffic=traffic or None,
        current=settings_in_force(central),
        devices=max(1, len(central.bucket.children("devices"))),
        seed=project.seed,
    )
    central.bucket.write_record(layout.suggestion(made.suggestion), made)
    return made


def suggest_from_files(
    evaluation: Path, budget: float, frames_a_day: float, traffic: Path | None, exploration: float = 0.2, seed: int = 0
) -> Suggestion:
    """The same from the folder of `edgeloop evaluate` and a traffic log of JSON lines."""
    try:
        found = Evaluation.model_validate_json((evaluation / "evaluation.json").read_bytes())
        stored = read_matches((evaluation / "matches.parquet").read_bytes(), str(evaluation / "matches.parquet"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"{evaluation}: is not the folder of an evaluation ({reason}): make one with edgeloop evaluate --out"
        ) from None
    return suggestion.suggest(
        stored.matches,
        stored.clusters,
        found,
        budget=budget,
        frames_a_day=frames_a_day,
        created_at=datetime.now(timezone.utc),
        exploration=exploration,
        traffic=traffic_from_file(traffic) if traffic else None,
        seed=seed,
    )


def stored_matches(central: Central, evaluation: str) -> StoredMatches:
    key = layout.evaluation_file(evaluation, "matches.parquet")
    return read_matches(central.bucket.get(key), key)


def settings_in_force(central: Central) -> SamplingSettings:
    """What devices obey now; the project's own before the first release."""
    number = central.bucket.latest_number(lambda n: layout.release(central.project.group, n))
    if number == 0:
        return central.project.sampling
    return central.bucket.read_record(layout.release(central.project.group, number), Release).settings


# --- traffic ---------------------------------------------------------------------------------------------------------


def read_traffic(bucket: Bucket, model_version: str) -> list[TrafficRecord]:
    """What all devices logged of frames that this model saw."""
    records: list[TrafficRecord] = []
    for device in bucket.children("devices"):
        number = 1
        while bucket.exists(layout.traffic(device, number)):
            lines, _ = bucket.read_lines(layout.traffic(device, number), TrafficRecord)
            records += [record for record in lines if record.model_version == model_version]
            number += 1
    return records


def random_slice_as_traffic(central: Central, model_version: str, dataset_version: str) -> list[TrafficRecord]:
    """Confidences of a model that has not run on devices yet: on held-out images of the random slice, labels unused.

    They are a uniform sample of frames too; images that it was trained on are not among them.
    """
    entries = central.entries(dataset_version)
    held_out = [e for e in of_split(entries, "calibration") + of_split(entries, "test") if e.sample.random_slice]
    images = detect_again(central.detector(model_version), central.images, held_out, central.project.classes)
    floor = central.project.sampling.confidence_floor
    return [traffic_record(images, row, model_version, floor) for row in range(len(images.entries))]


def traffic_record(images: EvaluatedImages, row: int, model_version: str, floor: float) -> TrafficRecord:
    sample, detections = images.entries[row].sample, images.results[row].detections
    seen = detections[detections.confidence >= floor]
    return TrafficRecord(
        camera=sample.camera,
        captured_at=sample.captured_at,
        rate=1.0,
        model_version=model_version,
        class_names=tuple(seen.names),
        confidences=tuple(round(float(c), 6) for c in seen.confidence),
    )


def traffic_from_file(path: Path) -> list[TrafficRecord]:
    """A traffic log of JSON lines; a bad line is an error that names it, for a file is given on purpose."""
    records = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): name a traffic log of JSON lines") from None
    for number, line in enumerate(lines, start=1):
        try:
            records.append(TrafficRecord.model_validate_json(line))
        except ValueError as error:
            raise RecordInvalid(
                f"{path} line {number}: {str(error).splitlines()[1]}: mend or remove the line"
            ) from None
    return records


# --- approval --------------------------------------------------------------------------------------------------------


def approve(project: ProjectSettings, suggestion_id: str, by: str) -> Approval:
    """Let a suggestion go out with the next turn."""
    bucket = Central(project).bucket
    bucket.read_record(layout.suggestion(suggestion_id), Suggestion)  # it must exist
    approval = Approval(suggestion=suggestion_id, approved_by=by, approved_at=datetime.now(timezone.utc))
    bucket.write_record(layout.approval(suggestion_id), approval)
    return approval


def approved_suggestion(project: ProjectSettings, suggestion_id: str) -> Suggestion | None:
    """The suggestion, when the project approves by itself or a person has; None until then."""
    bucket = Central(project).bucket
    if not suggestion_id:
        return None
    if project.approval == "manual" and not bucket.exists(layout.approval(suggestion_id)):
        return None
    return bucket.read_record(layout.suggestion(suggestion_id), Suggestion)


# --- what came true --------------------------------------------------------------------------------------------------


@task(task_run_name="score forecast {suggestion_id}", retries=2, retry_delay_seconds=[1, 10])
def score_forecast(
    project: ProjectSettings, suggestion_id: str, release_number: int, dataset_version: str
) -> dict[str, float]:
    """What the forecast of a suggestion has come to, by the names of its fields, from labelled samples.

    Misses are those of the model on the device, from the detections that it wrote down itself.
    """
    central = Central(project)
    made = central.bucket.read_record(layout.suggestion(suggestion_id), Suggestion)
    version = f"{project.group}/{release_number}"
    entries = central.entries(dataset_version)
    collected = [entry for entry in entries if entry.sample.settings_version == version]
    rules = {s.name for s in made.settings.sampling_strategies if isinstance(s, CloseToThreshold)}
    by_rule = [entry for entry in collected if rules & set(entry.sample.matched)]
    at_random = [entry for entry in collected if entry.sample.random_slice]
    days = days_of(collected)
    score = {"images_a_day": len(collected) / days, "images_a_day_random": len(at_random) / days} if days else {}
    for name, group in (("", by_rule), ("_random", at_random)):
        figures = miss_figures(group, made.settings.thresholds, project.classes)
        score |= {f"{figure}{name}": value for figure, value in figures.items()}
    return score


def days_of(entries: Sequence[DatasetEntry]) -> float:
    """The time that samples span, in days."""
    moments = [entry.sample.captured_at for entry in entries]
    return (max(moments) - min(moments)).total_seconds() / 86_400 if moments else 0.0


def miss_figures(
    entries: Sequence[DatasetEntry], thresholds: dict[str, float], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Share of images with a miss, misses an image and misses a box; nothing for no image."""
    if not entries:
        return {}
    matches = match(
        [
            ImageResult(
                detections_from_records(entry.sample.detections, class_names), truths_of(entry.label, class_names)
            )
            for entry in entries
        ]
    )
    misses = misses_by_image(matches, threshold_column(thresholds, class_names))
    boxes = len(matches.truths)
    return {
        "share_with_miss": float((misses > 0).mean()),
        "misses_an_image": float(misses.mean()),
        "misses_a_box": float(misses.sum() / boxes) if boxes else 0.0,
    }
