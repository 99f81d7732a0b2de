"""Labelling through files: a folder a batch goes out, labels come back into it.

    {folder}/{batch}/
      images/{sample}.jpg       what to label
      pre_annotations.json      COCO: what the model saw, for the images that may be seeded
      instructions.md           classes, and what to do
      labels/                   put there by the people (or the program) who label: COCO, YOLO, VOC or Label Studio's
                                JSON, as files or as zips of them; may be partial and grow
      problems.txt              what was wrong with them, a line each
      .offer.json               what people were given, for the count of their corrections

An image with an empty label is reviewed and empty; an image without one is not labelled yet. FILES.md says what happens
to what is wrong; package.py makes one zip of a batch for people elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from tasks.adapters.labelling.interface import Offer
from tasks.adapters.labels import Classes, Problems, read_returned, revision_bytes, unpack
from tasks.adapters.labels.coco import EXTRAS
from tasks.adapters.labels.returned import UNTOUCHED
from tasks.core.entities import Batch, Label, Sample, content_id, format_utc
from tasks.core.errors import LabelsInvalid, SettingsError

OFFER = ".offer.json"
ALONE = (".zip", ".json")  # files of many images: each has a time of its own
FUTURE = "times in the future"
INSTRUCTIONS = """# {batch}{asked}

{images} images in `images/`. Draw a box around every object of these classes, as tightly as you can: {classes}.

`pre_annotations.json` (COCO) holds what the model saw in {seeded} of them: correct it, and add what it overlooked.
The other images come without pre-annotations on purpose: they measure the model.

Put the result into `labels/` here, as COCO, YOLO, VOC or Label Studio's JSON or a zip of one of them, with the file
names of `images/`. An image with an empty label counts as reviewed and empty; leave out what you have not looked at.
More labels can be put there at any time, and a new label of an image replaces its last one. What could not be read is
in `problems.txt`.
"""


class FilesLabelling:
    """Batches as folders below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self, batch_id: str) -> str:
        return str(self._folder / batch_id)

    def push(self, batch: Batch, image_of: Callable[[Sample], Path], seeds: Mapping[str, Label]) -> None:
        """Lay the folder of `batch` out; what people have, or have put there already, stays.

        Pre-annotations are laid out once: images that are offered later come blank.
        Raises SettingsError where the folder cannot be written.
        """
        target = self._folder / batch.batch_id
        try:
            for part in ("images", "labels"):
                (target / part).mkdir(parents=True, exist_ok=True)
            for sample in batch.samples:
                copy_whole(image_of(sample), target / "images" / f"{sample.sample_id}.jpg")
            offer = self._make_offer(batch, seeds)
            if not (target / "pre_annotations.json").exists():
                write_whole(target / "pre_annotations.json", pre_annotations_bytes(batch, offer.seeds))
            text = INSTRUCTIONS.format(
                batch=batch.batch_id,
                asked=f", for {batch.assignee}" if batch.assignee else "",
                images=len(offer.images),
                classes=", ".join(batch.class_names),
                seeded=len(offer.seeds),
            )
            write_whole(target / "instructions.md", text.encode())
        except OSError as error:
            raise SettingsError(
                f"{target}: cannot be written ({error.strerror or error}): make room, or name another labelling.folder"
            ) from None

    def put_back(self, batch: Batch, labels: Sequence[Label]) -> None:
        """What a labelling program does: one COCO file into `labels/`."""
        samples = {sample.sample_id: sample for sample in batch.samples}
        content = revision_bytes(labels, samples, batch.class_names, class_list_version=batch.class_list_version)
        write_whole(self._folder / batch.batch_id / "labels" / "labels.json", content)

    def put_return(self, batch: Batch, name: str, labels: Sequence[Label]) -> None:
        """Labels that were taken in from elsewhere, where the next pull reads them as the newest ones.

        Without it an older file of `labels/` would win over them. A batch that was never laid out here has no such
        file, and is left alone. name: of what they came in.
        """
        folder = self._folder / batch.batch_id / "labels"
        if folder.is_dir():
            samples = {sample.sample_id: sample for sample in batch.samples}
            content = revision_bytes(labels, samples, batch.class_names, class_list_version=batch.class_list_version)
            write_whole(folder / f"{name}-{content_id(content)}.json", content)

    def remember(self, batch: Batch, seeds: Mapping[str, Label]) -> Offer:
        """What people are given elsewhere, kept as `push` keeps it; what they were given before stays."""
        (self._folder / batch.batch_id).mkdir(parents=True, exist_ok=True)
        return self._make_offer(batch, seeds)

    def is_known(self, batch: Batch) -> bool:
        """Whether it was ever offered from here, so that `seeds` knows what people saw."""
        return self._offer(batch) is not None

    def offered(self, batch: Batch) -> tuple[str, ...]:
        """The sample ids that people were given; all of the batch where that is not known."""
        offer = self._offer(batch)
        return offer.images if offer else tuple(sample.sample_id for sample in batch.samples)

    def seeds(self, batch: Batch) -> dict[str, Label]:
        """What people saw before they began, by sample id, also after they have edited `pre_annotations.json`."""
        offer = self._offer(batch)
        return {label.sample_id: label for label in offer.seeds} if offer else {}

    def pull(self, batch: Batch) -> list[Label]:
        """The labels that are there, by sample id. What is wrong with them goes to `problems.txt`.

        Of an image that is in several files or zips, the newest of these counts.
        """
        folder = self._folder / batch.batch_id
        samples = {sample.sample_id: sample for sample in batch.samples}
        seeds = self.seeds(batch) if self.is_known(batch) else None
        labels: dict[str, Label] = {}
        lines: list[str] = []
        now = datetime.now(timezone.utc)
        with tempfile.TemporaryDirectory(prefix="edgeloop-") as scratch:
            for source, moment in sources(folder / "labels", Path(scratch), lines):
                try:
                    found = read_returned(
                        source,
                        samples,
                        Classes(batch.class_names),
                        annotator="files",
                        labelled_at=moment,
                        seeds=seeds,
                        untouched=source == folder / "labels" or source.is_file(),  # it was put into labels/ as it is
                        but=ALONE if source == folder / "labels" else (),
                    )
                except LabelsInvalid as error:
                    lines.append(str(error))
                    continue
                in_time = clipped(found.labels, now, found.problems)
                labels |= {label.sample_id: label for label in in_time}
                lines += found.problems.lines
                if unseen := found.passed_over[UNTOUCHED]:
                    lines.append(f"{source.name}: {unseen} {UNTOUCHED}: put what is right as it is into labels/")
        if lines:
            write_whole(folder / "problems.txt", "".join(f"{line}\n" for line in lines).encode())
        else:
            (folder / "problems.txt").unlink(missing_ok=True)
        return [labels[sample_id] for sample_id in sorted(labels)]

    def problems(self, batch: Batch) -> list[str]:
        """The lines of `problems.txt`."""
        path = self._folder / batch.batch_id / "problems.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _offer(self, batch: Batch) -> Offer | None:
        try:
            return Offer.model_validate_json((self._folder / batch.batch_id / OFFER).read_bytes())
        except (OSError, ValueError):  # never offered, or the folder is gone or damaged
            return None

    def _make_offer(self, batch: Batch, seeds: Mapping[str, Label]) -> Offer:
        """Written once: people may have begun with these very boxes when others are seen."""
        before = self._offer(batch)
        given = tuple(sample.sample_id for sample in batch.samples)
        if before is None:
            offer = Offer(images=given, seeds=tuple(seeds[sample_id] for sample_id in given if sample_id in seeds))
        else:
            offer = before.model_copy(update={"images": tuple(dict.fromkeys((*before.images, *given)))})
        if offer != before:
            write_whole(self._folder / batch.batch_id / OFFER, offer.to_json())
        return offer


def pre_annotations_bytes(batch: Batch, seeds: Sequence[Label]) -> bytes:
    """COCO without who and when: a program that keeps what it does not know must not sign as the model."""
    samples = {sample.sample_id: sample for sample in batch.samples}
    content = json.loads(revision_bytes(seeds, samples, batch.class_names))
    for image in content["images"]:
        for key in ("annotator", "labelled_at", *EXTRAS):
            image.pop(key, None)
    return json.dumps(content, indent=1).encode()


def sources(folder: Path, scratch: Path, problems: list[str]) -> Iterator[tuple[Path, datetime]]:
    """What to read labels from, oldest first, each with when it was put there.

    Each zip, unpacked, each JSON file, which is of many images, and all others together.
    """
    files = [(path.stat().st_mtime, path) for path in folder.rglob("*") if path.is_file()]
    files = [(seconds, path) for seconds, path in files if not path.name.startswith(".")]
    alone = [(seconds, path) for seconds, path in files if path.suffix.lower() in ALONE]
    loose = [seconds for seconds, path in files if path.suffix.lower() not in ALONE]
    found = [*alone, *([(max(loose), folder)] if loose else [])]
    for number, (seconds, path) in enumerate(sorted(found)):
        moment = datetime.fromtimestamp(seconds, timezone.utc)
        if path.suffix.lower() != ".zip":
            yield path, moment
            continue
        into = scratch / str(number) / path.stem
        into.mkdir(parents=True)
        try:
            yield unpack(path, into), moment
        except LabelsInvalid as error:
            problems.append(str(error))


def clipped(labels: Sequence[Label], now: datetime, problems: Problems) -> list[Label]:
    """The labels, none of them later than `now`: clocks disagree, and what is in the future would always be newest."""
    late = [label for label in labels if label.labelled_at > now]
    if late:
        furthest = max(label.labelled_at for label in late)
        what = f"of {len(late)} images, the latest {format_utc(furthest)}: now it is {format_utc(now)}, which they get"
        problems.add(FUTURE, "labels", what)
    return [label.model_copy(update={"labelled_at": now}) if label.labelled_at > now else label for label in labels]


def write_whole(path: Path, content: bytes) -> None:
    """Whole or not at all: people may read it at any moment."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def copy_whole(source: Path, target: Path) -> None:
    """A copy, not a link: a program that turns or crops an image in place must not reach the cache."""
    if target.exists():
        return
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)
