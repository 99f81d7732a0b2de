"""What a model saw, written as lines and read again, leads to the decisions of the frames themselves."""

import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities.detections import Detections
from tasks.core.errors import ClassesDoNotOverlap
from tasks.core.explain import Explainer, RecordedFrames, Timeline, Unseen, check_classes, line_of
from tasks.core.explain.timeline import NOT_KEPT
from tasks.core.sampling import Observation, Sampler
from tasks.core.settings import SamplingSettings
from tests.core.conformance_tables import ALWAYS, HARD, boxes, times

START = datetime(2026, 1, 5, 12, 0, 0, 40_000, tzinfo=timezone.utc)
NAMES = ("car", "truck", "person")
WIDTH, HEIGHT = 640, 480
MISSES = {
    "name": "misses",
    "type": "expected_misses",
    "weights": {"car": [0.02, 0.05, 0.11, 0.23, 0.41, 0.6], "person": [0.01, 0.03, 0.08, 0.15, 0.3, 0.5]},
    "minimum_expected_misses": 0.2,
    "images_a_day": 5000,
}
GAP = {"name": "gap", "type": "track_gap", "gap_frames": 2, "minimum_iou": 0.5, "probability": 0.8}


def settings_of(*strategies, **others):
    return SamplingSettings.model_validate({"sampling_strategies": strategies, **others})


def explained(settings, observations, **options):
    return list(Explainer(settings, **options).explain(observations))


def frame(number, rows, *, image_hash=None, task="object-detection", camera="gate", **others):
    """rows: (class id, confidence, left edge); boxes are 50 x 40 pixels."""
    columns = list(zip(*rows)) or [(), (), ()]
    left = np.array(columns[2], np.float32)
    boxes_of_rows = np.stack([left, left / 3, left + 50, left / 3 + 40], axis=1).reshape(-1, 4)
    if task == "classification":  # as the detector has it
        boxes_of_rows[:] = 0, 0, WIDTH, HEIGHT
    detections = Detections(
        xyxy=boxes_of_rows,
        confidence=np.array(columns[1], np.float32),
        class_id=np.array(columns[0], np.int64),
        class_names=NAMES,
    )
    return Observation(
        frame=f"clip.mp4#{number}",
        device="edge-1",
        camera=camera,
        captured_at=START + timedelta(seconds=0.1 * number),
        detections=detections,
        task=task,
        image_hash=image_hash,
        **others,
    )


FLOAT32 = {"width": 32, "allow_nan": False}
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(st.sampled_from([0.3, 0.5, 0.05, 0.1]), st.floats(0, 1, width=32)),
        st.floats(0, 500, **FLOAT32),
    ),
    max_size=5,
)
HASHES = st.one_of(
    st.none(), st.sampled_from([np.zeros(32, np.uint8), np.full(32, 255, np.uint8), np.arange(32, dtype=np.uint8)])
)
KINDS = st.sampled_from(["object-detection", "instance-segmentation", "classification", "multi-label", "stub"])


def observed(number, rows, image_hash, kind):
    if kind == "stub":
        return frame(number, [], image_hash=image_hash, is_stub=True)
    if kind not in ("classification", "multi-label"):
        return frame(number, rows, image_hash=image_hash, task=kind)
    one_a_class = list({class_id: (class_id, confidence, 0.0) for class_id, confidence, _ in rows}.values())
    names = [NAMES[class_id] for class_id, _, _ in sorted(one_a_class, key=lambda row: -row[1])]
    tops = tuple(names[:1] if kind == "classification" else names[:2])
    return frame(number, one_a_class, image_hash=image_hash, task="classification", top_classes=tops)


@given(st.lists(st.tuples(ROWS, HASHES, KINDS), max_size=25), st.booleans())
def test_a_line_holds_all_that_the_decision_on_its_frame_follows_from(frames, duplicates):
    """Detections and classes to the last bit that counts, hashes, stubs: answers of lines are those of the frames."""
    classes = {"name": "cls", "type": "classes_based", "selected_class_names": ["car"], "probability": 0.7}
    settings = settings_of(
        {**HARD, "probability": 0.6, "limits": [{"type": "minutely", "value": 4}]},
        classes,
        MISSES,
        {**ALWAYS, "traffic_percentage": 0.2},
        thresholds={"car": 0.55},
        duplicates={"enabled": duplicates, "samples_of_an_object": 2},
    )
    observations = [observed(number, *one) for number, one in enumerate(frames)]
    lines = [line_of(one, width=WIDTH, height=HEIGHT, confidence_floor=0.05) for one in observations]
    replayed = explained(settings, RecordedFrames(lines))
    assert [one.record() for one in replayed] == [one.record() for one in explained(settings, observations)]


def test_a_line_is_what_the_page_says(tmp_path):
    """The published fields, short numbers, and what makes the frame's draws and its duplicates."""
    rows = [(0, 0.41, 10.1)]
    first = json.loads(line_of(frame(3, rows, index=3), width=WIDTH, height=HEIGHT, confidence_floor=0.05))
    assert first == {
        "frame": "clip.mp4#3",
        "task": "object-detection",
        "captured_at": "2026-01-05T12:00:00.340Z",
        "device": "edge-1",
        "camera": "gate",
        "width": 640,
        "height": 480,
        "confidence_floor": 0.05,
        "index": 3,
        "detections": [{"class": "car", "confidence": 0.41, "xyxy": [10.1, 3.3666668, 60.1, 43.36667]}],
    }
    embedded = frame(
        4, [], embedding=np.array([0.1, -2.0], np.float32), embedder="0f3a", image_hash=np.zeros(32, np.uint8)
    )
    second = line_of(embedded, width=WIDTH, height=HEIGHT, confidence_floor=0.05)
    assert {"embedder": "0f3a", "embedding": [0.1, -2.0], "image_hash": "0" * 64}.items() <= json.loads(second).items()
    (read,) = RecordedFrames([second])
    assert (read.embedding.tolist(), read.embedder) == (embedded.embedding.tolist(), "0f3a")


def test_a_frame_whose_decision_is_open_is_answered_in_its_place_with_the_last_word():
    """An object is lost in the second frame of one of two cameras and seen again in the third: the second is kept."""
    seen, nothing = [(0, 0.9, 100.0)], []
    rows = [seen, nothing, seen, seen]
    observations = [
        frame(number, row if camera == "gate" else seen, camera=camera, index=number)
        for number, row in enumerate(rows)
        for camera in ("gate", "door")
    ]
    settings = settings_of({**GAP, "probability": 1.0}, thresholds={"car": 0.5})
    answers = explained(settings, observations)
    assert [(one.frame, one.camera) for one in answers] == [(one.frame, one.camera) for one in observations]
    kept = [one for one in answers if one.decision.kept]
    assert [(one.frame, one.camera, one.decision.strategy, one.is_late) for one in kept] == [
        ("clip.mp4#1", "gate", "gap", True)
    ]
    assert "again in frame 'clip.mp4#2'" in kept[0].decision.reason
    assert not any(one.decision.is_open for one in answers)
    assert all(one.record()["is_late"] == one.decision.kept for one in answers)


def test_nobody_knows_what_was_in_a_frame_that_no_model_could_look_at():
    """An object that is lost, not looked for, and seen again is no gap; another camera's frame does not matter."""
    settings = settings_of({**GAP, "probability": 1.0}, thresholds={"car": 0.5})
    seen, lost, again = (frame(n, [(0, 0.9, 100.0)] * (n != 1)) for n in range(3))
    assert [one.decision.kept for one in explained(settings, [seen, lost, Unseen("gate"), again])] == [False] * 3
    assert [one.decision.kept for one in explained(settings, [seen, lost, Unseen("door"), again])] == [
        False,
        True,
        False,
    ]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from(["gate", "door"])), max_size=40))
def test_the_last_word_on_each_frame_is_the_samplers(frames):
    """Against the sampler itself, asked frame by frame: a settled decision stands in the place of the open one."""
    settings = settings_of(GAP, {**HARD, "probability": 0.5}, thresholds={"car": 0.5}, seed=3)
    observations = [
        frame(number, [(0, 0.9, 100.0)] * seen + [(1, 0.4, 300.0)] * doubtful, camera=camera, index=number)
        for number, (seen, doubtful, camera) in enumerate(frames)
    ]
    sampler, last = Sampler(settings), {}
    for one in observations:
        decision = sampler.decide(one)
        last[one.frame] = decision
        for settled in decision.settled:
            last[settled.frame] = settled.decision
    for settled in sampler.settle():
        last[settled.frame] = settled.decision
    answers = explained(settings, observations)
    assert [one.frame for one in answers] == [one.frame for one in observations]
    for one in answers:
        expected = last[one.frame]
        assert (one.decision.kept, one.decision.probability, one.decision.strategy, one.decision.reason) == (
            expected.kept,
            expected.probability,
            expected.strategy,
            expected.reason,
        )


def test_a_near_duplicate_says_what_it_would_have_been_worth():
    """m(x) is there for each frame of a budget, and for no frame without one; the minimum is that of its time."""
    rows, same = [(0, 0.4, 100.0)], np.zeros(32, np.uint8)
    settings = settings_of(MISSES, duplicates={"enabled": True}, thresholds={"car": 0.5})
    first, second = explained(settings, [frame(n, rows, image_hash=same) for n in range(2)])
    assert (first.decision.outcome, second.decision.outcome) == ("kept", "near-duplicate")
    assert first.expected_misses == second.expected_misses == 0.41
    assert second.decision.expected_misses is None
    assert first.record()["minimum_expected_misses"] == second.record()["minimum_expected_misses"] == 0.2
    (plain,) = explained(settings_of(HARD), [frame(0, rows)])
    assert plain.expected_misses is None
    assert "expected_misses" not in plain.record()


def test_the_timeline_has_each_frame_once_and_adds_up():
    """Columns, counts by strategy and by reason, and the summary say the same."""
    limited = {**HARD, "limits": [{"type": "hourly", "value": 1}]}
    settings = settings_of(limited, {**ALWAYS, "traffic_percentage": 0.0})
    lines = [*times("12:00:00", "12:00:01", "13:00:00"), boxes(0.9, number=9, at="2026-01-05T13:00:01Z")]
    answers = explained(settings, RecordedFrames(map(json.dumps, lines)))
    timeline = Timeline()
    assert timeline.summary() == "0 frames: 0 kept, 0 not"
    for one in answers:
        timeline.add(one)
    assert len(timeline) == 4
    assert timeline.summary() == ("4 frames: 2 kept (2 by 'hard'), 2 not (1 no credit, 1 no strategy matched)")
    assert timeline.captured_at.tolist() == [one.captured_at.timestamp() for one in answers]
    assert [i if i == NOT_KEPT else timeline.strategies[i] for i in timeline.strategy] == ["hard", -1, "hard", -1]
    assert [timeline.outcomes[i] for i in timeline.outcome] == [one.decision.outcome for one in answers]
    assert timeline.detections.tolist() == [1, 1, 1, 1]
    assert np.isnan(timeline.expected_misses).all()
    assert (timeline.cameras, timeline.random_slice.any()) == (("",), False)


@pytest.mark.parametrize(
    ("strategies", "others", "warned"),
    [
        ([ALWAYS], {}, []),
        ([HARD], {}, []),
        ([{**HARD, "selected_class_names": ["car"]}], {}, []),
        ([{**HARD, "selected_class_names": ["car", "van", "bus"]}], {}, ["'hard' looks for bus, van"]),
        (
            [{**HARD, "selected_class_names": ["van"]}, {**MISSES}],
            {},
            ["'hard' looks for van", "'misses' looks for person"],
        ),
        ([HARD], {"thresholds": {"car": 0.5, "van": 0.5}}, []),
    ],
)
def test_classes_that_a_model_does_not_know_are_warned_of(strategies, others, warned):
    """A line for each strategy, with its name and the classes."""
    lines = check_classes(settings_of(*strategies, **others), ["car", "truck"], "S.json", "m.onnx")
    assert len(lines) == len(warned)
    assert all(words in line for words, line in zip(warned, lines))


@pytest.mark.parametrize(
    ("strategies", "others"),
    [
        ([{**HARD, "selected_class_names": ["van"]}], {}),
        ([MISSES], {"thresholds": {"car": 0.5}}),
        ([ALWAYS], {"thresholds": {"van": 0.5}}),
    ],
)
def test_a_model_that_knows_none_of_the_classes_is_refused(strategies, others):
    """Selected, with weights or with thresholds: one line with both lists, the longer one cut."""
    many = [f"class {number:03d}" for number in range(100)]
    with pytest.raises(ClassesDoNotOverlap, match=r"m\.onnx knows class 000, .* and 88 more: ") as error:
        check_classes(settings_of(*strategies, **others), many, "S.json", "m.onnx")
    assert "\n" not in str(error.value)
