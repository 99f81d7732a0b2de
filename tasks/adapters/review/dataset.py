"""Samples as a FiftyOne dataset: what is in the bucket, in step, so that people can look at it.

Only what changed is written: each document carries a digest of what it was made of. Box ids follow from the sample,
so that an unchanged sample keeps its evaluations, and a rebuilt database is the same as the one that was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.adapters.review.mongod import URI_VARIABLE
from tasks.core.entities import Detection, Detections, Label, LabelBox, Sample, detection_records
from tasks.core.errors import RecordInvalid, ReviewUnavailable
from tasks.core.matching import MATCHING_FLOOR

PREDICTIONS = "predictions"
GROUND_TRUTH = "ground_truth"
COLOURS = {GROUND_TRUTH: "#22c55e", PREDICTIONS: "#f97316"}
BATCH_IMAGES = 500  # written at once
UNLABELLED = "unlabelled"  # `label_status` of a sample that nobody has looked at; others are those of a Label


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One image as reviewers see it.

    predictions: of the model that is being looked at, in descending confidence; rows of an evaluation refer to them.
    Give the sample's own detections where no model has been run again. Those below the matching floor are left out.
    """

    image_path: Path
    sample: Sample
    predictions: Detections | Sequence[Detection] = ()
    label: Label | None = None
    split: str = ""
    batch: str = ""
    model_version: str = ""  # of the predictions; empty: the one that the device ran


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """What a sync did, in images. Skipped: those whose image file is not there."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0


def fiftyone() -> Any:
    """The module, imported on first use: it costs 8 s of CPU and 275 MB.

    Raises ReviewUnavailable without a database to open, or where FiftyOne is not installed.
    """
    import os

    if URI_VARIABLE not in os.environ:
        raise ReviewUnavailable("no review database is open: call ensure_database(folder) first")
    try:
        import fiftyone as fo
    except ImportError as error:
        raise ReviewUnavailable(f"FiftyOne cannot be imported ({error}): install edgeloop's 'central' extra") from None
    if fo.config.database_uri != os.environ[URI_VARIABLE]:
        raise ReviewUnavailable(
            f"FiftyOne is open on {fo.config.database_uri}, not on {os.environ[URI_VARIABLE]}: one process serves one "
            "review database"
        )
    return fo


def open_dataset(name: str, class_names: Sequence[str]) -> Any:
    """The dataset of that name, created with its fields and indexes where it does not exist. Classes may be added."""
    fo = fiftyone()
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
    else:
        dataset = fo.Dataset(name, persistent=True)
        for field, kind, options in sample_fields(fo):
            dataset.add_sample_field(field, kind, **options)
        dataset.add_sample_field(f"{GROUND_TRUTH}.detections.iscrowd", fo.BooleanField)
        dataset.create_index("filepath", unique=True)
        dataset.create_index("sample_id", unique=True)
        dataset.create_index("captured_at")
        dataset.app_config.color_scheme = fo.ColorScheme(
            color_by="field", fields=[{"path": path, "fieldColor": colour} for path, colour in COLOURS.items()]
        )
        dataset.save()
    if dataset.default_classes != list(class_names):
        dataset.default_classes = list(class_names)
    return dataset


def sample_fields(fo: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """Name, type and options of every field that we keep; declared, so that an empty one can be filtered as well."""
    boxes = {"embedded_doc_type": fo.Detections}
    return [
        ("sample_id", fo.StringField, {}),
        (PREDICTIONS, fo.EmbeddedDocumentField, boxes),
        (GROUND_TRUTH, fo.EmbeddedDocumentField, boxes),
        ("label_status", fo.StringField, {}),
        ("annotator", fo.StringField, {}),
        ("misses", fo.IntField, {}),
        ("split", fo.StringField, {}),
        ("batch", fo.StringField, {}),
        ("strategy", fo.StringField, {}),
        ("matched", fo.ListField, {"subfield": fo.StringField}),
        ("probability", fo.FloatField, {}),
        ("random_slice", fo.BooleanField, {}),
        ("device", fo.StringField, {}),
        ("camera", fo.StringField, {}),
        ("captured_at", fo.DateTimeField, {}),
        ("model_version", fo.StringField, {}),
        ("settings_version", fo.StringField, {}),
        ("synced", fo.StringField, {"description": "digest of what the document was made of"}),
    ]


def sync_dataset(name: str, items: Iterable[ReviewItem], class_names: Sequence[str]) -> SyncCounts:
    """Bring the dataset `name` in step with `items`: new samples are added, changed ones rewritten, others left alone.

    Samples that are in the dataset and not in `items` stay (see `remove_samples`); fields that reviewers or plugins
    added stay as well. A rewritten sample loses its evaluations until `write_evaluation` runs again.
    Raises RecordInvalid when two samples name one image file.
    """
    dataset = open_dataset(name, class_names)
    known = dict(zip(dataset.values("sample_id"), zip(dataset.values("id"), dataset.values("synced"))))
    owners = dict(zip(dataset.values("filepath"), dataset.values("sample_id")))
    added = updated = unchanged = skipped = 0
    for chunk in chunks(items, BATCH_IMAGES):
        contents: dict[str, tuple[ReviewItem, dict[str, Any]]] = {}
        for item in chunk:
            path = str(item.image_path.absolute())
            if owners.setdefault(path, item.sample.sample_id) != item.sample.sample_id:
                raise RecordInvalid(f"samples {owners[path]} and {item.sample.sample_id} name one image file, {path}")
            content = sample_content(item)
            if not item.image_path.is_file():
                skipped += 1
            elif known.get(item.sample.sample_id, ("", ""))[1] == content["synced"]:
                unchanged += 1
            else:
                contents[item.sample.sample_id] = (item, content)
        new = [item for sample_id, (item, _) in contents.items() if sample_id not in known]
        added += len(new)
        updated += len(contents) - len(new)
        for sample_id, document_id in add_bare(dataset, new).items():
            known[sample_id] = (document_id, "")
        set_fields(dataset, {known[sample_id][0]: content for sample_id, (_, content) in contents.items()})
        known.update({sample_id: (known[sample_id][0], c["synced"]) for sample_id, (_, c) in contents.items()})
    dataset.reload()
    return SyncCounts(added, updated, unchanged, skipped)


def add_bare(dataset: Any, items: Sequence[ReviewItem]) -> dict[str, str]:
    """Add samples with their file and size only; document id by sample id. `set_fields` does the rest, much faster."""
    fo = fiftyone()
    samples = [
        fo.Sample(
            str(item.image_path.absolute()),
            sample_id=item.sample.sample_id,
            metadata=fo.ImageMetadata(width=item.sample.width, height=item.sample.height, num_channels=3),
        )
        for item in items
    ]
    dataset.add_samples(samples, progress=False)
    return {sample.sample_id: sample.id for sample in samples}


def set_fields(dataset: Any, by_document: dict[str, dict[str, Any]]) -> None:
    """Set fields of many samples in one write; one at a time through FiftyOne takes seconds a field."""
    from bson import ObjectId
    from pymongo import UpdateOne

    now = datetime.now(timezone.utc)  # the App's caches go by it
    writes = [
        UpdateOne({"_id": ObjectId(document)}, {"$set": {**fields, "last_modified_at": now}})
        for document, fields in by_document.items()
    ]
    if writes:
        samples_of(dataset).bulk_write(writes, ordered=False)


def samples_of(dataset: Any) -> Any:
    """The MongoDB collection that holds the dataset's samples."""
    return fiftyone().core.odm.get_db_conn()[dataset._sample_collection_name]


def remove_samples(name: str, sample_ids: Iterable[str]) -> int:
    """Take samples out of the dataset, when they are to be forgotten; how many there were."""
    dataset = fiftyone().load_dataset(name)
    there = dataset.match(fiftyone().ViewField("sample_id").is_in(list(sample_ids)))
    count = len(there)
    dataset.delete_samples(there)
    return count


def sample_content(item: ReviewItem) -> dict[str, Any]:
    """The fields of a sample as MongoDB holds them, with the digest of them all under `synced`."""
    sample, label = item.sample, item.label
    predictions = item.predictions
    records = detection_records(predictions) if isinstance(predictions, Detections) else tuple(predictions)
    records = tuple(record for record in records if record.confidence >= MATCHING_FLOOR)  # the tail: rows stay the same
    reviewed = label is not None and label.status == "done"
    content: dict[str, Any] = {
        "filepath": str(item.image_path.absolute()),
        PREDICTIONS: boxes_document(sample, PREDICTIONS, records),
        GROUND_TRUTH: boxes_document(sample, GROUND_TRUTH, label.boxes) if label and reviewed else None,
        "label_status": label.status if label else UNLABELLED,
        "annotator": label.annotator if label else None,
        "misses": None,
        "split": item.split or None,
        "batch": item.batch or None,
        "strategy": sample.strategy,
        "matched": list(sample.matched),
        "probability": sample.probability,
        "random_slice": sample.random_slice,
        "device": sample.device,
        "camera": sample.camera,
        "captured_at": sample.captured_at,
        "model_version": item.model_version or sample.model_version,
        "settings_version": sample.settings_version,
        "tags": list(sample.tags),
    }
    content["synced"] = hashlib.sha256(repr(content).encode()).hexdigest()[:16]
    return content


def boxes_document(sample: Sample, field: str, boxes: Sequence[Detection | LabelBox]) -> dict[str, Any]:
    """Boxes as the document of a `fiftyone.Detections`: left, top, width, height as shares of the image."""
    from bson import ObjectId

    documents = []
    for row, box in enumerate(boxes):
        x1, y1, x2, y2 = box.xyxy
        extra = {"confidence": box.confidence} if isinstance(box, Detection) else {"iscrowd": box.crowd}
        documents.append(
            {
                "_id": ObjectId(hashlib.sha256(f"{sample.sample_id}/{field}/{row}".encode()).digest()[:12]),
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": box.class_name,
                "bounding_box": [
                    x1 / sample.width,
                    y1 / sample.height,
                    (x2 - x1) / sample.width,
                    (y2 - y1) / sample.height,
                ],
                **extra,
            }
        )
    return {"_cls": "Detections", "detections": documents}


def chunks(items: Iterable[ReviewItem], size: int) -> Iterator[list[ReviewItem]]:
    """`items` in lists of at most `size`."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
