"""Labels of many images as the files of one format, piece by piece: a label at a time is in memory, never the text.

    coco           annotations/instances_{split}.json, an entry a line     yolo    data.yaml, classes.txt, labels/
    labelstudio    labelstudio.json, a task a line                         voc     Annotations/, ImageSets/Main/

Each lies where its programs look for it beside `images/`, so that all of them fit into one folder. Without splits the
COCO file is instances_default.json, and labels lie in `labels/` itself. Equal labels give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import yaml

from tasks.adapters.labels.coco import annotation_record, image_record
from tasks.adapters.labels.labelstudio_json import task_of
from tasks.adapters.labels.voc import voc_bytes
from tasks.adapters.labels.yolo import yolo_text
from tasks.core.entities import Label, Sample

LabelFormat = Literal["coco", "yolo", "voc", "labelstudio"]
FORMATS: tuple[LabelFormat, ...] = get_args(LabelFormat)
SPLIT_FOLDERS = {"train": "train", "calibration": "val", "test": "test"}
LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of a file below the folder that it may serve

Part = tuple[str, Iterable[bytes]]  # the name of a file, and its content in pieces


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """split: a folder of SPLIT_FOLDERS, or empty."""

    sample: Sample
    label: Label
    split: str = ""

    @property
    def image(self) -> str:
        """Where the image lies."""
        return str(PurePosixPath("images", self.split, f"{self.sample.sample_id}.jpg"))


@dataclass(frozen=True)
class LabelSet:
    """Labelled images with their class list. name: of what they are, a batch or a dataset version.

    seeds: the labels are what people begin with, not what anybody said; who and when are then left out. blank: images
    that come without any; only Label Studio, which labels what is in its file, hears of them.
    """

    name: str
    images: Sequence[LabelledImage]
    class_names: Sequence[str]
    class_list_version: int = 1
    seeds: bool = False
    blank: Sequence[Sample] = ()

    @property
    def boxes(self) -> int:
        return sum(len(one.label.boxes) for one in self.images)

    @property
    def splits(self) -> list[str]:
        return sorted({image.split for image in self.images})

    def of_split(self, split: str) -> Iterator[LabelledImage]:
        return (image for image in self.images if image.split == split)


def parts_of(form: LabelFormat, labels: LabelSet) -> Iterator[Part]:
    """The files of one format. Skipped images are in none but COCO and Label Studio; crowd regions in none of YOLO."""
    return _WRITERS[form](labels)


def _coco(labels: LabelSet) -> Iterator[Part]:
    for split in labels.splits or [""]:
        yield f"annotations/instances_{split or 'default'}.json", _coco_pieces(labels, split)


def _coco_pieces(labels: LabelSet, split: str) -> Iterator[bytes]:
    category = {name: n for n, name in enumerate(labels.class_names, start=1)}
    info = {"description": f"labels of {labels.name}", "class_list_version": labels.class_list_version}
    yield f'{{"info": {json.dumps(info)},\n"categories": [\n'.encode()
    yield from _lines({"id": n, "name": name} for name, n in category.items())
    yield b'],\n"images": [\n'
    yield from _lines(_coco_image(n, one, labels) for n, one in enumerate(labels.of_split(split), start=1))
    yield b'],\n"annotations": [\n'
    boxes = ((n, box) for n, one in enumerate(labels.of_split(split), start=1) for box in one.label.boxes)
    yield from _lines(annotation_record(i, n, category[box.class_name], box) for i, (n, box) in enumerate(boxes, 1))
    yield b"]}\n"


def _coco_image(number: int, one: LabelledImage, labels: LabelSet) -> dict[str, Any]:
    record = image_record(number, one.label, one.sample)
    if labels.seeds:  # a program that keeps what it does not know must not sign as the model
        return {key: record[key] for key in ("id", "file_name", "width", "height", "sample_id")}
    return record


def _yolo(labels: LabelSet) -> Iterator[Part]:
    data = {"path": ".", **{split: f"images/{split}" for split in labels.splits if split}}
    data["names"] = dict(enumerate(labels.class_names))  # type: ignore[assignment]
    yield "data.yaml", [yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()]
    yield "classes.txt", ["".join(f"{name}\n" for name in labels.class_names).encode()]
    for one in labels.images:
        if one.label.status == "done":
            text = yolo_text(one.label.boxes, one.sample.width, one.sample.height, labels.class_names)
            yield str(PurePosixPath("labels", one.split, f"{one.sample.sample_id}.txt")), [text.encode()]


def _voc(labels: LabelSet) -> Iterator[Part]:
    for one in labels.images:
        if one.label.status == "done":
            content = voc_bytes(one.image.removeprefix("images/"), one.sample.width, one.sample.height, one.label.boxes)
            yield f"Annotations/{one.sample.sample_id}.xml", [content]
    for split in labels.splits:
        if split:
            yield (
                f"ImageSets/Main/{split}.txt",
                (f"{one.sample.sample_id}\n".encode() for one in labels.of_split(split)),
            )


def _labelstudio(labels: LabelSet) -> Iterator[Part]:
    yield "labelstudio.json", _tasks(labels)


def _tasks(labels: LabelSet) -> Iterator[bytes]:
    said = "seed" if labels.seeds else "label"
    every: list[tuple[Sample, str, dict[str, Label]]] = [
        *((one.sample, one.image, {said: one.label}) for one in labels.images),
        *((sample, f"images/{sample.sample_id}.jpg", {}) for sample in labels.blank),
    ]
    yield b"[\n"
    yield from _lines(
        task_of(n, sample, f"{LOCAL_FILES}{labels.name}/{image}", **label)
        for n, (sample, image, label) in enumerate(every, start=1)
    )
    yield b"]\n"


def _lines(records: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """JSON objects, one a line, so that a problem's line is its object's."""
    before = b""
    for record in records:
        yield before + json.dumps(record).encode()
        before = b",\n"
    yield b"\n"


_WRITERS: dict[LabelFormat, Callable[[LabelSet], Iterator[Part]]] = {
    "coco": _coco, "yolo": _yolo, "voc": _voc, "labelstudio": _labelstudio,
}  # fmt: skip
