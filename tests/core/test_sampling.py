"""What must hold of every decision: its probability, its chance, its record and its place in the settings."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from timeit import repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Detections, detection_records
from tasks.core.errors import RecordInvalid
from tasks.core.sampling import Observation, Sampler, draws_of
from tasks.core.sampling.strategies import recorded_confidence
from tasks.core.settings import SamplingSettings, validated

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person", "truck")
RANDOM = {"name": "rnd", "type": "random", "traffic_percentage": 0.2}
HARD = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 1.0}


def settings_of(*strategies, **others):
    return validated(SamplingSettings, {"sampling_strategies": strategies, **others}, "S.json")


def seen(*confidences, class_id=0, dtype=np.float32):
    n = len(confidences)
    return Detections(
        np.tile(np.array([10, 10, 50, 50], np.float32), (n, 1)),
        np.array(confidences, dtype),
        np.full(n, class_id, np.int64),
        NAMES,
    )


def frame(number=0, detections=None, seconds=0.0, **others):
    fields = {"device": "pi", "camera": "gate", "detections": seen(0.4) if detections is None else detections}
    return Observation(frame=f"f{number}", captured_at=NOON + timedelta(seconds=seconds), **{**fields, **others})


# --- inclusion probability -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_inclusion_probability_is_calibrated():
    """With limits, a batch cap, a cooldown and duplicates at work, as many frames are kept as their p add up to."""
    rules = settings_of(
        {**HARD, "probability": 0.3, "limits": [{"type": "minutely", "value": 4}]},
        {**RANDOM, "traffic_percentage": 0.04},
        {"name": "some", "type": "detections_number_based", "probability": 0.2, "more_than": 1},
        batching_strategy={"recreation_interval": "daily", "max_batch_images": 2000},
        duplicates={
            "enabled": True,
            "cooldown_seconds": 1,
            "remembered_frames": 4,
            "samples_of_an_object": None,
        },
    )
    rng, sampler, decisions = np.random.default_rng(7), Sampler(rules), []
    for number in range(30_000):
        detections = seen(*rng.uniform(0.05, 1, rng.integers(0, 4)))
        picture = np.full(32, rng.choice([0, 1, 255]), np.uint8)
        decisions.append(sampler.decide(frame(number, detections, seconds=number * 0.7, image_hash=picture)))
    p = np.array([decision.probability for decision in decisions])
    kept = np.array([decision.kept for decision in decisions])
    outcomes = {decision.outcome for decision in decisions}
    assert {"kept", "no credit", "near-duplicate", "cooldown", "draw lost", "batch full"} <= outcomes
    for low, high in [(0, 0.041), (0.041, 0.3), (0.3, 0.4), (0.4, 1), (0, 1)]:
        group = (p > low) & (p <= high)
        deviation = (kept[group] - p[group]).sum() / np.sqrt((p[group] * (1 - p[group])).sum())
        assert group.sum() > 200
        assert abs(deviation) < 4  # standard deviations


def test_exploration_draws_on_every_frame():
    """Without room anywhere, on duplicates and in a full batch, p is exactly e, and hits are the random slice."""
    rules = settings_of(
        {**HARD, "limits": [{"type": "daily", "value": 1}]},
        {**RANDOM, "traffic_percentage": 0.005},
        batching_strategy={"max_batch_images": 1},
        duplicates={"enabled": True, "cooldown_seconds": 10},
    )
    sampler = Sampler(rules)
    decisions = [sampler.decide(frame(number, seconds=number / 30)) for number in range(4000)]
    assert decisions[0].probability == 1.0
    assert {decision.probability for decision in decisions[1:]} == {0.005}
    hits = [decision for decision in decisions[1:] if decision.kept]
    assert len(hits) == pytest.approx(20, abs=14)
    assert all(hit.random_slice and hit.strategy == "rnd" for hit in hits)


def test_without_exploration_a_frame_can_be_out_of_reach():
    """Where no `random` strategy without limits is configured, p is 0 when nothing matches or has room."""
    sampler = Sampler(settings_of({**HARD, "limits": [{"type": "daily", "value": 1}]}))
    assert sampler.decide(frame(0, seen(0.9))).probability == 0.0
    assert sampler.decide(frame(1)).probability == 1.0
    assert sampler.decide(frame(2)).probability == 0.0


def test_the_random_slice_is_what_exploration_drew_whoever_is_charged():
    """The first strategy in the settings is charged for a frame that exploration hit too; it stays a random frame."""
    decision = Sampler(settings_of(HARD, {**RANDOM, "traffic_percentage": 1.0})).decide(frame())
    assert (decision.strategy, decision.matched, decision.random_slice) == ("hard", ("hard", "rnd"), True)
    limited = {**RANDOM, "traffic_percentage": 1.0, "limits": [{"type": "daily", "value": 9}]}
    assert not Sampler(settings_of(limited)).decide(frame()).random_slice


# --- the rest --------------------------------------------------------------------------------------------------------


def test_draws_are_the_published_function_of_five_values():
    """A pinned value, and each of the five changes it; anyone can replay a device's draws."""
    text = b"7\0pi\0gate\0f1\0hard"
    expected = (int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 11) / 2**53
    assert draws_of(7, "pi", "gate", "f1")("hard") == expected
    changed = [(8, "pi", "gate", "f1"), (7, "pj", "gate", "f1"), (7, "pi", "yard", "f1"), (7, "pi", "gate", "f2")]
    assert len({draws_of(*one)("hard") for one in changed} | {expected, draws_of(7, "pi", "gate", "f1")("rnd")}) == 6


def test_a_draw_must_stay_below_the_probability():
    """A draw of exactly the probability is lost, so that 0 never keeps a frame."""
    drawn = draws_of(0, "pi", "gate", "f0")("hard")
    for probability, kept in [(drawn, False), (np.nextafter(drawn, 1), True)]:
        assert Sampler(settings_of({**HARD, "probability": probability})).decide(frame()).kept is kept


def test_draws_are_uniform():
    """20,000 draws have the mean and the variance of a uniform variable, and stay in [0, 1)."""
    draws = np.array([draws_of(0, "pi", "gate", str(number))("s") for number in range(20_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.01)
    assert draws.var() == pytest.approx(1 / 12, abs=0.003)


@given(st.lists(st.floats(0, 1, width=32), max_size=50))
def test_a_devices_decision_follows_from_its_record(confidences):
    """What a float32 confidence is compared as is bit for bit what its record says."""
    detections = seen(*confidences)
    assert recorded_confidence(detections).tolist() == [row.confidence for row in detection_records(detections)]


def test_a_detectors_edge_is_that_of_its_record():
    """0.3 is outside of 0.4 +- 0.1 and 0.5 inside, as float32 from a detector and as float64 from a record."""
    for dtype in (np.float32, np.float64):
        kept = [Sampler(settings_of(HARD)).decide(frame(0, seen(c, dtype=dtype))).kept for c in (0.3, 0.5)]
        assert kept == [False, True]


def test_a_stub_matches_random_alone():
    """Whatever a stub claims to have seen, only `random` draws on its frames."""
    every = {"name": "any", "type": "detections_number_based", "probability": 1.0}
    sampler = Sampler(settings_of(HARD, every, {**RANDOM, "traffic_percentage": 1.0}))
    decision = sampler.decide(frame(is_stub=True))
    assert (decision.kept, decision.matched, decision.strategy) == (True, ("rnd",), "rnd")


def test_switched_off_sampling_keeps_nothing_and_says_so():
    """Neither strategies nor exploration draw while `enabled` is false."""
    decision = Sampler(settings_of({**RANDOM, "traffic_percentage": 1.0}, enabled=False)).decide(frame())
    assert (decision.kept, decision.probability, decision.outcome) == (False, 0.0, "sampling disabled")


def test_tags_of_all_matching_strategies_are_kept_once():
    """The settings' own come first, then those of each match in its order, whoever is charged."""
    first, second = {**HARD, "tags": ["a", "b"]}, {**HARD, "name": "second", "tags": ["b", "c"]}
    lost = {**HARD, "name": "lost", "probability": 0.0, "tags": ["d"]}
    assert Sampler(settings_of(first, second, lost, tags=["z", "a"])).decide(frame()).tags == ("z", "a", "b", "c")


def test_new_settings_go_on_counting_where_the_old_ones_were():
    """A limit that is lowered at noon finds the morning's samples, and the duplicates their frames."""
    old = Sampler(settings_of(HARD, duplicates={"enabled": True}), device="pi", seed=5)
    picture = np.zeros(32, np.uint8)
    assert all(old.decide(frame(n, seen(0.4, class_id=n), image_hash=picture)).kept for n in range(3))
    lowered = settings_of({**HARD, "limits": [{"type": "hourly", "value": 3}]}, duplicates={"enabled": True})
    new = old.with_settings(lowered)
    assert new.decide(frame(9)).reason == "no credit: 'hard' hourly 3 of 3 in 2026-01-05T12"
    assert new.decide(frame(9, seen(0.4), image_hash=picture)).outcome == "near-duplicate"
    assert (new.seed, new.device) == (5, "pi")


def test_a_full_batch_is_full_after_a_restart():
    """The images of a batch are counted across restarts, as credits are."""
    rules = settings_of(HARD, batching_strategy={"max_batch_images": 1})
    before = Sampler(rules)
    assert before.decide(frame(0)).kept
    assert Sampler(rules, state=before.state()).decide(frame(1)).outcome == "batch full"


def test_the_clock_is_utc_whatever_zone_a_time_is_given_in():
    """01:30 at +02:00 falls into the day before, and a time without a zone is UTC."""
    rules = settings_of(HARD, batching_strategy={"recreation_interval": "daily"})
    east = datetime(2026, 1, 6, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    for moment, batch in [(east, "batch_2026_01_05"), (datetime(2026, 1, 6, 1, 30), "batch_2026_01_06")]:
        assert Sampler(rules).decide(replace(frame(), captured_at=moment)).batch == batch


def test_a_state_that_is_none_is_refused():
    """A file that something else wrote is named, with what to do, and never half read."""
    with pytest.raises(RecordInvalid, match=r"state of the sampler: batches\.b: .*remove it"):
        Sampler(settings_of(HARD), state={"batches": {"b": "many"}})


def test_a_decision_takes_little_time():
    """Ten strategies on 300 detections: 0.055 ms when measured on one core; ten times that is a regression."""
    strategies = [{**HARD, "name": f"s{n}", "minimum_objects_close_to_threshold": 200} for n in range(9)]
    sampler, x = Sampler(settings_of(*strategies, RANDOM)), frame(0, seen(*np.linspace(0.05, 1, 300)))
    assert min(repeat(lambda: sampler.decide(x), number=20, repeat=10)) / 20 < 0.00055
