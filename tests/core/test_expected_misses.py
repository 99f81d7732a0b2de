"""`expected_misses`, from its settings to what a person reads about a frame."""

import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Detections
from tasks.core.errors import BandBelowFloor, SettingsError
from tasks.core.explain import explain_lines
from tasks.core.sampling import Observation, Sampler
from tasks.core.sampling.misses import MissWeights, total
from tasks.core.settings import SamplingSettings, load_sampling_settings, validated

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person", "truck")
WEIGHTS = {"car": [0.02, 0.05, 0.11, 0.23, 0.41, 0.6], "person": [0.01, 0.03, 0.08, 0.15, 0.3, 0.5]}
MISSES = {"name": "misses", "type": "expected_misses", "weights": WEIGHTS, "images_a_day": 100}
THRESHOLDS = {"car": 0.55, "person": 0.25}
RANDOM = {"name": "rnd", "type": "random", "traffic_percentage": 0.1}


def settings_of(*strategies, **others):
    return validated(
        SamplingSettings, {"sampling_strategies": strategies, "thresholds": THRESHOLDS, **others}, "S.json"
    )


def seen(*rows):
    """Detections of (class id, confidence)."""
    n = len(rows)
    boxes = np.array([[100 * i, 10, 100 * i + 50, 50] for i in range(n)], np.float32).reshape(n, 4)
    confidence = np.array([row[1] for row in rows], np.float32)
    return Detections(boxes, confidence, np.array([row[0] for row in rows], np.int64), NAMES)


def frame(number=0, detections=None, seconds=0.0, **others):
    moment = NOON + timedelta(seconds=seconds)
    return Observation(f"f{number}", "pi", "gate", moment, seen() if detections is None else detections, **others)


# --- m(x) ------------------------------------------------------------------------------------------------------------


def expected_misses(*rows, **others):
    settings = settings_of(MISSES, **others)
    detections = seen(*rows)
    weights = MissWeights(settings.expected_misses, settings, NAMES)
    return total(weights.of(np.round(detections.confidence.astype(np.float64), 6), detections.class_id))


@pytest.mark.parametrize(
    ("row", "weight"),
    [
        ((0, 0.05), 0.05),  # the floor, and the lower edge of a bin, belong to it
        ((0, 0.049), 0.0),
        ((0, 0.0999), 0.05),
        ((0, 0.1), 0.11),
        ((0, 0.3), 0.41),
        ((0, 0.5), 0.6),
        ((0, 0.5499), 0.6),  # the last bin ends at the threshold
        ((0, 0.55), 0.0),  # from where on it is a detection
        ((1, 0.2499), 0.15),
        ((1, 0.25), 0.0),
        ((2, 0.3), 0.0),  # a class without weights
    ],
)
def test_a_detection_below_its_threshold_adds_the_weight_of_its_bin(row, weight):
    """`confidence_floor <= s < threshold[c]`, then `w[c, bin(s)]`."""
    assert expected_misses(row) == weight


def test_a_class_without_a_threshold_has_the_default_one():
    """0.5, so that its detections below are not counted as found."""
    assert expected_misses((0, 0.49), thresholds={}) == 0.41
    assert expected_misses((0, 0.5), thresholds={}) == 0.0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, width=32)), max_size=40), st.sampled_from([0.01, 0.05, 0.2])
)
def test_expected_misses_are_the_sum_of_plain_loops(rows, floor):
    """Over any detections, in any order: below the first bin nothing is known and nothing is added."""
    bins, expected = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5), 0.0
    for class_id, confidence in rows:
        s, name = round(float(np.float32(confidence)), 6), NAMES[class_id]
        if name in WEIGHTS and max(floor, 0.02) <= s < THRESHOLDS.get(name, 0.5):
            expected += WEIGHTS[name][sum(low <= s for low in bins) - 1]
    assert expected_misses(*rows, confidence_floor=floor) == pytest.approx(expected, abs=1e-6)
    assert expected_misses(*rows, confidence_floor=floor) == expected_misses(*rows[::-1], confidence_floor=floor)


def test_of_a_classification_the_top_class_is_not_missed():
    """A miss is an image of a class that is not on top: the other classes' probabilities count."""
    settings = settings_of({**MISSES, "minimum_expected_misses": 0.2})
    for top, kept in [((), True), (("car",), False)]:
        x = frame(0, seen((0, 0.4), (1, 0.06)), task="classification", top_classes=top)
        assert (Sampler(settings).decide(x).probability == 1.0) is kept


# --- inclusion probability -------------------------------------------------------------------------------------------


def test_every_frame_has_the_exploration_draw_and_p_is_calibrated():
    """With ties, limits, duplicates, used up objects, stubs and other strategies, p adds up to what is kept."""
    rules = settings_of(
        {**MISSES, "images_a_day": 4000, "exploration": 0.3, "limits": [{"type": "hourly", "value": 100}]},
        {"name": "close", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 0.02},
        batching_strategy={"recreation_interval": "daily", "max_batch_images": 3000},
        duplicates={"enabled": True, "cooldown_seconds": 6, "samples_of_an_object": 400},
    )
    rng, sampler, decisions = np.random.default_rng(4), Sampler(rules), []
    for number in range(9_000):
        rows = [(int(rng.integers(0, 3)), float(rng.choice([0.06, 0.15, 0.4, 0.9]))) for _ in range(rng.integers(0, 4))]
        picture = rng.integers(0, 256, 32).astype(np.uint8)
        x = frame(number, seen(*rows), number * 5.0, image_hash=picture, is_stub=number % 50 == 0)
        decisions.append(sampler.decide(x))
    p = np.array([decision.probability for decision in decisions])
    kept = np.array([decision.kept for decision in decisions])
    assert p.min() > 0
    assert {"kept", "no credit", "cooldown", "draw lost", "no strategy matched"} <= {d.outcome for d in decisions}
    for low, high in [(0, 0.12), (0.12, 0.999), (0, 1)]:
        group = (p > low) & (p <= high)
        deviation = (kept[group] - p[group]).sum() / np.sqrt((p[group] * (1 - p[group])).sum())
        assert group.sum() > 50
        assert abs(deviation) < 4  # standard deviations
    slice_ = [decision for decision in decisions if decision.kept and decision.random_slice]
    assert {decision.strategy for decision in slice_} <= {"misses", "close"}
    assert len({d.probability for d in decisions if d.is_repeat}) > 1  # e follows the traffic


def test_exploration_comes_first_and_outside_of_everything():
    """No limit, batch size, cooldown or stub takes the draw away, and its hits are the random slice."""
    rules = settings_of(
        {**MISSES, "images_a_day": 20_000, "exploration": 1.0, "limits": [{"type": "daily", "value": 0}]},
        batching_strategy={"max_batch_images": 1},
        duplicates={"enabled": True, "cooldown_seconds": 1000},
    )
    sampler = Sampler(rules)
    decisions = [sampler.decide(frame(n, seen((0, 0.4)), n, is_stub=n % 2 == 0)) for n in range(2000)]
    hits = [decision for decision in decisions if decision.kept]
    assert len(hits) == pytest.approx(20_000 / 86400 * 2000, rel=0.2)
    assert all(hit.random_slice and (hit.strategy, hit.matched) == ("misses", ("misses",)) for hit in hits)
    assert min(decision.probability for decision in decisions) > 0


def test_a_random_strategy_beside_the_budget_is_one_like_the_others():
    """The exploration draw is the budget's; without an exploration of its own it is `random`'s again."""
    beside = settings_of(RANDOM, MISSES, duplicates={"enabled": True, "cooldown_seconds": 10})
    assert beside.exploration_strategy.name == "misses"
    sampler = Sampler(beside)
    decisions = [sampler.decide(frame(n, seconds=n / 10)) for n in range(500)]
    assert any(d.kept and not d.random_slice for d in decisions)
    assert max(d.probability for d in decisions if d.is_repeat) < 0.1
    none = {**MISSES, "exploration": 0, "allow_no_exploration": True}
    assert settings_of(RANDOM, none).exploration_strategy.name == "rnd"
    assert settings_of(none).exploration_strategy is None
    assert Sampler(settings_of(none)).decide(frame()).probability == 0.0


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"exploration": 0}, ["'misses'", "exploration", "allow_no_exploration"]),
        ({"exploration": 1.1}, ["exploration", "less than or equal to 1"]),
        ({"images_a_day": 0}, ["images_a_day", "greater than 0"]),
        ({"images_a_day": float("inf")}, ["images_a_day", "finite"]),
        ({"minimum_expected_misses": -0.1}, ["minimum_expected_misses"]),
        ({"tie_probability": 2}, ["tie_probability"]),
        ({"weights": {"car": [0.1, 0.2]}}, ["weights", "'car' has 2 for 6 bins"]),
        ({"weights": {"car": [0.1] * 5 + [1.2]}}, ["weights", "less than or equal to 1"]),
        ({"bins": [0.1, 0.1], "weights": {}}, ["bins must ascend"]),
        ({"probability": 0.5}, ["probability", "not permitted"]),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_field(fields, words):
    """One line that names the strategy and the field."""
    with pytest.raises(SettingsError) as error:
        settings_of({**MISSES, **fields})
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_there_is_one_budget():
    """Two of them would both explore, and neither would keep its rate."""
    with pytest.raises(SettingsError, match=r"expected_misses can be used once, not as \['misses', 'more'\]"):
        settings_of(MISSES, {**MISSES, "name": "more"})


def test_weights_out_of_reach_are_refused_and_unknown_classes_named():
    """A floor at every threshold leaves nothing to expect; at one it is a warning, as is a class nobody knows."""

    def load(floor, classes=None):
        data = {"sampling_strategies": [MISSES], "thresholds": THRESHOLDS, "confidence_floor": floor}
        return load_sampling_settings(data, "S.json", classes)[1]

    with pytest.raises(BandBelowFloor, match=r"'misses' can never expect a miss.*\['car', 'person'\].*floor 0.6"):
        load(0.6)
    assert "no misses of ['person']" in load(0.3)[0]
    assert load(0.05) == []
    assert "['person']" in load(0.05, ["car"])[0]


def test_settings_without_a_budget_between_two_with_it_forget_nothing():
    """A setting that is taken back goes on with what was spent today."""
    sampler = Sampler(settings_of(MISSES))
    for number in range(200):
        sampler.decide(frame(number, seen((0, 0.4)), number * 60))
    spent = sampler.state()["rate"]["spent"]
    between = sampler.with_settings(settings_of(RANDOM))
    assert between.with_settings(settings_of(MISSES)).state()["rate"]["spent"] == spent


# --- explain ---------------------------------------------------------------------------------------------------------


def explain(frames, *strategies, **others):
    lines = [
        json.dumps(
            {
                "frame": f"f{number}",
                "captured_at": (NOON + timedelta(seconds=seconds)).isoformat(),
                "detections": [{"class": name, "confidence": c, "xyxy": [1, 2, 30, 40]} for name, c in rows],
            }
        )
        for number, (seconds, rows) in enumerate(frames)
    ]
    return [json.loads(answer) for answer in explain_lines(lines, settings_of(*strategies, **others))]


def test_explain_says_what_was_expected_and_what_was_asked():
    """Above, at and below the minimum; the exploration's draw; and a budget that is used up."""
    strategy = {**MISSES, "minimum_expected_misses": 0.41, "tie_probability": 0.25}
    frames = [(0, [("car", 0.2)]), (0, [("car", 0.4)]), (0, [("car", 0.4), ("car", 0.2)])]
    below, tie, above = explain(frames, strategy)
    assert "'misses' expects 0.23 misses, not above 0.41, and its exploration drew 0." in below["reason"]
    assert tie["reason"].startswith("draw lost: 'misses' expects 0.41 misses, equal to 0.41 and drew 0.")
    assert tie["reason"].endswith("not below 0.25")
    assert above["reason"].startswith("kept by 'misses' for batch 'batch': it expects 0.64 misses, above 0.41 and drew")
    assert above["probability"] == 1.0
    everything = {**strategy, "exploration": 1.0, "images_a_day": 1e6}
    assert explain(frames[:1], everything)[0]["reason"].startswith(
        "kept by 'misses' for batch 'batch': it explores and"
    )
    little = explain([(n, [("car", 0.5)] * (n + 1)) for n in range(60)], {**MISSES, "images_a_day": 0.3})
    assert "while the budget leaves room for exploration alone" in little[-1]["reason"]


def test_a_reason_asked_for_later_is_that_of_its_time():
    """Reasons are made when they are read, from what was known when the frame was decided."""
    limited = {**RANDOM, "traffic_percentage": 1.0, "limits": [{"type": "hourly", "value": 2}]}
    sampler = Sampler(settings_of(limited, batching_strategy={"recreation_interval": "daily", "max_batch_images": 3}))
    decisions = [sampler.decide(frame(n, seconds=1800 * n)) for n in range(9)]
    assert [decision.outcome for decision in decisions[:5]] == ["kept", "kept", "kept", "batch full", "batch full"]
    assert decisions[3].reason == "batch full: 'batch_2026_01_05' holds 3 of 3 images"
    first = Sampler(settings_of(limited))
    early = [first.decide(frame(n, seconds=n)) for n in range(3)][-1]
    first.with_settings(settings_of(RANDOM))
    assert early.reason == "no credit: 'rnd' hourly 2 of 2 in 2026-01-05T12"
