"""Who answered? Of the images that people were asked about, how likely was each one to be labelled.

People label some, skip some and have not come to others. Within a batch and a stratum, the random slice or the rest,
an image that is labelled stands for those that are not: p_labelled is the share of the stratum that is labelled, times
the probability that the image was offered at all, where offers were drawn. That a skipped image is like a labelled one
is an assumption, and is told wherever it is made.

Where nothing that strategies chose is labelled, the random slice stands for every frame by itself (`slice_alone`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Label, Sample
from tasks.core.errors import NotEnoughData
from tasks.core.matching import Booleans, Floats

ROUNDING = 1e-9  # of a product of few probabilities
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
        """How likely its frame was to be kept and delivered, one way or the other, and it to be offered."""
        return self.sample.probability * delivered_either_way(self.sample) * self.probability_offered

    @property
    def probability_at_random(self) -> float:
        """How likely its frame was to be drawn at random, delivered so, and offered; 0 where that is not known."""
        sample = self.sample
        if not sample.random_slice or sample.probability_random is None:
            return 0.0
        return sample.probability_random * sample.probability_delivered * self.probability_offered

    @property
    def is_labelled(self) -> bool:
        return self.label is not None and self.label.status == "done"


def delivered_either_way(sample: Sample) -> float:
    """p_delivered of the frame that a sample is of: how likely one of the two samples that it could be was to arrive.

    Given what the strategies drew, a frame that they chose is in the random slice with probability e, and is theirs
    alone with 1 - e; d is how likely a sample of each kind was to outlast the cap:

        p_delivered = e * d_random + (1 - e) * d_chosen

    Both have the same, so that the frame stands for one on average also where d_chosen is 0. A frame that no strategy
    chose can arrive in the random slice alone, with d_random. Of a sample that does not say what else it could have
    been, as older devices wrote them, its own d is all that is known.
    """
    e, own = sample.probability_random, sample.probability_delivered
    if e is None or not sample.chosen_by:
        return own
    share = e if sample.random_slice else 1 - e
    return share * own + (1 - share) * sample.probability_delivered_otherwise


def contradiction(item: Asked) -> str:
    """What is wrong with the probabilities of a sample; empty where nothing is."""
    sample, e = item.sample, item.sample.probability_random
    if e is not None and (e > sample.probability + ROUNDING or (sample.random_slice and e == 0)):
        return f"drawn at random with probability {e}, and kept with {sample.probability}: one of the two is wrong"
    if not 0 < item.probability <= 1:
        return f"inclusion probability {item.probability}, not above 0 and at most 1"
    return ""


def slice_alone(asked: Sequence[Asked], labelled: Booleans) -> frozenset[str]:
    """The batches in which the random slice has to stand for all frames, with e for p_kept, and can.

    These are the batches without a label of what strategies chose, though there are such images, or all batches where
    there is none in any; and in which the random slice has labels, with a known probability each. labelled: (n,).
    """
    answered = [item for item, is_labelled in zip(asked, labelled) if is_labelled]
    can = {item.batch_id for item in answered if item.sample.random_slice}
    can -= {item.batch_id for item in answered if item.sample.random_slice and not item.probability_at_random}
    chosen = {item.batch_id for item in asked if not item.sample.random_slice}
    if not chosen:
        return frozenset(can)
    return frozenset(can & chosen - {item.batch_id for item in answered if not item.sample.random_slice})


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


def labelled_probability(
    batches: Sequence[str], random_slice: Booleans, labelled: Booleans, alone: Collection[str] = ()
) -> Floats:
    """(n,) the share of each image's batch and stratum that is labelled; nan for an image that is not.

    batches: of each image. random_slice, labelled: (n,). Where nothing of a batch's stratum is labelled, the same
    stratum of the other batches stands for it. Raises NotEnoughData where nothing of a whole stratum is: then there is
    nothing that could stand for it. alone: batches in which the random slice stands for what strategies chose
    (`slice_alone`), so that this asks for nobody's answer.
    """
    stood_for = ~random_slice & np.isin(np.asarray(batches, np.str_), sorted(alone))
    probability = np.full(len(labelled), np.nan)
    for in_slice, words in STRATA.items():
        rows = np.flatnonzero((random_slice == in_slice) & ~stood_for)
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
