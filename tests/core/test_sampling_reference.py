"""The sampler against a slow one, written straight from the design: same seed, same frames, same decisions."""

import json
from datetime import datetime, timedelta, timezone
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.duplicates import signature, signatures_agree
from tasks.core.entities import Detections
from tasks.core.sampling import Observation, Sampler
from tasks.core.settings import SamplingSettings, validated

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person", "truck")


class SlowSampler:
    """Remembers every kept frame and counts them anew for each question."""

    def __init__(self, rules):
        self.rules = rules
        self.history = []  # (strategy, batch, observation) of each kept frame

    def decide(self, x):
        exploration = next((s for s in self.rules.sampling_strategies if s.type == "random" and not s.limits), None)
        if not self.rules.enabled:
            return False, None, (), 0.0, False
        batch = self.batch(x.captured_at)
        repeats = self.repeats(x)
        matching = [s for s in self.rules.sampling_strategies if (s is exploration if repeats else self.wants(s, x))]
        room = [s for s in matching if s is exploration or self.has_room(s, batch, x.captured_at)]
        drawn = [s for s in matching if self.draw(x, s.name) < self.q(s)]
        none_wins = 1.0
        for s in room:
            none_wins *= 1 - self.q(s)
        winner = next((s for s in drawn if s in room), None)
        if winner is not None:
            self.history.append((winner.name, batch, x))
        name = winner.name if winner else None
        return bool(winner), name, tuple(s.name for s in drawn), 1 - none_wins, bool(winner) and exploration in drawn

    def q(self, s):
        return s.traffic_percentage if s.type == "random" else s.probability

    def draw(self, x, name):
        text = "\0".join([str(self.rules.seed), x.device, x.camera, x.frame, name])
        return (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 11) / 2**53

    def wants(self, s, x):
        rows = [
            (x.detections.class_names[c], round(float(p), 6))
            for c, p in zip(x.detections.class_id, x.detections.confidence)
        ]
        if s.type == "random":
            return True
        if x.is_stub:
            return False
        selected = [(n, p) for n, p in rows if s.selected_class_names is None or n in s.selected_class_names]
        if x.task == "classification":
            top = [(n, p) for n, p in selected if n in x.top_classes]
            if s.type == "close_to_threshold":
                return any(abs(p - s.threshold) < s.epsilon for _, p in (top if s.only_top_classes else selected))
            return s.type == "classes_based" and bool(top)
        if x.task != "object-detection":
            return False
        selected = [(n, p) for n, p in selected if p >= self.rules.confidence_floor]
        if s.type == "close_to_threshold":
            near = [p for _, p in selected if abs(p - s.threshold) < s.epsilon]
            return len(near) >= s.minimum_objects_close_to_threshold
        if s.type == "detections_number_based":
            count = sum(p >= self.rules.thresholds.get(n, 0) for n, p in selected)
            return (s.more_than is None or count > s.more_than) and (s.less_than is None or count < s.less_than)
        return False

    def has_room(self, s, batch, now):
        cap = self.rules.batching_strategy.max_batch_images
        if cap is not None and sum(b == batch for _, b, _ in self.history) >= cap:
            return False
        pattern = {"minutely": "%Y-%m-%d %H:%M", "hourly": "%Y-%m-%d %H", "daily": "%Y-%m-%d"}
        for limit in s.limits:
            same = [
                y
                for name, _, y in self.history
                if name == s.name and y.captured_at.strftime(pattern[limit.type]) == now.strftime(pattern[limit.type])
            ]
            if len(same) >= limit.value:
                return False
        return True

    def batch(self, now):
        rule = self.rules.batching_strategy
        day = {"daily": now, "weekly": now - timedelta(days=now.weekday()), "monthly": now.replace(day=1)}
        if rule.recreation_interval == "never":
            return rule.batches_name_prefix
        return rule.batches_name_prefix + day[rule.recreation_interval].strftime("_%Y_%m_%d")

    def repeats(self, x):
        rule, recent = self.rules.duplicates, [y for _, _, y in self.history if y.camera == x.camera]
        if not rule.enabled or not recent:
            return False
        if 0 <= (x.captured_at - recent[-1].captured_at).total_seconds() < rule.cooldown_seconds:
            return True
        for y in recent[-rule.remembered_frames :]:
            if x.image_hash is not None and y.image_hash is not None:
                bits = np.unpackbits(x.image_hash ^ y.image_hash).sum()
                sights = [signature(z.detections, self.rules.confidence_floor) for z in (x, y)]
                if bits <= rule.maximum_hash_distance and signatures_agree(*sights):
                    return True
        return False


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


@st.composite
def some_settings(draw):
    listed = draw(st.lists(some_strategies, min_size=1, max_size=4))
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
        },
    }
    return validated(SamplingSettings, data, "S.json")


@st.composite
def some_detections(draw):
    rows = draw(st.lists(st.tuples(fractions, st.integers(0, 2), st.sampled_from([0, 40, 300])), max_size=5))
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
)


def observed(rows):
    """The rows as observations, one after the other in time."""
    moment, result = NOON, []
    for number, (detections, step, camera, pixels, task, top) in enumerate(rows):
        moment += timedelta(seconds=step)
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
            )
        )
    return result


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_settings(), st.lists(some_frames, max_size=40))
def test_the_sampler_decides_as_the_slow_one(rules, rows):
    """Same seed, same frames: kept, charged strategy, matches, probability and random slice are the same."""
    slow, fast = SlowSampler(rules), Sampler(rules)
    for x in observed(rows):
        kept, strategy, matched, probability, random_slice = slow.decide(x)
        decision = fast.decide(x)
        assert (decision.kept, decision.strategy, decision.matched) == (kept, strategy, matched)
        assert decision.random_slice == random_slice
        assert decision.probability == pytest.approx(probability, abs=1e-12)
        assert decision.reason.startswith(decision.outcome)
        assert decision.kept <= (decision.probability > 0)  # what is kept can be weighted


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_settings(), st.lists(some_frames, max_size=25), st.integers(0, 25))
def test_a_restart_changes_no_decision(rules, rows, at):
    """A sampler that is rebuilt from its state, by way of JSON, goes on as if nothing had happened."""
    straight, restarted = Sampler(rules), Sampler(rules)
    for number, x in enumerate(observed(rows)):
        if number == at:
            restarted = Sampler(rules, state=json.loads(json.dumps(restarted.state())))
        assert restarted.decide(x) == straight.decide(x)
    assert restarted.state() == straight.state()
