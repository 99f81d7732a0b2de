"""Retrain: labels become a frozen dataset version, and the dataset version a model version."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from prefect import get_run_logger, task
from prefect.exceptions import MissingContextError

from tasks.adapters.detector import open_detector
from tasks.adapters.labels import write_yolo
from tasks.adapters.manifest import manifest_bytes
from tasks.adapters.trainer import TrainingResult, check_parity, export_onnx, train
from tasks.central import Central, of_split
from tasks.core import layout
from tasks.core.entities import STUB, DatasetEntry, DatasetVersion, ModelVersion
from tasks.core.errors import DataError, NotEnoughData, ObjectMissing
from tasks.core.people.accepting import kept_for_training
from tasks.core.settings import ProjectSettings
from tasks.core.splits import (
    LabelledSample,
    build_entries,
    dataset_version_of,
    fingerprint,
    is_random_edition,
    newest_edition,
)
from tasks.retries import may_pass

PARITY_IMAGES = 8


@task(task_run_name="dataset version", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def build_dataset(project: ProjectSettings, revisions: Mapping[str, int], previous: str) -> DatasetVersion:
    """Freeze the newest labels of all batches into a dataset version; equal content gives the same one again."""
    central = Central(project)
    labelled = [
        item for batch, revision in revisions.items() if revision for item in read_labelled(central, batch, revision)
    ]
    before = central.entries(previous) if previous else []
    labelled, accepted_in_vain = kept_for_training(labelled)
    entries, left_out = build_entries(labelled, before)
    # A copy of a photograph, or an image of an earlier test edition, may turn out to measure only here.
    entries = [entry for entry in entries if entry.label.origin == "human" or entry.split in ("train", "excluded")]
    digest = fingerprint(entries)
    version = dataset_version_of(digest)
    if version != previous:
        central.bucket.put(layout.manifest(version), manifest_bytes(entries))
    dataset = DatasetVersion(
        dataset_version=version,
        created_at=datetime.now(timezone.utc),
        class_names=project.classes,
        class_list_version=project.class_list_version,
        fingerprint=digest,
        counts=dict(Counter(entry.split for entry in entries)),
        boxes=count_boxes(entries),
        batches={batch: revision for batch, revision in revisions.items() if revision},
        by_model=sum(entry.label.origin == "model" and entry.split == "train" for entry in entries),
        test_edition=newest_edition(entries),
        test_is_random=is_random_edition(entries),
        excluded=left_out | accepted_in_vain,
        previous=previous,
    )
    if not central.bucket.exists(layout.dataset(version)):
        central.bucket.write_record(layout.dataset(version), dataset)
    return central.bucket.read_record(layout.dataset(version), DatasetVersion)


def read_labelled(central: Central, batch_id: str, revision: int) -> list[LabelledSample]:
    """The labelled samples of one revision of a batch, as far as they may train or measure a model.

    Trial and twin batches measure people, and so do gold samples: their labels are in the dataset once, from where
    somebody vouched for them.
    """
    batch = central.batch(batch_id)
    if batch.purpose != "labels":
        return []
    samples = {sample.sample_id: sample for sample in batch.samples}
    return [
        LabelledSample(
            sample=samples[label.sample_id],
            label=label,
            batch_id=batch_id,
            revision=revision,
            image_key=layout.sample_image(
                samples[label.sample_id].device, samples[label.sample_id].captured_at, label.sample_id
            ),
            probability_offered=batch.probability_offered.get(label.sample_id, 1.0),
        )
        for label in central.labels(batch, revision).values()
        if label.sample_id not in batch.gold
    ]


def count_boxes(entries: list[DatasetEntry]) -> dict[str, int]:
    boxes: Counter[str] = Counter()
    for entry in entries:
        boxes[entry.split] += len(entry.label.boxes)
    return dict(boxes)


def lacking_splits(project: ProjectSettings, dataset_version: str) -> str:
    """What a dataset lacks to measure a model on, as a sentence; empty when it lacks nothing."""
    dataset = Central(project).bucket.read_record(layout.dataset(dataset_version), DatasetVersion)
    lacking = [split for split in ("calibration", "test") if not dataset.counts.get(split)]
    return f"labelled images of the random slice: there is none for {' and '.join(lacking)} yet" if lacking else ""


def new_training_images(project: ProjectSettings, dataset_version: str, since: str) -> int:
    """Training images that the dataset version `since` did not have."""
    central = Central(project)
    known = {e.sample.sample_id for e in of_split(central.entries(since), "train")} if since else set()
    return sum(e.sample.sample_id not in known for e in of_split(central.entries(dataset_version), "train"))


@task(task_run_name="train on {dataset_version}", retries=1, retry_delay_seconds=10, retry_condition_fn=may_pass)
def train_model(project: ProjectSettings, dataset_version: str, from_model: str) -> ModelVersion:
    """Train from `from_model`'s weights (or the project's, for the first), export to ONNX, check parity, store.

    The model's record is written last: a model exists when its ONNX file does.
    """
    central = Central(project)
    entries = central.entries(dataset_version)
    folder = central.work / "training" / dataset_version
    shutil.rmtree(folder, ignore_errors=True)
    paths = fetch_images(central, entries)
    data = write_yolo(
        folder / "dataset", [e for e in entries if e.sample.sample_id in paths], project.classes, paths
    ).data_yaml
    weights, name = starting_weights(central, from_model)
    started = time.monotonic()
    result = train(
        data, project.training, weights=weights, project_classes=project.classes, out=folder / "run", on_epoch=log_epoch
    )
    training = project.training
    onnx = export_onnx(result.checkpoint, folder / "model.onnx", training.imgsz, embedding=training.embedding)
    parity = check_parity(result.checkpoint, onnx, list(paths.values())[:PARITY_IMAGES])
    model = describe(project, onnx, result, dataset_version, from_model, name, time.monotonic() - started, parity)
    store_model(central, model, onnx, result.checkpoint)
    return model


def fetch_images(central: Central, entries: list[DatasetEntry]) -> dict[str, Path]:
    """Local files of the images to train with and to validate on; unreadable ones are left out."""
    cache = central.images
    paths = {}
    for entry in of_split(entries, "train") + of_split(entries, "calibration"):
        try:
            paths[entry.sample.sample_id] = cache.path_of(entry.sample)
        except (DataError, ObjectMissing) as error:
            log(f"left out: {error}")
    if not paths:
        raise NotEnoughData("no training image could be read: see the log of this run")
    return paths


def starting_weights(central: Central, from_model: str) -> tuple[Path | None, str]:
    """The checkpoint to start from and its name: the model's own, else the project's, else none (from scratch)."""
    if from_model and from_model != STUB:
        key = layout.model_file(from_model, "weights.pt")
        if central.bucket.exists(key):
            return central.model_path(from_model, "weights.pt"), f"model {from_model}"
    weights = central.project.training.weights
    return (Path(weights), Path(weights).name) if weights else (None, central.project.training.model)


def describe(
    project: ProjectSettings,
    onnx: Path,
    result: TrainingResult,
    dataset_version: str,
    from_model: str,
    trained_from: str,
    seconds: float,
    parity: dict[str, float],
) -> ModelVersion:
    """The model card's facts."""
    detector = open_detector(onnx, project_classes=project.classes)
    return ModelVersion(
        model_version=detector.model_version,
        sha256=detector.sha256,
        size_bytes=onnx.stat().st_size,
        created_at=datetime.now(timezone.utc),
        class_names=project.classes,
        image_size=detector.image_size,
        format=detector.format,
        dataset_version=dataset_version,
        previous="" if from_model == STUB else from_model,
        trained_from=trained_from,
        licence=project.training.licence,
        training={
            "settings": project.training.model_dump(mode="json"),
            "seconds": round(seconds, 1),
            "epochs": len(result.epochs),
            "last_epoch": result.epochs[-1] if result.epochs else {},
        },
        parity=parity,
    )


def store_model(central: Central, model: ModelVersion, onnx: Path, checkpoint: Path | None) -> None:
    """Files first, the record last."""
    bucket = central.bucket
    bucket.upload(layout.model_file(model.model_version, "model.onnx"), onnx)
    if checkpoint is not None:
        bucket.upload(layout.model_file(model.model_version, "weights.pt"), checkpoint)
    bucket.write_record(layout.model_file(model.model_version, "model.json"), model)


def log_epoch(epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
    loss = sum(value for name, value in metrics.items() if name.startswith("train/"))
    log(f"epoch {epoch} of {epochs}: loss {loss:.2f}")


def log(line: str) -> None:
    """To the run's log where there is a run."""
    with suppress(MissingContextError):
        get_run_logger().info(line)
