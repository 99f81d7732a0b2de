"""How far a frame is from those that were kept lately, and what of that outlives a restart."""

import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Detections
from tasks.core.errors import RecordInvalid, SettingsError
from tasks.core.sampling import Observation, Sampler
from tasks.core.sampling.novelty import MAX_CAMERAS, MAX_DIMENSIONS, UNLIKE_ANY, KeptLately
from tasks.core.settings import Novelty, SamplingSettings, validated

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
ODD = {"name": "odd", "type": "novelty", "minimum_distance": 0.2, "probability": 1.0}


def settings_of(*strategies, **others):
    return validated(SamplingSettings, {"sampling_strategies": strategies, **others}, "S.json")


def frame(number, embedding, camera="gate", embedder="m", **others):
    return Observation(
        frame=f"f{number}",
        device="pi",
        camera=camera,
        captured_at=NOON + timedelta(seconds=number),
        detections=Detections.empty(("car",)),
        embedding=None if embedding is None else np.array(embedding, np.float32),
        embedder=embedder,
        **others,
    )


def kept(sampler, *embeddings, **others):
    return [sampler.decide(frame(number, one, **others)).kept for number, one in enumerate(embeddings)]


@pytest.fixture
def lately():
    return KeptLately(Novelty(**{**ODD, "remembered_frames": 2}))


def test_what_is_near_a_kept_frame_is_not_novel():
    """The first frame is, and each one that lies farther than the distance from every kept one; length says nothing."""
    assert kept(Sampler(settings_of(ODD)), [1, 0], [5, 0.1], [0, 1], [0.1, 3], [-1, 0], [1, 1]) == [
        True,
        False,
        True,
        False,
        True,
        True,
    ]


def test_a_frame_without_an_embedding_is_not_novel():
    """No embedding, one of zeros, one that is not finite, one that is too long, and a stub's: nothing is known."""
    empty = [None, [0, 0], [np.nan, 1], [np.inf, 1], np.ones(MAX_DIMENSIONS + 1)]
    assert kept(Sampler(settings_of(ODD)), *empty) == [False] * len(empty)
    assert kept(Sampler(settings_of(ODD)), [1, 0], is_stub=True) == [False]
    reason = Sampler(settings_of(ODD)).decide(frame(0, None)).reason
    assert reason == "no strategy matched: 'odd' has nothing to say of such a frame"


def test_the_reason_names_distance_and_minimum():
    """Of a frame that is kept, and of one that is not."""
    sampler = Sampler(settings_of(ODD))
    first, second, third = (sampler.decide(frame(n, one)).reason for n, one in enumerate([[1, 0], [1, 0], [0, 1]]))
    assert "it knows no kept frame of this camera and drew" in first
    assert second == "no strategy matched: 'odd' is 0.0000 from the nearest frame kept lately, not above 0.2"
    assert "it is 1.0000 from the nearest frame kept lately, above 0.2 and drew" in third


def test_frames_that_others_kept_count(lately):
    """What a frame is held against is every kept frame of its camera, whoever was charged for it."""
    everything = {"name": "all", "type": "random", "traffic_percentage": 1.0}
    sampler = Sampler(settings_of(everything, ODD))
    matched = [sampler.decide(frame(n, one)).matched for n, one in enumerate([[1, 0], [0, 1], [0, 1]])]
    assert matched == [("all", "odd"), ("all", "odd"), ("all",)]


def test_only_the_last_ones_of_the_camera_are_remembered(lately):
    """Two of each camera, and of the last cameras only."""
    for number, one in enumerate([[1, 0, 0], [0, 1, 0], [0, 0, 1]]):
        lately.remember(frame(number, one))
    assert lately.distance(frame(3, [1, 0, 0])) == pytest.approx(1.0)
    assert lately.distance(frame(3, [0, 1, 0])) == 0.0
    assert lately.distance(frame(3, [1, 0, 0], camera="yard")) == UNLIKE_ANY
    for number in range(MAX_CAMERAS):
        lately.remember(frame(0, [1, 0], camera=f"c{number}"))
    assert lately.distance(frame(4, [0, 1, 0])) == UNLIKE_ANY
    assert len(lately.state()) == MAX_CAMERAS


@pytest.mark.parametrize("other", [{"embedder": "n"}, {}])
def test_embeddings_of_another_embedder_are_not_compared(lately, other):
    """A new model, or one of another size, begins anew."""
    lately.remember(frame(0, [1, 0]))
    another = frame(1, [1, 0] if other else [1, 0, 0], **other)
    assert lately.distance(another) == UNLIKE_ANY
    lately.remember(another)
    assert lately.distance(another) == 0.0
    assert lately.distance(frame(2, [1, 0])) == UNLIKE_ANY


@given(st.integers(0, 2**32), st.integers(2, 600), st.floats(1e-6, 1e30))
def test_a_byte_a_dimension_moves_no_distance_further_than_rounding_can(seed, dimensions, length):
    """Half a step in every dimension turns each of two directions by an angle, and equal frames are 0 apart."""
    one, other = np.random.default_rng(seed).normal(size=(2, dimensions))
    lately = KeptLately(Novelty(**ODD))
    lately.remember(frame(0, one * length))
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    steps = np.array([np.abs(one).max() / np.linalg.norm(one), np.abs(other).max() / np.linalg.norm(other)]) / 127
    angle = np.arcsin(np.sqrt(dimensions) / 2 * steps).sum()
    assert abs(lately.distance(frame(1, other)) - (1 - cosine)) < angle + 1e-6
    assert lately.distance(frame(2, one * length)) == 0.0


def test_a_byte_a_dimension_is_enough():
    """Of 500 pairs of embeddings of 256 numbers, half of the distances are right to 0.0005 and all to 0.003."""
    moved = []
    for one, other in np.random.default_rng(0).normal(size=(500, 2, 256)):
        lately = KeptLately(Novelty(**ODD))
        lately.remember(frame(0, one))
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        moved.append(abs(lately.distance(frame(1, other)) - (1 - cosine)))
    assert np.median(moved) < 0.0005
    assert max(moved) < 0.003


def test_a_restart_changes_no_distance_and_the_state_is_small(lately):
    """By way of JSON; a kept frame takes four bytes for three dimensions, and settings without it lose nothing."""
    rng = np.random.default_rng(0)
    sampler = Sampler(settings_of(ODD))
    assert any(kept(sampler, *rng.normal(size=(40, 512))))
    state = json.loads(json.dumps(sampler.state()))
    assert len(json.dumps(state["novelty"])) < 16 * 512 * 4 / 3 + 500
    again = Sampler(settings_of(ODD), state=state)
    for number, one in enumerate(rng.normal(size=(20, 512))):
        assert sampler.decide(frame(100 + number, one)) == again.decide(frame(100 + number, one))
    assert again.state() == sampler.state()
    other = Sampler(settings_of({"name": "all", "type": "random"}), state=state)
    assert other.state()["novelty"] == state["novelty"]
    fewer = other.with_settings(settings_of({**ODD, "remembered_frames": 3})).state()["novelty"]["gate"]["embeddings"]
    assert fewer == state["novelty"]["gate"]["embeddings"][-3:]


def test_a_state_that_is_broken_costs_no_more_than_itself():
    """What cannot be read of the embeddings is forgotten; what is no state is refused."""
    state = {"gate": {"embedder": "m", "dimensions": 2, "embeddings": ["fwA=", "not base64!", "fw==", "AAA="]}}
    sampler = Sampler(settings_of(ODD), state={"novelty": state})
    assert sampler.state()["novelty"]["gate"]["embeddings"] == ["fwA="]
    assert kept(sampler, [1, 0], [0, 1]) == [False, True]
    with pytest.raises(RecordInvalid, match=r"novelty\.gate\.dimensions"):
        Sampler(settings_of(ODD), state={"novelty": {"gate": {**state["gate"], "dimensions": 0}}})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"embedding": "https://host/model"}, "embedding"),
        ({"minimum_distance": 2.1}, "minimum_distance"),
        ({"remembered_frames": 0}, "remembered_frames"),
        ({"output_name": ""}, "output_name"),
    ],
)
def test_values_out_of_range_are_refused(change, field):
    """One line that names the strategy and the field; a file has to be an ONNX file."""
    with pytest.raises(SettingsError, match=rf"sampling_strategies\[0\] 'odd': {field}"):
        settings_of({**ODD, **change})
    with pytest.raises(SettingsError, match="novelty can be used once"):
        settings_of(ODD, {**ODD, "name": "more"})
