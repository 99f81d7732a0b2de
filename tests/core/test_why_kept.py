"""Why a frame was kept, in words: what is said follows from its record and the settings, and is true."""

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Detection, Sample
from tasks.core.explain.kept import why_kept
from tasks.core.settings import SamplingSettings

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
SETTINGS = SamplingSettings(
    sampling_strategies=[
        {"type": "random", "name": "some", "traffic_percentage": 0.01},
        {
            "type": "close_to_threshold",
            "name": "doubtful",
            "threshold": 0.4,
            "epsilon": 0.1,
            "probability": 0.5,
            "minimum_objects_close_to_threshold": 2,
            "only_top_classes": False,
        },
        {"type": "detections_number_based", "name": "crowd", "more_than": 2, "probability": 0.2},
        {
            "type": "expected_misses",
            "name": "misses",
            "weights": {"car": [0.1, 0.5]},
            "bins": [0.05, 0.3],
            "images_a_day": 20,
        },
        {"type": "novelty", "name": "new", "minimum_distance": 0.3, "probability": 1.0},
        {"type": "track_gap", "name": "gap", "gap_frames": 2, "minimum_iou": 0.5, "probability": 0.7},
    ],
    thresholds={"car": 0.6},
)


def a_sample(*confidences: float, **fields) -> Sample:
    known = {
        "sample_id": "a" * 20,
        "sha256": "a" * 64,
        "device": "edge-1",
        "camera": "gate",
        "captured_at": NOON,
        "width": 64,
        "height": 48,
        "strategy": "some",
        "matched": ("some",),
        "probability": 0.01,
        "random_slice": True,
        "model_version": "0123456789abcdef",
        "settings_version": "all/2",
        "detections": tuple(Detection(class_name="car", confidence=c, xyxy=(1, 1, 9, 9)) for c in confidences),
    }
    return Sample(**{**known, **fields})


def test_each_strategy_says_its_value_against_its_limit():
    """Counts, bands, draws and expected misses are those of the record and the settings."""
    sample = a_sample(
        0.9, 0.8, 0.7, 0.45, 0.35, 0.1, strategy="doubtful", matched=("doubtful", "crowd"), random_slice=False
    )
    said = "\n".join(why_kept(sample, SETTINGS))
    assert "Kept by 'doubtful'; 'crowd' matched as well, under settings all/2." in said
    assert "'doubtful': saw 2 of at least 2 within 0.1 of 0.4; its draw keeps 0.5 of such frames." in said
    assert "'crowd': saw 3 detections where it asks for more than 2; its draw keeps 0.2" in said
    assert "m(x) = 1.10 expected misses: car at 0.45 adds 0.50; car at 0.35 adds 0.50; car at 0.10 adds 0.10." in said
    assert "never measures" in said


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("some", "a draw that hits 0.01 of all frames"),
        ("new", "farther than 0.3 from every frame of its camera kept lately; its draw keeps 1"),
        ("gap", "an object was seen before and after this frame, not in it; its draw keeps 0.7"),
    ],
)
def test_strategies_whose_evidence_was_not_written_down_say_their_rule(strategy, words):
    """Random, novelty and track gaps name what they ask for."""
    assert words in "\n".join(why_kept(a_sample(strategy=strategy, matched=(strategy,)), SETTINGS))


def test_the_budgets_exploration_is_told_from_its_expected_misses():
    """A frame of the random slice was drawn, unless its expected misses alone would have kept it."""
    budget = {"strategy": "misses", "matched": ("misses",)}
    drawn = why_kept(a_sample(probability=0.02, **budget), SETTINGS)
    both = why_kept(a_sample(0.4, probability=1, **budget), SETTINGS)
    chosen = why_kept(a_sample(0.4, probability=1, random_slice=False, **budget), SETTINGS)
    assert any("drawn at random from all frames (20% of its budget of 20 images a day)" in line for line in drawn)
    assert any("hit it as well" in line for line in both)
    assert any("were above what the budget asked for at that moment" in line for line in chosen)
    assert any("m(x) = 0: " in line for line in drawn)


def test_settings_that_are_gone_leave_what_the_record_says():
    """Without settings the strategy, the probability and the slice are still told, and that the rest is unknown."""
    said = why_kept(a_sample(probability=0.25), None)
    assert said[0].startswith("Kept by 'some'")
    assert "not in the bucket" in said[1]
    assert "about 4 like it" in said[2]
    assert "random slice" in said[3]


@given(
    st.lists(st.floats(0.0, 1.0), max_size=12),
    st.sampled_from([s.name for s in SETTINGS.sampling_strategies]),
    st.floats(1e-6, 1.0),
    st.booleans(),
)
def test_whatever_a_device_wrote_down_has_words(confidences, strategy, probability, random_slice):
    """Any record is explained in whole sentences, and m(x) is the sum of the weights, by a slow reference."""
    sample = a_sample(
        *confidences, strategy=strategy, matched=(strategy,), probability=probability, random_slice=random_slice
    )
    said = why_kept(sample, SETTINGS)
    assert all(line.endswith(".") for line in said)
    floor = SETTINGS.confidence_floor
    expected = sum(0.5 if c >= 0.3 else 0.1 for c in confidences if max(floor, 0.05) <= c < 0.6)
    (told,) = [line for line in said if line.startswith("m(x)")]
    assert told.startswith(f"m(x) = {expected:.2f} expected" if expected else "m(x) = 0: ")
