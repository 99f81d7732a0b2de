"""May this model version replace that one? Accepted, rejected or inconclusive, with every number behind it.

Bounds are one-sided, 95%, from a paired bootstrap by cluster (by image under 20 clusters). A requirement holds when its
lower bound is above the margin and fails when its upper bound is below it. Accepted: every requirement holds. Rejected:
one fails; classes are held against each other by Holm's procedure. Everything else is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tasks.core.bootstrap import MINIMUM_CLUSTERS, Bootstrap, cluster_bootstrap
from tasks.core.entities import Verdict
from tasks.core.gate.figures import (
    Comparison,
    Edition,
    ModelOutcome,
    ap50,
    check_same_images,
    compare,
    truths_by_class,
)
from tasks.core.gate.requirements import (
    Requirement,
    ap50_above,
    ap50_difference_above,
    class_differences_above,
    failed,
    recall_difference_above,
)
from tasks.core.settings import GateSettings

MINIMUM_IMAGES = 20  # a bootstrap of fewer images pretends to know
FIRST_IMAGES = 200  # recall better by 5 points was accepted in 78 of 100 simulated worlds with as many test images
MOST_IMAGES = 1_000_000  # beyond it, more images are no answer
FASTER = 0.95  # share of the live latency from which on a model counts as faster; less is noise of the measurement

Mode = Literal["first", "improve", "replace"]


@dataclass(frozen=True, slots=True)
class SizeAndLatency:
    """Bytes of both files, and median milliseconds an image on the device class where they were measured."""

    candidate_bytes: int
    live_bytes: int
    candidate_ms: float | None = None
    live_ms: float | None = None

    @property
    def is_smaller(self) -> bool:
        return self.candidate_bytes < self.live_bytes

    @property
    def is_faster(self) -> bool | None:
        """None where it was not measured."""
        if self.candidate_ms is None or self.live_ms is None:
            return None
        return self.candidate_ms < FASTER * self.live_ms

    @property
    def numbers(self) -> dict[str, float]:
        times = {"candidate.ms": self.candidate_ms, "live.ms": self.live_ms}
        sizes = {"candidate.bytes": float(self.candidate_bytes), "live.bytes": float(self.live_bytes)}
        return sizes | {name: value for name, value in times.items() if value is not None}

    def __str__(self) -> str:
        text = f"the file has {_megabytes(self.candidate_bytes)} against {_megabytes(self.live_bytes)}"
        if self.candidate_ms is None or self.live_ms is None:
            return f"{text}; latency was not measured"
        return f"{text}; an image takes {self.candidate_ms:.1f} ms against {self.live_ms:.1f} ms"


def judge_first(
    candidate: ModelOutcome,
    edition: Edition,
    settings: GateSettings,
    *,
    decided_at: datetime,
    size_and_latency: SizeAndLatency | None = None,
    seed: int = 0,
) -> Verdict:
    """The first model is accepted when the lower bound of its AP50 is above `minimum_ap50`."""
    trial = _Trial("first", candidate, None, edition, settings, decided_at, size_and_latency)
    if trial.too_little is not None:
        return trial.too_little
    bootstrap = cluster_bootstrap(edition.clusters, replicates=settings.replicates, seed=seed)
    figure, by_class = ap50(candidate, bootstrap, len(edition.class_names))
    numbers = {f"class.{n}.ap50": float(v) for n, v in zip(edition.class_names, by_class) if math.isfinite(v)}
    return trial.verdict([ap50_above(figure, settings.minimum_ap50)], bootstrap, numbers)


def judge_improve(
    candidate: ModelOutcome,
    live: ModelOutcome,
    edition: Edition,
    settings: GateSettings,
    *,
    decided_at: datetime,
    size_and_latency: SizeAndLatency | None = None,
    seed: int = 0,
) -> Verdict:
    """A retrained model is accepted when it finds more, at the live model's operating precision, and spoils nothing.

    Raises DataError when the two were not matched on the same test images.
    """
    trial = _Trial("improve", candidate, live, edition, settings, decided_at, size_and_latency)
    if trial.too_little is not None:
        return trial.too_little
    bootstrap = cluster_bootstrap(edition.clusters, replicates=settings.replicates, seed=seed)
    comparison = compare(candidate, live, bootstrap, edition)
    ours, _ = ap50(candidate, bootstrap, len(edition.class_names))
    theirs, _ = ap50(live, bootstrap, len(edition.class_names))
    requirements = [
        recall_difference_above(comparison, 0.0),
        ap50_difference_above(ours, theirs, -settings.ap50_margin),
        *class_differences_above(comparison, live, edition, settings),
    ]
    numbers = _comparison_numbers(comparison) | {"candidate.ap50": ours.value, "live.ap50": theirs.value}
    return trial.verdict(requirements, bootstrap, numbers)


def judge_replace(
    candidate: ModelOutcome,
    live: ModelOutcome,
    edition: Edition,
    settings: GateSettings,
    *,
    decided_at: datetime,
    size_and_latency: SizeAndLatency,
    seed: int = 0,
) -> Verdict:
    """A quantised or re-exported model is accepted when it finds as much and is smaller or faster.

    Raises DataError when the two were not matched on the same test images.
    """
    trial = _Trial("replace", candidate, live, edition, settings, decided_at, size_and_latency)
    if trial.too_little is not None:
        return trial.too_little
    bootstrap = cluster_bootstrap(edition.clusters, replicates=settings.replicates, seed=seed)
    comparison = compare(candidate, live, bootstrap, edition)
    requirements = [recall_difference_above(comparison, -settings.recall_margin)]
    return trial.verdict(requirements, bootstrap, _comparison_numbers(comparison))


def _comparison_numbers(comparison: Comparison) -> dict[str, float]:
    ours, theirs = comparison.recall
    numbers = {"live.precision": comparison.precision, "candidate.recall": ours, "live.recall": theirs}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


# --- the verdict ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trial:
    """Who is judged, on what, and by which settings."""

    mode: Mode
    candidate: ModelOutcome
    live: ModelOutcome | None
    edition: Edition
    settings: GateSettings
    decided_at: datetime
    size_and_latency: SizeAndLatency | None

    def __post_init__(self) -> None:
        check_same_images(self.candidate, self.live or self.candidate, self.edition)

    @property
    def too_little(self) -> Verdict | None:
        """Inconclusive at once, when there is next to nothing to judge by."""
        boxes = len(self.candidate.matches.truths)
        if self.edition.images >= MINIMUM_IMAGES and boxes:
            return None
        reason = (
            f"the test edition has {_counted(self.edition.images, 'image')} with {_counted(boxes, 'box', 'boxes')}: "
            f"nothing can be said below {MINIMUM_IMAGES} images, about {FIRST_IMAGES} settle a difference of 5 points"
        )
        return self._as("inconclusive", [reason], {}, FIRST_IMAGES)

    def verdict(self, requirements: list[Requirement], bootstrap: Bootstrap, numbers: dict[str, float]) -> Verdict:
        """What follows from the requirements, and from size and latency where they must be better."""
        for requirement in requirements:
            numbers |= requirement.numbers
        numbers |= {"clusters": float(bootstrap.clusters), "units": float(bootstrap.units)}
        against = failed(requirements)
        open_ones = [r for r in requirements if r.decides and not r.holds and r not in against]
        footprint, footprint_reason = self._footprint()
        notes = [*footprint_reason, *self._notes(requirements, bootstrap)]
        if against or footprint == "rejected":
            return self._as("rejected", [*(r.sentence(False) for r in against), *notes], numbers, None)
        if open_ones or footprint == "inconclusive":
            needed = self._images_needed(open_ones)
            reasons = [*(r.sentence(None) for r in open_ones), *_outlook(open_ones, needed), *notes]
            return self._as("inconclusive", reasons, numbers, needed)
        return self._as("accepted", [*(r.sentence(True) for r in requirements if r.decides), *notes], numbers, None)

    def _footprint(self) -> tuple[str, list[str]]:
        """What size and latency say, with a sentence. Only a replacement must be better in one of them."""
        facts = self.size_and_latency
        if facts is None:
            return "accepted", []
        if self.mode != "replace" or facts.is_smaller or facts.is_faster:
            return "accepted", [str(facts)]
        if facts.is_faster is None:
            return "inconclusive", [f"{facts}: it is not smaller, so measure whether it is faster"]
        return "rejected", [f"{facts}: it is neither smaller nor faster, so it replaces nothing"]

    def _notes(self, requirements: Sequence[Requirement], bootstrap: Bootstrap) -> list[str]:
        notes = []
        if bootstrap.unit == "image":
            notes.append(
                f"bounds come from a bootstrap of images, for {_counted(bootstrap.clusters, 'cluster')} are fewer than "
                f"{MINIMUM_CLUSTERS}: they are too narrow where images of a camera resemble each other"
            )
        if not self.edition.is_random:
            notes.append("the test edition is an imported one, not drawn at random")
        rare, boxes = [r.class_name for r in requirements if not r.decides], self.settings.class_minimum_boxes
        if rare:
            notes.append(f"classes with fewer than {boxes} test boxes could only reject: {', '.join(rare)}")
        truths = truths_by_class(self.candidate, len(self.edition.class_names))
        unknown = [name for name, n in zip(self.edition.class_names, truths) if not n]
        if unknown:
            notes.append(f"classes without test boxes, of which nothing is known: {', '.join(unknown)}")
        return notes

    def _images_needed(self, open_ones: Sequence[Requirement]) -> int | None:
        factor = max((r.images_factor for r in open_ones), default=math.inf)
        needed = self.edition.images * factor
        return max(math.ceil(needed), self.edition.images + 1) if needed <= MOST_IMAGES else None

    def _as(
        self,
        verdict: Literal["accepted", "rejected", "inconclusive"],
        reasons: Sequence[str],
        numbers: dict[str, float],
        needed: int | None,
    ) -> Verdict:
        return Verdict(
            verdict=verdict,
            mode=self.mode,
            candidate=self.candidate.model_version,
            live=self.live.model_version if self.live else "",
            dataset_version=self.edition.dataset_version,
            test_edition=self.edition.number,
            images=self.edition.images,
            reasons=tuple(reasons),
            numbers=numbers | (self.size_and_latency.numbers if self.size_and_latency else {}),
            images_needed=needed,
            decided_at=self.decided_at,
        )


def _outlook(open_ones: Sequence[Requirement], needed: int | None) -> list[str]:
    if not open_ones:
        return []
    if needed is None:
        return ["the difference is so close to its margin that more images are no answer"]
    worse = any(r.value <= r.margin for r in open_ones)
    return [f"about {needed} test images would settle it" + (", probably against the candidate" if worse else "")]


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
