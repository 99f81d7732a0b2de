"""The ledger: weighted by 1 / p, what the sampler keeps stands for every frame that it saw. Exact, by all the draws."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.entities import Detections
from tasks.core.sampling import Decision, Observation, Sampler
from tasks.core.settings import SamplingSettings, validated

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person")
MOST_WORLDS = 5000


class Script:
    """The outcomes of the draws of one world, in their order; beyond what is written, draws are won."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[bool, float]] = []  # won?, and how likely that was
        self._drawn: dict[tuple[str, str], bool] = {}

    def wins(self, frame: str, strategy: str, chance: float) -> bool:
        if not 0 < chance < 1:
            return chance >= 1
        if (frame, strategy) not in self._drawn:
            turn = len(self._drawn)
            if turn == len(self.outcomes):
                self.outcomes.append((True, chance))
            won, written = self.outcomes[turn]
            assert written == chance, "the same draws must lead to the same chances"
            self._drawn[frame, strategy] = won
        return self._drawn[frame, strategy]

    @property
    def probability(self) -> float:
        return float(np.prod([chance if won else 1 - chance for won, chance in self.outcomes]))

    def turn_to_next(self) -> bool:
        """The next world, in which the last draw that was won is lost; False after the last one."""
        while self.outcomes and not self.outcomes[-1][0]:
            self.outcomes.pop()
        if not self.outcomes:
            return False
        self.outcomes[-1] = (False, self.outcomes[-1][1])
        self._drawn.clear()
        return True


class Lot:
    """A draw that is won or lost when it is held against a chance, as the script says."""

    def __init__(self, script: Script, frame: str, strategy: str) -> None:
        self._of = script, frame, strategy

    def __lt__(self, chance: float) -> bool:
        script, frame, strategy = self._of
        return script.wins(frame, strategy, chance)


class ScriptedSampler(Sampler):
    """The sampler itself, with draws that a script has written."""

    script: Script

    def _draws(self, observation):
        return lambda strategy: Lot(self.script, f"{observation.camera}/{observation.frame}", strategy)


def final_decisions(sampler: Sampler, frames: list[Observation]) -> list[Decision]:
    """The last word on every frame: its own decision, or a later one where it was open."""
    final, settled = {}, []
    for x in frames:
        decision = sampler.decide(x)
        settled += decision.settled
        if not decision.is_open:
            final[x.camera, x.frame] = decision
    for late in (*settled, *sampler.settle()):
        final[late.camera, late.frame] = late.decision
    return [final[x.camera, x.frame] for x in frames]


def weight_of(decision: Decision) -> float:
    return 1 / decision.probability


def expected_weights(rules: SamplingSettings, frames: list[Observation], weight=weight_of) -> np.ndarray:
    """(frames,) the mean, over every world that the draws can bring about, of what a frame adds to a weighted total.

    It is 1 where the ledger is right: then any figure, summed with weights, is on average its sum over all frames.
    """
    mean, sure = np.zeros(len(frames)), 0.0
    script = Script()
    for _ in range(MOST_WORLDS):
        sampler = ScriptedSampler(rules, "pi")
        sampler.script = script
        decisions = final_decisions(sampler, frames)
        likely = script.probability
        mean += [likely * weight(d) if d.kept else 0.0 for d in decisions]
        sure += likely
        if not script.turn_to_next():
            assert sure == pytest.approx(1)
            return mean
    raise AssertionError(f"more than {MOST_WORLDS} worlds")


def rules_of(*strategies, **others) -> SamplingSettings:
    thresholds = {"car": 0.6, "person": 0.5}
    return validated(SamplingSettings, {"sampling_strategies": strategies, "thresholds": thresholds, **others}, "S")


def seen(*rows) -> Detections:
    """Detections of (class id, confidence, x)."""
    boxes = np.array([[x, 10, x + 40, 50] for *_, x in rows], np.float32).reshape(len(rows), 4)
    confidence = np.array([row[1] for row in rows], np.float32)
    return Detections(boxes, confidence, np.array([row[0] for row in rows], np.int64), NAMES)


def frame(number: int, detections: Detections, seconds: float, picture: int = 0, camera: str = "gate") -> Observation:
    """picture: frames with the same one have the same hash."""
    image_hash = np.random.default_rng(picture).integers(0, 256, 32).astype(np.uint8)
    return Observation(f"f{number}", "pi", camera, NOON + timedelta(seconds=seconds), detections, image_hash=image_hash)


def strategies(random_share: float = 0.1, close_share: float = 0.7, **limits):
    return (
        {"name": "explore", "type": "random", "traffic_percentage": random_share},
        {"name": "close", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.2, "probability": close_share,
         **limits},
    )  # fmt: skip


DOUBTFUL, SURE, EMPTY = seen((0, 0.45, 10)), seen((0, 0.9, 10)), seen()
MISSES = {
    "name": "misses", "type": "expected_misses", "weights": {"car": [0.02, 0.05, 0.1, 0.2, 0.4, 0.6]},
    "images_a_day": 25, "exploration": 0.2, "minimum_expected_misses": 0.2, "tie_probability": 0.4,
}  # fmt: skip
ONE_A_MINUTE = [{"type": "minutely", "value": 1}]


@pytest.mark.parametrize(
    "rules",
    [
        rules_of(*strategies()),
        rules_of(*strategies(limits=ONE_A_MINUTE)),
        rules_of(*strategies(limits=[{"type": "hourly", "value": 2}, {"type": "daily", "value": 3}])),
        rules_of(*strategies(), batching_strategy={"max_batch_images": 2}),
        rules_of(*strategies(), duplicates={"enabled": True, "cooldown_seconds": 30}),
        rules_of(*strategies(), duplicates={"enabled": True}),
        rules_of(*strategies(), duplicates={"enabled": True, "samples_of_an_object": 1}),
        pytest.param(
            rules_of(strategies()[1], {**strategies()[0], "limits": ONE_A_MINUTE, "name": "capped"}, strategies()[0]),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "minutely", "hourly and daily", "full batch", "cooldown", "duplicates", "static", "three"],
)
def test_each_frame_stands_for_one_frame_on_average(rules):
    """Whatever a limit, a batch, a cooldown or a duplicate forbids, the mean weight of every frame is exactly 1."""
    sights = (EMPTY, DOUBTFUL, SURE, DOUBTFUL)
    frames = [frame(n, sights[n % 4], 20 * n, picture=n // 2) for n in range(5)]
    assert expected_weights(rules, frames) == pytest.approx(1)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"duplicates": {"enabled": True, "cooldown_seconds": 900}},
        {"duplicates": {"enabled": True, "samples_of_an_object": 1}},
        {"batching_strategy": {"max_batch_images": 1}},
    ],
)
@pytest.mark.parametrize("limits", [[], [{"type": "hourly", "value": 1}]])
def test_the_rate_controller_keeps_the_ledger_right(limits, others):
    """Though its minimum and its exploration follow what was kept before, every frame stands for one on average."""
    rules = rules_of({**MISSES, "limits": limits}, **others)
    crowds = [seen(*[(0, 0.25 + 0.1 * (n % 3), 10 + 60 * k) for k in range(1 + n % 2)]) for n in range(5)]
    frames = [frame(n, crowd, 700 * n, picture=n) for n, crowd in enumerate(crowds)]
    assert expected_weights(rules, frames) == pytest.approx(1)


GAP = {"name": "gap", "type": "track_gap", "gap_frames": 2, "minimum_iou": 0.5, "probability": 0.5}
EMPTY_ONES = {"name": "empty", "type": "detections_number_based", "less_than": 1, "probability": 0.4}


@pytest.mark.parametrize(
    "rules",
    [
        rules_of(strategies(0.2)[0], GAP),
        pytest.param(rules_of(strategies(0.2)[0], EMPTY_ONES, {**GAP, "limits": ONE_A_MINUTE}), marks=pytest.mark.slow),
        rules_of(strategies(0.2)[0], EMPTY_ONES, GAP, duplicates={"enabled": True, "cooldown_seconds": 30}),
    ],
    ids=["alone", "limits", "cooldown"],
)
def test_a_frame_that_may_be_kept_late_stands_for_one(rules):
    """Where an object is lost and seen again a frame has two chances, and its weight is that of both."""
    sights = [SURE, EMPTY, SURE, EMPTY, EMPTY, SURE]
    frames = [replace(frame(n, sight, 20 * n, picture=n), index=n) for n, sight in enumerate(sights)]
    assert expected_weights(rules, frames) == pytest.approx(1)


@pytest.mark.parametrize("limits", [[], ONE_A_MINUTE])
def test_novelty_keeps_the_ledger_right(limits):
    """Though what is new depends on what was kept before, every frame stands for one on average."""
    novelty = {"name": "new", "type": "novelty", "minimum_distance": 0.3, "probability": 0.5, "limits": limits}
    directions = [(1, 0), (0, 1), (1, 0.1), (0.7, 0.7), (0, 1)]
    frames = [
        replace(frame(n, SURE, 20 * n, picture=n), embedding=np.array(way, np.float32), embedder="m")
        for n, way in enumerate(directions)
    ]
    assert expected_weights(rules_of(strategies(0.2)[0], novelty), frames) == pytest.approx(1)


# --- when nothing is left of what strategies chose -------------------------------------------------------------------


def weight_where(lost):
    """The weight of a sample where of those that strategies alone kept, `lost` of their number tells which are gone."""

    def weight(d: Decision) -> float:
        if not d.random_slice:
            return 0.0 if lost(d.chosen_by) else 1 / d.probability
        share = d.probability_random if d.chosen_by and lost(d.chosen_by) else 1.0
        return 1 / (d.probability * share)

    return weight


LOST = {"all": lambda number: True, "of one strategy": lambda number: number == 1, "none": lambda number: False}
EVERY_RULE = [
    rules_of(*strategies()),
    rules_of(*strategies(limits=ONE_A_MINUTE)),
    rules_of(*strategies(), batching_strategy={"max_batch_images": 2}),
    rules_of(*strategies(), duplicates={"enabled": True, "cooldown_seconds": 30}),
    rules_of(strategies()[0], EMPTY_ONES, GAP),
    rules_of({**MISSES, "limits": ONE_A_MINUTE}, EMPTY_ONES),
]


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("rules", EVERY_RULE, ids=["plain", "minutely", "full batch", "cooldown", "gap", "budget"])
def test_the_random_slice_alone_stands_for_every_frame(rules, lost):
    """Whatever kinds of chosen samples are gone as a whole: with e in the decision, each frame stands for one."""
    sights = [SURE, EMPTY, SURE, DOUBTFUL]
    frames = [replace(frame(n, sight, 20 * n, picture=n), index=n) for n, sight in enumerate(sights)]
    assert expected_weights(rules, frames, weight_where(lost)) == pytest.approx(1)


def test_without_e_the_frames_of_a_kind_that_is_gone_stand_for_too_little():
    """The proof can fail: at 1 / p alone, frames that strategies choose weigh a fraction of one."""
    frames = [frame(n, DOUBTFUL, 60 * n) for n in range(3)]
    weights = expected_weights(rules_of(*strategies()), frames, lambda d: d.random_slice / d.probability)
    assert weights == pytest.approx(0.1 / 0.73)


SIGHTS = st.sampled_from([EMPTY, DOUBTFUL, SURE, seen((0, 0.45, 10), (1, 0.3, 200)), seen((0, 0.25, 400))])
FRAMES = st.lists(
    st.tuples(SIGHTS, st.sampled_from([0.0, 5.0, 45.0, 700.0, 4000.0, -30.0]), st.integers(0, 1), st.booleans()),
    min_size=1,
    max_size=4,
)
SOME_LIMITS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["minutely", "hourly", "daily"]), "value": st.integers(0, 2)}),
    max_size=2,
)


@st.composite
def any_rules(draw):
    """Settings in which some strategy draws on every frame."""
    explore, close = strategies(draw(st.sampled_from([0.05, 0.5])), draw(st.sampled_from([0.3, 1.0])))
    count = {"name": "count", "type": "detections_number_based", "more_than": 0, "probability": 0.5}
    drawn = draw(st.sampled_from([(explore, close), (close, explore), (explore, count), (MISSES,), (close, MISSES)]))
    rules = [one if one is explore else {**one, "limits": draw(SOME_LIMITS)} for one in drawn]
    duplicates = {"enabled": draw(st.booleans()), "cooldown_seconds": draw(st.sampled_from([0, 10, 60]))}
    duplicates["samples_of_an_object"] = draw(st.sampled_from([None, 1, 2]))
    batches = {"max_batch_images": draw(st.sampled_from([None, 1, 2])), "recreation_interval": "daily"}
    return rules_of(*rules, duplicates=duplicates, batching_strategy=batches)


def small_world(sights) -> list[Observation]:
    frames, moment = [], 0.0
    for number, (detections, seconds, picture, is_other) in enumerate(sights):
        moment += seconds
        frames.append(frame(number, detections, moment, picture, "yard" if is_other else "gate"))
    return frames


@settings(max_examples=80, deadline=None)
@given(any_rules(), FRAMES)
def test_the_ledger_is_right_in_any_small_world(rules, sights):
    """Settings and frames of every kind, clocks that go back, two cameras: the mean weight of each frame is 1."""
    assert expected_weights(rules, small_world(sights)) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(any_rules(), FRAMES, st.sampled_from(list(LOST.values())))
def test_the_random_slice_stands_for_what_is_gone_in_any_small_world(rules, sights, lost):
    """The same for settings and frames of every kind."""
    frames = small_world(sights)
    assert expected_weights(rules, frames, weight_where(lost)) == pytest.approx(1)


def test_without_a_draw_on_every_frame_some_frames_stand_for_nothing():
    """What the figures of the field are refused for: the frame that no strategy wants is in no sample."""
    rules = rules_of(strategies()[1])
    frames = [frame(0, EMPTY, 0), frame(1, DOUBTFUL, 60)]
    assert expected_weights(rules, frames) == pytest.approx([0, 1])


def test_a_ledger_that_forgets_limits_would_be_noticed(monkeypatch):
    """The proof can fail: with p as if every strategy had room, frames weigh less than one."""
    from tasks.core.sampling import sampler

    honest = sampler._Case.probability.fget
    monkeypatch.setattr(
        sampler._Case,
        "probability",
        property(
            lambda case: honest(replace(case, candidates=[one._replace(has_room=True) for one in case.candidates]))
        ),
    )
    frames = [frame(n, DOUBTFUL, 5 * n) for n in range(4)]
    assert expected_weights(rules_of(*strategies(limits=ONE_A_MINUTE)), frames).min() < 0.9
