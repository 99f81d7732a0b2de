"""Import: a labelled dataset becomes samples and labels in the bucket, with the splits that it had."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from prefect import task
from pydantic import BaseModel

from tasks.adapters.images import as_jpeg
from tasks.adapters.labels import ImportedDataset, ImportedImage, read_dataset
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, Batch, Label, LabelBox, Sample, Split, content_id, sample_id_of
from tasks.core.errors import ClassesDoNotOverlap, ImageUnreadable, SettingsError
from tasks.core.settings import ProjectSettings
from tasks.core.splits import IMPORTED, SPLIT_TAGS, assign_split

ANNOTATOR = "import"
STRICTEST_FIRST: tuple[Split, ...] = ("test", "calibration", "train", "excluded")
UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=timezone.utc)  # photographs of a dataset do not say when they were taken


class Imported(BaseModel):
    """What came out of a dataset, and what was left out, by reason. revisions: batch -> its newest label revision."""

    revisions: dict[str, int]
    images: int
    boxes: int
    by_split: dict[str, int]
    left_out: dict[str, int]
    report: tuple[str, ...]


@task(task_run_name="import {folder}")
def take_in_dataset(project: ProjectSettings, folder: Path, renames: Mapping[str, str]) -> Imported:
    """Images to the bucket, their labels as a revision of batches.

    Importing the same dataset again changes nothing, also from a copy; where its labels were mended, they become the
    next revision. Classes that were added to the project since make new batches. Not retried: a person waits, and what
    may pass the bucket itself tries again.
    """
    dataset = read_dataset(folder)
    check_classes(dataset, project, renames, folder)
    central = Central(project)
    left_out = Counter(dataset.skipped)
    device = device_of(folder)
    pairs = []
    for image in dataset.images:
        try:
            content = as_jpeg(image.path, image.width, image.height)
        except ImageUnreadable:
            left_out["image that cannot be decoded"] += 1
            continue
        sample = sample_of(image, content, device)
        central.bucket.put(layout.sample_image(device, sample.captured_at, sample.sample_id), content)
        pairs.append((sample, label_of(image, sample, project, renames, left_out)))
    unique = each_picture_once(pairs)
    left_out["picture that is there twice"] += len(pairs) - len(unique)
    size = project.labelling.max_images
    revisions = dict(store_batch(central, device, unique[i : i + size]) for i in range(0, len(unique), size))
    return Imported(
        revisions=revisions,
        images=len(unique),
        boxes=sum(len(label.boxes) for _, label in unique),
        by_split=dict(Counter(assign_split(sample) for sample, _ in unique)),
        left_out={reason: n for reason, n in left_out.items() if n},
        report=dataset.report,
    )


def check_classes(dataset: ImportedDataset, project: ProjectSettings, renames: Mapping[str, str], folder: Path) -> None:
    """A name that nobody has is a typo, and would leave boxes out without a word."""
    theirs, ours = ", ".join(dataset.class_names), ", ".join(project.classes)
    for old, new in renames.items():
        if old not in dataset.class_names:
            raise SettingsError(f"--rename {old}={new}: {folder} has no class {old!r}: use one of {theirs}")
        if new not in project.classes:
            raise SettingsError(f"--rename {old}={new}: the project has no class {new!r}: use one of {ours}")
    if not {renames.get(name, name) for name in dataset.class_names} & set(project.classes):
        raise ClassesDoNotOverlap(
            f"{folder}: its classes ({theirs}) and the project's ({ours}) share no name: map them with --rename old=new"
        )


def device_of(folder: Path) -> str:
    """The device that imported images hang below; short enough that the id of a batch can begin with it."""
    slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower())[:39].strip("-")
    return f"import-{slug or 'dataset'}"


def sample_of(image: ImportedImage, content: bytes, device: str) -> Sample:
    """A photograph as a sample: no camera, not drawn at random, its split as a tag."""
    tag = next((tag for tag, split in SPLIT_TAGS.items() if split == image.split), None)
    return Sample(
        sample_id=sample_id_of(content),
        sha256=hashlib.sha256(content).hexdigest(),
        device=device,
        camera=IMPORTED,
        captured_at=UNKNOWN_TIME,
        width=image.width,
        height=image.height,
        source=image.path.name,
        strategy=IMPORTED,
        matched=(IMPORTED,),
        tags=(tag,) if tag else (),
        probability=1.0,
        random_slice=False,
        model_version=STUB,
        settings_version=IMPORTED,
    )


def label_of(
    image: ImportedImage, sample: Sample, project: ProjectSettings, renames: Mapping[str, str], left_out: Counter[str]
) -> Label:
    """The label with the project's class names; boxes of classes that the project lacks are left out and counted."""
    boxes = []
    for box in image.boxes:
        name = renames.get(box.class_name, box.class_name)
        if name in project.classes:
            boxes.append(LabelBox(class_name=name, xyxy=box.xyxy, crowd=box.crowd))
        else:
            left_out[f"boxes of class {box.class_name!r}, which the project does not have"] += 1
    now = datetime.now(timezone.utc)
    return Label(sample_id=sample.sample_id, boxes=tuple(boxes), annotator=ANNOTATOR, labelled_at=now)


def each_picture_once(pairs: Iterable[tuple[Sample, Label]]) -> list[tuple[Sample, Label]]:
    """Of the same picture in several splits the strictest one: what tests must not train."""
    unique: dict[str, tuple[Sample, Label]] = {}
    for sample, label in sorted(pairs, key=lambda pair: STRICTEST_FIRST.index(assign_split(pair[0]))):
        unique.setdefault(sample.sample_id, (sample, label))
    return list(unique.values())


def store_batch(central: Central, device: str, pairs: Sequence[tuple[Sample, Label]]) -> tuple[str, int]:
    """One batch and the revision of its labels; the batch's id follows from its images and the class list."""
    samples = tuple(sample for sample, _ in pairs)
    classes = central.project.classes
    batch = Batch(
        batch_id=f"{device}-{content_id(*(s.sample_id for s in samples), *classes)}",
        created_at=UNKNOWN_TIME,
        class_names=classes,
        class_list_version=central.project.class_list_version,
        samples=samples,
        unseeded=tuple(sample.sample_id for sample in samples),
        origin="import",
    )
    revision, _ = central.store_labels(central.store_batch(batch), [label for _, label in pairs])
    return batch.batch_id, revision
