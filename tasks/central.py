"""What every stage on the central machine stands on: the project's bucket, its caches, and the records in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.adapters.detections import DetectionCache, DetectionsOfModel
from tasks.adapters.detector import Detector, open_detector
from tasks.adapters.images import ImageCache
from tasks.adapters.labels import labels_from_coco, revision_bytes
from tasks.adapters.manifest import read_manifest
from tasks.adapters.releases import latest_release
from tasks.core import layout
from tasks.core.entities import (
    STUB,
    Batch,
    DatasetEntry,
    Detections,
    DeviceStatus,
    Evaluation,
    Label,
    ModelVersion,
    Release,
    Sample,
    Split,
    content_id,
    detections_from_records,
)
from tasks.core.errors import DataError, ModelError, ObjectConflict, ObjectMissing, RecordInvalid
from tasks.core.matching import GroundTruths, ImageResult
from tasks.core.sampling import CLASSIFICATION
from tasks.core.settings import ProjectSettings
from tasks.core.splits import assign_split

EVERYTHING = 0.001  # the confidence that central runs models at: AP needs all, matching 0.005 and up
_RELEASE = re.compile(r"(?P<group>[a-z0-9-]{1,63})/(?P<number>[0-9]{1,12})\Z")  # a settings version that is one


@dataclass(frozen=True)
class Central:
    """A project as a stage sees it. Made anew in every task: a filesystem never crosses a task's border."""

    project: ProjectSettings

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.project.bucket, self.project.project)

    @property
    def work(self) -> Path:
        folder = Path(self.project.work)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def images(self) -> ImageCache:
        return ImageCache(self.bucket, self.work / "images")

    @property
    def detections(self) -> DetectionCache:
        return DetectionCache(self.work / "detections")

    def model(self, model_version: str) -> ModelVersion:
        return self.bucket.read_record(layout.model_file(model_version, "model.json"), ModelVersion)

    def model_path(self, model_version: str, file_name: str = "model.onnx") -> Path:
        """A local copy of a model's file, checked against its digest."""
        path = self.work / "models" / model_version / file_name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = self.model(model_version).sha256 if file_name == "model.onnx" else None
            self.bucket.download(layout.model_file(model_version, file_name), path, sha256=digest)
        return path

    def detector(self, model_version: str) -> Detector:
        """The model, mapped to the project's classes, with everything from 0.001 up; the stub sees nothing."""
        if model_version == STUB:
            return open_detector(STUB, project_classes=self.project.classes)
        detector = open_detector(
            self.model_path(model_version),
            project_classes=self.project.classes,
            model_classes=self.model(model_version).class_names,
            confidence_floor=EVERYTHING,
        )
        if detector.task == CLASSIFICATION:
            raise ModelError(
                f"model {model_version}: is a classifier, and the loop's labels are boxes: collect with it, and use "
                f"edgeloop evaluate --task classification on files"
            )
        return detector

    def entries(self, dataset_version: str) -> list[DatasetEntry]:
        """The manifest of a dataset version."""
        key = layout.manifest(dataset_version)
        return read_manifest(self.bucket.get(key), key)

    def evaluation(self, evaluation: str) -> Evaluation:
        return self.bucket.read_record(layout.evaluation_file(evaluation, "evaluation.json"), Evaluation)

    def devices(self) -> list[str]:
        """Names of all devices that have written to the bucket."""
        return [
            name for name in self.bucket.children("devices") if layout.NAME.match(name)
        ]  # others may put files there

    def status_of(self, device: str) -> DeviceStatus | None:
        """What a device said of itself last; None where it has said nothing, or nothing that can be read."""
        try:
            return self.bucket.read_record(layout.device_status(device), DeviceStatus, from_device=True)
        except (ObjectMissing, RecordInvalid):
            return None

    def release_of(self, settings_version: str) -> Release | None:
        """The release that a settings version names; None for one that came from a file on the device.

        Raises ObjectMissing and RecordInvalid for a release that cannot be read.
        """
        match = _RELEASE.match(settings_version)
        if match is None:
            return None
        return self.bucket.read_record(layout.release(match["group"], int(match["number"])), Release)

    def release_under(self, settings_version: str) -> Release | None:
        """The release that a sample was taken under; what is in force now where that is unknown; None before any."""
        try:
            found = self.release_of(settings_version)
        except (RecordInvalid, ObjectMissing):
            found = None
        return found or latest_release(self.bucket, self.project.group)

    # --- batches and their labels ------------------------------------------------------------------------------------

    def batch(self, batch_id: str) -> Batch:
        return self.bucket.read_record(layout.batch(batch_id), Batch)

    def store_batch(self, batch: Batch) -> Batch:
        """The batch as the bucket holds it: one of that id that was there first stays as it was made."""
        try:
            self.bucket.create_record(layout.batch(batch.batch_id), batch)
        except ObjectConflict:
            return self.batch(batch.batch_id)
        return batch

    def store_labels(self, batch: Batch, labels: Iterable[Label], after: int = 0) -> tuple[int, list[Label]]:
        """The newest label revision of a batch, and its labels, once it knows `labels`; 0 while nothing is labelled.

        after: a revision that is known to exist; a turn that was cut off may have written more. Images that are not
        among `labels` keep the label that they have, and a label that says what it said before keeps its time. What is
        new becomes one more revision; none is ever overwritten.
        """
        newest = self.bucket.latest_number(partial(layout.labels, batch.batch_id), after)
        before = self.labels(batch, newest) if newest else {}
        new = {label.sample_id: label for label in labels if not says_the_same(label, before.get(label.sample_id))}
        merged = before | new
        if new:
            newest += 1
            samples = {sample.sample_id: sample for sample in batch.samples}
            content = revision_bytes(
                merged.values(), samples, batch.class_names, class_list_version=batch.class_list_version
            )
            self.bucket.create(layout.labels(batch.batch_id, newest), content)
        return newest, [merged[sample_id] for sample_id in sorted(merged)]

    def labels(self, batch: Batch, revision: int) -> dict[str, Label]:
        """One revision of a batch's labels, sample id -> label."""
        key = layout.labels(batch.batch_id, revision)
        samples = {sample.sample_id: sample for sample in batch.samples}
        labels, _ = labels_from_coco(self.bucket.get(key), samples, batch.class_names, key)
        return {label.sample_id: label for label in labels}


def batches_of(
    name: str,
    samples: Iterable[Sample],
    project: ProjectSettings,
    offered: Mapping[str, float] | None = None,
    drawn_from: tuple[str, ...] = (),
) -> list[Batch]:
    """Samples in the order of capture as batches of at most `labelling.max_images`; not stored.

    An id is `name` and what follows from the content. Test and calibration images are labelled without
    pre-annotations. offered: sample id -> how likely it was to be drawn from `drawn_from`; None: all are offered.
    """
    offered = offered or {}
    ordered = sorted(samples, key=lambda s: (s.captured_at, s.sample_id))
    size = project.labelling.max_images
    return [
        Batch(
            batch_id=f"{name}-{content_id(*(s.sample_id for s in some))}",
            created_at=max(s.captured_at for s in some),
            class_names=project.classes,
            class_list_version=project.class_list_version,
            samples=tuple(some),
            unseeded=tuple(s.sample_id for s in some if assign_split(s) != "train"),
            probability_offered={s.sample_id: offered[s.sample_id] for s in some if offered.get(s.sample_id, 1) < 1},
            drawn_from=drawn_from,
        )
        for some in (ordered[first : first + size] for first in range(0, len(ordered), size))
    ]


def says_the_same(label: Label, before: Label | None) -> bool:
    return before is not None and label == before.model_copy(update={"labelled_at": label.labelled_at})


@dataclass(frozen=True)
class EvaluatedImages:
    """Labelled images with what a model sees in them now, and the ones that had to be left out."""

    entries: list[DatasetEntry]
    results: list[ImageResult]
    problems: list[str]

    @property
    def clusters(self) -> list[str]:
        return [entry.cluster for entry in self.entries]


def of_split(entries: Iterable[DatasetEntry], split: Split) -> list[DatasetEntry]:
    return [entry for entry in entries if entry.split == split]


def detect_again(central: Central, model_version: str, entries: Sequence[DatasetEntry]) -> EvaluatedImages:
    """What a model sees in labelled images, from 0.001 up. An image that cannot be used is left out and named.

    The model runs on images that it was not asked about before; for the others its answer is remembered.
    """
    detector, images = central.detector(model_version), central.images
    model_classes = () if model_version == STUB else central.model(model_version).class_names
    kept, results, problems = [], [], []
    with central.detections.of(detector, model_classes, {entry.sample.sha256 for entry in entries}) as known:
        for entry in entries:
            try:
                detections = see(detector, images, known, entry.sample)
                results.append(ImageResult(detections, truths_of(entry.label, central.project.classes)))
            except (DataError, ObjectMissing) as error:
                problems.append(str(error))
                continue
            kept.append(entry)
    return EvaluatedImages(kept, results, problems)


def results_of(
    entries: Iterable[DatasetEntry], class_names: Sequence[str]
) -> tuple[list[DatasetEntry], list[ImageResult]]:
    """What devices saw in labelled images when they took them, and those images.

    One whose detections or label cannot be used, say with a coordinate that is no number, is left out.
    """
    kept, results = [], []
    for entry in entries:
        try:
            detections = detections_from_records(entry.sample.detections, class_names)
            results.append(ImageResult(detections, truths_of(entry.label, class_names)))
        except DataError:
            continue
        kept.append(entry)
    return kept, results


def see(detector: Detector, images: ImageCache, known: DetectionsOfModel, sample: Sample) -> Detections:
    """What the model sees in a sample's image, or saw when it was asked before; the image must still be there."""
    images.path_of(sample)
    detections = known.get(sample.sha256)
    if detections is None:
        detections = detector.detect(images.pixels_of(sample))
        known.add(sample.sha256, detections)
    return detections


def truths_of(label: Label, class_names: Sequence[str]) -> GroundTruths:
    """A label as columns; boxes of a class that the project no longer has are left out."""
    boxes = [box for box in label.boxes if box.class_name in class_names]
    if not boxes:
        return GroundTruths.empty()
    return GroundTruths(
        np.array([box.xyxy for box in boxes], np.float64),
        np.array([list(class_names).index(box.class_name) for box in boxes], np.int64),
        np.array([box.crowd for box in boxes], np.bool_),
    )
