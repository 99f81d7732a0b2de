"""Chosen rules or expected misses as sampling settings, and what changes by them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.matching import Floats
from tasks.core.settings import (
    AnyStrategy,
    CloseToThreshold,
    ExpectedMisses,
    Limit,
    RandomSampling,
    SamplingSettings,
    WindowType,
)
from tasks.core.settings.sampling import MISS_BINS
from tasks.core.suggestion.misses import Minimum, MissModel
from tasks.core.suggestion.rules import RuleSet

EXPLORATION = "exploration"
EXPECTED_MISSES = "expected-misses"
LIMIT_FACTOR = 3  # limits are the safety net, not the controller
ABSENT = "(absent)"


def exploration_strategy(share: float) -> RandomSampling:
    """A random draw over all frames, without limits: the random slice that keeps evaluation honest."""
    return RandomSampling(name=EXPLORATION, type="random", traffic_percentage=float(f"{share:.6g}"))


def rule_strategies(
    chosen: RuleSet, class_names: Sequence[str], images_a_day: Floats, only_top_classes: bool = True
) -> list[CloseToThreshold]:
    """Rules as strategies. Limits, counted on each device, are three times the expected images, and at least 1.

    images_a_day: (rules,) what each strategy alone is expected to be credited with, on one device.
    """
    return [
        CloseToThreshold(
            name=f"rule-{number}-{class_names[rule.class_id]}-{rule.low:g}-{rule.high:g}",
            type="close_to_threshold",
            selected_class_names=(class_names[rule.class_id],),
            threshold=rule.threshold,
            epsilon=rule.epsilon,
            minimum_objects_close_to_threshold=rule.minimum_objects,
            probability=chosen.probability,
            only_top_classes=only_top_classes,
            limits=(_limit("hourly", images / 24), _limit("daily", images)),
        )
        for number, (rule, images) in enumerate(zip(chosen.rules, images_a_day.tolist()), start=1)
    ]


def misses_strategy(
    model: MissModel, minimum: Minimum, class_names: Sequence[str], images_a_day: float, exploration: float
) -> ExpectedMisses:
    """Expected misses as a strategy, with its exploration; `images_a_day` are those of one device.

    The device's own rate control spreads the budget, and may give an hour many times its share where a day's misses lie
    in few hours. So only the day has a limit, as the safety net.
    """
    return ExpectedMisses(
        name=EXPECTED_MISSES,
        type="expected_misses",
        weights=usable_weights(model, class_names),
        bins=MISS_BINS,
        minimum_expected_misses=minimum.expected_misses,
        tie_probability=minimum.tie_probability,
        images_a_day=float(f"{images_a_day:.6g}"),
        exploration=exploration,
        limits=(_limit("daily", images_a_day),),
    )


def usable_weights(model: MissModel, class_names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Weights by class name, 0 in bins that lie outside of floor and threshold; classes without any are left out."""
    ends = (*MISS_BINS[1:], 1.0)
    by_class = {}
    for name, weights, threshold in zip(class_names, model.weights.tolist(), model.thresholds.tolist()):
        used = tuple(
            weight if low < threshold and max(low, model.floor) < min(high, threshold) else 0.0
            for weight, low, high in zip(weights, MISS_BINS, ends)
        )
        if any(used):
            by_class[name] = used
    return by_class


def _limit(window: WindowType, expected: float) -> Limit:
    return Limit(type=window, value=max(1, math.ceil(LIMIT_FACTOR * expected)))


def settings_with(
    current: SamplingSettings | None, strategies: Sequence[AnyStrategy], **fitted: Any
) -> SamplingSettings:
    """The settings in force with other strategies and with what was `fitted` to the model; the rest stays as it is."""
    kept = dict(current) if current else {}
    return SamplingSettings(**{**kept, **fitted, "sampling_strategies": tuple(strategies)})


def settings_diff(old: SamplingSettings | None, new: SamplingSettings) -> tuple[str, ...]:
    """Every field that changes, as `field: old -> new`; nothing where no settings are in force."""
    if old is None:
        return ()
    return tuple(_changes("", _keyed(old.model_dump(mode="json")), _keyed(new.model_dump(mode="json"))))


def _keyed(value: Any) -> Any:
    """Strategies by name and limits by type instead of by position, at every depth."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {item.get("name", item["type"]): _keyed(item) for item in value}
    if isinstance(value, dict):
        return {key: _keyed(item) for key, item in value.items()}
    return value


def _changes(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(f"{path}.{key}" if path else key, old.get(key, ABSENT), new.get(key, ABSENT))
    elif old != new:
        yield f"{path}: {_as_text(old)} -> {_as_text(new)}"


def _as_text(value: Any) -> str:
    return ABSENT if value == ABSENT else json.dumps(value)
