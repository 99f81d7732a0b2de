"""Labelling through files: a folder a batch goes out, a `labels.json` comes back.

    {folder}/{batch}/
      images/{sample}.jpg       what to label
      pre_annotations.json      COCO: what the model saw, for the images that may be seeded
      instructions.md           classes, and what to do
      labels.json               COCO, put there by the people (or the program) who label; may be partial and may grow
      problems.txt              what was wrong with labels.json, a line each

An image that `labels.json` names without a box is reviewed and empty; one that it does not name is not labelled yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from tasks.adapters.labels import read_coco_labels, write_coco_labels
from tasks.core.entities import Batch, Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid
from tasks.core.settings import Thresholds


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

    def where(self, batch_id: str) -> str: ...


INSTRUCTIONS = """# {batch}

{images} images in `images/`. Draw a box around every object of these classes, as tightly as you can: {classes}.

`pre_annotations.json` (COCO) holds what the model saw in {seeded} of them: correct it, and add what it overlooked.
The other images come without pre-annotations on purpose: they measure the model.

Put the result here as `labels.json` (COCO, with the file names of `images/`). An image that it names without a box counts
as reviewed and empty; leave out what you have not looked at. You can put a larger `labels.json` here at any time.
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
        images = target / "images"
        images.mkdir(parents=True, exist_ok=True)
        for sample in batch.samples:
            link_or_copy(image_of(sample), images / f"{sample.sample_id}.jpg")
        seeded = [s for s in batch.samples if s.sample_id not in batch.unseeded and s.model_version != "stub"]
        labels = [pre_annotation(sample, batch.class_names, thresholds) for sample in seeded]
        write_coco_labels(target / "pre_annotations.json", labels, seeded, batch.class_names)
        text = INSTRUCTIONS.format(
            batch=batch.batch_id, images=len(batch.samples), classes=", ".join(batch.class_names), seeded=len(seeded)
        )
        (target / "instructions.md").write_text(text)

    def status(self, batch: Batch) -> LabellingStatus:
        labels = self.pull(batch)
        skipped = sum(label.status == "skipped" for label in labels)
        return LabellingStatus(offered=len(batch.samples), done=len(labels) - skipped, skipped=skipped)

    def pull(self, batch: Batch) -> list[Label]:
        """The labels that are there, by sample id. What is wrong with the file goes to `problems.txt`."""
        folder = self._folder / batch.batch_id
        path = folder / "labels.json"
        if not path.exists():
            return []
        try:
            labels, problems = read_coco_labels(path, batch.samples, batch.class_names)
        except LabelsInvalid as error:
            labels, problems = [], [str(error)]
        if problems:
            (folder / "problems.txt").write_text("".join(f"{line}\n" for line in problems))
        else:
            (folder / "problems.txt").unlink(missing_ok=True)
        return sorted(labels, key=lambda label: label.sample_id)


def pre_annotation(sample: Sample, class_names: tuple[str, ...], thresholds: Thresholds) -> Label:
    """What the model saw in a sample, in the form of a label."""
    boxes = tuple(
        LabelBox(class_name=d.class_name, xyxy=d.xyxy)
        for d in sample.detections
        if d.class_name in class_names and d.confidence >= thresholds.get(d.class_name, 0.5)
    )
    return Label(
        sample_id=sample.sample_id, boxes=boxes, annotator=sample.model_version, labelled_at=sample.captured_at, seeded=True
    )


def link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def digest_of(labels: list[Label]) -> str:
    """Equal labels give equal digests: a pull without news makes no new revision."""
    content = [label.model_dump(mode="json") for label in labels]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
