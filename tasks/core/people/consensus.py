"""Several people label one image, and the loop reads one label: the one that agrees best with the others.

It is the medoid (Kaufman and Rousseeuw 1987): a label that a person made, never a mixture that nobody saw. With two
people both agree as well with the other, and the newest label counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum

from tasks.core.entities import Label
from tasks.core.errors import DataError
from tasks.core.people.agreement import agreement

DIGITS = 9  # of mean agreement: beyond them it is rounding, and a tie


def in_force(labels: Iterable[Label]) -> dict[str, Label]:
    """Sample id -> the label that counts, of labels that several people may have made, in whatever order."""
    of: dict[str, list[Label]] = {}
    for label in labels:
        of.setdefault(label.sample_id, []).append(label)
    return {sample_id: consensus(some) for sample_id, some in of.items()}


def consensus(labels: Sequence[Label]) -> Label:
    """The one of several labels of an image that counts.

    A model's label gives way to any person's, and a skip to any label. Of the others the one with the highest mean
    agreement with the rest counts; of equals the newest. Raises DataError without a label.
    """
    if not labels:
        raise DataError("an image without a label has none that counts: leave it out")
    people = [label for label in labels if label.origin == "human"] or list(labels)
    done = [label for label in people if label.status == "done"] or people
    if len(done) == 1:
        return done[0]
    if done[0].status == "skipped" or len(done) == 2:
        return max(done, key=recency)
    return max(done, key=lambda label: (mean_agreement(label, done), *recency(label)))


def mean_agreement(label: Label, labels: Sequence[Label]) -> float:
    """F1 of a label with each of the others; `labels` holds it, too."""
    others = [other for other in labels if other is not label]
    return round(fsum(agreement(label, other) for other in others) / len(others), DIGITS) if others else 1.0


def recency(label: Label) -> tuple[object, ...]:
    """Orders labels by time; of one moment by who made them and what they say, so that any order gives the same."""
    return label.labelled_at, label.annotator, label.to_json()


def newest_of_each(labels: Iterable[Label]) -> list[Label]:
    """One label of each person and image, the newest; ordered by image, time and person.

    Where a person has labelled an image, what a model said in their place is left out.
    """
    newest: dict[tuple[str, str], Label] = {}
    for label in labels:
        key = (label.sample_id, label.annotator)
        if key not in newest or recency(newest[key]) < recency(label):
            newest[key] = label
    people = {label.sample_id for label in newest.values() if label.origin == "human"}
    kept = [label for label in newest.values() if label.origin == "human" or label.sample_id not in people]
    return sorted(kept, key=lambda label: (label.sample_id, label.labelled_at, label.annotator))
