"""Several people labelled the same image: the label that the loop takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.core.entities import Label
from tasks.core.people.agreement import pair_of

ROUNDING = 1e-9  # of sums of agreements


def consensus(labels: Iterable[Label]) -> list[Label]:
    """One label an image, in the order of sample ids: the one that agrees best with the others, as somebody drew it.

    It is the medoid: the highest mean agreement (F1, see agreement.py) with the labels of the other people; of equally
    good ones the newest, then the first by name. A skip agrees with skips alone. Boxes are never averaged: a box
    between two cars is on neither. Of one person the newest word counts.
    """
    of: dict[str, dict[str, Label]] = {}
    for label in sorted(labels, key=lambda one: one.labelled_at):
        of.setdefault(label.sample_id, {})[label.annotator] = label
    return [medoid([theirs[name] for name in sorted(theirs)]) for _, theirs in sorted(of.items())]


def medoid(labels: Sequence[Label]) -> Label:
    """The label of one image that is most like the others. labels: at least one, each of another person."""
    if len(labels) == 1:
        return labels[0]
    scores = [sum(likeness(label, other) for other in labels if other is not label) for label in labels]
    likely = [label for label, score in zip(labels, scores) if score >= max(scores) - ROUNDING]
    return max(likely, key=lambda one: one.labelled_at)


def likeness(one: Label, other: Label) -> float:
    """F1 of two labels of an image; a skip is like a skip, and like nothing else."""
    if one.status != other.status:
        return 0.0
    return 1.0 if one.status == "skipped" else pair_of(one, other).f1
