"""From frames to recall in the field, through the real sampler and outbox: does the estimate find the truth?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.outbox import Outbox
from tasks.core.bootstrap import cluster_bootstrap
from tasks.core.entities import Sample
from tasks.core.errors import OutboxFull
from tasks.core.field import delivered_either_way, figures
from tasks.core.sampling import Sampler
from tasks.core.settings import SamplingSettings
from tests.adapters.samples import a_sample
from tests.core.field_world import THRESHOLD, World, a_world

EXPLORE = {"name": "explore", "type": "random", "traffic_percentage": 0.12}
CLOSE = {
    "name": "close", "type": "close_to_threshold", "threshold": 0.35, "epsilon": 0.25, "probability": 0.6,
    "minimum_objects_close_to_threshold": 2, "limits": [{"type": "hourly", "value": 12}],
}  # fmt: skip
MISSES = {
    "name": "misses", "type": "expected_misses", "weights": {"car": [0.02, 0.05, 0.1, 0.2, 0.4, 0.6]},
    "images_a_day": 600, "exploration": 0.5, "minimum_expected_misses": 0.4,
    "limits": [{"type": "hourly", "value": 14}],
}  # fmt: skip
QUIET = {"duplicates": {"enabled": True, "cooldown_seconds": 60}}


def settings_of(*strategies, **others) -> SamplingSettings:
    return SamplingSettings.model_validate(
        {"sampling_strategies": strategies, "thresholds": {"car": THRESHOLD}, **others}
    )


def kept(world: World, settings: SamplingSettings, seed: int) -> Iterable[tuple[int, object]]:
    """Number and decision of each frame that is kept."""
    sampler = Sampler(settings, "pi", seed=seed)
    for number, frame in enumerate(world.frames):
        decision = sampler.decide(frame)
        if decision.kept:
            yield number, decision


def estimated(world: World, probability: dict[int, float], seed: int = 0):
    """Recall with its interval from the frames that arrived, and what they say without weights."""
    rows, p = np.array(list(probability)), np.array(list(probability.values()))
    hours = [f"gate@{world.frames[row].captured_at:%H}" for row in rows]
    objects, hits = world.objects[rows], world.hits[rows]
    answer = figures(objects, hits, hits, 1 / p, cluster_bootstrap(hours, replicates=200, seed=seed))
    return answer.recall, hits.sum() / objects.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [settings_of(EXPLORE, CLOSE, **QUIET), settings_of(MISSES, **QUIET)],
    ids=["rules", "expected misses"],
)
def test_weighted_recall_finds_the_truth_and_unweighted_recall_does_not(settings):
    """40 draws of 1,000 frames under limits, cooldown, duplicates, exploration, controller: right within its error.

    The plain share of objects found in what was collected is off by more than 6 points.
    """
    world, worlds = a_world(1000, seed=2), 40
    answers = [
        estimated(world, {row: d.probability for row, d in kept(world, settings, seed)}, seed) for seed in range(worlds)
    ]
    recalls = np.array([recall.value for recall, _ in answers])
    error = recalls.std() / np.sqrt(worlds)
    assert error < 0.01
    assert abs(recalls.mean() - world.recall) < 3 * error
    assert abs(np.mean([plain for _, plain in answers]) - world.recall) > 0.06
    held = np.mean([recall.low <= world.recall <= recall.high for recall, _ in answers])
    assert held >= 0.8


def delivered(world: World, settings: SamplingSettings, seed: int, folder: Path, cap: int) -> dict[int, Sample]:
    """Frame -> what reaches the bucket, which is away for most of the time, from an outbox of `cap` bytes."""
    outbox, frame_of, arrived = Outbox(folder, cap), {}, {}

    def drain() -> None:
        items = [item.sample for item in outbox.pending(10**6)]
        arrived.update({frame_of[s.sample_id]: s for s in items})
        outbox.delivered(items)

    for number, decision in kept(world, settings, seed):
        if number % 500 > 450:
            drain()
        sample, jpeg = a_sample(
            seed * 100_000 + number,
            700,
            random_slice=decision.random_slice,
            probability=decision.probability,
            matched=decision.matched,
            probability_random=decision.probability_random,
            chosen_by=decision.chosen_by,
        )
        frame_of[sample.sample_id] = number
        with suppress(OutboxFull):
            outbox.put(sample, jpeg)
    drain()
    return arrived


def weighable(samples: dict[int, Sample], *, otherwise: bool = True) -> dict[int, float]:
    """Frame -> p_kept * p_delivered; not otherwise: with the probability of each sample's own kind alone."""
    return {
        row: sample.probability * (delivered_either_way(sample) if otherwise else sample.probability_delivered)
        for row, sample in samples.items()
    }


@pytest.mark.slow
def test_what_a_full_outbox_cost_is_made_up_for(tmp_path, monkeypatch):
    """The bucket is away for hours and a part of each kind has to go: recall is right, with p_delivered and p_kept."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    settings = settings_of({**EXPLORE, "traffic_percentage": 0.1}, {**CLOSE, "limits": []})
    world, worlds = a_world(1000, seed=2), 40
    samples = [delivered(world, settings, seed, tmp_path / str(seed), 80_000) for seed in range(worlds)]
    arrived = [weighable(one) for one in samples]
    recalls = np.array([estimated(world, one)[0].value for one in arrived])
    frames = np.array([sum(1 / p for p in one.values()) for one in arrived])
    lost = 1 - np.mean([len(one) for one in arrived]) / np.mean(
        [sum(1 for _ in kept(world, settings, seed)) for seed in range(8)]
    )
    assert lost > 0.1
    for value, truth in ((recalls, world.recall), (frames, len(world.frames))):
        assert abs(value.mean() - truth) < 3 * value.std() / np.sqrt(worlds)
    assert recalls.std() / np.sqrt(worlds) < 0.012


HALVES = {"name": "halves", "type": "detections_number_based", "more_than": 2, "probability": 0.5}
KINDS = {
    "one kind": settings_of({**EXPLORE, "traffic_percentage": 0.15}, {**CLOSE, "probability": 1.0, "limits": []}),
    "three kinds": settings_of({**EXPLORE, "traffic_percentage": 0.15}, {**CLOSE, "limits": []}, HALVES),
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_kinds_of_which_nothing_is_left_are_stood_for_by_the_random_slice(tmp_path, monkeypatch, settings):
    """Hours of an outage fill the outbox with the random slice alone: recall is right, and was off by points before."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    world, worlds = a_world(1000, seed=2), 40
    samples = [delivered(world, settings, seed, tmp_path / str(seed), 45_000) for seed in range(worlds)]
    gone = sum(s.probability_delivered_otherwise == 0 for one in samples for s in one.values())
    recalls, before = (
        np.array([estimated(world, weighable(one, otherwise=way))[0].value for one in samples]) for way in (True, False)
    )
    frames = np.array([sum(1 / p for p in weighable(one).values()) for one in samples])
    for value, truth in ((recalls, world.recall), (frames, len(world.frames))):
        assert abs(value.mean() - truth) < 3 * value.std() / np.sqrt(worlds)
    assert recalls.std() / np.sqrt(worlds) < 0.015
    assert before.mean() - world.recall > 0.06
    assert gone / worlds > 3
