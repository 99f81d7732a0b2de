"""The sampler against a slow one, written straight from the design: same seed, same frames, same decisions."""

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.entities import Detections
from tasks.core.sampling import Observation, Sampler
from tasks.core.settings import SamplingSettings, validated
from tests.core.slow_sampler import SlowSampler

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person", "truck")
EMBEDDINGS = ((1, 0, 0), (3, 0, 0), (1, 0.5, 0), (0, 1, 0), (0, 0, 0), (-1, 0.2, 1), (1, 0))  # two of them odd


# --- what hypothesis draws -------------------------------------------------------------------------------------------

fractions = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 0.9, 1.0])
limits = st.lists(
    st.builds(dict, type=st.sampled_from(["minutely", "hourly", "daily"]), value=st.integers(0, 4)), max_size=3
)
some_names = st.none() | st.lists(st.sampled_from([*NAMES, "boat"]), max_size=3, unique=True)
some_strategies = st.one_of(
    st.builds(dict, type=st.just("random"), traffic_percentage=fractions, limits=limits),
    st.builds(
        dict,
        type=st.just("close_to_threshold"),
        threshold=fractions,
        epsilon=fractions,
        probability=fractions,
        selected_class_names=some_names,
        minimum_objects_close_to_threshold=st.integers(1, 3),
        only_top_classes=st.booleans(),
        limits=limits,
    ),
    st.builds(
        dict,
        type=st.just("detections_number_based"),
        probability=fractions,
        more_than=st.none() | st.integers(0, 2),
        less_than=st.none() | st.integers(3, 5),
        selected_class_names=some_names,
        limits=limits,
    ),
    st.builds(
        dict,
        type=st.just("classes_based"),
        probability=fractions,
        selected_class_names=st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        limits=limits,
    ),
)
some_budgets = st.builds(
    dict,
    type=st.just("expected_misses"),
    weights=st.dictionaries(
        st.sampled_from([*NAMES, "boat"]), st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.6]), min_size=3, max_size=3)
    ),
    bins=st.just([0.1, 0.3, 0.5]),
    minimum_expected_misses=st.sampled_from([0.0, 0.1, 0.25, 0.35]),
    tie_probability=fractions,
    images_a_day=st.sampled_from([0.5, 20.0, 2000.0, 1e6]),
    exploration=st.sampled_from([0.0, 0.2, 0.9]),
    allow_no_exploration=st.just(True),
    limits=limits,
)
some_gaps = st.builds(
    dict,
    type=st.just("track_gap"),
    probability=fractions,
    gap_frames=st.integers(1, 3),
    minimum_iou=st.sampled_from([0.3, 0.6, 0.9]),
    selected_class_names=some_names,
    limits=limits,
)
some_novelties = st.builds(
    dict,
    type=st.just("novelty"),
    probability=fractions,
    minimum_distance=st.sampled_from([0.0, 0.2, 0.9, 1.5]),
    remembered_frames=st.integers(1, 3),
    limits=limits,
)


@st.composite
def some_settings(draw):
    listed = draw(st.lists(some_strategies, min_size=1, max_size=4))
    for once in (some_budgets, some_gaps, some_novelties):
        if draw(st.booleans()):
            listed.insert(draw(st.integers(0, len(listed))), draw(once))
    data = {
        "sampling_strategies": [{"name": f"s{i}", **s} for i, s in enumerate(listed)],
        "seed": draw(st.integers(0, 3)),
        "confidence_floor": draw(st.sampled_from([0.0, 0.05, 0.3])),
        "thresholds": draw(st.dictionaries(st.sampled_from(NAMES), fractions)),
        "batching_strategy": {
            "batches_name_prefix": "b",
            "recreation_interval": draw(st.sampled_from(["never", "daily", "weekly", "monthly"])),
            "max_batch_images": draw(st.none() | st.integers(1, 8)),
        },
        "duplicates": {
            "enabled": draw(st.booleans()),
            "cooldown_seconds": draw(st.sampled_from([0, 1, 40])),
            "maximum_hash_distance": draw(st.sampled_from([0, 1, 10])),
            "remembered_frames": draw(st.integers(1, 3)),
            "samples_of_an_object": draw(st.none() | st.integers(1, 2)),
        },
    }
    return validated(SamplingSettings, data, "S.json")


@st.composite
def some_detections(draw):
    rows = draw(st.lists(st.tuples(fractions, st.integers(0, 2), st.sampled_from([0, 2, 5, 40, 300])), max_size=5))
    corner = np.array([[place, place, place + 30, place + 30] for _, _, place in rows], np.float32).reshape(-1, 4)
    confidence = np.array([row[0] for row in rows], np.float32)
    return Detections(corner, confidence, np.array([row[1] for row in rows], np.int64), NAMES)


some_frames = st.tuples(
    some_detections(),
    st.sampled_from([-2.0, 0.0, 0.5, 5.0, 31.0, 1200.0, 18000.0, 200000.0]),  # cameras' clocks lie seconds apart
    st.sampled_from(["gate", "yard"]),
    st.sampled_from([None, 0, 1, 255]),
    st.sampled_from(["object-detection", "object-detection", "classification", "stub", "depth-estimation"]),
    st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    st.sampled_from([None, 1, 1, 1, 2]),  # frames of the camera since the last one; none: nothing can be lost
    st.sampled_from([None, *EMBEDDINGS]),
)


def observed(rows):
    """The rows as observations, one after the other in time."""
    moment, result, index = NOON, [], Counter()
    for number, (detections, step, camera, pixels, task, top, frames, embedding) in enumerate(rows):
        moment += timedelta(seconds=step)
        index[camera] += frames or 0
        result.append(
            Observation(
                frame=f"f{number}",
                device="pi",
                camera=camera,
                captured_at=moment,
                detections=detections,
                is_stub=task == "stub",
                task="object-detection" if task == "stub" else task,
                image_hash=None if pixels is None else np.array([pixels] + [0] * 31, np.uint8),  # up to 8 bits apart
                top_classes=tuple(top),
                index=None if frames is None else index[camera],
                embedding=None if embedding is None else np.array(embedding, np.float32),
                embedder="m",
            )
        )
    return result


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_settings(), st.lists(some_frames, max_size=40))
def test_the_sampler_decides_as_the_slow_one(rules, rows):
    """Same seed, same frames: kept, charged strategy, matches, probability and random slice are the same."""
    decide_alike(rules, observed(rows))


def decide_alike(rules, observations, restart_at=None):
    """Both samplers decide all; how often each outcome was seen."""
    slow, fast, outcomes = SlowSampler(rules), Sampler(rules), Counter()
    for number, x in enumerate(observations):
        if number == restart_at:
            assert_settled_alike(fast.settle(), [one for camera in list(slow.runs) for one in slow.lose_track(camera)])
            fast = Sampler(rules, state=json.loads(json.dumps(fast.state())))
        kept, strategy, matched, probability, random_slice, is_open, settled = slow.decide(x)
        decision = fast.decide(x)
        assert decision.is_open == is_open
        assert_settled_alike(decision.settled, settled)
        assert (decision.kept, decision.strategy, decision.matched) == (kept, strategy, matched)
        assert decision.random_slice == random_slice
        assert decision.probability == pytest.approx(probability, abs=1e-12)
        assert decision.reason.startswith(decision.outcome)
        assert decision.kept <= (decision.probability > 0)  # what is kept can be weighted
        outcomes.update(f"late: {one.decision.outcome}" for one in decision.settled if was_asked_late(one, rules))
        outcomes.update(f"late: also {one.decision.kept}" for one in decision.settled if also_by_gap(one, rules))
        outcomes["novel"] += "from the nearest frame kept lately, above" in decision.reason
        outcomes.update(
            [decision.outcome, "used up"] if "earned a day's samples" in decision.reason else [decision.outcome]
        )
    return outcomes


def assert_settled_alike(fast, slow):
    """The same frames are settled, and in the same way."""
    told = [(one.frame, one.decision.kept, one.decision.strategy, one.decision.matched) for one in fast]
    assert sorted(told, key=str) == sorted((one[:4] for one in slow), key=str)
    p = {one[0]: one[4] for one in slow}
    assert all(one.decision.probability == pytest.approx(p[one.frame], abs=1e-12) for one in fast)
    assert all(one.decision.reason.startswith(one.decision.outcome) for one in fast)


def was_asked_late(settled, rules):
    return rules.track_gap.name in settled.decision.matched or "but not here" in settled.decision.reason


def also_by_gap(settled, rules):
    """Kept at its own time, and `track_gap` won its draw, too."""
    gap = rules.track_gap.name
    return settled.decision.kept and gap in settled.decision.matched and settled.decision.strategy != gap


BUSY = {
    "name": "misses",
    "type": "expected_misses",
    "weights": {"car": [0.1, 0.25, 0.6], "truck": [0.0, 0.1, 0.1]},
    "bins": [0.1, 0.3, 0.5],
    "minimum_expected_misses": 0.1,
    "tie_probability": 0.5,
}


def test_the_samplers_agree_where_much_happens():
    """Budgets, used up objects, limits, caps and duplicates that bind at once, in 40 random streams with a restart."""
    outcomes = Counter()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        budget = {
            **BUSY,
            "images_a_day": float(rng.choice([20, 300, 3000])),
            "exploration": float(rng.choice([0.05, 0.4])),
        }
        hard = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.21, "probability": 0.3}
        listed = [{"name": "rnd", "type": "random", "traffic_percentage": 0.05}, hard, budget]
        if rng.random() < 0.5:
            budget["limits"] = [{"type": "hourly", "value": 3}]
        rules = validated(
            SamplingSettings,
            {
                "sampling_strategies": [listed[row] for row in rng.permutation(3)],
                "seed": seed,
                "thresholds": {"car": 0.6, "truck": 0.5},
                "batching_strategy": {"recreation_interval": "daily", "max_batch_images": int(rng.choice([9, 90]))},
                "duplicates": {
                    "enabled": True,
                    "cooldown_seconds": float(rng.choice([0, 40])),
                    "maximum_hash_distance": 1,
                    "samples_of_an_object": int(rng.integers(1, 4)),
                },
            },
            "S.json",
        )
        outcomes += decide_alike(rules, a_busy_stream(rng), restart_at=40)
    wanted = {
        "kept",
        "cooldown",
        "near-duplicate",
        "draw lost",
        "batch full",
        "no credit",
        "no strategy matched",
        "used up",
    }
    assert all(outcomes[outcome] > 8 for outcome in wanted), outcomes


def a_busy_stream(rng, frames=80):
    """Frames 10 to 600 s apart of two cameras, with doubtful detections at few places."""
    rows = []
    for _ in range(frames):
        n = rng.integers(0, 4)
        places = rng.choice([0, 2, 5, 40, 300], n)
        corner = np.array([[place, place, place + 30, place + 30] for place in places], np.float32).reshape(-1, 4)
        confidence = rng.choice([0.1, 0.25, 0.35, 0.5, 0.6, 0.9], n).astype(np.float32)
        detections = Detections(corner, confidence, rng.integers(0, 3, n), NAMES)
        step, camera, pixels = (
            float(rng.choice([10, 60, 600])),
            str(rng.choice(["gate", "yard"])),
            int(rng.integers(0, 256)),
        )
        rows.append((detections, step, camera, pixels, "object-detection", [], None, None))
    return observed(rows)


@pytest.mark.slow
def test_the_samplers_agree_where_objects_flicker():
    """Gaps and novelty beside bands, limits, caps, static objects, lost frames and a restart, in 30 random streams."""
    outcomes = Counter()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        gap = {
            "name": "gap",
            "type": "track_gap",
            "gap_frames": 1 + seed % 3,
            "minimum_iou": float(rng.choice([0.3, 0.6])),
            "probability": float(rng.choice([0.3, 0.6, 1])),
            "tags": ["gap"],
            "limits": [{"type": "hourly", "value": 3}] if seed % 2 else [],
        }
        odd = {"name": "odd", "type": "novelty", "minimum_distance": 0.1, "remembered_frames": 2, "probability": 0.4}
        hard = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.21, "probability": 0.2}
        listed = [{"name": "rnd", "type": "random", "traffic_percentage": 0.1}, hard, gap, odd]
        rules = validated(
            SamplingSettings,
            {
                "sampling_strategies": [listed[row] for row in rng.permutation(4)],
                "seed": seed,
                "thresholds": {"car": 0.6, "truck": 0.5},
                "batching_strategy": {"recreation_interval": "daily", "max_batch_images": int(rng.choice([9, 90]))},
                "duplicates": {
                    "enabled": seed % 4 > 0,
                    "cooldown_seconds": float(rng.choice([0, 0, 20])),
                    "maximum_hash_distance": 1,
                    "samples_of_an_object": int(rng.integers(1, 4)),
                },
            },
            "S.json",
        )
        outcomes += decide_alike(rules, a_flickering_stream(rng), restart_at=60)
    late = {"late: kept", "late: draw lost", "late: batch full", "late: no credit", "late: also True", "novel"}
    assert all(outcomes[outcome] > 8 for outcome in late), outcomes


def a_flickering_stream(rng, count=100):
    """Frames 1 to 20 s apart of two cameras, in which objects that move slowly are seen, or seen less, or not."""
    rows = []
    objects = [(c, place, rng.choice([0, 2, 5])) for c, place in enumerate([0, 100, 200])]
    for number in range(count):
        shown = [one for one in objects if rng.random() < 0.7]
        corner = [[place + number * v % 60, 0, place + number * v % 60 + 30, 30] for _, place, v in shown]
        confidence = rng.choice([0.35, 0.7, 0.9, 0.9], len(shown)).astype(np.float32)
        class_id = np.array([c for c, *_ in shown], np.int64)
        detections = Detections(np.array(corner, np.float32).reshape(-1, 4), confidence, class_id, NAMES)
        step, camera = float(rng.choice([1, 5, 20])), "gate" if rng.random() < 0.8 else "yard"
        embedding = EMBEDDINGS[rng.integers(len(EMBEDDINGS))]
        frames = int(rng.choice([1] * 9 + [2]))
        rows.append((detections, step, camera, int(rng.integers(256)), "object-detection", [], frames, embedding))
    return observed(rows)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_settings(), st.lists(some_frames, max_size=25), st.integers(0, 25))
def test_a_restart_changes_no_decision(rules, rows, at):
    """A sampler that is rebuilt from its state, by way of JSON, goes on as if nothing had happened.

    But objects are not followed across a restart: the pixels of open frames do not outlive it.
    """
    straight, restarted = Sampler(rules), Sampler(rules)
    for number, x in enumerate(observed(rows)):
        if number == at:
            assert straight.settle() == restarted.settle()
            restarted = Sampler(rules, state=json.loads(json.dumps(restarted.state())))
        decision, other = restarted.decide(x), straight.decide(x)
        assert (decision, decision.reason) == (other, other.reason)
        assert restarted.traffic_record(x, decision, "m") == straight.traffic_record(x, other, "m")
    assert restarted.state() == straight.state()
