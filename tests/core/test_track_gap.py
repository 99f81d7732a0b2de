"""An object that is seen, then not, then seen again: a miss that no confidence reveals, and how likely it was kept."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from tasks.core.entities import Detections
from tasks.core.errors import SettingsError
from tasks.core.sampling import Observation, Sampler
from tasks.core.sampling.gaps import MAX_CAMERAS
from tasks.core.settings import SamplingSettings, load_sampling_settings, validated

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person")
GAP = {"name": "gap", "type": "track_gap", "gap_frames": 2, "minimum_iou": 0.3, "probability": 1.0, "tags": ["lost"]}
CAR = (0, 100, 100, 200, 200, 0.9)


def settings_of(*strategies, **others):
    return validated(SamplingSettings, {"sampling_strategies": strategies, **others}, "S.json")


def frame(number, *rows, camera="gate", index=None, step=1.0, **others):
    """Rows are (class id, x1, y1, x2, y2, confidence)."""
    columns = np.array(rows, np.float32).reshape(-1, 6)
    detections = Detections(columns[:, 1:5], columns[:, 5], columns[:, 0].astype(np.int64), NAMES)
    return Observation(
        frame=f"f{number}",
        device="pi",
        camera=camera,
        captured_at=NOON + timedelta(seconds=step * number),
        detections=detections,
        index=number if index is None else index,
        **others,
    )


def decided(sampler, *sights, **others):
    """The decisions on frames that show these rows, and the frames that `track_gap` kept, with the last frame."""
    decisions = [sampler.decide(frame(number, *rows, **others)) for number, rows in enumerate(sights)]
    late = {one.frame: one.decision for decision in decisions for one in decision.settled if one.is_late}
    return decisions, late


def moved(by, confidence=0.9):
    return (0, 100 + by, 100, 200 + by, 200, confidence)


# --- which frames ----------------------------------------------------------------------------------------------------


def test_the_frame_without_the_object_is_kept_when_the_object_is_seen_again():
    """It waits from its own time on; the sample has its strategy, tags and the batch of the moment."""
    sampler = Sampler(settings_of(GAP))
    decisions, late = decided(sampler, [CAR], [], [CAR])
    assert [decision.is_open for decision in decisions] == [False, True, False]
    assert [one.frame for decision in decisions for one in decision.settled] == ["f1"]
    kept = late["f1"]
    assert (kept.kept, kept.strategy, kept.matched, kept.tags) == (True, "gap", ("gap",), ("lost",))
    assert (kept.probability, kept.random_slice, kept.batch, kept.is_open) == (1.0, False, "batch", False)
    assert kept.reason.startswith("kept by 'gap' for batch 'batch': 'car' is seen in the frame before and again in")


@pytest.mark.parametrize(("frames", "found"), [(1, True), (2, True), (3, False)])
def test_a_gap_is_as_long_as_it_may_be(frames, found):
    """Of up to `gap_frames` frames the first is kept; an object that comes back later is another sight."""
    decisions, late = decided(Sampler(settings_of(GAP)), [CAR], *[[]] * frames, [CAR])
    assert list(late) == (["f1"] if found else [])
    assert [one.frame for decision in decisions for one in decision.settled] == ["f1"]


@pytest.mark.parametrize(
    ("sights", "found"),
    [
        ([[CAR], [moved(0, 0.4)], [CAR]], True),  # a candidate below the operating threshold is handed to nobody
        ([[CAR], [moved(0, 0.5)], [CAR]], False),
        ([[moved(0, 0.4)], [], [CAR]], False),
        ([[CAR], [], [moved(0, 0.4)]], False),
        ([[CAR], [], [(1, *CAR[1:])]], False),  # another class
        ([[CAR], [(1, *CAR[1:])], [CAR]], True),  # taken for another class
        ([[CAR], [], [moved(50)]], True),  # it moves on
        ([[CAR], [], [moved(60)]], False),
        ([[CAR], [moved(55)], [moved(50)]], False),  # where it is seen again it was seen before, too
        ([[CAR], [CAR], [CAR]], False),
        ([[], [], [CAR]], False),
    ],
)
def test_what_a_gap_is(sights, found):
    """Seen and seen again from the threshold up, of one class and place, and nothing of its class there in between."""
    assert bool(decided(Sampler(settings_of(GAP)), *sights)[1]) is found


def test_the_way_between_both_sights_is_looked_at():
    """A box that overlaps neither sight far enough, but the box in between, shows the object on its way."""
    before, after = (0, 0, 0, 100, 100, 0.9), (0, 40, 0, 140, 100, 0.9)  # IoU 0.43, in between 20 to 120
    on_its_way = (0, 20, 35, 120, 135, 0.9)  # IoU 0.48 with the box in between, 0.35 with both sights
    elsewhere = (0, 20, 45, 120, 145, 0.9)  # 0.38 with the box in between
    rules = settings_of({**GAP, "minimum_iou": 0.42})
    assert list(decided(Sampler(rules), [before], [], [after])[1]) == ["f1"]
    assert not decided(Sampler(rules), [before], [on_its_way], [after])[1]
    assert list(decided(Sampler(rules), [before], [elsewhere], [after])[1]) == ["f1"]


def test_selected_classes_and_thresholds_are_obeyed():
    """A class that is not selected makes no track, and thresholds are those of the settings."""
    assert not decided(Sampler(settings_of({**GAP, "selected_class_names": ["person"]})), [CAR], [], [CAR])[1]
    rules = settings_of(GAP, thresholds={"car": 0.95})
    assert not decided(Sampler(rules), [CAR], [], [CAR])[1]
    assert list(decided(Sampler(rules), [moved(0, 0.95)], [CAR], [moved(0, 0.95)])[1]) == ["f1"]


@pytest.mark.parametrize(
    "middle",
    [
        {"index": 5},
        {"is_stub": True},
        {"task": "classification"},
    ],
)
def test_a_lost_frame_breaks_the_track(middle):
    """A frame that was never seen, or of which the model says nothing, may have shown the object."""
    sampler = Sampler(settings_of(GAP))
    sampler.decide(frame(0, CAR))
    assert sampler.decide(frame(1)).is_open
    decision = sampler.decide(frame(2, CAR, **middle))
    assert [(one.frame, one.is_late, one.decision.kept) for one in decision.settled] == [("f1", False, False)]


def test_cameras_do_not_mix_and_are_bounded():
    """Each camera has its own tracks; of too many, the one that was longest silent is settled and forgotten."""
    sampler = Sampler(settings_of(GAP))
    for camera in ("a", "b"):
        sampler.decide(frame(0, CAR, camera=camera))
    assert sampler.decide(frame(1, camera="a")).is_open
    assert not sampler.decide(frame(1, CAR, camera="b")).settled
    for number in range(MAX_CAMERAS - 2):
        assert not sampler.decide(frame(0, CAR, camera=f"c{number}")).settled
    assert [one.frame for one in sampler.decide(frame(0, CAR, camera="one more")).settled] == ["f1"]


def test_settling_ends_all_that_is_open():
    """When no more frames come, what was kept stays kept, with the probability of its own time."""
    sampler = Sampler(settings_of({"name": "rnd", "type": "random", "traffic_percentage": 1.0}, GAP))
    sampler.decide(frame(0, CAR))
    own = sampler.decide(frame(1))
    (settled,) = sampler.settle()
    assert (own.is_open, own.kept, settled.is_late) == (True, True, False)
    assert settled.decision.kept
    assert settled.decision.probability == own.probability
    assert not sampler.settle()
    assert not sampler.decide(frame(2, CAR)).settled


# --- what it goes by -------------------------------------------------------------------------------------------------


def test_nothing_is_kept_twice():
    """A frame that is kept at its own time is not charged again, but carries both probabilities and both names."""
    rules = settings_of({**GAP, "limits": [{"type": "daily", "value": 1}]}, {"name": "rnd", "type": "random"})
    sampler = Sampler(rules.model_copy(update={"sampling_strategies": _certain(rules)}))
    decisions, late = decided(sampler, [CAR], [], [CAR], [], [CAR])
    settled = [one for decision in decisions for one in decision.settled]
    assert [(one.frame, one.decision.strategy, one.decision.matched) for one in settled] == [
        ("f1", "rnd", ("gap", "rnd")),
        ("f3", "rnd", ("gap", "rnd")),
    ]
    assert not late
    assert sampler.state()["credits"].keys() == {"rnd"}


def _certain(rules):
    gap, random = rules.sampling_strategies
    return gap, random.model_copy(update={"traffic_percentage": 1.0})


def test_limits_and_batches_are_those_of_the_moment():
    """The credit of the minute in which the object is seen again is taken, and the batch is that of the day."""
    rules = settings_of(
        {**GAP, "limits": [{"type": "minutely", "value": 1}]}, batching_strategy={"recreation_interval": "daily"}
    )
    decisions, late = decided(Sampler(rules), [CAR], [], [CAR], [], [CAR], [], [CAR], step=15.0)
    assert list(late) == ["f1", "f3"]  # f3, of 12:00:45, is decided at 12:01, and f5 at 12:01:30
    settled = {one.frame: one.decision for decision in decisions for one in decision.settled}
    assert settled["f5"].reason == "no credit: 'gap' minutely 1 of 1 in 2026-01-05T12:01"
    assert (settled["f5"].probability, settled["f5"].matched) == (0.0, ("gap",))
    before_midnight = decided(Sampler(rules), [CAR], [], [CAR], step=43190.0)[1]
    assert before_midnight["f1"].batch == "batch_2026_01_06"


def test_a_near_duplicate_is_not_asked_for():
    """In a cooldown nothing but exploration is left, and later neither."""
    rules = settings_of(
        GAP,
        {"name": "all", "type": "detections_number_based", "probability": 1.0, "more_than": 0},
        duplicates={"enabled": True, "cooldown_seconds": 1.5},
    )
    decisions, late = decided(Sampler(rules), [CAR], [], [CAR])
    assert [decision.outcome for decision in decisions] == ["kept", "cooldown", "kept"]
    assert not late
    assert not any(decision.is_open for decision in decisions)


def test_an_object_that_flickers_earns_its_samples_and_no_more():
    """A parked trailer at the edge of detection does not eat the day's labels."""
    rules = settings_of(GAP, duplicates={"enabled": True, "samples_of_an_object": 3})
    sights = [[CAR], []] * 40
    assert len(decided(Sampler(rules), *sights)[1]) == 3
    assert len(decided(Sampler(settings_of(GAP)), *sights)[1]) == 39


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"gap_frames": 0}, "gap_frames"),
        ({"gap_frames": 4}, "gap_frames"),
        ({"minimum_iou": 0}, "minimum_iou"),
        ({"probability": 1.1}, "probability"),
    ],
)
def test_values_out_of_range_are_refused(change, what):
    """One line that names the strategy and the field."""
    with pytest.raises(SettingsError, match=rf"sampling_strategies\[0\] 'gap': {what}"):
        settings_of({**GAP, **change})


def test_it_can_be_used_once():
    """A frame is asked of once; classes that are not known are warned of."""
    with pytest.raises(SettingsError, match=r"track_gap can be used once, not as \['gap', 'more'\]"):
        settings_of(GAP, {**GAP, "name": "more"})
    data = {"sampling_strategies": [{**GAP, "selected_class_names": ["cra"]}]}
    assert "not known: ['cra']" in load_sampling_settings(data, "S.json", NAMES)[1][0]


# --- the inclusion probability ---------------------------------------------------------------------------------------


def a_stream(rng, frames):
    """Objects that come and go and are missed now and then, some of them seen with a low confidence."""
    rows = []
    for number in range(frames):
        shown = []
        for place in range(3):
            if (number // 7 + place) % 3 and rng.random() < 0.75:
                confidence = 0.35 if rng.random() < 0.2 else 0.9
                shown.append((place % 2, 300 * place, 0, 300 * place + 100, 100, confidence))
        pixels = np.full(32, rng.choice([0, 1, 255]), np.uint8)
        rows.append((number, shown, {"image_hash": pixels, "step": 0.7}))
    return rows


def kept_and_weights(rules, rows, seed):
    """(frames,) whether each is kept in the end, and 1 / p of what is kept; also p of every frame that is decided."""
    sampler = Sampler(rules, seed=seed)
    final = {}
    for number, shown, others in rows:
        decision = sampler.decide(frame(number, *shown, **others))
        final[f"f{number}"] = decision
        final.update({one.frame: one.decision for one in decision.settled})
    kept = np.array([decision.kept for decision in final.values()])
    p = np.array([decision.probability for decision in final.values()])
    return kept, p


HARD = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 0.3}
SOME = {"name": "some", "type": "random", "traffic_percentage": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize("binding", [False, True])
def test_the_probability_is_that_of_being_kept_at_either_time(binding):
    """Over 60 seeds each frame is kept as often as its p says, and 1 / p of the kept ones counts all frames.

    Also with near-duplicates, a cooldown and static objects, and where limits and batches bind.
    """
    gap = {**GAP, "gap_frames": 3, "probability": 0.5}
    others = {}
    if binding:
        gap["limits"] = [{"type": "minutely", "value": 4}]
        duplicates = {"enabled": True, "cooldown_seconds": 1.0, "maximum_hash_distance": 1, "samples_of_an_object": 6}
        others = {"duplicates": duplicates, "batching_strategy": {"max_batch_images": 40}}
    rules = settings_of(SOME, HARD, gap, **others)
    rows, seeds = a_stream(np.random.default_rng(3), 150), 60
    runs = [kept_and_weights(rules, rows, seed) for seed in range(seeds)]
    kept, p = np.array([run[0] for run in runs]), np.array([run[1] for run in runs])
    assert ((p > 0.54) & (p < 0.56)).any()  # 1 - 0.9 * 0.5: kept by exploration, or late
    assert (kept & (p > 0.68)).any()  # and in the band besides: 1 - 0.9 * 0.7 * 0.5

    spread = np.sqrt((p * (1 - p)).sum(axis=0))
    assert np.abs((kept - p).sum(axis=0) / spread).max() < 4.5  # of each frame, in standard deviations
    weights = np.where(kept, 1 / p, 0.0)
    total = weights.sum(axis=1)
    assert total.mean() == pytest.approx(len(rows), abs=4 * total.std() / np.sqrt(seeds))
    late = (p > 0.54) & (p < 0.56)
    assert weights[late].sum() / late.sum() == pytest.approx(1.0, abs=4 * weights[late].std() / np.sqrt(late.sum()))
