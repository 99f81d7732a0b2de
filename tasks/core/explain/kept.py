"""Why a device kept a frame, in words, from what it wrote down of it and the settings that it obeyed.

`edgeloop explain` asks the sampler again. Here the decision is long made: draws and the state of the device's budget
were not written down, and what is said follows from the sample alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.core.entities import STUB, Sample, detections_from_records
from tasks.core.sampling import Observation
from tasks.core.sampling.misses import MissWeights
from tasks.core.sampling.reasons import Seen
from tasks.core.sampling.strategies import StrategyTable, recorded_confidence
from tasks.core.settings import (
    AnyStrategy,
    ClassesBased,
    ExpectedMisses,
    Novelty,
    RandomSampling,
    SamplingSettings,
    TrackGap,
)

MOST_DETECTIONS = 5  # that are named, of those that make the expected misses


def why_kept(sample: Sample, settings: SamplingSettings | None) -> list[str]:
    """Sentences: which strategies matched, with what they saw against their limits; the expected misses m(x) and what
    they are made of; the inclusion probability and what it means.

    settings: in force when the frame was kept; None where they cannot be read.
    """
    sentences = [f"Kept by {sample.strategy!r}" + also_matched(sample) + f", under settings {sample.settings_version}."]
    if settings is None:
        sentences.append("These settings are not in the bucket, so what the strategy asked for is not known.")
    else:
        seen = seen_in(sample, settings)
        by_name = {strategy.name: strategy for strategy in settings.sampling_strategies}
        for name in dict.fromkeys((*sample.matched, sample.strategy)):
            if name in by_name:
                sentences.append(f"{name!r}: {said_by(by_name[name], sample, seen)}.")
        sentences += expected_misses(sample, settings)
    return [*sentences, *chance(sample)]


def also_matched(sample: Sample) -> str:
    others = [repr(name) for name in sample.matched if name != sample.strategy]
    return f"; {', '.join(others)} matched as well" if others else ""


def seen_in(sample: Sample, settings: SamplingSettings) -> Seen:
    """What each strategy counts in the detections that were written down."""
    names = class_names_of(sample, settings)
    table = StrategyTable(settings, names)
    observation = Observation(
        frame=sample.sample_id,
        device=sample.device,
        camera=sample.camera,
        captured_at=sample.captured_at,
        detections=detections_from_records(sample.detections, names),
        is_stub=sample.model_version == STUB,
    )
    return Seen(settings.sampling_strategies, table.look(observation), None, 0)


def class_names_of(sample: Sample, settings: SamplingSettings) -> tuple[str, ...]:
    """All classes that the sample or the settings know."""
    seen = [detection.class_name for detection in sample.detections]
    misses = settings.expected_misses
    return tuple(sorted({*seen, *settings.thresholds, *(misses.weights if misses else ())}))


def said_by(strategy: AnyStrategy, sample: Sample, seen: Seen) -> str:
    """What one strategy saw against its limits, and the share of such frames that its draw keeps."""
    if isinstance(strategy, RandomSampling):
        return f"a draw that hits {strategy.traffic_percentage:.3g} of all frames, whatever is in them"
    if isinstance(strategy, ExpectedMisses):
        return misses_or_exploration(strategy, sample)
    if isinstance(strategy, TrackGap):
        return f"an object was seen before and after this frame, not in it; its draw keeps {strategy.probability:.3g}"
    if isinstance(strategy, Novelty):
        distance = f"farther than {strategy.minimum_distance:g} from every frame of its camera kept lately"
        return f"{distance}; its draw keeps {strategy.probability:.3g}"
    if isinstance(strategy, ClassesBased):
        return f"its top class is one of {', '.join(strategy.selected_class_names)}; its draw keeps " + (
            f"{strategy.probability:.3g}"
        )
    return f"{seen.by(strategy)}; its draw keeps {strategy.probability:.3g} of such frames"


def misses_or_exploration(strategy: ExpectedMisses, sample: Sample) -> str:
    """Of the strategy that keeps the budget: was it for the expected misses, or drawn from all frames?"""
    share = f"{strategy.exploration:.0%} of its budget of {strategy.images_a_day:g} images a day"
    if not sample.random_slice:
        return "its expected misses were above what the budget asked for at that moment"
    if sample.probability == 1:
        return f"its expected misses were above what the budget asked for, and the random draw ({share}) hit it as well"
    return f"drawn at random from all frames ({share})"


def expected_misses(sample: Sample, settings: SamplingSettings) -> list[str]:
    """m(x), and the detections that make it; nothing where the settings expect none, or a stub saw nothing."""
    strategy = settings.expected_misses
    if strategy is None or sample.model_version == STUB:
        return []
    names = class_names_of(sample, settings)
    detections = detections_from_records(sample.detections, names)
    weights = MissWeights(strategy, settings, names).of(recorded_confidence(detections), detections.class_id)
    rows = [row for row in np.argsort(-weights, kind="stable").tolist() if weights[row] > 0]
    if not rows:
        return ["m(x) = 0: no detection below its threshold, so no miss is expected."]
    named = [
        f"{names[detections.class_id[row]]} at {detections.confidence[row]:.2f} adds {weights[row]:.2f}"
        for row in rows[:MOST_DETECTIONS]
    ]
    return [f"m(x) = {weights.sum():.2f} expected misses: {'; '.join(named)}{and_more(rows)}."]


def and_more(rows: Sequence[int]) -> str:
    more = len(rows) - MOST_DETECTIONS
    return f"; {more} more" if more > 0 else ""


def chance(sample: Sample) -> list[str]:
    """The inclusion probability, and what the frame may be used for."""
    stands = 1 / (sample.probability * sample.probability_delivered)
    of_such = "every such frame is kept" if sample.probability == 1 else f"it stands for about {stands:.3g} like it"
    sentences = [f"Inclusion probability {sample.probability:.3g}: {of_such}."]
    if sample.random_slice:
        sentences.append("It is of the random slice, so it may measure models: calibration and test come from there.")
    else:
        sentences.append("It was chosen, so it trains models and never measures them.")
    if sample.clock_suspect:
        sentences.append("The device's clock was not right yet when it was captured.")
    return sentences
