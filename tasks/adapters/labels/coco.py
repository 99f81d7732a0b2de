"""COCO files: the label revisions of the bucket, data sets of others, and their boxes as [x, y, width, height].

A revision is a COCO file whose images carry what COCO has no word for: `sample_id`, `annotator`, `labelled_at`,
`status`, `seeded`, `corrections` and, where they say something, `origin`, `reason` and `lead_seconds`. Every COCO tool
reads it. An image without annotations is one that was reviewed and found empty; an image that nobody looked at is not
in the file. Ids of annotations start at 1, for COCO's evaluation reads a match with annotation 0 as no match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.adapters.labels.dataset import (
    BAD_LINE,
    CORRUPT_IMAGE,
    MAX_BOXES,
    MAX_JSON_BYTES,
    MISSING_IMAGE,
    OTHER_SIZE,
    UNKNOWN_CLASS,
    WITHOUT_AREA,
    BadBox,
    ImportedDataset,
    ImportedImage,
    Problems,
    checked_box,
    checked_class_names,
    image_size,
    inside,
    number,
    read_capped,
    split_of_name,
)
from tasks.core.entities import Label, LabelBox, Sample, Split, format_utc
from tasks.core.errors import ImageUnreadable, LabelsInvalid
from tasks.core.splits import source_group_of

UNKNOWN_IMAGE = "image that is not in the batch"
ORPHAN = "box of an image that is not in its file"
SELDOM = ("origin", "reason", "lead_seconds", "seeded_by")  # written where they say more than the default
EXTRAS = ("status", "seeded", "corrections", *SELDOM)
_SAMPLE_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{20}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A parsed COCO file: images and annotations as they are, in their order, and class names by category id."""

    images: tuple[Mapping[str, Any], ...]
    annotations: dict[int | str, tuple[tuple[int, Mapping[str, Any]], ...]]  # by image id, with their position
    categories: dict[int, str]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for _, name in sorted(self.categories.items()))


def parse_coco(data: bytes, where: str) -> CocoFile:
    """The structure of a COCO file, checked. Raises LabelsInvalid; single boxes are checked where they are used."""
    return parse_coco_content(parse_json(data, where), where)


def parse_coco_content(content: Any, where: str, problems: Problems | None = None) -> CocoFile:
    """As `parse_coco`, of JSON that was read. problems: takes annotations of no image, which are an error without."""
    if not isinstance(content, dict) or "images" not in content or "categories" not in content:
        raise LabelsInvalid(f"{where}: a COCO file is an object with images, annotations and categories")
    images, annotations, categories = (_objects(content, key, where) for key in ("images", "annotations", "categories"))
    names: dict[int, str] = {}
    for category in categories:
        key, name = category.get("id"), category.get("name")
        if isinstance(key, bool) or not isinstance(key, int) or not isinstance(name, str) or key in names:
            raise LabelsInvalid(f"{where}: category {str(key)[:20]} needs a number of its own and a name")
        names[key] = name
    seen: set[int | str] = set()
    for n, image in enumerate(images):
        key = image.get("id")
        if isinstance(key, bool) or not isinstance(key, (int, str)) or key in seen:
            raise LabelsInvalid(f"{where}: images[{n}] has no id of its own ({str(key)[:40]!r})")
        seen.add(key)
    by_image: dict[int | str, list[tuple[int, Mapping[str, Any]]]] = {key: [] for key in seen}
    for n, annotation in enumerate(annotations):
        key = annotation.get("image_id")
        if not isinstance(key, bool) and isinstance(key, (int, str)) and key in by_image:
            by_image[key].append((n, annotation))
        elif problems is None:
            raise LabelsInvalid(f"{where}: annotations[{n}] is of image {str(key)[:40]!r}, which is not in the file")
        else:
            problems.add(ORPHAN, f"{where}: annotations[{n}]", f"image {str(key)[:40]!r}")
    names = _without_placeholder(names, categories, annotations)
    if names:
        checked_class_names(list(names.values()), where)
    return CocoFile(tuple(images), {key: tuple(rows) for key, rows in by_image.items()}, names)


def parse_json(data: bytes, where: str) -> Any:
    """JSON of an untrusted file; LabelsInvalid for anything that is not."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LabelsInvalid(f"{where}: not valid JSON: {problem[:120]}") from None


def annotation_box(
    annotation: Mapping[str, Any],
    width: int,
    height: int,
    categories: Mapping[int, str],
    class_names: Sequence[str] | None = None,
) -> LabelBox:
    """The box of one annotation. Raises BadBox with the reason to skip it or its image. class_names: None takes all."""
    category = annotation.get("category_id")
    if isinstance(category, bool) or not isinstance(category, int) or category not in categories:
        raise BadBox(UNKNOWN_CLASS, f"category {str(category)[:20]}")
    if class_names is not None and categories[category] not in class_names:
        raise BadBox(UNKNOWN_CLASS, repr(categories[category][:40]))
    xyxy = checked_box(corners_of(annotation), width, height)
    return LabelBox(class_name=categories[category], xyxy=xyxy, crowd=annotation.get("iscrowd") in (1, True))


def corners_of(annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of a COCO `bbox`; BadBox when it is not four numbers."""
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise BadBox(BAD_LINE, "bbox is not a list of four numbers")
    x, y, w, h = (number(value, "bbox") for value in bbox)
    if w < 0 or h < 0:
        raise BadBox(BAD_LINE, f"bbox has a size of {w} x {h}")
    return x, y, x + w, y + h


# --- revisions -------------------------------------------------------------------------------------------------------


def revision_bytes(
    labels: Iterable[Label], samples: Mapping[str, Sample], class_names: Sequence[str], *, class_list_version: int = 1
) -> bytes:
    """A label revision as the bucket holds it: equal labels give equal bytes, in whatever order they come.

    samples: by sample id, for names and sizes. Raises LabelsInvalid for a label of an unknown sample or class.
    """
    category = {name: n for n, name in enumerate(class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for label in sorted(labels, key=lambda label: label.sample_id):
        sample = samples.get(label.sample_id)
        if sample is None:
            raise LabelsInvalid(f"label of sample {label.sample_id}: it is not in the batch")
        images.append(image_record(len(images) + 1, label, sample))
        for box in label.boxes:
            if box.class_name not in category:
                raise LabelsInvalid(f"label of sample {label.sample_id}: class {box.class_name!r} is not in the list")
            annotations.append(annotation_record(len(annotations) + 1, len(images), category[box.class_name], box))
    content = {
        "info": {"description": "label revision", "class_list_version": class_list_version},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for name, n in category.items()],
    }
    return json.dumps(content, indent=1).encode()


def labels_from_coco(
    data: bytes,
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    where: str,
    *,
    annotator: str = "",
    labelled_at: datetime | None = None,
) -> tuple[list[Label], Problems]:
    """The labels of a COCO file, a revision of ours or one that a labeller's program wrote.

    Images are known by their `sample_id`, or by the id in their file name; one that is there twice has two labels.
    `annotator` and `labelled_at` stand in where the file does not say. Images that are bad or unknown are skipped and
    counted; a file that is none of COCO raises LabelsInvalid.
    """
    return labels_of_coco(parse_coco(data, where), samples, class_names, where, annotator, labelled_at)


def labels_of_coco(
    coco: CocoFile,
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    where: str,
    annotator: str = "",
    labelled_at: datetime | None = None,
) -> tuple[list[Label], Problems]:
    """As `labels_from_coco`, of a file that was parsed."""
    problems, labels = Problems(), []
    for n, image in enumerate(coco.images):
        place = f"{where}: images[{n}]"
        sample = samples.get(_sample_id_of(image))
        if sample is None:
            problems.add(UNKNOWN_IMAGE, place, str(image.get("file_name"))[:80])
            continue
        annotations, size = coco.annotations[image["id"]], (sample.width, sample.height)
        boxes = _boxes(annotations, *size, coco.categories, where, problems, class_names, f" of {sample.sample_id}")
        if boxes is None or not _size_fits(image, size, place, problems):
            continue
        extras = {key: image[key] for key in EXTRAS if key in image}
        try:
            label = Label(
                sample_id=sample.sample_id,
                boxes=boxes,
                annotator=image.get("annotator", annotator),
                labelled_at=image.get("labelled_at", labelled_at),
                **extras,
            )
            labels.append(label)
        except ValidationError as error:
            problem = error.errors()[0]
            problems.add(BAD_LINE, place, f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
    return labels, problems


def _sample_id_of(image: Mapping[str, Any]) -> str:
    named = image.get("sample_id")
    if isinstance(named, str):
        return named
    return sample_id_in(str(image.get("file_name")))


def sample_id_in(name: str) -> str:
    """The sample id in a file name, which labellers' programs put words around; empty when there is none."""
    match = _SAMPLE_ID.search(name)
    return match[0] if match else ""


def image_record(image_id: int, label: Label, sample: Sample) -> dict[str, Any]:
    """An image with what was said about it as a whole."""
    return {
        "id": image_id,
        "file_name": f"{sample.sample_id}.jpg",
        "width": sample.width,
        "height": sample.height,
        "sample_id": sample.sample_id,
        "annotator": label.annotator,
        "labelled_at": format_utc(label.labelled_at),
        "status": label.status,
        "seeded": label.seeded,
        "corrections": label.corrections,
        **{key: value for key in SELDOM if (value := getattr(label, key)) != Label.model_fields[key].default},
    }


def annotation_record(number_: int, image_id: int, category_id: int, box: LabelBox) -> dict[str, Any]:
    """One box of an image."""
    x1, y1, x2, y2 = box.xyxy
    w, h = round(x2 - x1, 4), round(y2 - y1, 4)
    return {
        "id": number_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, w, h],
        "area": round(w * h, 4),
        "iscrowd": int(box.crowd),
    }


# --- data sets of others ---------------------------------------------------------------------------------------------


def find_coco(root: Path) -> list[Path]:
    """The annotation files of a COCO dataset: one a split beside its images, or those of a folder `annotations`."""
    beside = [*root.glob("_annotations.coco.json"), *root.glob("*/_annotations.coco.json")]
    found = beside or [*root.glob("annotations/*.json")] or [*root.glob("*.json")] or [*root.glob("*/labels.json")]
    return sorted(path for path in found if inside(root, path))


def read_coco(root: Path, files: Sequence[Path]) -> ImportedDataset:
    """A COCO dataset of one or more annotation files. Raises LabelsInvalid where a file is none of COCO."""
    parsed = [(path, parse_coco(read_capped(path, MAX_JSON_BYTES), _relative(root, path))) for path in files]
    class_names = tuple(dict.fromkeys(name for _, coco in parsed for name in coco.class_names))
    checked_class_names(class_names, _relative(root, files[0]))
    problems = Problems()
    images: dict[Path, ImportedImage] = {}
    for path, coco in parsed:
        where = _relative(root, path)
        split = split_of_name(path.stem) or (split_of_name(path.parent.name) if path.parent != root else None)
        for n, record in enumerate(coco.images):
            image = _read_image(root, path, split, record, coco, f"{where}: images[{n}]", where, problems)
            if image is not None:
                images.setdefault(image.path, image)
    return ImportedDataset(
        "coco", class_names, tuple(images.values()), (), dict(problems.counts), tuple(problems.lines)
    )


def _read_image(
    root: Path,
    json_file: Path,
    split: Split | None,
    record: Mapping[str, Any],
    coco: CocoFile,
    place: str,
    where: str,
    problems: Problems,
) -> ImportedImage | None:
    path = _image_path(root, json_file, record.get("file_name"))
    if path is None:
        problems.add(MISSING_IMAGE, place, str(record.get("file_name"))[:80])
        return None
    try:
        width, height = image_size(path)
    except ImageUnreadable as error:
        problems.add(CORRUPT_IMAGE, place, str(error))
        return None
    if not _size_fits(record, (width, height), place, problems):
        return None
    boxes = _boxes(coco.annotations[record["id"]], width, height, coco.categories, where, problems)
    if boxes is None:
        return None
    return ImportedImage(path, split, width, height, boxes, source_group_of(path.name))


def _image_path(root: Path, json_file: Path, name: Any) -> Path | None:
    """The image of a file name, in the places where programs put them; never outside of `root`."""
    if not isinstance(name, str) or not name:
        return None
    split = json_file.stem.removeprefix("instances_")
    places = [json_file.parent, root, root / "images", root / split, root / "images" / split, root / "data"]
    places += [json_file.parent / "data", json_file.parent / "images"]
    found = inside(root, *(place / name.replace("\\", "/") for place in places))
    return found if found is not None and found.is_file() else None


def _boxes(
    annotations: Iterable[tuple[int, Mapping[str, Any]]],
    width: int,
    height: int,
    categories: Mapping[int, str],
    where: str,
    problems: Problems,
    class_names: Sequence[str] | None = None,
    of_image: str = "",
) -> tuple[LabelBox, ...] | None:
    """The boxes of one image; None when it must be skipped, with every reason counted."""
    boxes, whole = [], True
    for n, annotation in annotations:
        try:
            boxes.append(annotation_box(annotation, width, height, categories, class_names))
        except BadBox as error:
            problems.add(error.reason, f"{where}: annotations[{n}]{of_image}", str(error))
            whole = whole and error.reason == WITHOUT_AREA
    if not whole:
        return None
    if len(boxes) > MAX_BOXES:
        problems.add(BAD_LINE, where, f"an image with {len(boxes)} boxes; it has at most {MAX_BOXES}")
        return None
    return tuple(boxes)


def _size_fits(record: Mapping[str, Any], size: tuple[int, int], place: str, problems: Problems) -> bool:
    """Whether the file means the image that is there. Boxes of a resized copy would lie elsewhere."""
    declared = (record.get("width", size[0]), record.get("height", size[1]))
    if declared == size:
        return True
    problems.add(OTHER_SIZE, place, f"{str(declared)[:40]} against {size}")
    return False


def _objects(content: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    rows = content.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LabelsInvalid(f"{where}: {key} must be a list of objects")
    return rows


def _without_placeholder(
    names: dict[int, str], categories: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> dict[int, str]:
    """Roboflow lists the name of the whole project as category 0, parent of all others and never annotated."""
    parents = {category.get("supercategory") for category in categories if category.get("id") != 0}
    if 0 not in names or len(names) == 1 or parents != {names[0]}:
        return names
    if any(annotation.get("category_id") == 0 for annotation in annotations):
        return names
    return {key: name for key, name in names.items() if key != 0}


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
