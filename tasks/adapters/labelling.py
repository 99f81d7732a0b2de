"""Labelling through files: a folder a batch goes out, labels come back into it.

    {folder}/{batch}/
      images/{sample}.jpg       what to label
      pre_annotations.json      COCO: what the model saw, for the images that may be seeded
      instructions.md           classes, and what to do
      labels/                   put there by the people (or the program) who label: COCO, YOLO or VOC; may be partial and grow
      problems.txt              what was wrong with them, a line each

An image with an empty label is reviewed and empty; an image without one is not labelled yet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from tasks.adapters.labels import labels_from_coco, read_labels, revision_bytes
from tasks.core.entities import STUB, Batch, Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds


class LabellingStatus(BaseModel):
    """How far people are with a batch, in images."""

    offered: int
    done: int
    skipped: int = 0

    @property
    def complete(self) -> bool:
        return self.done + self.skipped >= self.offered


class Labelling(Protocol):
    """Where people label: files here, other interfaces beside it."""

    def push(self, batch: Batch, image_of: Callable[[Sample], Path], thresholds: Thresholds) -> None: ...

    def status(self, batch: Batch) -> LabellingStatus: ...

    def pull(self, batch: Batch) -> list[Label]: ...

    def seeds(self, batch: Batch) -> dict[str, Label]: ...

    def where(self, batch_id: str) -> str: ...


INSTRUCTIONS = """# {batch}

{images} images in `images/`. Draw a box around every object of these classes, as tightly as you can: {classes}.

`pre_annotations.json` (COCO) holds what the model saw in {seeded} of them: correct it, and add what it overlooked.
The other images come without pre-annotations on purpose: they measure the model.

Put the result into `labels/` here, as COCO, YOLO or VOC, with the file names of `images/`. An image with an empty label
counts as reviewed and empty; leave out what you have not looked at. More labels can be put there at any time.
"""


class FilesLabelling:
    """Batches as folders below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self, batch_id: str) -> str:
        return str(self._folder / batch_id)

    def push(self, batch: Batch, image_of: Callable[[Sample], Path], thresholds: Thresholds) -> None:
        """Lay the folder of `batch` out; what people have put there already stays.

        Pre-annotations are the detections at or above the operating `thresholds`.
        """
        target = self._folder / batch.batch_id
        for part in ("images", "labels"):
            (target / part).mkdir(parents=True, exist_ok=True)
        for sample in batch.samples:
            link_or_copy(image_of(sample), target / "images" / f"{sample.sample_id}.jpg")
        seeded = [sample for sample in batch.samples if is_seeded(batch, sample)]
        labels = [pre_annotation(sample, batch.class_names, thresholds) for sample in seeded]
        write_labels(target / "pre_annotations.json", batch, labels)
        text = INSTRUCTIONS.format(
            batch=batch.batch_id, images=len(batch.samples), classes=", ".join(batch.class_names), seeded=len(seeded)
        )
        (target / "instructions.md").write_text(text)

    def put_back(self, batch: Batch, labels: Sequence[Label]) -> None:
        """What a labelling program does: one COCO file into `labels/`."""
        write_labels(self._folder / batch.batch_id / "labels" / "labels.json", batch, labels)

    def status(self, batch: Batch) -> LabellingStatus:
        labels = self.pull(batch)
        skipped = sum(label.status == "skipped" for label in labels)
        return LabellingStatus(offered=len(batch.samples), done=len(labels) - skipped, skipped=skipped)

    def pull(self, batch: Batch) -> list[Label]:
        """The labels that are there, by sample id. What is wrong with them goes to `problems.txt`."""
        folder = self._folder / batch.batch_id
        files = [path for path in (folder / "labels").rglob("*") if path.is_file()]
        if not files:
            return []
        newest = datetime.fromtimestamp(max(path.stat().st_mtime for path in files), timezone.utc)
        samples = {sample.sample_id: sample for sample in batch.samples}
        try:
            labels, problems = read_labels(
                folder / "labels", samples, batch.class_names, annotator="files", labelled_at=newest
            )
            lines = problems.lines
        except LabelsInvalid as error:
            labels, lines = [], [str(error)]
        if lines:
            (folder / "problems.txt").write_text("".join(f"{line}\n" for line in lines))
        else:
            (folder / "problems.txt").unlink(missing_ok=True)
        return sorted(labels, key=lambda label: label.sample_id)

    def seeds(self, batch: Batch) -> dict[str, Label]:
        """What people saw before they began, by sample id."""
        path = self._folder / batch.batch_id / "pre_annotations.json"
        samples = {sample.sample_id: sample for sample in batch.samples}
        labels, _ = labels_from_coco(path.read_bytes(), samples, batch.class_names, path.name)
        return {label.sample_id: label for label in labels}


def is_seeded(batch: Batch, sample: Sample) -> bool:
    """Whether people see pre-annotations: never on test and calibration images, nor where there was no model."""
    return sample.sample_id not in batch.unseeded and sample.model_version != STUB and batch.origin == "devices"


def pre_annotation(sample: Sample, class_names: Sequence[str], thresholds: Thresholds) -> Label:
    """What the model saw in a sample at the operating thresholds, in the form of a label."""
    boxes = tuple(
        LabelBox(class_name=d.class_name, xyxy=d.xyxy)
        for d in sample.detections
        if d.class_name in class_names and d.confidence >= thresholds.get(d.class_name, DEFAULT_THRESHOLD)
    )
    return Label(
        sample_id=sample.sample_id,
        boxes=boxes,
        annotator=sample.model_version,
        labelled_at=sample.captured_at,
        seeded=True,
    )


def write_labels(path: Path, batch: Batch, labels: Sequence[Label]) -> None:
    """COCO, whole or not at all: people may read it at any moment."""
    samples = {sample.sample_id: sample for sample in batch.samples}
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(revision_bytes(labels, samples, batch.class_names))
    os.replace(temporary, path)


def link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
