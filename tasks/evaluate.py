"""Evaluate: a model version on a dataset version, where its misses are, and the pages that show it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from prefect import task
from prefect.logging import get_logger

from tasks.adapters.coco import class_figure, classification_figures, coco_figures
from tasks.adapters.images import ImageCache
from tasks.adapters.labels import PairFiles, class_pair, coco_pair, open_pair
from tasks.adapters.manifest import matches_bytes
from tasks.adapters.report import evaluation_report
from tasks.central import Central, EvaluatedImages, detect_again, of_split
from tasks.core import bands, layout
from tasks.core.bootstrap import REPLICATES
from tasks.core.entities import DatasetEntry, Evaluation, Label, Sample, Split, Suggestion, Task, content_id
from tasks.core.errors import ModelError, NotEnoughData, SettingsError
from tasks.core.field import FieldRecall
from tasks.core.matching import MATCHING_FLOOR, ImageResult, Matches, match, match_classes
from tasks.core.settings import ProjectSettings, Thresholds, validated
from tasks.likeness import embeddings_of
from tasks.retries import may_pass

if TYPE_CHECKING:
    from tasks.adapters.review import SavedView

EMBEDDED_AT_ONCE = 2000  # images, between two writes


@task(
    task_run_name="evaluate {model_version} on {split}",
    retries=2,
    retry_delay_seconds=[1, 10],
    retry_condition_fn=may_pass,
)
def evaluate_split(
    project: ProjectSettings,
    model_version: str,
    dataset_version: str,
    split: Split,
    thresholds: Thresholds | None = None,
    field: Sequence[FieldRecall] = (),
) -> Evaluation:
    """Run the model again on a split, match, find the bands, and store evaluation, matches and report.

    Without `thresholds` those of best F-beta or least cost are fitted, which only calibration is for. field: what is
    known of the model in the field, for the report.
    """
    central = Central(project)
    entries = of_split(central.entries(dataset_version), split)
    if not entries:
        raise NotEnoughData(f"dataset {dataset_version} has no {split} images: label more of the random slice")
    images = detect_again(central, model_version, entries)
    if not images.entries:
        raise NotEnoughData(f"dataset {dataset_version}: no {split} image can be used, the first: {images.problems[0]}")
    evaluation, matches = evaluate_images(
        images.results,
        images.clusters,
        project.classes,
        project=project,
        thresholds=thresholds,
        model_version=model_version,
        dataset_version=dataset_version,
        split=split,
    )
    if images.problems:
        left_out = f"{len(images.problems)} of {len(entries)} images left out, the first: {images.problems[0]}"
        evaluation = evaluation.model_copy(update={"warnings": (*evaluation.warnings, left_out)})
    store(central, evaluation, matches, images.entries, field)
    return evaluation


def evaluate_images(
    results: Sequence[ImageResult],
    clusters: Sequence[str],
    class_names: Sequence[str],
    *,
    project: ProjectSettings | None = None,
    thresholds: Thresholds | None = None,
    model_version: str = "",
    dataset_version: str = "",
    split: str = "",
    task: Task = "detection",
) -> tuple[Evaluation, Matches]:
    """Matching, bands and COCO figures of images in memory: of boxes, masks or keypoints, whatever the task."""
    matches = match(results)
    coco = coco_figures([(result.detections, result.truths) for result in results], class_names, task)
    evaluation = bands.evaluate(
        matches,
        clusters,
        class_names,
        created_at=datetime.now(timezone.utc),
        task=task,
        model_version=model_version,
        dataset_version=dataset_version,
        split=split,
        thresholds=thresholds,
        beta=project.beta if project else 1.0,
        costs=project.costs if project else None,
        confidence_floor=project.sampling.confidence_floor if project else 0.05,
        coco={name: value for name, value in coco.items() if "/" not in name},
        ap50={name: coco[class_figure(name)] for name in class_names if coco[class_figure(name)] >= 0},
        replicates=REPLICATES,
        seed=project.seed if project else 0,
    )
    return evaluation, matches


def store(
    central: Central,
    evaluation: Evaluation,
    matches: Matches,
    entries: Sequence[DatasetEntry],
    field: Sequence[FieldRecall] = (),
) -> None:
    """Evaluation, matches, report and plots into the bucket, the record last: it exists when all of it does."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        out = Path(folder)
        ids, clusters = [e.sample.sample_id for e in entries], [e.cluster for e in entries]
        (out / "matches.parquet").write_bytes(matches_bytes(matches, ids, central.project.classes, clusters))
        evaluation_report(evaluation, matches, out, field=field)
        for path in sorted(out.iterdir()):
            central.bucket.upload(layout.evaluation_file(evaluation.evaluation, path.name), path)
    central.bucket.write_record(layout.evaluation_file(evaluation.evaluation, "evaluation.json"), evaluation)


def task_named(name: str | None) -> Task | None:
    """A task by its name; None where none is given. Raises SettingsError for any other."""
    task = next((task for task in get_args(Task) if task == name), None)
    if name is not None and task is None:
        raise SettingsError(f"--task {name!r} is not known: use one of {', '.join(get_args(Task))}")
    return task


def evaluate_files(
    ground_truth: Path,
    predictions: Path,
    out: Path,
    *,
    beta: float = 1.0,
    costs: Mapping[str, Any] | None = None,
    task: Task | None = None,
) -> Evaluation:
    """COCO files in; `evaluation.json`, `matches.parquet`, `report.html` and plots in `out`, the record last.

    costs: as `costs` in configs/project.yaml. task: None for what the predictions show.
    """
    files = open_pair(ground_truth, predictions)
    names = files.coco.class_names
    given = {"project": "files", "bucket": "file:///nowhere", "classes": names, "beta": beta, "costs": costs}
    project = validated(ProjectSettings, given, "edgeloop evaluate")
    digest = content_id(ground_truth.read_bytes(), predictions.read_bytes())
    task = task or files.task
    of_task = _evaluate_classes if task == "classification" else _evaluate_boxes
    evaluation, matches, image_names, clusters = of_task(files, project, digest, task)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "matches.parquet").write_bytes(matches_bytes(matches, image_names, names, clusters))
        evaluation_report(evaluation, matches, out)
        (out / "evaluation.json").write_bytes(evaluation.to_json())
    except OSError as error:
        raise SettingsError(f"{out}: cannot be written ({error.strerror}): name another folder with --out") from None
    return evaluation


_OfFiles = tuple[Evaluation, Matches, list[str], list[str]]  # and the names and clusters of the images


def _evaluate_boxes(files: PairFiles, project: ProjectSettings, digest: str, task: Task) -> _OfFiles:
    pair = coco_pair(files, task)
    results = [ImageResult(image.detections, image.truths) for image in pair.images]
    clusters = [image.cluster for image in pair.images]
    evaluation, matches = evaluate_images(
        results, clusters, pair.class_names, project=project, dataset_version=digest, task=task
    )
    evaluation = evaluation.model_copy(update={"warnings": (*pair.warnings, *evaluation.warnings)})
    return evaluation, matches, [image.name for image in pair.images], clusters


def _evaluate_classes(files: PairFiles, project: ProjectSettings, digest: str, task: Task) -> _OfFiles:
    pair = class_pair(files)
    matches = match_classes(pair.images, top_only=pair.top_only)
    evaluation = bands.evaluate(
        matches,
        pair.clusters,
        pair.class_names,
        created_at=datetime.now(timezone.utc),
        task=task,
        dataset_version=digest,
        beta=project.beta,
        costs=project.costs,
        confidence_floor=project.sampling.confidence_floor,
        coco=classification_figures(pair.images),
        replicates=REPLICATES,
        seed=project.seed,
    )
    evaluation = evaluation.model_copy(update={"warnings": (*pair.warnings, *evaluation.warnings)})
    return evaluation, matches, list(pair.names), list(pair.clusters)


@task(task_run_name="FiftyOne: {dataset_version}", retries=1, retry_delay_seconds=5, retry_condition_fn=may_pass)
def sync_review(
    project: ProjectSettings, dataset_version: str, model_version: str, evaluation: str, suggestion: str
) -> dict[str, str]:
    """Bring the FiftyOne dataset into step: images, labels, what the model sees, one evaluation run, saved views.

    Returns the saved views, name -> path below the App's address.
    """
    from tasks.adapters import review

    central = Central(project)
    review.check_that_it_answers(review.ensure_database(central.work / "fiftyone"))
    entries = central.entries(dataset_version)
    images = detect_again(central, model_version, entries)
    review.sync_dataset(
        project.project, review_items(images, central.images, project.classes, model_version), project.classes
    )
    found = central.evaluation(evaluation) if evaluation else None
    thresholds = found.thresholds if found else {}
    key = f"model_{model_version}" if evaluation else ""
    if key:
        measured = [i for i, entry in enumerate(images.entries) if entry.split in ("calibration", "test")]
        ids = [images.entries[i].sample.sample_id for i in measured]
        outcome = match([images.results[i] for i in measured])
        review.remove_evaluations(project.project, keep=key)
        review.write_evaluation(project.project, key, ids, outcome, project.classes, thresholds)
    proposed = central.bucket.read_record(layout.suggestion(suggestion), Suggestion) if suggestion else None
    views = review.save_views(
        project.project,
        eval_key=key,
        thresholds=thresholds,
        rules=proposed.rules if proposed else (),
        confidence_floor=found.confidence_floor if found else MATCHING_FLOOR,
        newest_batch=max(entries, key=lambda e: e.sample.captured_at).batch_id if entries else "",
    )
    views += compare_images(central, model_version, [entry.sample for entry in images.entries])
    return {view.name: f"/datasets/{project.project}?view={view.slug}" for view in views}


def compare_images(central: Central, model_version: str, samples: Sequence[Sample]) -> list[SavedView]:
    """Views of what is alike and what is unusual, by the model's own features; none where it has none to give."""
    from tasks.adapters import review

    name = central.project.project
    wanted = review.not_embedded(name, model_version)
    new = [one for one in samples if one.sample_id in wanted]
    try:
        for start in range(0, len(new), EMBEDDED_AT_ONCE):  # so that a stop loses little
            some = new[start : start + EMBEDDED_AT_ONCE]
            review.write_embeddings(name, model_version, embeddings_of(central, model_version, some))
    except ModelError as error:
        get_logger("edgeloop").info("images are not compared: %s", error)
        review.forget_alike(name)
        return []
    return list(review.find_alike(name, model_version).views)


def review_items(images: EvaluatedImages, cache: ImageCache, class_names: Sequence[str], model_version: str) -> list:  # type: ignore[type-arg]
    """Images, labels and predictions as reviewers see them."""
    from tasks.adapters.review import ReviewItem

    return [
        ReviewItem(
            image_path=cache.path_of(entry.sample).resolve(),
            sample=entry.sample,
            predictions=result.detections,
            label=known_boxes(entry.label, class_names),
            split=entry.split,
            batch=entry.batch_id,
            model_version=model_version,
        )
        for entry, result in zip(images.entries, images.results)
    ]


def known_boxes(label: Label, class_names: Sequence[str]) -> Label:
    """The boxes that the matching saw, in its order: rows of an evaluation refer to them."""
    return label.model_copy(update={"boxes": tuple(b for b in label.boxes if b.class_name in class_names)})
