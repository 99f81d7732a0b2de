"""Which format a folder holds: a whole dataset to import, or the labels that came back for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tasks.adapters.labels.coco import UNKNOWN_IMAGE, find_coco, labels_from_coco, read_coco, sample_id_in
from tasks.adapters.labels.dataset import (
    BAD_LINE,
    MAX_JSON_BYTES,
    MAX_TEXT_BYTES,
    ImportedDataset,
    Problems,
    checked_class_names,
    inside,
    read_capped,
    read_text,
)
from tasks.adapters.labels.voc import find_voc, parse_voc, read_voc, voc_boxes
from tasks.adapters.labels.yolo import find_names, names_of, parse_yolo, read_yolo
from tasks.core.entities import Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid

NO_LABEL_FILES = ("data.yaml", "classes.txt", "notes.txt", "readme.txt", "README.dataset.txt", "README.roboflow.txt")
_PLACES = "data.yaml (YOLO), _annotations.coco.json or annotations/*.json (COCO), or XML files (VOC)"

# Path, its name for messages, the sample, the project's classes -> boxes, or None where the sample must be skipped.
Reader = Callable[[Path, str, Sample, Sequence[str], Problems], "tuple[LabelBox, ...] | None"]


def read_dataset(folder: Path) -> ImportedDataset:
    """The labelled images of a YOLO, COCO or VOC dataset.

    Bad images and labels are skipped, counted and reported; LabelsInvalid where the dataset as a whole cannot be used.
    A folder that holds nothing but one other folder, as archives do, is entered.
    """
    if not folder.is_dir():
        raise LabelsInvalid(f"{folder}: there is no such folder")
    folder = without_wrapper(folder)
    names_file = find_names(folder)
    if names_file is not None:
        return read_yolo(folder, names_file)
    coco_files = find_coco(folder)
    if coco_files:
        return read_coco(folder, coco_files)
    voc_files = find_voc(folder)
    if voc_files:
        return read_voc(folder, voc_files)
    raise LabelsInvalid(f"{folder.name}: no dataset found; expected {_PLACES}")


def without_wrapper(folder: Path) -> Path:
    """The folder, or the only thing in it when that is a folder too and none that a format gives a meaning to."""
    content = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(content) == 1 and content[0].is_dir() and not content[0].is_symlink():
        inner = content[0]
        meaningful = {"images", "labels", "annotations", "train", "valid", "val", "test", "Annotations"}
        return folder if inner.name in meaningful else without_wrapper(inner)
    return folder
