"""Quality: how far people agree with gold and with one another, and what they corrected of what they were shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from statistics import median
from typing import Any

from prefect import task

from tasks.adapters.labelling import Labelling
from tasks.artifacts import cleaned, tell_table
from tasks.batching import gold_labels
from tasks.central import Central
from tasks.core import layout
from tasks.core.allocation.cells import band_names, band_of
from tasks.core.corrections import Corrections, corrections_of
from tasks.core.entities import Batch, Label, Sample
from tasks.core.errors import LabellingUnavailable, ObjectMissing, SettingsError
from tasks.core.people.agreement import GOLD, Agreement, Disputed, Pair, agreement, between_people, disputed, with_gold
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.core.splits import cluster_of
from tasks.opinions import opinions_of
from tasks.turn import newest_turn

LEAST_F1 = 0.8  # of the upper bound: somebody whose agreement lies below it beyond doubt is named; and of an image
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
class Worth:
    """What people did to the pre-annotations of some images."""

    images: int
    corrections: Corrections


@dataclass(frozen=True)
class Quality:
    """Of some batches.

    by_strategy, by_band: of the images whose pre-annotations of the device's own model people corrected, by the
    strategy that kept them and by the band of their most confident detection below its threshold.
    disputed: images that several people labelled unlike one another.
    """

    batches: tuple[str, ...]
    annotators: tuple[Annotator, ...] = ()
    pairs: tuple[Agreement, ...] = ()
    by_strategy: Mapping[str, Worth] = field(default_factory=dict)
    by_band: Mapping[str, Worth] = field(default_factory=dict)
    disputed: tuple[Disputed, ...] = ()
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
    annotators = annotators_of(people, said, gold)
    band = partial(band_under, cache(partial(thresholds_of, central)))
    bands = worth(people, said, band)
    return Quality(
        batches=chosen,
        annotators=tuple(annotators),
        pairs=tuple(pairs_of(people, said)),
        by_strategy=dict(sorted(worth(people, said, lambda sample: sample.strategy).items())),
        by_band={name: bands[name] for name in band_names() if name in bands},
        disputed=tuple(disputed(between_people(people), LEAST_F1)),
        warnings=(*said.warnings, *doubts(annotators)),
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


def worth(labels: Sequence[Label], said: Said, group: Callable[[Sample], str]) -> dict[str, Worth]:
    """What was done to pre-annotations, by the group that a sample is in."""
    found: dict[str, Worth] = {}
    for label in labels:
        one = corrected(label, said)
        if one is not None and not label.seeded_by:  # boxes of another model say nothing of what the device's is worth
            name = group(said.samples[label.sample_id])
            before = found.get(name, Worth(0, Corrections()))
            found[name] = Worth(before.images + 1, before.corrections + one)
    return found


def band_under(thresholds_of: Callable[[str], Thresholds], sample: Sample) -> str:
    """The band of a sample at the thresholds that its device had."""
    return band_of(sample.detections, thresholds_of(sample.settings_version))


def thresholds_of(central: Central, settings_version: str) -> Thresholds:
    release = central.release_under(settings_version)
    return release.thresholds if release else {}


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


# --- where people look -----------------------------------------------------------------------------------------------

DISPUTED = "Low agreement"


def save_view(project: ProjectSettings, found: Quality) -> str:
    """The disputed images as a saved view of the FiftyOne dataset; its path below the App's address.

    Raises ReviewUnavailable where FiftyOne has no database, or not yet a dataset of this project.
    """
    from tasks.adapters import review

    review.check_that_it_answers(review.ensure_database(Central(project).work / "fiftyone"))
    view = review.save_list_view(project.project, DISPUTED, [one.sample_id for one in found.disputed])
    return f"/datasets/{project.project}?view={view.slug}"


@task(task_run_name="show the quality of {batch_id}")
def show_quality(batch_id: str, found: Quality) -> None:
    """A row a person as a table of the Prefect UI, when it says something new. Without secrets."""
    rows = [annotator_row(row) for row in found.annotators] + [{"annotator": line} for line in found.warnings]
    tell_table(f"labels-quality-{batch_id}", cleaned(rows), f"How good the labels of batch {batch_id} are", anew=False)


def annotator_row(row: Annotator) -> dict[str, object]:
    return {
        "annotator": row.name,
        "images": row.images,
        "skipped": row.skipped,
        "boxes": row.boxes,
        **kinds(row.corrections),
        "s an image": "" if row.lead_seconds is None else f"{row.lead_seconds:.0f}",
        "with gold": row.gold.words if row.gold else "",
        "with others": row.others.words if row.others else "",
    }


def kinds(one: Corrections) -> dict[str, object]:
    return {"shown": one.shown, "added": one.added, "removed": one.removed, "moved": one.moved, "renamed": one.renamed}
