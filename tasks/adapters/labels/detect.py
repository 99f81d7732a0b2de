"""Which format a dataset to import is in."""

from __future__ import annotations

from pathlib import Path

from tasks.adapters.labels.coco import find_coco, read_coco
from tasks.adapters.labels.dataset import ImportedDataset
from tasks.adapters.labels.voc import find_voc, read_voc
from tasks.adapters.labels.yolo import find_names, read_yolo
from tasks.core.errors import LabelsInvalid

_PLACES = "data.yaml (YOLO), _annotations.coco.json or annotations/*.json (COCO), or XML files (VOC)"
# Folders that mean something, and are not only put around the rest by whoever zipped it.
MEANINGFUL = ("images", "labels", "annotations", "train", "valid", "val", "test", "Annotations", "pre_annotations")


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
    while True:
        content = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        inner = content[0] if len(content) == 1 else folder
        if inner == folder or not inner.is_dir() or inner.is_symlink() or inner.name in MEANINGFUL:
            return folder
        folder = inner
