"""What a file of detections and a file of settings decide, seen from outside; `conformance_tables.py` has the rest."""

import json

import pytest

from tasks.core.errors import RecordInvalid
from tasks.core.explain import explain_lines
from tasks.core.settings import SamplingSettings, validated
from tests.core.conformance_tables import ALWAYS, AMBULANCE, CAT_NOT_DOG, HARD, NEVER, NOON, NUMBER, boxes


def explain(lines, *strategies, seed=None, **others):
    settings = validated(SamplingSettings, {"sampling_strategies": strategies, **others}, "S.json")
    return [json.loads(answer) for answer in explain_lines(map(json.dumps, lines), settings, seed)]


def test_an_answer_has_the_published_fields():
    """Frame, kept, strategy, matches, reason and probability, whether or not the frame is kept."""
    kept, left = explain([boxes(0.41, 0.8), boxes(0.8, number=2)], HARD, NEVER)
    reason, other_reason = kept.pop("reason"), left.pop("reason")
    assert kept == {"frame": "f1", "kept": True, "strategy": "hard", "matched": ["hard"], "probability": 1.0}
    assert left == {"frame": "f2", "kept": False, "strategy": None, "matched": [], "probability": 0.0}
    saw = "1 of at least 1 within 0.1 of 0.4"
    assert reason == f"kept by 'hard' for batch 'batch': it saw {saw} and drew 0.068787, below 1"
    assert other_reason.startswith(f"no strategy matched: 'hard' saw 0{saw[1:]}; 'none' drew 0.5")


@pytest.mark.parametrize(
    ("thresholds", "count"), [({}, 5), ({"car": 0.5}, 3), ({"car": 0.6}, 2), ({"person": 0.5}, 4), ({"car": 1.0}, 1)]
)
def test_counts_start_at_the_operating_thresholds(thresholds, count):
    """A class with a threshold counts from there up, edge included; one without counts all that the floor left."""
    line = boxes(0.9, 0.5, 0.3, 0.06, 0.01, ("person", 0.4))
    fits = {**NUMBER, "more_than": count - 1, "less_than": count + 1}
    answer = explain([line], {**NUMBER, "name": "n", "more_than": 99}, fits, thresholds=thresholds)[0]
    assert answer["kept"], answer["reason"]


def test_times_of_other_zones_count_in_utc():
    """01:30 at +02:00 belongs to the day before."""
    limited = {**HARD, "limits": [{"type": "daily", "value": 1}]}
    moments = ["2026-01-05T23:00:00+00:00", "2026-01-06T01:30:00+02:00", "2026-01-06T02:00:00+02:00"]
    lines = [boxes(0.4, number=number, at=moment) for number, moment in enumerate(moments)]
    assert [answer["kept"] for answer in explain(lines, limited)] == [True, False, True]


def test_a_near_duplicate_is_named_and_a_cooldown_too():
    """The reason says which kept frame is repeated; the probability is that of exploration alone."""
    lines = [boxes(0.4, number=n, at=f"2026-01-05T12:00:{n:02d}Z", image_hash="0" * 64) for n in (0, 2, 12)]
    rules = {"enabled": True, "cooldown_seconds": 10}
    first, cooling, repeated = explain(lines, HARD, {**ALWAYS, "traffic_percentage": 0.001}, duplicates=rules)
    assert first["kept"]
    assert cooling["reason"] == "cooldown: 2 s after frame 'f0', of 10 s"
    assert repeated["reason"].startswith("near-duplicate: of frame 'f0', 0 of 256 bits apart")
    assert cooling["probability"] == repeated["probability"] == 0.001
    spared = explain(lines, HARD, ALWAYS, duplicates=rules)[1]
    assert spared["reason"].endswith("in spite of cooldown (2 s after frame 'f0', of 10 s)")


def test_another_class_in_the_same_place_is_no_duplicate():
    """Class ids keep their meaning over the lines of a file, also when a line brings a new class."""
    lines = [boxes((name, 0.4), number=n, image_hash="0" * 64) for n, name in enumerate(["car", "person", "car"])]
    assert [answer["kept"] for answer in explain(lines, HARD, duplicates={"enabled": True})] == [True, True, False]


def test_a_stub_is_for_random_alone():
    """A line of a stub needs no detections, and those that it has are not looked at."""
    stub = {"frame": "f1", "task": "object-detection", "captured_at": NOON, "is_stub": True}
    assert explain([stub], HARD, NUMBER, ALWAYS)[0]["matched"] == ["all"]
    assert explain([{**boxes(0.4), "is_stub": True}], HARD, NUMBER)[0]["kept"] is False


def test_switched_off_settings_keep_nothing_with_that_reason():
    """`enabled: false` comes before everything else."""
    answer = explain([boxes(0.4)], HARD, ALWAYS, enabled=False)[0]
    assert (answer["kept"], answer["probability"]) == (False, 0.0)
    assert answer["reason"] == "sampling disabled: the settings say enabled: false"


def test_the_same_files_give_the_same_answers_and_another_seed_others():
    """Chance is the seed of the settings, or the one that is given in its place."""
    lines = [boxes(0.4, number=number) for number in range(60)]
    half = {**HARD, "probability": 0.5}
    first = explain(lines, half, seed=3)
    assert first == explain(lines, half, seed=3)
    of_settings = validated(SamplingSettings, {"sampling_strategies": [half], "seed": 3}, "S.json")
    assert [json.loads(answer) for answer in explain_lines(map(json.dumps, lines), of_settings)] == first
    assert [answer["kept"] for answer in explain(lines, half, seed=4)] != [answer["kept"] for answer in first]


def test_camera_and_device_are_part_of_chance():
    """The same frame id on two cameras, or two devices, draws apart."""
    half = {**HARD, "probability": 0.5}
    kept = [
        [answer["kept"] for answer in explain([boxes(0.4, number=n, **where) for n in range(40)], half)]
        for where in ({}, {"camera": "gate"}, {"device": "pi"})
    ]
    assert kept[0] != kept[1] != kept[2] != kept[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON: "),
        ("[1, 2]", "expected a JSON object"),
        (json.dumps({**boxes(0.4), "frame": None}), "frame: "),
        (json.dumps({**boxes(0.4), "captured_at": "yesterday"}), "captured_at: "),
        (json.dumps({**boxes(0.4), "captured_at": 1767225600}), "captured_at: expected a time like"),
        (json.dumps({**boxes(0.4), "task": "object-detecton"}), "task: "),
        (json.dumps({**boxes(0.4), "width": 0}), "width: "),
        (json.dumps({**boxes(0.4), "detections": None}), "detections: missing"),
        (json.dumps(boxes(0.4, 1.2)), "detections.1.confidence: "),
        (json.dumps(boxes(float("nan"))), "detections.0.confidence: "),
        (json.dumps(boxes("0.4")), "detections.0.confidence: "),
        (json.dumps(boxes(True)), "detections.0.confidence: "),
        (json.dumps(boxes(0.4)).replace('"class"', '"klass"'), "detections.0.class: "),
        (json.dumps(boxes(0.4)).replace("[1, 2, 30, 40]", "[1, 2, 30]"), "detections.0.xyxy.3: "),
        (json.dumps(boxes(0.4)).replace("[1, 2, 30, 40]", "[30, 2, 1, 40]"), "detections.0.xyxy: expected x1 < x2"),
        (json.dumps(boxes(0.4)).replace("[1, 2, 30, 40]", "[1, 2, 1, 40]"), "detections.0.xyxy: expected x1 < x2"),
        (json.dumps(boxes(0.4)).replace("[1, 2, 30, 40]", "[1, 2, NaN, 40]"), "detections.0.xyxy.2: "),
        (json.dumps({**boxes(0.4), "embedding": []}), "embedding: "),
        (json.dumps({**boxes(0.4), "index": -1}), "index: "),
        ('{"a":' * 100_000, "not JSON: "),
        (json.dumps({**AMBULANCE, "confidence": None}), "confidence: missing"),
        (json.dumps({**AMBULANCE, "top": None}), "top: missing"),
        (json.dumps({**CAT_NOT_DOG, "classes": None}), "classes: missing"),
        (json.dumps({**CAT_NOT_DOG, "classes": {"cat": 2}}), "classes.cat: "),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_answered(line, problem):
    """Line number and field, in one line; raised at once where nobody asked to go on."""
    settings = validated(SamplingSettings, {"sampling_strategies": [HARD]}, "S.json")
    lines = [json.dumps(boxes(0.4, number=1)), "", line, json.dumps(boxes(0.4, number=2))]
    errors = []
    answers = [json.loads(answer) for answer in explain_lines(lines, settings, on_error=errors.append)]
    assert [answer["frame"] for answer in answers] == ["f1", "f2"]
    assert [type(error) for error in errors] == [RecordInvalid]
    assert str(errors[0]).startswith(f"line 3: {problem}")
    assert "\n" not in str(errors[0])
    with pytest.raises(RecordInvalid, match="line 3: "):
        list(explain_lines(lines, settings))
