"""What a reader must know before a figure is believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from tasks.core.bootstrap import MINIMUM_CLUSTERS
from tasks.core.field.hajek import Counts
from tasks.core.field.records import FieldRecall
from tasks.core.field.response import Asked, delivered_either_way
from tasks.core.matching import Floats
from tasks.core.settings import SamplingSettings

FEW_IMAGES = 30.0  # effective ones, below which a figure is hardly more than a hint
DOMINANT = 0.1  # share of the weights, or of the weighted objects, that is much for a single image


def warnings_of(
    found: FieldRecall,
    used: Sequence[Asked],
    counts: Counts,
    weights: Floats,
    settings: SamplingSettings,
    class_names: Sequence[str],
    problems: Sequence[str],
    alone: Collection[str] = (),
) -> tuple[str, ...]:
    """Sentences. used: the labelled images, which `counts` and `weights` are of, row by row.

    alone: batches in which the random slice stands for everything.
    """
    return (
        *_how_much_it_rests_on(found, used, counts, weights),
        *_who_answered(found, problems, alone),
        *_how_it_was_labelled(used, class_names),
        *_how_it_was_collected(used, settings),
    )


def _how_much_it_rests_on(found: FieldRecall, used: Sequence[Asked], counts: Counts, weights: Floats) -> list[str]:
    told = []
    effective = found.figures.effective_images if found.figures else 0.0
    if effective < FEW_IMAGES:
        told.append(
            f"few images: {len(used)} with unequal weights say as much as {effective:.0f} drawn at random would, so "
            "the figures are hints"
        )
    if found.bootstrap_unit == "image":
        told.append(
            f"{found.clusters} clusters (camera x hour) are fewer than {MINIMUM_CLUSTERS}: intervals come from drawing "
            "images, and may be too narrow where images resemble each other"
        )
    for weighted, of_what in ((weights, "of all frames"), (weights * counts.objects.sum(axis=1), "of all objects")):
        heaviest = int(weighted.argmax())
        if len(used) > 1 and weighted[heaviest] > DOMINANT * weighted.sum():
            share = weighted[heaviest] / weighted.sum()
            told.append(f"one image, {used[heaviest].sample.sample_id}, stands for {share:.0%} {of_what}")
            break
    return told


def _who_answered(found: FieldRecall, problems: Sequence[str], alone: Collection[str]) -> list[str]:
    told = []
    if found.skipped:
        told.append(
            f"{_images(found.skipped)} of {found.asked} {_was(found.skipped)} skipped by people: the labelled ones of "
            "their batch stand for them, as if what is skipped were like what is not"
        )
    if found.waiting:
        told.append(
            f"{_images(found.waiting)} of {found.asked} {_is(found.waiting)} not labelled yet: those that are "
            "stand for them, as if they had been picked at random"
        )
    if alone:
        batches = "1 batch" if len(alone) == 1 else f"{len(alone)} batches"
        told.append(
            f"in {batches} nothing is labelled of what strategies chose: the random slice stands for "
            "all frames there, which takes more images"
        )
    if problems:
        told.append(
            f"{_images(len(problems))} cannot be used and {_is(len(problems))} left out, the first: {problems[0]}"
        )
    return told


def _how_it_was_labelled(used: Sequence[Asked], class_names: Sequence[str]) -> list[str]:
    told = []
    seeded = sum(item.label is not None and item.label.seeded for item in used)
    if seeded:
        told.append(
            f"{_images(seeded)} {_was(seeded)} labelled with the model's own boxes in view: people overlook what "
            "it overlooked, so recall may look too good"
        )
    unknown = Counter(
        box.class_name for item in used if item.label for box in item.label.boxes if box.class_name not in class_names
    )
    if unknown:
        names = ", ".join(f"{number} {name!r}" for name, number in sorted(unknown.items()))
        told.append(f"boxes of classes that the project does not have are left out: {names}")
    return told


def _how_it_was_collected(used: Sequence[Asked], settings: SamplingSettings) -> list[str]:
    told = []
    suspect = sum(item.sample.clock_suspect for item in used)
    if suspect:
        told.append(
            f"{_images(suspect)} {_is(suspect)} from a device whose clock was not right: their hours, and with "
            "them the intervals, may be wrong"
        )
    thinned = [one.sample for one in used if delivered_either_way(one.sample) < 1]
    if thinned:
        older = any(sample.probability_random is None for sample in thinned)
        told.append(
            f"{_images(len(thinned))} {_is(len(thinned))} from an outbox that was full: kinds of samples of which "
            "nothing was left in it are stood for by the random slice, "
            + ("at its own weight, which is too low" if older else "with large weights where it has them")
        )
    if settings.duplicates.enabled:
        told.append(
            "near-duplicates and frames in a cooldown are kept by the random draw alone, so that the few there are "
            "have the largest weights"
        )
    return told


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
