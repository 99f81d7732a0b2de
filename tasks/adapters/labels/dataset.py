"""What every format shares: the imported images, what was wrong with the others, and the checks on boxes and files.

Label files come from outside. Sizes are capped, names in files never lead out of their folder, and whatever is in a
file the only error it can raise is LabelsInvalid.

An image is taken whole or not at all: where one of its boxes names an unknown class, lies outside or is not a number,
the image is skipped, for training on it would teach that nothing is there. Only boxes without area are dropped alone.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from tasks.core.entities import LabelBox, Split
from tasks.core.errors import ImageUnreadable, LabelsInvalid

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MAX_IMAGE_BYTES = 100_000_000
MAX_PIXELS = 50_000_000
MAX_TEXT_BYTES = 5_000_000  # of a label file of one image, and of data.yaml
MAX_JSON_BYTES = 512_000_000  # COCO's own training annotations have 448 MB
MAX_BOXES = 10_000  # an image
MAX_CLASSES = 10_000
MAX_REPORT_LINES = 1_000
TOLERANCE_PIXELS = 1.0  # how far a box may reach out of its image, and is clipped
TOLERANCE_SHARE = 0.01  # or this share of the image's side

UNLABELLED = "no label file"
CORRUPT_IMAGE = "image that cannot be read"
MISSING_IMAGE = "image that is not there"
BAD_LINE = "label that cannot be read"
UNKNOWN_CLASS = "class that is not in the list"
OUTSIDE = "box outside its image"
WITHOUT_AREA = "box without area (dropped, its image kept)"
OTHER_SIZE = "image of another size than its labels say"

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
# What Pillow's readers raise on bytes that are not what they claim to be.
_UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, NotImplementedError,
    struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "val": "calibration", "valid": "calibration", "validation": "calibration",
    "calibration": "calibration", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """One labelled image of a dataset. No boxes: reviewed and found empty. width, height: as shown, EXIF applied.

    split: None where the dataset has none; its validation split calibrates. source_group: see `core.splits`.
    """

    path: Path
    split: Split | None
    width: int
    height: int
    boxes: tuple[LabelBox, ...]
    source_group: str = ""


@dataclass(frozen=True, slots=True)
class ImportedDataset:
    """A dataset as it was found. unlabelled: images without a label file, which is something else than empty.

    skipped: how many items were left out, by reason. report: one line each, `file:line: what`, the first 1,000.
    """

    format: Literal["yolo", "coco", "voc"]
    class_names: tuple[str, ...]
    images: tuple[ImportedImage, ...]
    unlabelled: tuple[Path, ...]
    skipped: dict[str, int]
    report: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that was left out. where: the file, its line where it has lines, and the place in it."""

    reason: str
    where: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" + (f": {self.detail}" if self.detail else "")


@dataclass(slots=True)
class Problems:
    """Counts what was left out, and keeps the first 1,000 of it."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[Problem] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """A line for each of the first 1,000."""
        return [str(problem) for problem in self.first]

    def add(self, reason: str, where: str, detail: str = "") -> None:
        self.counts[reason] += 1
        if len(self.first) < MAX_REPORT_LINES:
            self.first.append(Problem(reason, where, detail))

    def extend(self, others: Problems) -> None:
        self.counts.update(others.counts)
        self.first.extend(others.first[: MAX_REPORT_LINES - len(self.first)])


class BadBox(LabelsInvalid):
    """One box that cannot be used. `reason` is what it counts as."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def checked_box(corners: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """A box in its image, clipped where it reaches out of it by at most a pixel or 1%.

    Raises BadBox for coordinates that are no numbers, for a box that reaches further out, and for one without area.
    """
    if len(corners) != 4 or not all(math.isfinite(v) and abs(v) < 1e7 for v in corners):
        raise BadBox(BAD_LINE, f"box {tuple(corners)} is not four finite numbers")
    x1, y1, x2, y2 = (round(float(v), 4) for v in corners)
    slack_x, slack_y = (max(TOLERANCE_PIXELS, TOLERANCE_SHARE * side) for side in (width, height))
    if x1 < -slack_x or y1 < -slack_y or x2 > width + slack_x or y2 > height + slack_y:
        raise BadBox(OUTSIDE, f"box {(x1, y1, x2, y2)} in an image of {width} x {height}")
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if x1 > width or y1 > height or x2 < 0 or y2 < 0:
        raise BadBox(OUTSIDE, f"box {(x1, y1, x2, y2)} in an image of {width} x {height}")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise BadBox(WITHOUT_AREA, f"box {(x1, y1, x2, y2)}")
    return box


def number(value: Any, what: str) -> float:
    """A number from a file; BadBox for anything else, booleans, strings and infinities included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadBox(BAD_LINE, f"{what} is {str(value)[:40]!r}, not a number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise BadBox(BAD_LINE, f"{what} is not finite")
    return result


def image_size(path: Path) -> tuple[int, int]:
    """Width and height as shown (EXIF orientation applied), after reading the image to its end.

    Raises ImageUnreadable for what is not a whole JPEG, PNG, BMP or WebP, or has more than 50 million pixels.
    """
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise ImageUnreadable(f"{path.name}: larger than {MAX_IMAGE_BYTES // 10**6} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageUnreadable(f"{path.name}: {width} x {height} pixels are more than {MAX_PIXELS}")
                sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
                image.draft("L", (width // 8 or 1, height // 8 or 1))  # an eighth of the work, but all of the file
                image.load()
    except _UNREADABLE as error:
        raise ImageUnreadable(f"{path.name}: {type(error).__name__}: {str(error)[:120]}") from None
    return (height, width) if sideways else (width, height)


def read_capped(path: Path, cap: int) -> bytes:
    """A file's content; LabelsInvalid when it is larger than `cap` bytes or cannot be read."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            data = file.read(min(length, cap) + 1)  # as much as is asked for is allocated at once
    except OSError as error:
        raise LabelsInvalid(f"{path.name}: cannot be read: {error.strerror}") from None
    if len(data) > cap:
        raise LabelsInvalid(f"{path.name}: larger than {cap // 1000} kB, which no label file is")
    return data


def read_text(path: Path) -> str:
    """A small text file as UTF-8; LabelsInvalid for anything else."""
    try:
        return read_capped(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsInvalid(f"{path.name}: not UTF-8 text (byte {error.start})") from None


def inside(root: Path, *candidates: Path) -> Path | None:
    """The first candidate that is a file or folder within `root`, links followed; None when there is none."""
    limit = root.resolve()
    for candidate in candidates:
        try:
            found = candidate.resolve()
            if found.is_relative_to(limit) and found.exists():
                return candidate
        except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or a loop of links
            continue
    return None


def images_below(root: Path, folder: Path) -> Iterator[Path]:
    """Every image below `folder`, in the order of their names; links that lead out of `root` are passed over."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and inside(root, path):
            yield path


def split_of_name(name: str) -> Split | None:
    """`valid`, `train2017`, `instances_val` or `test.txt` to a split; None for any other name."""
    words = [word.rstrip("0123456789") for word in name.lower().replace(".", "_").replace("-", "_").split("_")]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def checked_class_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    """Class names as they may be used; LabelsInvalid for an empty list, doubles, and names that are no short text."""
    if not 0 < len(names) <= MAX_CLASSES:
        raise LabelsInvalid(f"{where}: {len(names)} classes; name at least one and at most {MAX_CLASSES}")
    texts = [str(name).strip() if isinstance(name, (str, int)) else "" for name in names]
    for text in texts:
        if not text or len(text) > 200 or not text.isprintable():
            raise LabelsInvalid(f"{where}: {text[:40]!r} cannot be a class name: use 1 to 200 printable characters")
    double = [name for name, count in Counter(texts).items() if count > 1]
    if double:
        raise LabelsInvalid(f"{where}: class {double[0]!r} is listed twice: rename or merge one")
    return tuple(texts)
