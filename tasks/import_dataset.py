"""Import: a labelled dataset becomes samples and labels in the bucket, with the splits that it had."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import cv2
from prefect import task
from pydantic import BaseModel

from tasks.adapters.labels import ImportedDataset, ImportedImage, read_dataset, revision_bytes
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, Batch, Label, LabelBox, Sample, content_id, sample_id_of
from tasks.core.errors import ClassesDoNotOverlap, ImageUnreadable
from tasks.core.settings import ProjectSettings
from tasks.core.splits import IMPORTED, SPLIT_TAGS

JPEG_MAGIC = b"\xff\xd8\xff"
ANNOTATOR = "import"


class Imported(BaseModel):
    """What came out of a dataset, and what was left out, by reason."""

    batches: tuple[str, ...]
    images: int
    boxes: int
    by_split: dict[str, int]
    left_out: dict[str, int]
    report: tuple[str, ...]


@task(task_run_name="import {folder}", retries=1, retry_delay_seconds=5)
def take_in_dataset(project: ProjectSettings, folder: Path, renames: Mapping[str, str]) -> Imported:
    """Images to the bucket, their labels as revision 1 of batches. Importing the same dataset again changes nothing."""
    dataset = read_dataset(folder)
    check_classes(dataset, project, renames, folder)
    central = Central(project)
    left_out = Counter(dataset.skipped)
    if dataset.unlabelled:
        left_out["images without a label file"] += len(dataset.unlabelled)
    device = device_of(folder)
    pairs = []
    for image in dataset.images:
        try:
            content = jpeg_of(image.path)
        except ImageUnreadable:
            left_out["images that cannot be decoded"] += 1
            continue
        sample = sample_of(image, content, device)
        central.bucket.put(layout.sample_image(device, sample.captured_at, sample.sample_id), content)
        pairs.append((sample, label_of(image, sample, project, renames, left_out)))
    pairs = list({sample.sample_id: (sample, label) for sample, label in pairs}.values())  # the same picture twice
    size = project.labelling.max_images
    batches = [store_batch(central, device, pairs[i : i + size]) for i in range(0, len(pairs), size)]
    return Imported(
        batches=tuple(batches),
        images=len(pairs),
        boxes=sum(len(label.boxes) for _, label in pairs),
        by_split=dict(Counter(image.split or "none" for image in dataset.images)),
        left_out={reason: n for reason, n in left_out.items() if n},
        report=dataset.report,
    )


def check_classes(dataset: ImportedDataset, project: ProjectSettings, renames: Mapping[str, str], folder: Path) -> None:
    names = {renames.get(name, name) for name in dataset.class_names}
    if not names & set(project.classes):
        raise ClassesDoNotOverlap(
            f"{folder}: its classes ({', '.join(dataset.class_names)}) and the project's ({', '.join(project.classes)}) "
            f"share no name: map them with --rename old=new"
        )


def device_of(folder: Path) -> str:
    """The device that imported images hang below."""
    slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:50]
    return f"import-{slug or 'dataset'}"


def jpeg_of(path: Path) -> bytes:
    """The file itself when it is a JPEG, else its pixels as one."""
    content = path.read_bytes()
    if content.startswith(JPEG_MAGIC):
        return content
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ImageUnreadable(f"{path}: cannot be decoded: it is left out")
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def sample_of(image: ImportedImage, content: bytes, device: str) -> Sample:
    """A photograph as a sample: no camera, not drawn at random, its split as a tag."""
    tag = next((tag for tag, split in SPLIT_TAGS.items() if split == image.split), None)
    return Sample(
        sample_id=sample_id_of(content),
        sha256=hashlib.sha256(content).hexdigest(),
        device=device,
        camera=IMPORTED,
        captured_at=datetime.fromtimestamp(int(image.path.stat().st_mtime), timezone.utc),
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
    return Label(sample_id=sample.sample_id, boxes=tuple(boxes), annotator=ANNOTATOR, labelled_at=sample.captured_at)


def store_batch(central: Central, device: str, pairs: Sequence[tuple[Sample, Label]]) -> str:
    """One batch with its labels; its id follows from its content."""
    samples = tuple(sample for sample, _ in pairs)
    batch = Batch(
        batch_id=f"{device}-{content_id(*(s.sample_id for s in samples))}"[-63:].strip("-"),
        created_at=max(sample.captured_at for sample in samples),
        class_names=central.project.classes,
        class_list_version=central.project.class_list_version,
        samples=samples,
        unseeded=tuple(sample.sample_id for sample in samples),
        origin="import",
    )
    content = revision_bytes([label for _, label in pairs], {s.sample_id: s for s in samples}, batch.class_names)
    central.bucket.create_record(layout.batch(batch.batch_id), batch)
    central.bucket.create(layout.labels(batch.batch_id, 1), content)
    return batch.batch_id
