"""Suggest: from an evaluation, the traffic and a budget to sampling settings, with a forecast that is scored later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from prefect import task
from pydantic import ValidationError

from tasks.adapters.bucket.lines import problem_of
from tasks.adapters.manifest import StoredMatches, read_matches
from tasks.adapters.numbered import NumberedLog
from tasks.adapters.releases import latest_release
from tasks.central import Central, EvaluatedImages, detect_again, of_split, results_of
from tasks.core import bands, layout, suggestion
from tasks.core.bands import misses_by_image, threshold_column
from tasks.core.entities import (
    Approval,
    DatasetEntry,
    DatasetVersion,
    Evaluation,
    Sample,
    Suggestion,
    TrafficRecord,
)
from tasks.core.errors import ObjectConflict, ObjectMissing, RecordInvalid, SettingsError
from tasks.core.explain import traffic_of_line
from tasks.core.matching import match
from tasks.core.settings import CloseToThreshold, ProjectSettings, SamplingSettings, validated
from tasks.core.settings.project import DEFAULT_STRATEGY, SuggestedStrategy
from tasks.core.suggestion.evidence import MAX_TRAFFIC_RECORDS
from tasks.core.suggestion.track_record import ScoredFigure, scored_figures
from tasks.retries import may_pass
from tasks.turn import newest_turn

FRAME_KEY = b'"frame"'  # what a line of `edgeloop explain` has and a record of the traffic log has not
STRATEGIES: tuple[str, ...] = get_args(SuggestedStrategy)
ENOUGH_TRAFFIC = 200  # logged frames of the live model; with fewer, labelled images stand in as unlabelled ones


@task(task_run_name="suggest for {model_version}", retries=2, retry_delay_seconds=[1, 10], retry_condition_fn=may_pass)
def make_suggestion(project: ProjectSettings, model_version: str, evaluation: str) -> Suggestion:
    """Settings for the live model, from its evaluation on calibration and its traffic; stored."""
    central = Central(project)
    found = central.evaluation(evaluation)
    stored = stored_matches(central, evaluation)
    traffic = read_traffic(central, model_version)
    if len(traffic) < ENOUGH_TRAFFIC:
        traffic = random_slice_as_traffic(central, model_version, found.dataset_version)
    made = suggestion.suggest(
        stored.matches,
        stored.clusters,
        found,
        budget=project.budget_images_a_day,
        frames_a_day=project.frames_a_day,
        created_at=datetime.now(timezone.utc),
        strategy=project.suggested_strategy,
        exploration=project.exploration,
        traffic=traffic or None,
        current=settings_in_force(central),
        devices=max(1, len(devices_of_group(central))),
        seed=project.seed,
    )
    central.bucket.write_record(layout.suggestion(made.suggestion), made)
    return made


def suggest_from_files(
    evaluation: Path,
    budget: float,
    frames_a_day: float,
    traffic: Path | None,
    exploration: float = 0.2,
    seed: int = 0,
    strategy: str | None = None,
    costs: Mapping[str, Any] | None = None,
) -> Suggestion:
    """The same from the folder of `edgeloop evaluate` and a traffic log of JSON lines.

    costs: as `costs` in configs/project.yaml, to choose other thresholds than the evaluation did.
    """
    strategy = strategy or DEFAULT_STRATEGY
    if strategy not in STRATEGIES:
        raise SettingsError(
            f"strategy {strategy!r} is none that can be suggested: choose one of {', '.join(STRATEGIES)}"
        )
    found, stored = read_evaluation_folder(evaluation)
    if found.task == "classification":
        raise SettingsError(
            f"{evaluation}: is of a classification, and what is suggested is for boxes: write its strategies by hand "
            f"from the bands of its report, close_to_threshold with only_top_classes: false"
        )
    if costs is not None:
        found = at_least_cost(found, stored, costs)
    return suggestion.suggest(
        stored.matches,
        stored.clusters,
        found,
        budget=budget,
        frames_a_day=frames_a_day,
        created_at=datetime.now(timezone.utc),
        strategy=cast(SuggestedStrategy, strategy),
        exploration=exploration,
        traffic=traffic_from_file(traffic, found.model_version) if traffic else None,
        seed=seed,
    )


def at_least_cost(found: Evaluation, stored: StoredMatches, costs: Mapping[str, Any]) -> Evaluation:
    """The same evaluation at thresholds of least cost. Raises SettingsError for costs that cannot be meant."""
    given = {"project": "files", "bucket": "file:///nowhere", "classes": stored.class_names, "costs": costs}
    project = validated(ProjectSettings, given, "edgeloop suggest")
    return bands.evaluate(
        stored.matches,
        stored.clusters,
        stored.class_names,
        created_at=found.created_at,
        task=found.task,
        model_version=found.model_version,
        dataset_version=found.dataset_version,
        split=found.split,
        costs=project.costs,
        confidence_floor=found.confidence_floor,
        coco=found.coco,
        ap50={name: c.ap50 for name, c in found.classes.items() if c.ap50 is not None},
        seed=project.seed,
    )


def read_evaluation_folder(folder: Path) -> tuple[Evaluation, StoredMatches]:
    """What `edgeloop evaluate` wrote. Raises SettingsError for a folder that it did not write, or not as one whole."""
    try:
        found = Evaluation.model_validate_json((folder / "evaluation.json").read_bytes())
        stored = read_matches((folder / "matches.parquet").read_bytes(), "matches.parquet")
    except OSError as error:
        reason = f"{Path(error.filename or folder).name}: {error.strerror}"
    except ValidationError as error:
        reason = f"evaluation.json: {problem_of(error)}"
    except RecordInvalid as error:
        reason = str(error)
    else:
        if (stored.matches.images, stored.class_names) == (found.images, tuple(found.classes)):
            return found, stored
        reason = "evaluation.json and matches.parquet are of different evaluations"
    raise SettingsError(
        f"{folder}: is not the folder of an evaluation ({reason}): make one with edgeloop evaluate --out"
    )


def stored_matches(central: Central, evaluation: str) -> StoredMatches:
    key = layout.evaluation_file(evaluation, "matches.parquet")
    return read_matches(central.bucket.get(key), key)


def settings_in_force(central: Central) -> SamplingSettings:
    """What devices obey now; the project's own before the first release."""
    live = latest_release(central.bucket, central.project.group)
    return live.settings if live else central.project.sampling


def devices_of_group(central: Central) -> list[str]:
    """The devices that obey this project's releases, by their own word. Imported datasets are none."""
    found = []
    for device in central.devices():
        status = central.status_of(device)
        if status is not None and status.group == central.project.group:
            found.append(device)
    return found


# --- traffic ---------------------------------------------------------------------------------------------------------


def read_traffic(central: Central, model_version: str) -> list[TrafficRecord]:
    """What devices logged of frames that this model saw, the newest of each device first, as many as are enough.

    A damaged log, or a line of it, is passed over: the others are a uniform sample without it.
    """
    logs = (
        NumberedLog(central.bucket, partial(layout.traffic, device), TrafficRecord, model_version)
        for device in central.devices()
    )
    return [record for log in logs for record in log.newest(MAX_TRAFFIC_RECORDS)]


def random_slice_as_traffic(central: Central, model_version: str, dataset_version: str) -> list[TrafficRecord]:
    """Confidences of a model that has not run on devices yet: on held-out images of the random slice, labels unused.

    They are a uniform sample of frames too; images that it was trained on are not among them.
    """
    entries = central.entries(dataset_version)
    held_out = [e for e in of_split(entries, "calibration") + of_split(entries, "test") if e.sample.random_slice]
    images = detect_again(central, model_version, held_out)
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


def traffic_from_file(path: Path, model_version: str) -> list[TrafficRecord]:
    """A traffic log of JSON lines, ours or the frames that `edgeloop explain` reads.

    A bad line is an error that names it, for a file is given on purpose.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): name a traffic log of JSON lines") from None
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if FRAME_KEY in line:
                records.append(traffic_of_line(line.decode("utf-8", "replace"), number, model_version))
            else:
                records.append(TrafficRecord.model_validate_json(line))
        except ValidationError as error:
            raise RecordInvalid(f"{path} line {number}: {problem_of(error)}: mend or remove the line") from None
        except RecordInvalid as error:
            raise RecordInvalid(f"{path} {error}: mend or remove the line") from None
    return records


# --- approval --------------------------------------------------------------------------------------------------------


def approve(project: ProjectSettings, suggestion_id: str, by: str) -> Approval:
    """Let a suggestion go out with the next turn. Raises SettingsError for one that cannot, or that was let already."""
    bucket, turn = Central(project).bucket, newest_turn(project)
    made = bucket.read_record(layout.suggestion(suggestion_id), Suggestion)
    if turn is not None and made.model_version != turn.live_model:
        raise SettingsError(
            f"suggestion {suggestion_id} was made for model {made.model_version}, and {turn.live_model} is live now: "
            f"wait for the next suggestion"
        )
    if turn is not None and turn.suggestion != suggestion_id:
        raise SettingsError(
            f"suggestion {suggestion_id} is not the newest one: look at {turn.suggestion or 'the next one'}"
        )
    approval = Approval(suggestion=suggestion_id, approved_by=by, approved_at=datetime.now(timezone.utc))
    try:
        bucket.create_record(layout.approval(suggestion_id), approval)
    except ObjectConflict:
        first = bucket.read_record(layout.approval(suggestion_id), Approval)
        raise SettingsError(
            f"suggestion {suggestion_id} was approved by {first.approved_by} already: the next turn releases it"
        ) from None
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


@task(
    task_run_name="score forecast {suggestion_id}", retries=2, retry_delay_seconds=[1, 10], retry_condition_fn=may_pass
)
def score_forecast(
    project: ProjectSettings, suggestion_id: str, release_number: int, dataset_version: str
) -> dict[str, float]:
    """What the forecast of a suggestion has come to, by the names of its fields, from labelled samples.

    Misses are those of the model on the device, from the detections that it wrote down itself, and figures those of all
    samples that were collected, of which a weekly draw may have offered a part.
    """
    central = Central(project)
    made = central.bucket.read_record(layout.suggestion(suggestion_id), Suggestion)
    version = f"{project.group}/{release_number}"
    entries = [e for e in central.entries(dataset_version) if e.sample.settings_version == version]
    chosen = [entry for entry in entries if was_chosen(entry.sample, made.settings)]
    at_random = [entry for entry in entries if entry.sample.random_slice]

    collected = samples_of_batches(central, dataset_version, version)
    days = days_of(collected)
    drawn = sum(sample.random_slice for sample in collected)
    score = {"images_a_day": len(collected) / days, "images_a_day_random": drawn / days} if days else {}
    if not made.settings.persist_predictions:
        return score  # what the device's model saw was not kept
    for name, group in (("", chosen), ("_random", at_random)):
        figures = miss_figures(group, made.settings.thresholds, project.classes)
        score |= {f"{figure}{name}": value for figure, value in figures.items()}
    return score


def was_chosen(sample: Sample, settings: SamplingSettings) -> bool:
    """Was it kept for the sake of misses, by a rule or by its expected misses, whether or not a random draw hit it too?

    `expected_misses` lends its name to its exploration as well. Of a frame that exploration hit, the inclusion
    probability tells: it is 1 where the expected misses alone would have kept it.
    """
    rules = {s.name for s in settings.sampling_strategies if isinstance(s, CloseToThreshold)}
    if rules & set(sample.matched):
        return True
    misses = settings.expected_misses
    return misses is not None and misses.name in sample.matched and (not sample.random_slice or sample.probability == 1)


def scored_forecasts(project: ProjectSettings, scores: Mapping[str, Mapping[str, float]]) -> list[ScoredFigure]:
    """Every figure of the suggestions that were scored, suggestion -> what came true by name, beside its forecast.

    A suggestion that the bucket no longer holds, or that cannot be read, is left out.
    """
    bucket = Central(project).bucket
    figures: list[ScoredFigure] = []
    for suggestion_id, came_true in scores.items():
        with suppress(ObjectMissing, RecordInvalid):
            made = bucket.read_record(layout.suggestion(suggestion_id), Suggestion)
            figures += scored_figures(suggestion_id, made.forecast, came_true)
    return figures


def samples_of_batches(central: Central, dataset_version: str, settings_version: str) -> list[Sample]:
    """All samples that were collected under some settings, labelled or not, in the batches of a dataset version."""
    dataset = central.bucket.read_record(layout.dataset(dataset_version), DatasetVersion)
    labelled = [central.batch(batch_id) for batch_id in dataset.batches]
    undrawn = {source for batch in labelled for source in batch.drawn_from} - set(dataset.batches)
    batches = [*labelled, *(central.batch(batch_id) for batch_id in sorted(undrawn))]
    found = {s.sample_id: s for batch in batches for s in batch.samples if s.settings_version == settings_version}
    return list(found.values())


def days_of(samples: Sequence[Sample]) -> float:
    """The time that it took to collect samples, in days: what they span, and one mean gap more; 0 for less than two.

    Without the gap, the n - 1 gaps between n samples would count as n. Samples of a clock that was not right yet say
    nothing of time.
    """
    moments = [sample.captured_at for sample in samples if not sample.clock_suspect]
    if len(moments) < 2:
        return 0.0
    timed = (max(moments) - min(moments)).total_seconds() / 86_400 * len(moments) / (len(moments) - 1)
    return timed * len(samples) / len(moments)


def miss_figures(
    entries: Sequence[DatasetEntry], thresholds: dict[str, float], class_names: tuple[str, ...]
) -> dict[str, float]:
    """Share of images with a miss, misses an image and misses a box; nothing for no image.

    Each image stands for as many as were collected for each that was offered, 1 / `probability_offered`, as a weekly
    draw offers more of those in which people had much to correct. One that cannot be used is left out.
    """
    kept, results = results_of(entries, class_names)
    if not kept:
        return {}
    weights = np.array([1 / entry.probability_offered for entry in kept])
    matches = match(results)
    misses = misses_by_image(matches, threshold_column(thresholds, class_names))
    boxes = weights @ np.bincount(matches.truths.image, minlength=matches.images)
    return {
        "share_with_miss": float(weights @ (misses > 0) / weights.sum()),
        "misses_an_image": float(weights @ misses / weights.sum()),
        "misses_a_box": float(weights @ misses / boxes) if boxes else 0.0,
    }
