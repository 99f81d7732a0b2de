"""What an outside team hands back, a zip or a folder, becomes the next label revision of its batch.

At once, and not with the next pull: it then holds on whatever machine it comes in and wherever else people label, says
who labelled, and is whole or not there. Where the batch is laid out for labelling through files, its labels are put
there, too: a pull reads that folder again, and an older file in it would win.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from tasks.adapters.labelling import FilesLabelling, with_corrections
from tasks.adapters.labelling.files import clipped, write_whole
from tasks.adapters.labels import Classes, Problems, Returned, read_returned, unpack
from tasks.adapters.labels.returned import UNTOUCHED, is_opened, no_label
from tasks.central import Central, says_the_same
from tasks.core import layout
from tasks.core.entities import Batch, Label, format_utc
from tasks.core.errors import LabelsInvalid, ObjectConflict, SettingsError
from tasks.core.settings import ProjectSettings
from tasks.opinions import keep_opinions, opinions_of

MAX_LABEL_BYTES = 4_000_000_000  # of a return, unpacked, without its images
ATTEMPTS = 5  # to write the next revision while others write theirs
OLDER = "label that is older than the one that there is, which stays"
LAST_SECOND = 253_402_300_799  # of the year 9999
_WHERE = re.compile(r"(?P<file>.*?)(?::(?P<line>[0-9]+))?(?:: (?P<place>.*))?\Z")


@dataclass(frozen=True)
class Taken:
    """What became of a return, in images. new: whose label was not known before, or is another one now."""

    batch_id: str
    images: int
    skipped: int
    boxes: int
    new: int
    emptied: int
    missing: int
    before: int
    revision: int


@dataclass
class Return:
    """One return on its way in. What is wrong with it gathers in `problems`, whatever becomes of the rest.

    renames: class of the return -> class of the batch. allow_empty: also when all boxes that were sent are gone.
    untouched: also images that lie as they were sent.
    """

    project: ProjectSettings
    batch_id: str
    source: Path
    annotator: str
    renames: Mapping[str, str] = field(default_factory=dict)
    allow_empty: bool = False
    untouched: bool = False
    problems: Problems = field(default_factory=Problems)
    passed_over: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)


def take_in(returned: Return) -> Taken:
    """The labels of a return as one more revision, or none where it says what is known already.

    Images that are not in it keep what they have; so do those where something is wrong, which is in its `problems`.
    Raises LabelsInvalid when nothing of it can be used, and when all its images are empty although boxes were sent.
    """
    central = Central(returned.project)
    batch = central.batch(returned.batch_id)
    check_renames(returned, batch)
    files = FilesLabelling(Path(returned.project.labelling.folder))
    seeds = files.seeds(batch) if files.is_known(batch) else None
    if seeds is None:
        returned.warnings.append(
            f"{batch.batch_id} was not exported from here: corrections are not counted, and what lies in "
            f"pre_annotations is not taken"
        )
    labels = signed(read(returned, batch, seeds), returned, seeds or {})
    for _ in range(ATTEMPTS):
        try:
            return store(central, files, batch, labels, returned, seeds or {})
        except ObjectConflict:  # a turn wrote this number just now: compare with that, and take the next one
            continue
    raise LabelsInvalid(f"{returned.source.name}: others keep writing labels of {batch.batch_id}: import it again")


def check_renames(returned: Return, batch: Batch) -> None:
    if not returned.annotator.strip():
        raise SettingsError("--annotator: is empty: name who labelled")
    for old, new in returned.renames.items():
        if new not in batch.class_names:
            names = ", ".join(batch.class_names)
            raise SettingsError(
                f"--rename {old}={new}: batch {batch.batch_id} has no class {new!r}: use one of {names}"
            )


# --- reading ---------------------------------------------------------------------------------------------------------


def read(returned: Return, batch: Batch, seeds: Mapping[str, Label] | None) -> list[Label]:
    """One label an image. Raises LabelsInvalid where there is none."""
    source = returned.source
    if not source.exists():
        raise SettingsError(f"{source}: there is no such file or folder: name the zip or folder that came back")
    later = [name for name in returned.project.classes if name not in batch.class_names]
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as scratch:
        found = read_returned(
            opened(source, Path(scratch) / source.stem, returned.passed_over),
            {sample.sample_id: sample for sample in batch.samples},
            Classes(batch.class_names, returned.renames, later),
            annotator=returned.annotator,
            labelled_at=time_of(source),
            seeds=seeds,
            untouched=returned.untouched,
            believed=False,
        )
    note(found, returned)
    if not found.labels:
        raise LabelsInvalid(f"{source.name}: {why_nothing(found)}")
    return clipped(found.labels, datetime.now(timezone.utc), returned.problems)


def opened(source: Path, into: Path, passed_over: Counter[str]) -> Path:
    """The folder or file to read. Images in a zip stay there."""
    if source.is_dir() or is_opened(source.name):
        return source

    def wanted(name: str) -> bool:
        kind = no_label(name)
        if kind and kind != "lists and notes":  # class lists are needed
            passed_over[kind] += 1
            return False
        return True

    return unpack(source, into, max_bytes=MAX_LABEL_BYTES, wanted=wanted)


def time_of(source: Path) -> datetime:
    """When the file, or the newest file in the folder, was written."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    seconds = max((path.stat().st_mtime for path in files), default=0.0)
    return datetime.fromtimestamp(min(max(seconds, 0.0), LAST_SECOND), timezone.utc)


def note(found: Returned, returned: Return) -> None:
    returned.problems.extend(found.problems)
    returned.passed_over.update(found.passed_over)
    returned.renamed.update(found.renamed)
    for old in returned.renames:
        if not found.renamed[old]:
            returned.warnings.append(f"--rename {old}=...: no label of a usable image has this class")
    if unseen := found.passed_over[UNTOUCHED]:
        returned.warnings.append(
            f"{unseen} {UNTOUCHED}: not taken, for nobody knows whether they were looked at; --untouched takes them"
        )


def why_nothing(found: Returned) -> str:
    if found.problems.counts:
        return "nothing in it can be used: " + ", ".join(
            f"{n} x {reason}" for reason, n in found.problems.counts.items()
        )
    if found.passed_over[UNTOUCHED]:
        return "everything in it is as it was sent: put what is finished into labels/, or import it with --untouched"
    return "says nothing of any image of the batch"


def signed(labels: list[Label], returned: Return, seeds: Mapping[str, Label]) -> list[Label]:
    """The labels as those of the annotator, with their corrections."""
    who = {"annotator": returned.annotator, "origin": "human"}
    return [with_corrections(label.model_copy(update=who), seeds.get(label.sample_id)) for label in labels]


# --- storing ---------------------------------------------------------------------------------------------------------


def store(
    central: Central,
    files: FilesLabelling,
    batch: Batch,
    labels: list[Label],
    returned: Return,
    seeds: Mapping[str, Label],
) -> Taken:
    """What is new among `labels` as the next revision. Raises ObjectConflict when somebody else was faster."""
    newest = central.bucket.latest_number(partial(layout.labels, batch.batch_id))
    held = central.labels(batch, newest) if newest else {}
    older = [label for label in labels if is_older(label, held.get(label.sample_id))]
    passed = {label.sample_id for label in older}
    usable = [label for label in labels if label.sample_id not in passed]
    new = [label for label in usable if not says_the_same(label, held.get(label.sample_id))]
    if not returned.allow_empty:
        refuse_deletions(new, held, seeds, returned.source.name)
    if new:
        files.put_return(batch, returned.source.stem, new)
    revision, _ = central.store_labels(batch, new, after=newest)
    keep_opinions(
        central, batch.batch_id, words_of_people([*opinions_of(central, batch.batch_id), *held.values(), *new])
    )
    for label in older:
        tell_older(label, held[label.sample_id], returned)
    if not usable:
        raise LabelsInvalid(f"{returned.source.name}: all its {len(older)} labels are older than those that there are")
    return Taken(
        batch_id=batch.batch_id,
        images=len(usable),
        skipped=sum(label.status == "skipped" for label in usable),
        boxes=sum(len(label.boxes) for label in usable),
        new=len(new),
        emptied=sum(not label.boxes and has_boxes(label, held) for label in new),
        missing=len(batch.samples) - len(labels),
        before=newest,
        revision=revision,
    )


def words_of_people(labels: Iterable[Label]) -> list[Label]:
    return [label for label in labels if label.origin == "human"]


def is_older(label: Label, held: Label | None) -> bool:
    """Whether it was made before the label that there is, and says something else: an old zip came in late.

    A prediction that was accepted in bulk gives way to any person's label.
    """
    if held is None or held.origin == "model":
        return False
    return label.labelled_at < held.labelled_at and not says_the_same(label, held)


def tell_older(label: Label, held: Label, returned: Return) -> None:
    times = f"{format_utc(label.labelled_at)} against {format_utc(held.labelled_at)} of {held.annotator}"
    returned.problems.add(
        OLDER, f"{returned.source.name}: {label.sample_id}", f"{times}; if it is the right one, touch the file"
    )


def refuse_deletions(new: list[Label], held: Mapping[str, Label], seeds: Mapping[str, Label], name: str) -> None:
    """All boxes gone is more often an export that went wrong than a yard without cars."""
    done = [label for label in new if label.status == "done"]
    had = [label for label in done if has_boxes(label, seeds) or has_boxes(label, held)]
    if had and not any(label.boxes for label in done):
        raise LabelsInvalid(
            f"{name}: all its {len(done)} images are empty, though {len(had)} of them had boxes before: nothing was "
            f"taken; if they are empty indeed, import it again with --allow-empty"
        )


def has_boxes(label: Label, known: Mapping[str, Label]) -> bool:
    return label.sample_id in known and bool(known[label.sample_id].boxes)


# --- telling ---------------------------------------------------------------------------------------------------------


def write_report(source: Path, problems: Problems) -> Path | None:
    """`{name}.problems.txt` and `.csv` beside the return; None, and an old report gone, where nothing was wrong.

    Raises OSError where they cannot be written.
    """
    text, table = (source.with_name(f"{source.name}.problems.{suffix}") for suffix in ("txt", "csv"))
    if not problems.counts:
        for path in (text, table):
            path.unlink(missing_ok=True)
        return None
    write_whole(text, "".join(f"{line}\n" for line in [*problems.lines, *rest_of(problems)]).encode())
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "line", "place", "problem", "detail"))
        for problem in problems.first:
            where = _WHERE.match(problem.where)
            parts = where.groups("") if where else (problem.where, "", "")
            writer.writerow((*map(harmless, parts), problem.reason, harmless(problem.detail)))
    return text


def rest_of(problems: Problems) -> list[str]:
    """What lies beyond the first 1,000, in numbers."""
    total = problems.counts.total()
    if total == len(problems.first):
        return []
    counted = ", ".join(f"{n} x {reason}" for reason, n in problems.counts.items())
    return [f"... and {total - len(problems.first)} more; in all {total}: {counted}"]


def harmless(cell: str) -> str:
    """A cell that a spreadsheet does not run as a formula: names in a return come from outside."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell
