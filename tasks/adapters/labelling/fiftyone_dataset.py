"""A batch as a dataset of FiftyOne: made, kept whole, read without FiftyOne.

Reading goes to MongoDB itself: a pull by the loop costs no import of FiftyOne. What people write (`human`,
`review_status`, `skip_reason`, `confirm`) is set once, when an image comes in, and never again from here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tasks.adapters import review
from tasks.adapters.labelling.fiftyone_boxes import DONE, SKIPPED, STATES, TO_DO
from tasks.adapters.review.dataset import BATCH_IMAGES, add_bare, boxes_document, chunks, fiftyone, samples_of
from tasks.adapters.review.mongod import URI_VARIABLE
from tasks.adapters.review.views import slug_of
from tasks.core.entities import Detection, Label, Sample
from tasks.core.errors import LabellingUnavailable, ReviewUnavailable

HUMAN, CANDIDATES = "human", "candidates"
STATUS, REASON, CONFIRM, PROBLEM = "review_status", "skip_reason", "confirm", "problem"
COLOURS = {HUMAN: "#22c55e", CANDIDATES: "#a855f7"}
MARK = "edgeloop"  # key in a dataset's `info` of what is ours
FEW_CLASSES = 6  # that all fit on the page as buttons
READ = ("sample_id", "filepath", HUMAN, STATUS, REASON, CONFIRM, "tags", "last_modified_at")
VIEWS = {
    "To do": (STATUS, TO_DO, "Images that nobody has finished yet."),
    "Done": (STATUS, DONE, "Images that are done."),
    "Skipped": (STATUS, SKIPPED, "Images that were skipped."),
    "Refused": (PROBLEM, None, "Images that were not taken when labels were submitted last; `problem` says why."),
}

Document = Mapping[str, Any]


@contextmanager
def database() -> Iterator[Any]:
    """FiftyOne's database, without FiftyOne. Raises ReviewUnavailable where it does not answer."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        client: MongoClient[dict[str, Any]]
        with MongoClient(os.environ[URI_VARIABLE], tz_aware=True) as client:
            yield client[os.environ.get("FIFTYONE_DATABASE_NAME", "fiftyone")]
    except PyMongoError as error:
        raise ReviewUnavailable(
            f"the review database does not answer ({type(error).__name__}): try again; a server of your own is started "
            f"by you, and {URI_VARIABLE} names it"
        ) from None


def find(db: Any, name: str, mark: Mapping[str, str]) -> Document | None:
    """The dataset's own document, None where it does not exist or has not been marked yet.

    Raises LabellingUnavailable where a dataset of that name is something else.
    """
    document: Document | None = db.datasets.find_one({"name": name})
    found = ((document or {}).get("info") or {}).get(MARK)
    if document is None or (found is None and not db[document["sample_collection_name"]].find_one()):
        return None
    if found is None or any(found.get(key) != value for key, value in mark.items()):
        raise LabellingUnavailable(
            f"FiftyOne's dataset {name!r} is there and not of this batch: rename it or delete it"
        )
    return document


def documents(db: Any, dataset: Document) -> list[dict[str, Any]]:
    """Its samples, with what people write alone."""
    return list(db[dataset["sample_collection_name"]].find({}, dict.fromkeys(READ, 1)))


def is_whole(db: Any, dataset: Document, paths: Mapping[str, Path], schemas: Mapping[str, Any]) -> bool:
    """Whether nothing is left to be done about it: all images of `paths` are in, at these files, and can be edited."""
    if dataset["info"][MARK].get("schemas") != schemas:
        return False
    there = {d["sample_id"]: d for d in documents(db, dataset) if d.get("sample_id")}
    return all(
        sample_id in there and there[sample_id].get(STATUS) is not None and there[sample_id]["filepath"] == str(path)
        for sample_id, path in paths.items()
    )


def label_schemas(class_names: Sequence[str], skip_reasons: Sequence[str]) -> dict[str, Any]:
    """What the Annotate tab offers, field by field, in its order."""
    classes = {
        "type": "detections",
        "component": choice_of(class_names),
        "classes": list(class_names),
        "attributes": [],
    }
    return {
        HUMAN: classes,
        STATUS: {"type": "str", "component": "radio", "values": list(STATES)},
        REASON: {"type": "str", "component": choice_of(skip_reasons), "values": list(skip_reasons)}
        if skip_reasons
        else {"type": "str", "component": "text"},
        CONFIRM: {"type": "bool", "component": "toggle"},
        CANDIDATES: {**classes, "read_only": True},
        PROBLEM: {"type": "str", "component": "text", "read_only": True},
    }


def choice_of(values: Sequence[str]) -> str:
    return "radio" if len(values) <= FEW_CLASSES else "dropdown"


def make_dataset(name: str, mark: Mapping[str, str], class_names: Sequence[str]) -> Any:
    """The dataset of that name with its fields, made where it is not there, or was not finished."""
    fo = fiftyone()
    try:
        dataset = fo.load_dataset(name) if fo.dataset_exists(name) else fo.Dataset(name, persistent=True)
    except ValueError as error:
        raise LabellingUnavailable(f"FiftyOne's dataset {name!r} cannot be made: {error}") from None
    boxes = {"embedded_doc_type": fo.Detections}
    fields = [
        ("sample_id", fo.StringField, {}),
        (HUMAN, fo.EmbeddedDocumentField, {**boxes, "description": "what you correct"}),
        (CANDIDATES, fo.EmbeddedDocumentField, {**boxes, "description": "what the model doubts; never a label"}),
        (STATUS, fo.StringField, {}),
        (REASON, fo.StringField, {}),
        (CONFIRM, fo.BooleanField, {"description": "the boxes are right, although most that were there are gone"}),
        (PROBLEM, fo.StringField, {"description": "why the label was not taken when it was submitted last"}),
        ("camera", fo.StringField, {}),
        ("captured_at", fo.DateTimeField, {}),
    ]
    known = dataset.get_field_schema()
    for field, kind, options in fields:
        if field not in known:
            dataset.add_sample_field(field, kind, **options)
    if not dataset.has_field(f"{HUMAN}.detections.iscrowd"):
        dataset.add_sample_field(f"{HUMAN}.detections.iscrowd", fo.BooleanField)
        dataset.create_index("sample_id", unique=True)
        dataset.create_index(STATUS)
    if MARK not in dataset.info:
        dataset.app_config.color_scheme = fo.ColorScheme(
            color_by="field", fields=[{"path": path, "fieldColor": colour} for path, colour in COLOURS.items()]
        )
        dataset.default_classes = list(class_names)
        dataset.info[MARK] = {**mark, "reviewers": []}
        dataset.save()
    return dataset


def add_samples(
    dataset: Any, samples: Sequence[Sample], paths: Mapping[str, Path], content_of: Callable[[Sample], dict[str, Any]]
) -> None:
    """Bring in the images that are missing, in their order; what people have already is not touched.

    content_of: the fields of a new image. One that came in bare, because a push ended there, gets them now.
    """
    there = dict(zip(dataset.values("sample_id"), dataset.values("filepath")))
    new = [sample for sample in samples if sample.sample_id not in there]
    for chunk in chunks((review.ReviewItem(paths[sample.sample_id], sample) for sample in new), BATCH_IMAGES):
        add_bare(dataset, chunk)
    moved = {s.sample_id for s in samples if there.get(s.sample_id, str(paths[s.sample_id])) != str(paths[s.sample_id])}
    collection = samples_of(dataset)
    bare = {d["sample_id"] for d in collection.find({STATUS: None}, {"sample_id": 1})}
    now = datetime.now(timezone.utc)
    for sample in samples:
        one = {"sample_id": sample.sample_id}
        if sample.sample_id in bare:  # the condition again: a person may have begun since it was read
            content = {**content_of(sample), "last_modified_at": now}
            collection.update_one({**one, STATUS: None}, {"$set": content})
        if sample.sample_id in moved:
            collection.update_one(one, {"$set": {"filepath": str(paths[sample.sample_id])}})


def new_content(
    sample: Sample, seed: Label | None, known: Label | None, candidates: Sequence[Detection]
) -> dict[str, Any]:
    """The fields of an image as people find it: what they have said of it before, else the seed.

    known: a person's label of it, where the database was lost.
    """
    state = TO_DO if known is None else DONE if known.status == "done" else SKIPPED
    boxes = known if known is not None and state == DONE else seed
    return {
        HUMAN: boxes_document(sample, HUMAN, boxes.boxes if boxes else ()),
        CANDIDATES: boxes_document(sample, CANDIDATES, candidates),
        STATUS: state,
        REASON: (known.reason or None) if known else None,
        CONFIRM: None,
        PROBLEM: None,
        "camera": sample.camera,
        "captured_at": sample.captured_at,
    }


def activate(dataset: Any, schemas: Mapping[str, Any]) -> None:
    """Let the fields be edited as `schemas` say, and save the views; needs an image in the dataset."""
    if dataset.info[MARK].get("schemas") != schemas:
        dataset.set_label_schemas(dict(schemas))
        dataset.activate_label_schemas(list(schemas))
    for name, (field, value, description) in VIEWS.items():
        if not dataset.has_saved_view(name):
            path = fiftyone().ViewField(field)
            dataset.save_view(name, dataset.match(path.exists() if value is None else path == value), description)
    with database() as db:  # last: it says that all of this is there
        db.datasets.update_one({"name": dataset.name}, {"$set": {f"info.{MARK}.schemas": dict(schemas)}})
    dataset.reload()


def view_slug(name: str) -> str:
    """The part of a link that names a view."""
    return slug_of(name)
