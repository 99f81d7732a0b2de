"""Chosen rules as sampling settings, and what changes by them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.matching import Floats
from tasks.core.settings import AnyStrategy, CloseToThreshold, Limit, RandomSampling, SamplingSettings, WindowType
from tasks.core.suggestion.rules import RuleSet

EXPLORATION = "exploration"
LIMIT_FACTOR = 3  # limits are the safety net, not the controller
ABSENT = "(absent)"


def exploration_strategy(share: float) -> RandomSampling:
    """A random draw over all frames, without limits: the random slice that keeps evaluation honest."""
    return RandomSampling(name=EXPLORATION, type="random", traffic_percentage=float(f"{share:.6g}"))


def rule_strategies(chosen: RuleSet, class_names: Sequence[str], images_a_day: Floats) -> list[CloseToThreshold]:
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
            limits=(_limit("hourly", images / 24), _limit("daily", images)),
        )
        for number, (rule, images) in enumerate(zip(chosen.rules, images_a_day.tolist()), start=1)
    ]


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
