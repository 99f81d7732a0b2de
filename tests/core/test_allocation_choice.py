"""Which samples are offered: as many of each cell as it was given, each with a probability that can be used."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.allocation import (
    EXPLORATION,
    Cell,
    LabelledImage,
    Rules,
    allocate,
    cell_of,
    choose,
    evidence_of,
    merged,
)
from tasks.core.entities import Allocation, Detection, Sample

NOW = datetime(2026, 5, 4, tzinfo=timezone.utc)
RULES = Rules(exploration=0.2)


def a_sample(number: int, camera: str = "gate", confidence: float = 0.25, **fields) -> Sample:
    digest = hashlib.sha256(f"{camera}{number}".encode()).hexdigest()
    known = {
        "sample_id": digest[:20],
        "sha256": digest,
        "device": "edge-1",
        "camera": camera,
        "captured_at": NOW + timedelta(minutes=number),
        "width": 64,
        "height": 48,
        "detections": (Detection(class_name="car", confidence=confidence, xyxy=(1, 1, 9, 9)),),
        "strategy": "rule-1",
        "matched": ("rule-1",),
        "probability": 0.3,
        "random_slice": False,
        "model_version": "0123456789abcdef",
        "settings_version": "all/1",
    }
    return Sample(**{**known, **fields})


def a_pool(**sizes: int) -> list[Sample]:
    """So many samples of each camera; `random` are of the random slice."""
    return [a_sample(n, camera, random_slice=camera == "random") for camera, size in sizes.items() for n in range(size)]


def an_allocation(samples, labels, evidence=None, number=1) -> Allocation:
    supply = Counter(cell_of(sample, {}) for sample in samples)
    return allocate(evidence or {}, supply, labels, RULES, number=number, created_at=NOW)


GATE_YIELDS = evidence_of(
    [
        LabelledImage(Cell(f"edge-1/{camera}", "rule-1", "0.2 to 0.3"), corrections, 0, 4)
        for camera, corrections in (("gate", 2), ("yard", 0))
        for _ in range(90)
    ],
    4.0,
)


@given(
    st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(2, 60), st.integers(0, 9),
    st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_each_cell_gets_its_labels_and_the_order_changes_nothing(gate, yard, explored, labels, seed, shuffle):
    """As many as the allocation says, probabilities that sum back to what waited, in any order of the samples."""
    pool = a_pool(gate=gate, yard=yard, random=explored)
    if not pool:
        return
    made = an_allocation(pool, labels, GATE_YIELDS)
    offered = choose(pool, made, seed)
    level = ("", "bands", "bands and strategies", "bands, strategies and cameras").index(made.together)
    cells = {sample.sample_id: merged(cell_of(sample, {}), level) for sample in pool}
    drawn, waiting = Counter(cells[s] for s in offered), Counter(cells.values())
    assert drawn == {Cell(r.camera, r.strategy, r.band, r.exploration): r.labels for r in made.cells if r.labels}
    assert len(offered) == min(labels, len(pool))
    for cell, number in drawn.items():
        weights = [1 / p for sample_id, p in offered.items() if cells[sample_id] == cell]
        assert sum(weights) == pytest.approx(waiting[cell])
        assert {p for sample_id, p in offered.items() if cells[sample_id] == cell} == {number / waiting[cell]}
    shuffle.shuffle(pool)
    assert choose(pool, made, seed) == offered


def test_the_random_slice_is_offered_whole_and_first():
    """All of it, with probability 1, though the yields say that another camera brings more."""
    pool = a_pool(gate=300, yard=300, random=45)
    offered = choose(pool, an_allocation(pool, 100, GATE_YIELDS), seed=0)
    slice_ids = {sample.sample_id for sample in pool if sample.random_slice}
    assert slice_ids <= set(offered)
    assert {offered[sample_id] for sample_id in slice_ids} == {1.0}
    by_camera = Counter(sample.camera for sample in pool if sample.sample_id in offered)
    assert by_camera["gate"] > 3 * by_camera["yard"] > 0


def test_every_sample_of_a_cell_is_as_likely_as_another():
    """Over 400 seeds each of 20 samples is drawn in about 7 of 20; the same seed draws the same."""
    pool = a_pool(gate=20)
    made = an_allocation(pool, 7)
    times = Counter(sample_id for seed in range(400) for sample_id in choose(pool, made, seed))
    assert min(times.values()) > 100  # of 140 expected; four standard deviations are 38
    assert max(times.values()) < 180
    assert choose(pool, made, 3) == choose(pool, made, 3) != choose(pool, made, 4)
    assert choose(pool, made.model_copy(update={"number": 2}), 3) != choose(pool, made, 3)


def test_weights_of_the_offered_give_the_total_of_the_pool():
    """The sum of y / probability is unbiased for what the whole pool holds, though cells are drawn unequally."""
    pool = a_pool(gate=80, yard=80, random=30)
    values = {s.sample_id: (3.0 if s.camera == "gate" else 1.0) + n % 2 for n, s in enumerate(pool)}
    made = an_allocation(pool, 60, GATE_YIELDS)
    totals = [sum(values[s] / p for s, p in choose(pool, made, seed).items()) for seed in range(300)]
    error = np.std(totals) / np.sqrt(len(totals))
    assert np.mean(totals) == pytest.approx(sum(values.values()), abs=4 * error + 1e-9)


def test_shares_are_handed_out_anew_over_other_samples():
    """A plan meets what is there in the end: a cell that has gone, one that is new, fewer than were foreseen."""
    made = an_allocation(a_pool(gate=200, yard=200, random=20), 100, GATE_YIELDS)
    pool = a_pool(gate=30, dock=200, random=10)
    offered = choose(pool, made, 0)
    by_camera = Counter(sample.camera for sample in pool if sample.sample_id in offered)
    assert by_camera == {"gate": 30, "random": 10, "dock": 60}
    assert choose([], made, 0) == {}


def test_bands_follow_the_thresholds_of_the_devices():
    """The same detection is in doubt under one release and counts under another; the random slice is one cell."""
    sample = a_sample(1, confidence=0.4)
    assert cell_of(sample, {"car": 0.5}) == Cell("edge-1/gate", "rule-1", "0.3 to 0.5")
    assert cell_of(sample, {"car": 0.35}).band == "nothing in doubt"
    assert cell_of(a_sample(1, random_slice=True), {}) == EXPLORATION
    made = an_allocation([sample], 2)
    assert set(choose([sample], made, 0, lambda one: cell_of(one, {"car": 0.35}))) == {sample.sample_id}
