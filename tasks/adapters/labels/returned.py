"""What labellers hand back for a batch: every file of a folder, whatever its format, to labels and what was wrong.

    .json   COCO, or Label Studio's export        .xml   VOC        .txt   YOLO, with the class list that lies nearest

Nothing is dropped in silence: a file is read, passed over by its kind (`Returned.passed_over`), or a problem.

An image that several places speak of is taken when they agree, in the words of the most precise format; where they
differ nobody can know which is meant, so that it is a problem. What lies in a folder `pre_annotations` is what people
were sent: an image that is still as its seed there may never have been looked at, and is not taken unless `untouched`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from tasks.adapters.labels.coco import UNKNOWN_IMAGE, labels_of_coco, parse_coco_content, parse_json, sample_id_in
from tasks.adapters.labels.dataset import (
    BAD_LINE,
    IMAGE_SUFFIXES,
    MAX_JSON_BYTES,
    MAX_TEXT_BYTES,
    UNKNOWN_CLASS,
    Problems,
    checked_class_names,
    inside,
    read_capped,
    read_text,
)
from tasks.adapters.labels.detect import without_wrapper
from tasks.adapters.labels.labelstudio_json import labels_of_tasks, parse_tasks
from tasks.adapters.labels.lines import with_lines
from tasks.adapters.labels.voc import parse_voc, voc_boxes
from tasks.adapters.labels.yolo import find_names, names_of, parse_yolo
from tasks.core.corrections import count_corrections
from tasks.core.entities import Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid

TWICE = "image that is there twice, with other boxes"
LINK = "link, which no return needs"
UNKNOWN_FILE = "file of no format of labels"
SENT = "pre_annotations"  # the folder, or the beginning of a file's name, of what people were sent
UNTOUCHED = "images still as they were sent"
SAID_AGAIN = "images that are there twice and equal"
COMPANIONS = ("classes.txt", "obj.names", "notes.txt", "notes.json", "readme.txt", "instructions.md", "labelmap.txt")
_COMPANION = re.compile(r"(readme.*\.txt|.*\.ya?ml|.*problems\.(txt|csv))\Z", re.IGNORECASE)
_SUFFIXES = {".json": "json", ".xml": "voc", ".txt": "yolo"}
_PRECISION = ("coco", "labelstudio", "voc", "yolo")  # YOLO writes a hundredth of a pixel, and knows no crowds


@dataclass(frozen=True)
class Classes:
    """The class list of a batch, and what to do with other names. later: of the project's list, added since."""

    names: Sequence[str]
    renames: Mapping[str, str] = field(default_factory=dict)
    later: Sequence[str] = ()

    @property
    def readable(self) -> tuple[str, ...]:
        """Every name that a file may hold; those that the batch does not have are dealt with afterwards."""
        return tuple(dict.fromkeys((*self.names, *self.renames, *self.later)))

    def named(self, boxes: Sequence[LabelBox]) -> tuple[LabelBox, ...]:
        return tuple(box.model_copy(update={"class_name": self._now(box.class_name)}) for box in boxes)

    def _now(self, name: str) -> str:
        return self.renames.get(name, name)


@dataclass(frozen=True)
class Returned:
    """labels: one an image. passed_over: how much is no label, by what it is. renamed: boxes, by old name."""

    labels: list[Label]
    problems: Problems
    passed_over: Counter[str]
    renamed: Counter[str]
    files: int  # that hold labels, or should


@dataclass(frozen=True, slots=True)
class _Found:
    """A label, where it was found, and in which format."""

    label: Label
    where: str
    form: str


def read_labels(
    folder: Path,
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    *,
    annotator: str,
    labelled_at: datetime,
) -> tuple[list[Label], Problems]:
    """The labels that were put back for a batch, with or without its images, and what was wrong with the others.

    samples: the batch, by sample id; files and records of images are known by the sample id in their names. A sample
    without a label is unlabelled; one with an empty file was reviewed and found empty. Boxes are checked against the
    samples' own sizes. Raises LabelsInvalid when the folder holds no labels at all.
    """
    found = read_returned(folder, samples, Classes(class_names), annotator=annotator, labelled_at=labelled_at)
    return found.labels, found.problems


def read_returned(
    folder: Path,
    samples: Mapping[str, Sample],
    classes: Classes,
    *,
    annotator: str,
    labelled_at: datetime,
    seeds: Mapping[str, Label] | None = None,
    untouched: bool = False,
    but: Sequence[str] = (),
    believed: bool = True,
) -> Returned:
    """As `read_labels`, with all that was found. seeds: by sample id, what people were sent; None: nobody knows.

    folder: or a single file. untouched: take what was sent and is unchanged, too. but: suffixes that are left alone.
    believed: who and when of a COCO file; it keeps those of our own revisions when people edit it.
    """
    if not folder.exists():
        raise LabelsInvalid(f"{folder}: there is no such file or folder")
    root = without_wrapper(folder) if folder.is_dir() else folder.parent
    reader = _Reader(root, samples, classes, annotator, labelled_at, believed)
    found = list(reader.read(but) if folder.is_dir() else reader.one(folder))
    if not reader.files:
        raise LabelsInvalid(f"{folder.name}: holds no labels; expected COCO or Label Studio (.json), VOC (.xml) or "
                            f"YOLO (.txt) files with the names of the images")  # fmt: skip
    named = [one for one in found if _is_of_batch(one, classes, reader.problems, reader.renamed)]
    named = [replace(one, label=_with_names(one.label, classes)) for one in named]
    labels = []
    for sample_id, several in _by_image(named).items():
        spoken = _spoken(several, seeds, untouched)
        if not spoken:
            reader.passed_over[UNTOUCHED] += 1
        elif (label := _agreed(sample_id, spoken, reader.problems)) is not None:
            labels.append(label)
            reader.passed_over[SAID_AGAIN] += len(spoken) - 1
    return Returned(labels, reader.problems, +reader.passed_over, reader.renamed, reader.files)


class _Reader:
    """Reads file after file. What is wrong with one of them concerns no other."""

    def __init__(
        self,
        root: Path,
        samples: Mapping[str, Sample],
        classes: Classes,
        annotator: str,
        labelled_at: datetime,
        believed: bool,
    ) -> None:
        self.problems, self.passed_over, self.renamed, self.files = Problems(), Counter[str](), Counter[str](), 0
        self._root, self._samples, self._classes = root, samples, classes
        self._annotator, self._labelled_at, self._believed = annotator, labelled_at, believed
        self._names: dict[Path, tuple[str, ...]] = {}

    def read(self, but: Sequence[str]) -> Iterator[_Found]:
        for path in sorted(self._root.rglob("*")):
            if path.is_symlink() or not inside(self._root, path):
                self.problems.add(LINK, path.relative_to(self._root).as_posix())
            elif not path.is_dir() and path.suffix.lower() not in but:
                yield from self.one(path)

    def one(self, path: Path) -> Iterator[_Found]:
        where = path.relative_to(self._root).as_posix()
        if kind := no_label(where):
            self.passed_over[kind] += 1
            return
        self.files += 1
        try:
            yield from self._file(path, where)
        except LabelsInvalid as error:
            self.problems.add(BAD_LINE, where, str(error))

    def _file(self, path: Path, where: str) -> Iterator[_Found]:
        form = _SUFFIXES.get(path.suffix.lower())
        if form is None:
            self.problems.add(UNKNOWN_FILE, where)
        elif form == "json":
            yield from self._json(read_capped(path, MAX_JSON_BYTES), where)
        else:
            sample = self._samples.get(sample_id_in(path.stem))
            if sample is None:
                self.problems.add(UNKNOWN_IMAGE, where)
                return
            boxes = self._voc(path, where, sample) if form == "voc" else self._yolo(path, where, sample)
            if boxes is not None:
                yield _Found(self._label(sample, boxes), where, form)

    def _json(self, data: bytes, where: str) -> Iterator[_Found]:
        content, problems, form = parse_json(data, where), Problems(), "coco"
        how = (self._samples, self._classes.readable, where, self._annotator, self._labelled_at)
        if isinstance(content, list):
            form = "labelstudio"
            labels, worse = labels_of_tasks(parse_tasks(content, where), *how)
        else:
            labels, worse = labels_of_coco(parse_coco_content(content, where, problems), *how)
        problems.extend(worse)
        self.problems.extend(with_lines(problems, data, where))
        ours = {"annotator": self._annotator, "labelled_at": self._labelled_at}
        for label in labels:
            known = self._believed or form == "labelstudio"  # which dates each annotation when it is changed
            yield _Found(label if known else label.model_copy(update=ours), where, form)

    def _voc(self, path: Path, where: str, sample: Sample) -> tuple[LabelBox, ...] | None:
        voc = parse_voc(read_capped(path, MAX_TEXT_BYTES), where)
        return voc_boxes(voc, sample.width, sample.height, self._classes.readable, where, self.problems)

    def _yolo(self, path: Path, where: str, sample: Sample) -> tuple[LabelBox, ...] | None:
        names = self._names_for(path.parent)
        return parse_yolo(read_text(path), where, sample.width, sample.height, names, self.problems)

    def _names_for(self, folder: Path) -> tuple[str, ...]:
        """The class list of YOLO files: the nearest one above them, else the batch's own and what came after it."""
        if folder not in self._names:
            names_file = find_names(folder)
            if names_file is not None:
                self._names[folder] = names_of(names_file)
            elif folder == self._root:
                self._names[folder] = checked_class_names((*self._classes.names, *self._classes.later), "names")
            else:
                self._names[folder] = self._names_for(folder.parent)
        return self._names[folder]

    def _label(self, sample: Sample, boxes: tuple[LabelBox, ...]) -> Label:
        return Label(sample_id=sample.sample_id, boxes=boxes, annotator=self._annotator, labelled_at=self._labelled_at)


def is_opened(name: str) -> bool:
    """Whether a file of this name holds labels itself, and is no archive of them."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def no_label(name: str) -> str:
    """What a file of a return is when it is no label, by its name; empty for one that is to be read."""
    path = PurePosixPath(name.replace("\\", "/"))
    if any(part.startswith((".", "__MACOSX")) for part in path.parts):
        return "files of an operating system"
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return "images"
    if path.suffix.lower() == ".zip":
        return "zips in it, which are not opened"
    if path.name.lower() in COMPANIONS or _COMPANION.match(path.name) or "ImageSets" in path.parts:
        return "lists and notes"
    return ""


def _is_of_batch(one: _Found, classes: Classes, problems: Problems, renamed: Counter[str]) -> bool:
    """Whether the batch has the classes of all boxes. Counts what is renamed where it does."""
    strange = [box.class_name for box in one.label.boxes if classes.named((box,))[0].class_name not in classes.names]
    if not strange:
        renamed.update(box.class_name for box in one.label.boxes if box.class_name in classes.renames)
        return True
    advice = f"not of this batch ({', '.join(classes.names)}): mend it, or import with --rename {strange[0]}=..."
    if strange[0] in classes.later:
        advice = (
            f"came into the project's list after this batch was made: label the image in a newer batch, or import with "
            f"--rename {strange[0]}=..."
        )
    problems.add(UNKNOWN_CLASS, f"{one.where}: {one.label.sample_id}", f"{strange[0]!r} {advice}")
    return False


def _with_names(label: Label, classes: Classes) -> Label:
    return label.model_copy(update={"boxes": classes.named(label.boxes)}) if classes.renames else label


def _by_image(found: Sequence[_Found]) -> dict[str, list[_Found]]:
    by_image: dict[str, list[_Found]] = {}
    for one in found:
        by_image.setdefault(one.label.sample_id, []).append(one)
    return by_image


def _spoken(several: Sequence[_Found], seeds: Mapping[str, Label] | None, untouched: bool) -> Sequence[_Found]:
    """What counts of all that is said of an image: labels put elsewhere, else what was sent and has been changed."""
    elsewhere = [one for one in several if not _was_sent(one)]
    changed = [one for one in several if not _is_as_sent(one, seeds)]
    return elsewhere or changed or (several if untouched else ())


def _was_sent(one: _Found) -> bool:
    return any(part.startswith(SENT) for part in PurePosixPath(one.where).parts)


def _is_as_sent(one: _Found, seeds: Mapping[str, Label] | None) -> bool:
    """Whether it may be what was sent: no sign that anybody has looked at it."""
    if seeds is None:
        return True
    seed = seeds.get(one.label.sample_id)
    return seed is not None and one.label.status == "done" and not count_corrections(seed.boxes, one.label.boxes)


def _agreed(sample_id: str, spoken: Sequence[_Found], problems: Problems) -> Label | None:
    """The label that all places agree on, in the words of the most precise format."""
    first = min(spoken, key=lambda one: _PRECISION.index(one.form))
    other = next((one for one in spoken if one is not first and not _agree(first.label, one.label)), None)
    if other is None:
        return first.label
    problems.add(TWICE, f"{first.where}: {sample_id}", f"{other.where} says something else: keep one")
    return None


def _agree(one: Label, other: Label) -> bool:
    """The same boxes to the pixel. Crowd regions count for nothing: YOLO has no word for them."""
    plain, others = ([box for box in label.boxes if not box.crowd] for label in (one, other))
    return one.status == other.status and not count_corrections(plain, others)
