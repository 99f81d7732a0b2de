"""What a candidate must reach: a figure, its bounds, its margin, and the sentence that says how it went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.core.gate.figures import Comparison, Edition, ModelOutcome, Replicates, truths_by_class
from tasks.core.settings import GateSettings

LEVEL = 0.05  # of every one-sided bound, and of Holm's procedure over the classes


@dataclass(frozen=True, slots=True)
class Requirement:
    """A figure that must lie above `margin`.

    low, high: one-sided 95% bounds. p: the chance of a figure so low if the truth lay at the margin. what: how its
    sentence begins. class_name: empty for figures over all classes. in_points: written as a difference, in points.
    decides: False where it may reject but not block.
    """

    name: str
    what: str
    margin: float
    value: float
    low: float
    high: float
    p: float
    class_name: str = ""
    in_points: bool = True
    decides: bool = True

    @property
    def holds(self) -> bool:
        return self.low > self.margin

    @property
    def images_factor(self) -> float:
        """How many times as many images would settle it: bounds shrink with the square root of their number."""
        distance = abs(self.value - self.margin)
        half_width = self.value - self.low if self.value > self.margin else self.high - self.value
        return (half_width / distance) ** 2 if distance > 0 else math.inf

    @property
    def numbers(self) -> dict[str, float]:
        return {self.name: self.value, f"{self.name}.low": self.low, f"{self.name}.high": self.high}

    def sentence(self, holds: bool | None) -> str:
        """holds: None where it could not be resolved."""
        if holds is False:
            bound, outcome = f"at most {self._written(self.high)}", "below"
        else:
            bound, outcome = f"at least {self._written(self.low)}", "above" if holds else "which is not above"
        return (
            f"{self.what} {self._written(self.value)}, {bound} (one-sided 95%), {outcome} {self._written(self.margin)}"
        )

    def _written(self, figure: float) -> str:
        if not self.in_points:
            return f"{figure:.3f}"
        return f"{100 * figure:+.1f} points" if figure else "0"


def ap50_above(figure: Replicates, minimum: float) -> Requirement:
    """AP50 of one model above a minimum."""
    return replace(_requirement("ap50", "AP50 is", minimum, figure), in_points=False)


def ap50_difference_above(candidate: Replicates, live: Replicates, margin: float) -> Requirement:
    """AP50 of the candidate less that of the live model, above a margin."""
    what = f"AP50 is {candidate.value:.3f} against {live.value:.3f}, a difference of"
    difference = Replicates(candidate.value - live.value, candidate.drawn - live.drawn)
    return _requirement("ap50.difference", what, margin, difference)


def recall_difference_above(comparison: Comparison, margin: float) -> Requirement:
    """Pooled recall at the live model's operating precision, above a margin."""
    ours, theirs = comparison.recall
    what = (
        f"recall at the live model's operating precision of {comparison.precision:.3f} is {ours:.3f} against "
        f"{theirs:.3f}, a difference of"
    )
    return _requirement("recall.difference", what, margin, comparison.recall_difference)


def class_differences_above(
    comparison: Comparison, live: ModelOutcome, edition: Edition, settings: GateSettings
) -> Iterator[Requirement]:
    """Recall of each class that has test boxes, above the margin; a class of few boxes may only reject."""
    truths = truths_by_class(live, len(edition.class_names))
    for c, name in enumerate(edition.class_names):
        if not truths[c]:
            continue
        what = f"recall of {name} ({truths[c]} test boxes) has a difference of"
        figure, margin = comparison.class_differences[c], -settings.class_margin
        requirement = _requirement(f"class.{name}.recall.difference", what, margin, figure)
        # A class of two boxes has bounds without width: no p-value is below that of a sign test of the units that
        # speak against it.
        p = max(requirement.p, 0.5 ** comparison.units_worse[c])
        decides = bool(truths[c] >= settings.class_minimum_boxes)
        yield replace(requirement, p=p, class_name=name, decides=decides)


def failed(requirements: Sequence[Requirement]) -> list[Requirement]:
    """Those whose upper bound lies below the margin; classes by Holm's procedure, which allows for their number."""
    alone = [r for r in requirements if not r.class_name and r.high < r.margin]
    classes = sorted((r for r in requirements if r.class_name), key=lambda r: r.p)
    for rank, requirement in enumerate(classes):
        if requirement.p > LEVEL / (len(classes) - rank):
            return alone + classes[:rank]
    return alone + classes


def _requirement(name: str, what: str, margin: float, figure: Replicates) -> Requirement:
    drawn = figure.drawn[np.isfinite(figure.drawn)]
    low, high = (float(v) for v in np.percentile(drawn, (100 * LEVEL, 100 * (1 - LEVEL))))
    return Requirement(name, what, margin, figure.value, low, high, _p_value(figure.value, margin, float(drawn.std())))


def _p_value(value: float, margin: float, spread: float) -> float:
    """Normal, for the share of 1,000 replicates cannot be as small as Holm's procedure asks with many classes."""
    if spread > 0:
        return 0.5 * math.erfc((margin - value) / (spread * math.sqrt(2)))
    return 0.0 if value < margin else 1.0
