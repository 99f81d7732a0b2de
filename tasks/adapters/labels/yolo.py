"""YOLO files: a line a box, `class cx cy w h` as fractions of the image, and a data.yaml with the class names.

Both layouts are read, `images/train` with `labels/train` and Roboflow's `train/images` with `train/labels`, also labels
beside their images, and `classes.txt` in place of data.yaml. Lines of polygons count as the boxes around them.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.adapters.labels.dataset import (
    BAD_LINE,
    CORRUPT_IMAGE,
    MAX_BOXES,
    MISSING_IMAGE,
    UNKNOWN_CLASS,
    UNLABELLED,
    WITHOUT_AREA,
    BadBox,
    ImportedDataset,
    ImportedImage,
    Problems,
    checked_box,
    checked_class_names,
    image_size,
    images_below,
    inside,
    read_text,
    split_of_name,
)
from tasks.core.entities import DatasetEntry, LabelBox, Split
from tasks.core.errors import ImageUnreadable, LabelsInvalid
from tasks.core.splits import source_group_of

SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
NAME_FILES = ("classes.txt", "obj.names")

# PyYAML's safe loader raises more than its own errors on tagged scalars such as `!!timestamp x`.
_NOT_YAML = (
    yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, RecursionError,
)  # fmt: skip


def find_names(root: Path) -> Path | None:
    """The data.yaml, or the classes.txt, of a YOLO dataset; None when the folder holds none."""
    for candidate in sorted([*root.glob("*.yaml"), *root.glob("*.yml")], key=lambda p: (p.stem != "data", p.name)):
        if inside(root, candidate) and (candidate.stem in ("data", "dataset") or _has_names(candidate)):
            return candidate
    return next((root / name for name in NAME_FILES if inside(root, root / name)), None)


def names_of(names_file: Path) -> tuple[str, ...]:
    """The class names of a data.yaml or classes.txt."""
    if names_file.name in NAME_FILES:
        lines = [line.strip() for line in read_text(names_file).splitlines()]
        return checked_class_names([line for line in lines if line], names_file.name)
    return _class_names(_load_yaml(names_file), names_file.name)


def read_yolo(root: Path, names_file: Path) -> ImportedDataset:
    """A YOLO dataset. Raises LabelsInvalid when the class names or all image folders are missing."""
    class_names = names_of(names_file)
    settings = {} if names_file.name in NAME_FILES else _load_yaml(names_file)
    keypoints = "kpt_shape" in settings
    problems, images, unlabelled = Problems(), [], []
    for path, split in _images(root, names_file.parent, settings):
        label_file = _label_file(root, path)
        if label_file is None:
            unlabelled.append(path)
            problems.add(UNLABELLED, _relative(root, path))
            continue
        image = _read_image(root, path, split, label_file, class_names, keypoints, problems)
        if image is not None:
            images.append(image)
    if not images and not unlabelled and not problems.counts:
        raise LabelsInvalid(f"{names_file.name}: none of its image folders holds an image: check its paths")
    return ImportedDataset(
        "yolo", class_names, tuple(images), tuple(unlabelled), dict(problems.counts), tuple(problems.lines)
    )


def parse_yolo(
    text: str,
    where: str,
    width: int,
    height: int,
    class_names: Sequence[str],
    problems: Problems,
    *,
    keypoints: bool = False,
) -> tuple[LabelBox, ...] | None:
    """The boxes of one label file; None when the image must be skipped, with the reason counted in `problems`.

    keypoints: lines are pose labels, whose first five numbers are the box.
    """
    lines = [(n, line.split()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if len(lines) > MAX_BOXES:
        problems.add(BAD_LINE, where, f"{len(lines)} boxes; an image has at most {MAX_BOXES}")
        return None
    boxes, whole = [], True
    for n, words in lines:
        try:
            boxes.append(_parse_line(words, width, height, class_names, keypoints))
        except BadBox as error:
            problems.add(error.reason, f"{where}:{n}", str(error))
            whole = whole and error.reason == WITHOUT_AREA
    return tuple(boxes) if whole else None


def yolo_text(boxes: Iterable[LabelBox], width: int, height: int, class_names: Sequence[str]) -> str:
    """The label file of one image. Crowd regions and boxes of other classes are left out."""
    index = {name: i for i, name in enumerate(class_names)}
    lines = []
    for box in boxes:
        if box.class_name not in index or box.crowd:
            continue
        x1, y1, x2, y2 = box.xyxy
        parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{index[box.class_name]} " + " ".join(f"{v:.8f}" for v in parts) + "\n")
    return "".join(lines)


# --- writing for training --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """A dataset written for a trainer: images and boxes by split, and what could not be written, by reason."""

    data_yaml: Path
    images: dict[str, int]
    boxes: dict[str, int]
    skipped: dict[str, int]


def write_yolo(
    folder: Path, entries: Iterable[DatasetEntry], class_names: Sequence[str], image_paths: Mapping[str, Path]
) -> TrainingFolder:
    """Training and calibration images with their labels; test images never get near a trainer.

    Calibration serves as the trainer's `val`, or training itself when there is none. image_paths: local files by sample
    id, linked where the file system allows and copied elsewhere. What the folder held before of `images` and `labels`
    is replaced.
    """
    for part in ("images", "labels"):
        shutil.rmtree(folder / part, ignore_errors=True)
    problems, images, boxes = Problems(), {"train": 0, "calibration": 0}, {"train": 0, "calibration": 0}
    for entry in entries:
        if entry.split not in images:
            continue
        source = image_paths.get(entry.sample.sample_id)
        if source is None or not source.is_file():
            problems.add(MISSING_IMAGE, entry.sample.sample_id)
            continue
        part = "train" if entry.split == "train" else "val"
        text = yolo_text(entry.label.boxes, entry.sample.width, entry.sample.height, class_names)
        _link(source, folder / "images" / part / f"{entry.sample.sample_id}{source.suffix.lower() or '.jpg'}")
        label_file = folder / "labels" / part / f"{entry.sample.sample_id}.txt"
        label_file.parent.mkdir(parents=True, exist_ok=True)
        label_file.write_text(text)
        images[entry.split] += 1
        boxes[entry.split] += text.count("\n")
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/val" if images["calibration"] else "images/train",
        "names": dict(enumerate(class_names)),
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return TrainingFolder(folder / "data.yaml", images, boxes, dict(problems.counts))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


# --- reading ---------------------------------------------------------------------------------------------------------


def _has_names(path: Path) -> bool:
    try:
        return "names" in _load_yaml(path)
    except LabelsInvalid:  # some other program's file
        return False


def _load_yaml(path: Path) -> Mapping[str, Any]:
    try:
        data = yaml.safe_load(read_text(path))
    except _NOT_YAML as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LabelsInvalid(f"{path.name}: not valid YAML: {problem[:120]}") from None
    return data if isinstance(data, Mapping) else {}


def _class_names(settings: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = settings.get("names")
    if isinstance(names, Mapping):
        if sorted(map(str, names)) != sorted(str(i) for i in range(len(names))):
            raise LabelsInvalid(f"{where}: names must be numbered 0 to {len(names) - 1} without gaps")
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise LabelsInvalid(f"{where}: names must list the class names")
    count = settings.get("nc")
    if count is not None and count != len(names):
        raise LabelsInvalid(f"{where}: nc is {str(count)[:20]}, but names has {len(names)}: correct one of them")
    return checked_class_names(names, where)


def _images(root: Path, folder: Path, settings: Mapping[str, Any]) -> list[tuple[Path, Split | None]]:
    """Every image with its split, as data.yaml says, or as the folders are named where it does not say or is wrong."""
    found: dict[Path, Split | None] = {}
    for key in SPLIT_KEYS:
        values = settings.get(key)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and value:
                for path in _listed(root, folder, str(settings.get("path") or ""), value):
                    found.setdefault(path, split_of_name(key))
    if not found:
        for key in SPLIT_KEYS:
            place = inside(root, folder / "images" / key, folder / key / "images", folder / key)
            for path in images_below(root, place) if place else ():
                found.setdefault(path, split_of_name(key))
    if not found:
        found = dict.fromkeys(images_below(root, inside(root, folder / "images") or folder), None)
    return list(found.items())


def _listed(root: Path, folder: Path, base: str, value: str) -> list[Path]:
    """The images of a split: a folder, or a text file that lists them.

    Roboflow writes `../train/images` where `train/images` is meant, and `path` often names another machine.
    """
    below = value.removeprefix("../").removeprefix("./")
    place = inside(root, folder / base / value, folder / base / below, folder / value, folder / below)
    if place is None:
        return []
    if place.is_dir():
        return list(images_below(root, place))
    if place.suffix != ".txt":
        return []
    lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
    paths = (inside(root, place.parent / line, folder / base / line, folder / line) for line in lines)
    return [path for path in paths if path is not None and path.is_file()]


def _label_file(root: Path, image: Path) -> Path | None:
    """labels/x.txt for images/x.jpg (the last folder of that name), else x.txt beside x.jpg."""
    parts = list(image.parent.parts)
    candidates = [image.with_suffix(".txt")]
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        candidates.insert(0, Path(*parts[:at], "labels", *parts[at + 1 :], f"{image.stem}.txt"))
    found = inside(root, *candidates)
    return found if found is not None and found.is_file() else None


def _read_image(
    root: Path,
    path: Path,
    split: Split | None,
    label_file: Path,
    class_names: Sequence[str],
    keypoints: bool,
    problems: Problems,
) -> ImportedImage | None:
    try:
        width, height = image_size(path)
    except ImageUnreadable as error:
        problems.add(CORRUPT_IMAGE, _relative(root, path), str(error))
        return None
    where = _relative(root, label_file)
    try:
        text = read_text(label_file)
    except LabelsInvalid as error:
        problems.add(BAD_LINE, where, str(error))
        return None
    boxes = parse_yolo(text, where, width, height, class_names, problems, keypoints=keypoints)
    return None if boxes is None else ImportedImage(path, split, width, height, boxes, source_group_of(path.name))


def _parse_line(words: Sequence[str], width: int, height: int, class_names: Sequence[str], keypoints: bool) -> LabelBox:
    try:
        class_id, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise BadBox(BAD_LINE, f"{' '.join(words)[:60]!r} is not a line of numbers") from None
    if not all(math.isfinite(v) for v in (class_id, *values)):
        raise BadBox(BAD_LINE, f"{' '.join(words)[:60]!r} is not finite")
    if not class_id.is_integer() or not 0 <= class_id < len(class_names):
        raise BadBox(UNKNOWN_CLASS, f"class {words[0][:20]} of {len(class_names)}")
    if keypoints and len(values) > 4:
        values = values[:4]
    if len(values) == 4:
        cx, cy, w, h = values
        if w < 0 or h < 0:
            raise BadBox(BAD_LINE, f"a box of {w} x {h}")
        corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        corners = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    else:
        raise BadBox(BAD_LINE, f"{len(values)} numbers after the class; a box has 4, a polygon 6 or more")
    # Fractions are written with 6 or more digits: a hundredth of a pixel at best.
    scaled = [round(v * side, 2) for v, side in zip(corners, (width, height, width, height))]
    box = checked_box(scaled, width, height)
    return LabelBox(class_name=class_names[int(class_id)], xyxy=box)


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
