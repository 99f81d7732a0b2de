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
    folder = _without_wrapper(folder)
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


def read_labels(
    folder: Path,
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    *,
    annotator: str,
    labelled_at: datetime,
) -> tuple[list[Label], Problems]:
    """The labels that were put back for a batch, with or without its images, and what was wrong with the others.

    samples: the batch, by sample id; files and COCO images are known by the sample id in their names. A sample without
    a label file is unlabelled and has no label here; one with an empty file was reviewed and found empty. Boxes are
    checked against the samples' own sizes. Raises LabelsInvalid when the folder holds no labels at all.
    """
    if not folder.is_dir():
        raise LabelsInvalid(f"{folder}: there is no such folder")
    folder = _without_wrapper(folder)
    coco_files = _files(folder, "*.json")
    if coco_files:
        return _from_coco(folder, coco_files, samples, class_names, annotator, labelled_at)
    xml_files = _files(folder, "*.xml")
    if xml_files:
        return _from_files(folder, xml_files, _voc_reader, samples, class_names, annotator, labelled_at)
    text_files = [path for path in _files(folder, "*.txt") if path.name not in NO_LABEL_FILES]
    if text_files:
        names_file = find_names(folder)
        written_with = names_of(names_file) if names_file is not None else tuple(class_names)
        reader = _yolo_reader(checked_class_names(written_with, "names"))
        return _from_files(folder, text_files, reader, samples, class_names, annotator, labelled_at)
    raise LabelsInvalid(f"{folder.name}: holds no labels; expected COCO (.json), VOC (.xml) or YOLO (.txt) files")


def _from_coco(
    folder: Path,
    files: Sequence[Path],
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    annotator: str,
    labelled_at: datetime,
) -> tuple[list[Label], Problems]:
    problems = Problems()
    labels: dict[str, Label] = {}
    for path in files:
        data = read_capped(path, MAX_JSON_BYTES)
        found, worse = labels_from_coco(
            data, samples, class_names, path.name, annotator=annotator, labelled_at=labelled_at
        )
        labels |= {label.sample_id: label for label in found}
        problems.counts.update(worse.counts)
        problems.lines.extend(worse.lines)
    return list(labels.values()), problems


def _from_files(
    folder: Path,
    files: Sequence[Path],
    read: Reader,
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    annotator: str,
    labelled_at: datetime,
) -> tuple[list[Label], Problems]:
    problems, labels = Problems(), []
    for path in files:
        where = path.relative_to(folder).as_posix()
        sample = samples.get(sample_id_in(path.stem))
        if sample is None:
            problems.add(UNKNOWN_IMAGE, where)
            continue
        try:
            boxes = read(path, where, sample, class_names, problems)
        except LabelsInvalid as error:
            problems.add(BAD_LINE, where, str(error))
            continue
        if boxes is not None:
            labels.append(Label(sample_id=sample.sample_id, boxes=boxes, annotator=annotator, labelled_at=labelled_at))
    return labels, problems


def _voc_reader(
    path: Path, where: str, sample: Sample, class_names: Sequence[str], problems: Problems
) -> tuple[LabelBox, ...] | None:
    voc = parse_voc(read_capped(path, MAX_TEXT_BYTES), where)
    return voc_boxes(voc, sample.width, sample.height, class_names, where, problems)


def _yolo_reader(written_with: Sequence[str]) -> Reader:
    """Reads with the class list of the files, which may be in another order than the project's."""

    def read(
        path: Path, where: str, sample: Sample, class_names: Sequence[str], problems: Problems
    ) -> tuple[LabelBox, ...] | None:
        boxes = parse_yolo(read_text(path), where, sample.width, sample.height, written_with, problems)
        strange = next((box.class_name for box in boxes or () if box.class_name not in class_names), None)
        if strange is not None:
            raise LabelsInvalid(f"class {strange!r} is not in the project's list")
        return boxes

    return read


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files below `folder`, but for hidden ones: macOS puts a `._labels.json` beside every `labels.json` in a zip."""
    found = (path for path in sorted(folder.rglob(pattern)) if inside(folder, path))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _without_wrapper(folder: Path) -> Path:
    """The folder, or the only thing in it when that is a folder too and none that a format gives a meaning to."""
    content = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(content) == 1 and content[0].is_dir() and not content[0].is_symlink():
        inner = content[0]
        meaningful = {"images", "labels", "annotations", "train", "valid", "val", "test", "Annotations"}
        return folder if inner.name in meaningful else _without_wrapper(inner)
    return folder
