"""Quality: how far people agree with gold and with one another, and what they corrected of what they were shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import Any

from tasks.adapters.labelling import Labelling
from tasks.batching import gold_labels
from tasks.central import Central
from tasks.core import layout
from tasks.core.corrections import Corrections, corrections_of
from tasks.core.entities import Batch, Label, Sample
from tasks.core.errors import LabellingUnavailable, ObjectMissing, SettingsError
from tasks.core.people.agreement import GOLD, Agreement, Pair, agreement, between_people, with_gold
from tasks.core.settings import ProjectSettings
from tasks.core.splits import cluster_of
from tasks.opinions import opinions_of
from tasks.turn import newest_turn

LEAST_F1 = 0.8  # of the upper bound: somebody whose agreement lies below it beyond doubt is named
NEVER_CORRECTS = 50  # boxes shown; somebody who left every one of them as it was may not have looked


@dataclass(frozen=True)
class Annotator:
    """What one person did. lead_seconds: median an image, None where nobody measured it."""

    name: str
    images: int
    skipped: int
    boxes: int
    corrections: Corrections
    lead_seconds: float | None
    gold: Agreement | None = None
    others: Agreement | None = None


@dataclass(frozen=True)
class Quality:
    """Of some batches. by_strategy: of the samples that people corrected pre-annotations in; images by strategy."""

    batches: tuple[str, ...]
    annotators: tuple[Annotator, ...] = ()
    pairs: tuple[Agreement, ...] = ()
    by_strategy: Mapping[str, Corrections] = field(default_factory=dict)
    images_by_strategy: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass
class Said:
    """All labels of some batches, with their samples and what people were shown."""

    labels: list[Label] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    seeds: dict[str, Label] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def quality(project: ProjectSettings, labelling: Labelling, batches: Sequence[str] = ()) -> Quality:
    """Of these batches; of all that the newest turn knows where none is named. labelling: knows what people were shown.

    Raises SettingsError for a batch that there is not.
    """
    central = Central(project)
    chosen = tuple(dict.fromkeys(batches)) or known_batches(project)
    said = Said()
    for batch_id in chosen:
        add_batch(central, labelling, batch_id, said)
    gold = {sample_id: one.label for sample_id, one in gold_labels(central).items()}
    people = [label for label in said.labels if label.origin == "human"]
    return Quality(
        batches=chosen,
        annotators=tuple(annotators_of(people, said, gold)),
        pairs=tuple(pairs_of(people, said)),
        **by_strategy(people, said),
        warnings=(*said.warnings, *doubts(annotators_of(people, said, gold))),
    )


def known_batches(project: ProjectSettings) -> tuple[str, ...]:
    turn = newest_turn(project)
    return tuple(sorted(turn.batches)) if turn else ()


def add_batch(central: Central, labelling: Labelling, batch_id: str, said: Said) -> None:
    """The newest labels of a batch: each person's where several labelled an image."""
    try:
        batch = central.batch(batch_id)
    except ObjectMissing:
        raise SettingsError(f"batch {batch_id!r}: there is none of that name: see edgeloop labels status") from None
    revision = central.bucket.latest_number(partial(layout.labels, batch_id))
    stored = central.labels(batch, revision).values() if revision else ()
    opinions = opinions_of(central, batch_id)
    several = {label.sample_id for label in opinions}
    said.labels += [*opinions, *(label for label in stored if label.sample_id not in several)]
    said.samples |= {sample.sample_id: sample for sample in batch.samples}
    said.seeds |= seeds_of(labelling, batch, said)


def seeds_of(labelling: Labelling, batch: Batch, said: Said) -> dict[str, Label]:
    """What people were shown; nothing, and a warning, where the place that knows it does not answer."""
    if batch.origin == "import":
        return {}
    try:
        return labelling.seeds(batch)
    except LabellingUnavailable as error:
        said.warnings.append(f"batch {batch.batch_id}: what people were shown is not known: {error}")
        return {}


def annotators_of(labels: Sequence[Label], said: Said, gold: Mapping[str, Label]) -> list[Annotator]:
    """A row a person, those with the most images first."""
    against_gold, against_others = with_gold(labels, gold), others_of(labels)
    of: dict[str, list[Label]] = {}
    for label in labels:
        of.setdefault(label.annotator, []).append(label)
    rows = []
    for name, theirs in of.items():
        leads = [label.lead_seconds for label in theirs if label.lead_seconds is not None]
        rows.append(
            Annotator(
                name=name,
                images=sum(label.status == "done" for label in theirs),
                skipped=sum(label.status == "skipped" for label in theirs),
                boxes=sum(len(label.boxes) for label in theirs),
                corrections=total(theirs, said),
                lead_seconds=median(leads) if leads else None,
                gold=figure(name, GOLD, against_gold.get(name), said),
                others=figure(name, "others", against_others.get(name), said),
            )
        )
    return sorted(rows, key=lambda row: (-row.images - row.skipped, row.name))


def others_of(labels: Sequence[Label]) -> dict[str, list[Pair]]:
    """Each person against everybody else who labelled the same images."""
    found: dict[str, list[Pair]] = {}
    for names, pairs in between_people(labels).items():
        for name in names:
            found.setdefault(name, []).extend(pairs)
    return found


def pairs_of(labels: Sequence[Label], said: Said) -> list[Agreement]:
    rows = [figure(one, other, pairs, said) for (one, other), pairs in sorted(between_people(labels).items())]
    return [row for row in rows if row is not None]


def figure(first: str, second: str, pairs: Sequence[Pair] | None, said: Said) -> Agreement | None:
    if not pairs:
        return None
    return agreement(first, second, pairs, [cluster_of(said.samples[pair.sample_id]) for pair in pairs])


def total(labels: Iterable[Label], said: Said) -> Corrections:
    """What was done to the boxes that were shown, over the images that came with some, or could have."""
    found = (one for label in labels if (one := corrected(label, said)) is not None)
    return sum(found, Corrections())


def corrected(label: Label, said: Said) -> Corrections | None:
    """Of one label; None for a skip, and where nobody was shown anything."""
    seed = said.seeds.get(label.sample_id)
    return corrections_of(seed.boxes, label.boxes) if seed is not None and label.status == "done" else None


def by_strategy(labels: Sequence[Label], said: Said) -> dict[str, Any]:
    """Corrections, and images that came with pre-annotations, by the strategy that kept the sample."""
    found: dict[str, Corrections] = {}
    images: dict[str, int] = {}
    for label in labels:
        one = corrected(label, said)
        if one is not None and not label.seeded_by:  # boxes of another model say nothing of what the device's is worth
            strategy = said.samples[label.sample_id].strategy
            found[strategy] = found.get(strategy, Corrections()) + one
            images[strategy] = images.get(strategy, 0) + 1
    return {"by_strategy": dict(sorted(found.items())), "images_by_strategy": dict(sorted(images.items()))}


def doubts(rows: Iterable[Annotator]) -> list[str]:
    """Who should be talked to, a line each."""
    told = []
    for row in rows:
        for against in (row.gold, row.others):
            if against is not None and against.interval is not None and against.interval[1] < LEAST_F1:
                told.append(
                    f"{row.name} agrees with {against.second} by {against.words}, below {LEAST_F1:g} beyond doubt: "
                    f"look at some of their images together"
                )
        if row.corrections.shown >= NEVER_CORRECTS and not row.corrections.total:
            told.append(
                f"{row.name} left all {row.corrections.shown} boxes as the model drew them, and added none: perhaps "
                f"nobody looked"
            )
    return told
