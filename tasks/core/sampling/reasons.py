"""Why a frame was kept or not, in a sentence: an outcome that can be counted, then the value against its limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tasks.core.duplicates import Repeat
from tasks.core.sampling.draws import Draw
from tasks.core.sampling.novelty import UNLIKE_ANY
from tasks.core.sampling.strategies import NOT_APPLICABLE, Sight
from tasks.core.settings import (
    AnyStrategy,
    CloseToThreshold,
    DetectionsNumberBased,
    ExpectedMisses,
    Limit,
    Novelty,
    RandomSampling,
    TrackGap,
)

KEPT = "kept"
DISABLED = "sampling disabled"
NO_MATCH = "no strategy matched"
DRAW_LOST = "draw lost"
BATCH_FULL = "batch full"
NO_CREDIT = "no credit"  # besides these: duplicates.COOLDOWN and duplicates.NEAR_DUPLICATE

Exhausted = tuple[AnyStrategy, Limit, int, str]  # a strategy, its limit without room, samples charged in that window
EXPLORATION = "\0exploration"  # after the name of a strategy: its exploration draws apart from the strategy itself


class Candidate(NamedTuple):
    """A strategy that may keep a frame, and the probability that its draw must stay below."""

    strategy: AnyStrategy
    chance: float
    has_room: bool = True
    explores: bool = False

    @property
    def draws_as(self) -> str:
        is_apart = self.explores and isinstance(self.strategy, ExpectedMisses)
        return self.strategy.name + EXPLORATION if is_apart else self.strategy.name


class Seen(NamedTuple):
    """What there was to see: what the strategies counted, and the expected misses against their minimum."""

    strategies: Sequence[AnyStrategy]
    sight: Sight
    minimum: float | None
    used_up: int  # detections of objects that have earned their samples

    def by(self, strategy: AnyStrategy) -> str:
        """What a strategy saw, against what it asks for."""
        if isinstance(strategy, ExpectedMisses):
            return self._expected_misses() + self._without_used_up()
        if isinstance(strategy, TrackGap):
            return "asks later, of a frame without an object that is seen before and after"
        count = next(c for s, c in zip(self.strategies, self.sight.counts.tolist()) if s is strategy)
        if count == NOT_APPLICABLE:
            return "has nothing to say of such a frame"
        if isinstance(strategy, CloseToThreshold):
            wanted = strategy.minimum_objects_close_to_threshold
            saw = f"saw {count} of at least {wanted} within {strategy.epsilon:g} of {strategy.threshold:g}"
            return saw + self._without_used_up()
        if isinstance(strategy, DetectionsNumberBased):
            return f"saw {count} detections where it asks for {_range(strategy.more_than, strategy.less_than)}"
        if isinstance(strategy, Novelty):
            return self._novelty(strategy)
        return "saw a top class that it selects" if count else "saw no top class that it selects"

    def _expected_misses(self) -> str:
        expected, minimum = self.sight.expected_misses, self.minimum
        if expected is None:
            return "has nothing to say of such a frame"
        if minimum is None:
            return f"expects {expected:g} misses while the budget leaves room for exploration alone"
        relation = "equal to" if expected == minimum > 0 else "above" if expected > minimum else "not above"
        return f"expects {expected:g} misses, {relation} {minimum:g}"

    def _novelty(self, strategy: Novelty) -> str:
        distance = self.sight.distance
        if distance is None or distance == UNLIKE_ANY:
            return "knows no kept frame of this camera"
        relation = "above" if distance > strategy.minimum_distance else "not above"
        return f"is {distance:.4f} from the nearest frame kept lately, {relation} {strategy.minimum_distance:g}"

    def _without_used_up(self) -> str:
        if not self.used_up:
            return ""
        objects = "an object that has" if self.used_up == 1 else f"{self.used_up} objects that have"
        return f", without {objects} earned a day's samples"


def kept(charged: Candidate, seen: Seen | None, draw: Draw, batch: str, repeat: Repeat | None) -> str:
    strategy = charged.strategy
    if charged.explores and isinstance(strategy, ExpectedMisses):
        saw = "explores and "
    else:
        saw = "" if seen is None or isinstance(strategy, RandomSampling) else f"{seen.by(strategy)} and "
    in_spite = f", in spite of {repeat.kind} ({repeat.detail})" if repeat else ""
    return f"{KEPT} by {strategy.name!r} for batch {batch!r}: it {saw}{_drawn(charged, draw)}{in_spite}"


def draw_lost(candidates: Iterable[Candidate], seen: Seen, draw: Draw) -> str:
    lost = "; ".join(f"{one.strategy.name!r} {seen.by(one.strategy)} and {_drawn(one, draw)}" for one in candidates)
    return f"{DRAW_LOST}: {lost}"


def no_match(seen: Seen, candidates: Sequence[Candidate], draw: Draw) -> str:
    """Every strategy, and what it saw or drew; of the one that keeps the budget both."""
    drew = {one.strategy.name: _drawn(one, draw) for one in candidates}
    return f"{NO_MATCH}: " + "; ".join(f"{s.name!r} {_saw_or_drew(s, seen, drew)}" for s in seen.strategies)


def batch_full(batch: str, images: int, maximum: int) -> str:
    return f"{BATCH_FULL}: {batch!r} holds {images} of {maximum} images"


def no_credit(exhausted: Iterable[Exhausted]) -> str:
    used = "; ".join(f"{s.name!r} {limit.type} {n} of {limit.value} in {window}" for s, limit, n, window in exhausted)
    return f"{NO_CREDIT}: {used}"


def gap_kept(strategy: str, batch: str, saw_and_drew: str) -> str:
    return f"{KEPT} by {strategy!r} for batch {batch!r}: {saw_and_drew}"


def gap_draw_lost(saw_and_drew: str) -> str:
    return f"{DRAW_LOST}: {saw_and_drew}"


def gap_seen(class_names: Iterable[str], again_in: str, drawn: float, probability: float) -> str:
    objects = ", ".join(map(repr, class_names))
    relation = "below" if drawn < probability else "not below"
    return (
        f"{objects} is seen in the frame before and again in frame {again_in!r}, but not here, "
        f"and it drew {drawn:.6f}, {relation} {probability:g}"
    )


def _saw_or_drew(strategy: AnyStrategy, seen: Seen, drew: dict[str, str]) -> str:
    if isinstance(strategy, RandomSampling):
        return drew[strategy.name]
    explored = drew.get(strategy.name)
    return f"{seen.by(strategy)}, and its exploration {explored}" if explored else seen.by(strategy)


def _drawn(candidate: Candidate, draw: Draw) -> str:
    drawn = draw(candidate.draws_as)
    relation = "below" if drawn < candidate.chance else "not below"
    return f"drew {drawn:.6f}, {relation} {candidate.chance:g}"


def _range(more_than: int | None, less_than: int | None) -> str:
    parts = [] if more_than is None else [f"more than {more_than}"]
    parts += [] if less_than is None else [f"fewer than {less_than}"]
    return " and ".join(parts) or "any number"
