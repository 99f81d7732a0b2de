"""Differences between trainings of one seed, with nested intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.core.bootstrap import percentile_interval
from tasks.core.entities import Estimate
from tasks.core.matching import Floats

IMAGES, BOXES, BOTH = "images", "boxes", "both"
DRAWS = 4000
Figure = Literal["ap50", "recall"]


@dataclass(frozen=True)
class Outcome:
    """What one training came to, and what it was given.

    equal: what it has as much of as random has, images or boxes; "both" where there is no difference. by_class: boxes
    that were labelled. misses: objects among them that the live model misses; images_with_miss: images that hold one.
    ambiguous: images with a detection within a tenth of its class's threshold. apart: mean cosine distance of a chosen
    image to the one most like it. ap50_drawn: in each replicate of the test images, which are the same replicates for
    all trainings of a seed. recall: at the live model's operating precision, as the gate reads it; recall_gain_drawn:
    less the live model's, in each replicate.
    """

    world: str
    seed: int
    way: str
    equal: str
    images: int
    boxes: int
    by_class: list[int]
    misses: int
    images_with_miss: int
    ambiguous: int
    apart: float
    ap50: float
    ap50_live: float
    ap50_drawn: list[float]
    recall: float
    recall_live: float
    recall_gain_drawn: list[float]
    seconds: float

    def of(self, figure: Figure) -> float:
        return self.ap50 if figure == "ap50" else self.recall - self.recall_live

    def drawn(self, figure: Figure) -> Floats:
        return np.array(self.ap50_drawn if figure == "ap50" else self.recall_gain_drawn)


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of one way less that of another, paired by seed. by_seed: (seeds,) on the test images as they are.

    drawn: (seeds, replicates) in every replicate of the test images.
    """

    by_seed: Floats
    drawn: Floats

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def value(self) -> float:
        return float(self.by_seed.mean())

    def means(self, draws: int, random: np.random.Generator) -> Floats:
        """(draws,) nested replicates of the mean: seeds with replacement, and for each one replicate of its images."""
        seeds = random.integers(0, self.seeds, (draws, self.seeds))
        replicates = random.integers(0, self.drawn.shape[1], seeds.shape)
        return np.asarray(self.drawn[seeds, replicates].mean(axis=1))


def difference(ours: Sequence[Outcome], theirs: Sequence[Outcome], figure: Figure = "ap50") -> Difference:
    """Of the seeds that both have."""
    others = {outcome.seed: outcome for outcome in theirs}
    pairs = [(one, others[one.seed]) for one in ours if one.seed in others]
    drawn = [one.drawn(figure) - other.drawn(figure) for one, other in pairs]
    return Difference(
        np.array([one.of(figure) - other.of(figure) for one, other in pairs]),
        np.stack(drawn) if drawn else np.zeros((0, 1)),
    )


def nested(differences: Sequence[Difference], seed: int = 0) -> Estimate | None:
    """The mean over worlds of their mean differences; None where a world has no seed.

    The interval is nested: in each of 4,000 draws, the seeds of each world are drawn with replacement, and for each
    drawn seed one bootstrap replicate of its test images (both models on the same images). A seed differs from another
    by its training and already by its test images, so that these are drawn twice: the interval is rather too wide than
    too narrow, except that a bootstrap of few seeds knows little of their spread.
    """
    if not differences or not all(each.seeds for each in differences):
        return None
    random = np.random.default_rng(seed)
    drawn = np.mean([each.means(DRAWS, random) for each in differences], axis=0)
    low, high = percentile_interval(drawn) or (float("nan"), float("nan"))
    return Estimate(value=float(np.mean([each.value for each in differences])), low=low, high=high)


def better(differences: Sequence[Difference]) -> str:
    """In how many seeds, such as "5 of 8"."""
    every = np.concatenate([each.by_seed for each in differences])
    return f"{int((every > 0).sum())} of {len(every)}"


def correlation(pairs: Sequence[tuple[Outcome, Outcome]], property_of: Callable[[Outcome], float]) -> float:
    """Over trainings with their base: of a property of what was chosen with AP50, both less those of the base."""
    x = np.array([property_of(one) - property_of(base) for one, base in pairs], np.float64)
    y = np.array([one.ap50 - base.ap50 for one, base in pairs], np.float64)
    known = np.isfinite(x)
    if known.sum() < 3 or not x[known].std() or not y[known].std():
        return float("nan")
    return float(np.corrcoef(x[known], y[known])[0, 1])
