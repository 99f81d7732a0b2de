"""Pascal VOC files: one XML an image, boxes in pixels.

Read with their `Annotations`, `JPEGImages` and `ImageSets/Main`, or beside their images in a folder a split, as
Roboflow writes them. Coordinates are taken as they are: the original's count from 1, today's programs from 0, and no
file says which. `difficult` marks what evaluation leaves out, and so stands for crowd regions both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from tasks.adapters.labels.dataset import (
    BAD_LINE,
    CORRUPT_IMAGE,
    IMAGE_SUFFIXES,
    MAX_BOXES,
    MAX_TEXT_BYTES,
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
    read_capped,
    read_text,
    split_of_name,
)
from tasks.core.entities import LabelBox, Split
from tasks.core.errors import ImageUnreadable, LabelsInvalid
from tasks.core.splits import source_group_of

MAX_DEPTH = 20  # of elements in each other; VOC has 4


@dataclass(frozen=True, slots=True)
class VocFile:
    """A parsed XML: the image's name and size (0 x 0 where it does not say), and name, corners and difficulty.

    lines: where each object begins, from 1.
    """

    file_name: str
    size: tuple[int, int]
    objects: tuple[tuple[str, tuple[float, ...], bool], ...]
    lines: tuple[int, ...]


def parse_voc(data: bytes, where: str) -> VocFile:
    """One annotation file. Raises LabelsInvalid for anything else, and for a DOCTYPE: it may declare entities."""
    lines = _lines_of_objects(data, where)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
        raise LabelsInvalid(f"{where}: not valid XML: {str(error)[:120]}") from None
    if root.tag != "annotation":
        raise LabelsInvalid(f"{where}: the root element is {root.tag[:40]!r}, not annotation")
    rows = root.findall("object")
    if len(rows) > MAX_BOXES:
        raise LabelsInvalid(f"{where}: {len(rows)} objects; an image has at most {MAX_BOXES}")
    objects = []
    for n, row in enumerate(rows):
        box = row.find("bndbox")
        texts = [(box.findtext(side) if box is not None else None) for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            corners = tuple(float(text or "") for text in texts)
        except ValueError:
            raise LabelsInvalid(f"{where}:{lines[n]}: object {n}: bndbox lacks a number") from None
        difficult = (row.findtext("difficult") or "").strip() == "1"
        objects.append(((row.findtext("name") or "").strip(), corners, difficult))
    return VocFile((root.findtext("filename") or "").strip(), _size(root), tuple(objects), lines)


def voc_boxes(
    voc: VocFile, width: int, height: int, class_names: Sequence[str] | None, where: str, problems: Problems
) -> tuple[LabelBox, ...] | None:
    """The boxes of one file; None when its image must be skipped. class_names: None accepts every name."""
    boxes, whole = [], True
    for n, (name, corners, difficult) in enumerate(voc.objects):
        try:
            if not name or (class_names is not None and name not in class_names):
                raise BadBox(UNKNOWN_CLASS, repr(name[:40]))
            boxes.append(LabelBox(class_name=name, xyxy=checked_box(corners, width, height), crowd=difficult))
        except BadBox as error:
            problems.add(error.reason, f"{where}:{voc.lines[n]}: object {n}", str(error))
            whole = whole and error.reason == WITHOUT_AREA
    return tuple(boxes) if whole else None


def voc_bytes(file_name: str, width: int, height: int, boxes: Sequence[LabelBox]) -> bytes:
    """The XML of one image."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = file_name
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, tag).text = str(value)
    for box in boxes:
        row = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(row, "name").text = box.class_name
        ElementTree.SubElement(row, "difficult").text = str(int(box.crowd))
        corners = ElementTree.SubElement(row, "bndbox")
        for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), box.xyxy):
            ElementTree.SubElement(corners, tag).text = f"{side:.4f}".rstrip("0").rstrip(".")
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def find_voc(root: Path) -> list[Path]:
    """The XML files of a VOC dataset."""
    below = root / "Annotations"
    found = below.glob("*.xml") if below.is_dir() else [*root.glob("*.xml"), *root.glob("*/*.xml")]
    return sorted(path for path in found if inside(root, path))


def read_voc(root: Path, files: Sequence[Path]) -> ImportedDataset:
    """A VOC dataset. Its class list is every name that occurs, sorted, for the format has none."""
    problems, images, splits = Problems(), [], _image_sets(root)
    for path in files:
        where = path.relative_to(root).as_posix()
        try:
            voc = parse_voc(read_capped(path, MAX_TEXT_BYTES), where)
        except LabelsInvalid as error:
            problems.add(BAD_LINE, where, str(error))
            continue
        split = splits.get(path.stem) or (split_of_name(path.parent.name) if path.parent != root else None)
        image = _read_image(root, path, split, voc, where, problems)
        if image is not None:
            images.append(image)
    names = sorted({box.class_name for image in images for box in image.boxes})
    if not names:
        first = f" The first: {problems.lines[0]}" if problems.lines else ""
        raise LabelsInvalid(f"{files[0].relative_to(root)}: no VOC file of this dataset has a usable box.{first}")
    class_names = checked_class_names(names, "VOC names")
    return ImportedDataset("voc", class_names, tuple(images), (), dict(problems.counts), tuple(problems.lines))


def _read_image(
    root: Path, xml_file: Path, split: Split | None, voc: VocFile, where: str, problems: Problems
) -> ImportedImage | None:
    path = _image_path(root, xml_file, voc.file_name)
    if path is None:
        problems.add(MISSING_IMAGE, where, voc.file_name[:80])
        return None
    try:
        width, height = image_size(path)
    except ImageUnreadable as error:
        problems.add(CORRUPT_IMAGE, where, str(error))
        return None
    if voc.size not in ((0, 0), (width, height)):
        problems.add(OTHER_SIZE, where, f"{voc.size} against {(width, height)}")
        return None
    boxes = voc_boxes(voc, width, height, None, where, problems)
    if boxes is None:
        return None
    return ImportedImage(path, split, width, height, boxes, source_group_of(path.name))


def _image_path(root: Path, xml_file: Path, name: str) -> Path | None:
    stems = [xml_file.with_suffix(suffix).name for suffix in IMAGE_SUFFIXES]
    names = [name.replace("\\", "/"), *stems] if name else stems
    places = (xml_file.parent, root / "JPEGImages", root / "images", root)
    found = inside(root, *(place / one for one in names for place in places if one))
    return found if found is not None and found.is_file() else None


def _image_sets(root: Path) -> dict[str, Split]:
    """Stem to split, from ImageSets/Main. `trainval` says nothing that train and val do not say."""
    splits: dict[str, Split] = {}
    for name in ("train", "val", "test"):
        path, split = root / "ImageSets" / "Main" / f"{name}.txt", split_of_name(name)
        if split is not None and inside(root, path):
            splits |= {line.split()[0]: split for line in read_text(path).splitlines() if line.strip()}
    return splits


def _size(root: ElementTree.Element) -> tuple[int, int]:
    width, height = ((root.findtext(f"size/{side}") or "").strip() for side in ("width", "height"))
    known = width.isascii() and width.isdigit() and height.isascii() and height.isdigit() and len(width + height) < 20
    return (int(width), int(height)) if known else (0, 0)


def _lines_of_objects(data: bytes, where: str) -> tuple[int, ...]:
    """Walk through the XML without building anything: no DOCTYPE, no entities, no depth. Where each object begins."""
    depth = 0
    lines: list[int] = []

    def declared(*_: object) -> None:
        raise LabelsInvalid(f"{where}: declares a DOCTYPE, which no VOC file needs and which may hold an entity bomb")

    def opened(tag: str, _: object) -> None:
        nonlocal depth
        depth += 1
        if depth == 2 and tag == "object":
            lines.append(parser.CurrentLineNumber)
        if depth > MAX_DEPTH:
            raise LabelsInvalid(f"{where}: elements nested more than {MAX_DEPTH} deep")

    def closed(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = declared, declared
    parser.StartElementHandler, parser.EndElementHandler = opened, closed
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise LabelsInvalid(f"{where}: not valid XML: {str(error)[:120]}") from None
    return tuple(lines)
