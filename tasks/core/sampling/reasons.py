"""Why a frame was kept or not, in a sentence: an outcome that can be counted, then the value against its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tasks.core.duplicates import Repeat
from tasks.core.sampling.strategies import NOT_APPLICABLE
from tasks.core.settings import (
    AnyStrategy,
    CloseToThreshold,
    DetectionsNumberBased,
    Limit,
    RandomSampling,
)

KEPT = "kept"
DISABLED = "sampling disabled"
NO_MATCH = "no strategy matched"
DRAW_LOST = "draw lost"
BATCH_FULL = "batch full"
NO_CREDIT = "no credit"  # besides these: duplicates.COOLDOWN and duplicates.NEAR_DUPLICATE

Draw = Callable[[str], float]
Exhausted = tuple[AnyStrategy, Limit, int]  # a strategy, its limit without room, samples charged in that window


def kept(charged: AnyStrategy, count: int, draw: Draw, batch: str, repeat: Repeat | None) -> str:
    seen = "" if isinstance(charged, RandomSampling) else f"{_seen(charged, count)} and "
    in_spite = f", in spite of {repeat.kind} ({repeat.detail})" if repeat else ""
    return f"{KEPT} by {charged.name!r} for batch {batch!r}: it {seen}{_drawn(charged, draw)}{in_spite}"


def draw_lost(candidates: Iterable[AnyStrategy], draw: Draw) -> str:
    lost = "; ".join(f"{strategy.name!r} matched and {_drawn(strategy, draw)}" for strategy in candidates)
    return f"{DRAW_LOST}: {lost}"


def no_match(strategies: Sequence[AnyStrategy], counts: Iterable[int], draw: Draw) -> str:
    seen = (
        _drawn(strategy, draw) if isinstance(strategy, RandomSampling) else _seen(strategy, count)
        for strategy, count in zip(strategies, counts)
    )
    return f"{NO_MATCH}: " + "; ".join(f"{strategy.name!r} {what}" for strategy, what in zip(strategies, seen))


def batch_full(batch: str, images: int, maximum: int) -> str:
    return f"{BATCH_FULL}: {batch!r} holds {images} of {maximum} images"


def no_credit(exhausted: Iterable[Exhausted]) -> str:
    used = "; ".join(f"{strategy.name!r} {limit.type} {used} of {limit.value}" for strategy, limit, used in exhausted)
    return f"{NO_CREDIT}: {used}"


def _drawn(strategy: AnyStrategy, draw: Draw) -> str:
    drawn = draw(strategy.name)
    relation = "below" if drawn < strategy.probability else "not below"
    return f"drew {drawn:.6f}, {relation} {strategy.probability:g}"


def _seen(strategy: AnyStrategy, count: int) -> str:
    """What a strategy saw, against what it asks for."""
    if count == NOT_APPLICABLE:
        return "has nothing to say of such a frame"
    if isinstance(strategy, CloseToThreshold):
        wanted = strategy.minimum_objects_close_to_threshold
        return f"saw {count} of at least {wanted} within {strategy.epsilon:g} of {strategy.threshold:g}"
    if isinstance(strategy, DetectionsNumberBased):
        return f"saw {count} detections where it asks for {_range(strategy.more_than, strategy.less_than)}"
    return "saw a top class that it selects" if count else "saw no top class that it selects"


def _range(more_than: int | None, less_than: int | None) -> str:
    parts = [] if more_than is None else [f"more than {more_than}"]
    parts += [] if less_than is None else [f"fewer than {less_than}"]
    return " and ".join(parts) or "any number"
