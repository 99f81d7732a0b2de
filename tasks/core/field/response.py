"""Who answered? Of the images that people were asked about, how likely was each one to be labelled.

People label some, skip some and have not come to others. Within a batch and a stratum, the random slice or the rest,
an image that is labelled stands for those that are not: p_labelled is the share of the stratum that is labelled, times
the probability that the image was offered at all, where offers were drawn. That a skipped image is like a labelled one
is an assumption, and is told wherever it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Label, Sample
from tasks.core.errors import NotEnoughData
from tasks.core.matching import Booleans, Floats

STRATA = {True: "drawn at random", False: "chosen by strategies"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A sample that people were asked about, and what they said; None while they have not come to it.

    probability_offered: how likely it was to come into its batch, where that was drawn.
    """

    sample: Sample
    label: Label | None
    batch_id: str
    probability_offered: float = 1.0

    @property
    def probability(self) -> float:
        """How likely its frame was to be kept, delivered, and offered."""
        return self.sample.probability * self.sample.probability_delivered * self.probability_offered

    @property
    def is_labelled(self) -> bool:
        return self.label is not None and self.label.status == "done"


def each_once(asked: Iterable[Asked]) -> list[Asked]:
    """One item a sample, by sample id: of a sample in several batches the newest label, of those without one the first.

    The same image delivered twice is the same frame, and must not count as two.
    """
    best: dict[str, Asked] = {}
    for item in sorted(asked, key=lambda item: (item.sample.sample_id, item.batch_id)):
        known = best.get(item.sample.sample_id)
        if known is None or _says_more(item, known):
            best[item.sample.sample_id] = item
    return list(best.values())


def of_begun_batches(asked: Sequence[Asked]) -> list[Asked]:
    """Those in batches of which people have answered for at least one image; the others are no evidence yet."""
    begun = {item.batch_id for item in asked if item.label is not None}
    return [item for item in asked if item.batch_id in begun]


def labelled_probability(batches: Sequence[str], random_slice: Booleans, labelled: Booleans) -> Floats:
    """(n,) the share of each image's batch and stratum that is labelled; nan for an image that is not.

    batches: of each image. random_slice, labelled: (n,). Where nothing of a batch's stratum is labelled, the same
    stratum of the other batches stands for it. Raises NotEnoughData where nothing of a whole stratum is: then there is
    nothing that could stand for it.
    """
    probability = np.full(len(labelled), np.nan)
    for in_slice, words in STRATA.items():
        rows = np.flatnonzero(random_slice == in_slice)
        if not len(rows):
            continue
        if not labelled[rows].any():
            raise NotEnoughData(
                f"none of the {len(rows)} images {words} is labelled, and no other image can stand for them: label some"
            )
        probability[rows] = _of_stratum(np.asarray(batches, np.str_)[rows], labelled[rows])
    probability[~labelled] = np.nan
    return probability


def _of_stratum(batches: NDArray[np.str_], labelled: Booleans) -> Floats:
    """(n,) of one stratum, by batch: labelled / asked, times the share of images in batches with any label."""
    names, batch = np.unique(batches, return_inverse=True)
    asked, answers = np.bincount(batch, minlength=len(names)), np.bincount(batch, labelled, len(names))
    represented = asked[answers > 0].sum() / asked.sum()
    return np.asarray(answers[batch] / asked[batch] * represented)


def _says_more(item: Asked, known: Asked) -> bool:
    if item.label is None or known.label is None:
        return item.label is not None and known.label is None
    return item.label.labelled_at > known.label.labelled_at
