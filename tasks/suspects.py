"""Suspects: labels that the live model surely disagrees with, for a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.central import Central, EvaluatedImages, detect_again
from tasks.core.entities import STUB, DatasetEntry
from tasks.core.errors import NotEnoughData, ObjectMissing
from tasks.core.people.suspected import Suspect, suspects, yardstick_of
from tasks.core.settings import ProjectSettings
from tasks.turn import newest_turn

AT_MOST = 200  # of the images that the model trained on, and of the others; people read from the top
MEASURES = ("calibration", "test")


@dataclass(frozen=True)
class SuspectedBox:
    """One box to look at again: where it is, what the label says and what the model sees.

    xyxy, seen_xyxy: absolute pixels. gain: how far it goes before others of its group, 0 to 1.
    """

    sample_id: str
    batch: str
    revision: int
    annotator: str
    split: str
    trained_on: bool
    kind: str
    gain: float
    what: str
    class_name: str
    xyxy: tuple[float, ...]
    seen_class: str
    seen_xyxy: tuple[float, ...] | None
    confidence: float

    def told(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True)
class Suspected:
    """What to look at again: the images that the model did not train on first, in each group the best first.

    boxes: at most AT_MOST of each group, of `held_out` and `trained_on` that there are.
    """

    model_version: str
    dataset_version: str
    images: int
    held_out: int
    trained_on: int
    boxes: tuple[SuspectedBox, ...]
    problems: tuple[str, ...] = ()

    @property
    def sample_ids(self) -> list[str]:
        """The images, each once, in the order of their best box."""
        return list(dict.fromkeys(box.sample_id for box in self.boxes))


def suspected_labels(project: ProjectSettings, at_most: int = AT_MOST) -> Suspected:
    """Labels of the newest dataset that people made and the live model disagrees with.

    Raises NotEnoughData before there is a dataset and a live model that was measured.
    """
    turn = newest_turn(project)
    if turn is None or not turn.dataset_version:
        raise NotEnoughData("nothing is labelled yet: edgeloop loop makes a dataset of the first labels")
    if turn.live_model == STUB or not turn.evaluation:
        raise NotEnoughData("no live model was evaluated yet: what it sees cannot speak against labels")
    central = Central(project)
    entries = [entry for entry in central.entries(turn.dataset_version) if entry.label.origin == "human"]
    images = detect_again(central, turn.live_model, entries)
    seen_before = trained_on(central, turn.live_model)
    thresholds = central.evaluation(turn.evaluation).thresholds
    known = [entry.sample.sample_id in seen_before for entry in images.entries]
    measured = [
        result
        for entry, result, old in zip(images.entries, images.results, known)
        if entry.split in MEASURES and not old
    ]
    if not measured:
        raise NotEnoughData("no labelled calibration or test image tells how sure the model may be: label more of them")
    found = suspects(images.results, project.classes, thresholds, yardstick_of(measured, project.classes, thresholds))
    groups = [[one for one in found if known[one.image] is old] for old in (False, True)]
    boxes = [box_of(one, images, known[one.image]) for group in groups for one in group[:at_most]]
    return Suspected(
        model_version=turn.live_model,
        dataset_version=turn.dataset_version,
        images=len(images.entries),
        held_out=len(groups[0]),
        trained_on=len(groups[1]),
        boxes=tuple(boxes),
        problems=tuple(images.problems),
    )


def trained_on(central: Central, model_version: str) -> frozenset[str]:
    """Sample ids of the images that a model, or one that it goes on from, was trained on.

    What is no longer in the bucket, as of a model that was imported, is not known.
    """
    found: set[str] = set()
    asked: set[str] = set()
    while model_version and model_version not in {STUB, *asked}:
        asked.add(model_version)
        try:
            model = central.model(model_version)
            entries: Sequence[DatasetEntry] = central.entries(model.dataset_version) if model.dataset_version else ()
        except ObjectMissing:
            break
        found |= {entry.sample.sample_id for entry in entries if entry.split == "train"}
        model_version = model.previous
    return frozenset(found)


def box_of(one: Suspect, images: EvaluatedImages, old: bool) -> SuspectedBox:
    """A suspect with the image that it is in."""
    entry = images.entries[one.image]
    return SuspectedBox(
        sample_id=entry.sample.sample_id,
        batch=entry.batch_id,
        revision=entry.revision,
        annotator=entry.label.annotator,
        split=entry.split,
        trained_on=old,
        kind=one.kind,
        gain=round(one.gain, 6),
        what=in_words(one),
        class_name=one.class_name,
        xyxy=rounded(one.xyxy),
        seen_class=one.seen_class,
        seen_xyxy=None if one.seen_xyxy is None else rounded(one.seen_xyxy),
        confidence=round(one.confidence, 6),
    )


def in_words(one: Suspect) -> str:
    """What is suspected of a box, in a few words."""
    sure = f"{one.seen_class} {one.confidence:.2f}"
    return {
        "class": f"labelled {one.class_name}, the model sees {sure}",
        "place": f"{one.class_name} badly placed: the model sees it elsewhere, {sure}",
        "overlooked": f"no label: the model sees {sure}",
        "nothing there": f"labelled {one.class_name}, the model is not sure of anything there",
    }[one.kind]


def rounded(xyxy: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in xyxy)


def save_view(project: ProjectSettings, found: Suspected) -> str:
    """The images as a saved view of the FiftyOne dataset; its path below the App's address.

    Raises ReviewUnavailable where FiftyOne has no database, or not yet a dataset of this project.
    """
    from tasks.adapters import review

    review.check_that_it_answers(review.ensure_database(Central(project).work / "fiftyone"))
    view = review.save_list_view(project.project, "Suspected label errors", found.sample_ids)
    return f"/datasets/{project.project}?view={view.slug}"
