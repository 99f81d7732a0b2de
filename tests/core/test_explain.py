"""Conformance, as data tables: what a file of detections and a file of settings decide, seen from outside.

The arithmetic and the order are those of Roboflow Inference's active learning, and many of the rows restate its own
tests; where we differ on purpose, SAMPLING.md says so.
"""

import json

import pytest

from tasks.core.errors import RecordInvalid
from tasks.core.explain import explain_lines
from tasks.core.settings import SamplingSettings, validated

ALWAYS = {"name": "all", "type": "random", "traffic_percentage": 1.0}
NEVER = {**ALWAYS, "name": "none", "traffic_percentage": 0.0}
HARD = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 1.0}
CATS = {"name": "cats", "type": "classes_based", "selected_class_names": ["cat"], "probability": 1.0}
NUMBER = {"name": "number", "type": "detections_number_based", "probability": 1.0}
NOON = "2026-01-05T12:00:00Z"


def explain(lines, *strategies, seed=None, **others):
    settings = validated(SamplingSettings, {"sampling_strategies": strategies, **others}, "S.json")
    return [json.loads(answer) for answer in explain_lines(map(json.dumps, lines), settings, seed)]


def boxes(*seen, number=1, at=NOON, **others):
    """A line of object detection; each of `seen` is a confidence, or (class, confidence)."""
    rows = [one if isinstance(one, tuple) else ("car", one) for one in seen]
    detections = [{"class": name, "confidence": score, "xyxy": [1, 2, 30, 40]} for name, score in rows]
    line = {"frame": f"f{number}", "task": "object-detection", "width": 640, "height": 480, "captured_at": at}
    return {**line, "detections": detections, **others}


def times(*moments):
    """A line of a hard frame for each of these times on 5 January 2026, a Monday, or of a full date."""
    full = [moment if "-" in moment else f"2026-01-05T{moment}" for moment in moments]
    return [boxes(0.4, number=number, at=f"{moment}Z") for number, moment in enumerate(full)]


AMBULANCE = {
    "frame": "f1",
    "task": "classification",
    "captured_at": NOON,
    "top": "Ambulance",
    "confidence": 0.6,
    "classes": {"Ambulance": 0.6, "Limousine": 0.3, "Helicopter": 0.1},
}
CAT_NOT_DOG = {
    "frame": "f1",
    "task": "classification",
    "captured_at": NOON,
    "predicted_classes": ["cat"],
    "classes": {"cat": 0.97, "dog": 0.03},
}


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
    ("threshold", "epsilon", "confidence", "close"),
    [
        # strict, and float error decides
        (0.4, 0.1, 0.3, False),  # abs(0.3 - 0.4) is 0.10000000000000003
        (0.4, 0.1, 0.5, True),  # abs(0.5 - 0.4) is 0.09999999999999998
        (0.5, 0.25, 0.25, False),  # exact in binary: the edge itself is out
        (0.5, 0.25, 0.75, False),
        (0.5, 0.25, 0.250001, True),
        (0.5, 0.25, 0.749999, True),
        (0.6, 0.1, 0.7, True),
        (0.6, 0.1, 0.5, True),
        (0.3, 0.1, 0.2, True),
        (0.3, 0.1, 0.4, False),
        (0.9, 0.1, 1.0, True),  # abs(1.0 - 0.9) is 0.09999999999999998
        (0.5, 0.06, 0.45, True),
        (0.5, 0.06, 0.55, True),
        (0.5, 0.05, 0.44, False),
        (0.5, 0.05, 0.56, False),
        (0.5, 1.0, 1, True),  # an integer is a number too
        (0.5, 1.0, 0.05, True),  # the floor itself is kept
        (0.5, 1.0, 0.04, False),  # and what lies below it is never seen
        (0.4, 0.1, 0.3000000001, True),  # all digits of a record count
    ],
)
def test_edges_of_a_band(threshold, epsilon, confidence, close):
    """`abs(confidence - threshold) < epsilon` in Python's floats, on the number that the line holds."""
    assert (abs(confidence - threshold) < epsilon) is close or confidence < 0.05
    hard = {**HARD, "threshold": threshold, "epsilon": epsilon}
    assert explain([boxes(confidence)], hard)[0]["kept"] is close


@pytest.mark.parametrize(
    ("seen", "fields", "kept"),
    [
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.5, "epsilon": 1.0, "minimum_objects_close_to_threshold": 2}, True),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.5, "epsilon": 1.0, "minimum_objects_close_to_threshold": 3}, False),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.6, "epsilon": 0.15}, True),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.6, "epsilon": 0.15, "minimum_objects_close_to_threshold": 2}, False),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.6, "epsilon": 0.15, "selected_class_names": ["a", "c"]}, False),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.6, "epsilon": 0.15, "selected_class_names": ["b"]}, True),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.6, "epsilon": 0.15, "selected_class_names": []}, False),
        ([("a", 0.9), ("b", 0.7)], {"threshold": 0.6, "epsilon": 0.15, "selected_class_names": None}, True),
        ([], {"threshold": 0.5, "epsilon": 1.0}, False),
        ([0.4, 0.4, 0.4], {"minimum_objects_close_to_threshold": 3}, True),
        ([0.4], {"only_top_classes": False}, True),
    ],
)
@pytest.mark.parametrize("task", ["object-detection", "instance-segmentation", "keypoint-detection"])
def test_close_to_threshold_on_detections(seen, fields, kept, task):
    """Detections of the selected classes are counted, wherever the operating thresholds lie."""
    answers = explain([boxes(*seen, task=task)], {**HARD, **fields}, thresholds={"a": 1.0, "b": 1.0, "car": 1.0})
    assert answers[0]["kept"] is kept


@pytest.mark.parametrize(
    ("line", "fields", "kept"),
    [
        (AMBULANCE, {"threshold": 0.6}, True),
        (AMBULANCE, {"threshold": 0.8}, False),
        (AMBULANCE, {"threshold": 0.6, "selected_class_names": ["Limousine", "Helicopter"]}, False),
        (AMBULANCE, {"threshold": 0.6, "selected_class_names": ["Ambulance"]}, True),
        (AMBULANCE, {"threshold": 0.6, "selected_class_names": []}, False),
        (AMBULANCE, {"threshold": 0.3}, False),
        (AMBULANCE, {"threshold": 0.3, "only_top_classes": False}, True),
        (AMBULANCE, {"threshold": 0.45, "epsilon": 0.05, "only_top_classes": False}, False),
        (AMBULANCE, {"threshold": 0.3, "only_top_classes": False, "selected_class_names": ["Helicopter"]}, False),
        (AMBULANCE, {"threshold": 0.6, "minimum_objects_close_to_threshold": 3}, True),  # is for detections only
        ({**AMBULANCE, "classes": None}, {"threshold": 0.6}, True),
        (CAT_NOT_DOG, {"threshold": 0.95, "epsilon": 0.05}, True),
        (CAT_NOT_DOG, {"threshold": 0.05, "epsilon": 0.05}, False),
        (CAT_NOT_DOG, {"threshold": 0.05, "epsilon": 0.05, "only_top_classes": False}, True),
        (
            CAT_NOT_DOG,
            {"threshold": 0.05, "epsilon": 0.05, "only_top_classes": False, "selected_class_names": ["cat", "tiger"]},
            False,
        ),
        ({**CAT_NOT_DOG, "predicted_classes": []}, {"threshold": 0.95, "epsilon": 0.05}, False),
    ],
)
def test_close_to_threshold_on_classes(line, fields, kept):
    """One class is enough: the top or a predicted one, or any where `only_top_classes` is false."""
    assert explain([line], {**HARD, **fields})[0]["kept"] is kept


@pytest.mark.parametrize(
    ("line", "names", "kept"),
    [
        (CAT_NOT_DOG, ["cat"], True),
        (CAT_NOT_DOG, ["dog"], False),
        (CAT_NOT_DOG, [], False),
        (AMBULANCE, ["Ambulance"], True),
        (AMBULANCE, ["Limousine"], False),
        (boxes(("cat", 0.9)), ["cat"], False),
    ],
)
def test_classes_based(line, names, kept):
    """The top class, or one of the predicted ones, is selected; detections have no top class."""
    assert explain([line], {**CATS, "selected_class_names": names})[0]["kept"] is kept


@pytest.mark.parametrize(
    ("count", "fields", "kept"),
    [
        (1, {"less_than": 2}, True),
        (2, {"more_than": 1, "less_than": 5}, True),
        (5, {"more_than": 4}, True),
        (1, {}, True),
        (0, {}, True),
        (1, {"more_than": 2}, False),
        (5, {"less_than": 4}, False),
        (2, {"more_than": 2, "less_than": 5}, False),
        (5, {"more_than": 2, "less_than": 5}, False),
        (3, {"more_than": 2, "less_than": 3}, False),  # no number lies between the two
        (0, {"less_than": 1}, True),
        (0, {"more_than": 0}, False),
        (2, {"selected_class_names": [], "less_than": 1}, True),
        (2, {"selected_class_names": ["truck"], "more_than": 0}, False),
        (2, {"selected_class_names": ["car"], "more_than": 1}, True),
    ],
)
def test_detections_number_based(count, fields, kept):
    """Strictly more and strictly fewer, each bound only where it is given."""
    assert explain([boxes(*[0.9] * count)], {**NUMBER, **fields})[0]["kept"] is kept


@pytest.mark.parametrize(
    ("thresholds", "count"), [({}, 5), ({"car": 0.5}, 3), ({"car": 0.6}, 2), ({"person": 0.5}, 4), ({"car": 1.0}, 1)]
)
def test_counts_start_at_the_operating_thresholds(thresholds, count):
    """A class with a threshold counts from there up, edge included; one without counts all that the floor left."""
    line = boxes(0.9, 0.5, 0.3, 0.06, 0.01, ("person", 0.4))
    fits = {**NUMBER, "more_than": count - 1, "less_than": count + 1}
    answer = explain([line], {**NUMBER, "name": "n", "more_than": 99}, fits, thresholds=thresholds)[0]
    assert answer["kept"], answer["reason"]


def test_classification_has_no_number_of_detections():
    """`detections_number_based` says nothing of a classified frame, whatever its bounds."""
    assert [explain([line], NUMBER)[0]["kept"] for line in (AMBULANCE, CAT_NOT_DOG)] == [False, False]


@pytest.mark.parametrize(
    ("strategies", "strategy", "matched"),
    [
        ([HARD, ALWAYS], "hard", ["hard", "all"]),
        ([ALWAYS, HARD], "all", ["all", "hard"]),
        ([CATS, NUMBER, HARD], "number", ["number", "hard"]),
        ([{**HARD, "probability": 0.0}, NUMBER], "number", ["number"]),
        ([{**HARD, "limits": [{"type": "daily", "value": 0}]}, NUMBER], "number", ["hard", "number"]),
        ([NEVER, CATS], None, []),
    ],
)
def test_the_first_match_with_room_is_charged(strategies, strategy, matched):
    """In the order of the settings; the others that matched are named all the same."""
    answer = explain([boxes(0.4)], *strategies)[0]
    assert (answer["strategy"], answer["matched"]) == (strategy, matched)


@pytest.mark.parametrize(
    ("limits", "moments", "kept"),
    [
        ({"minutely": 1}, ["12:00:00", "12:00:59.999", "12:01:00"], [1, 0, 1]),
        ({"hourly": 2}, ["12:00:00", "12:30:00", "12:59:59", "13:00:00"], [1, 1, 0, 1]),
        ({"daily": 1}, ["00:00:00", "23:59:59.999", "2026-01-06T00:00:00"], [1, 0, 1]),
        ({"minutely": 1, "hourly": 2}, ["12:00:00", "12:00:01", "12:01:00", "12:02:00", "13:00:00"], [1, 0, 1, 0, 1]),
        ({"hourly": 9, "daily": 2}, ["10:00:00", "11:00:00", "12:00:00"], [1, 1, 0]),
        ({"hourly": 0}, ["12:00:00"], [0]),
        # the same hour of another day, the same minute of another hour
        ({"hourly": 1}, ["12:00:00", "2026-01-06T12:00:00"], [1, 1]),
        ({"minutely": 1}, ["12:00:00", "13:00:00"], [1, 1]),
    ],
)
def test_limits_count_in_calendar_windows(limits, moments, kept):
    """Minutes, hours and days of the capture time in UTC; every limit needs room."""
    limited = {**HARD, "limits": [{"type": kind, "value": value} for kind, value in limits.items()]}
    assert [answer["kept"] for answer in explain(times(*moments), limited)] == [bool(one) for one in kept]


def test_the_strictest_of_two_limits_of_a_type_holds():
    """Roboflow takes a type twice, and so do we."""
    limited = {**HARD, "limits": [{"type": "daily", "value": 5}, {"type": "daily", "value": 1}]}
    assert [answer["kept"] for answer in explain(times("01:00:00", "02:00:00"), limited)] == [True, False]


def test_times_of_other_zones_count_in_utc():
    """01:30 at +02:00 belongs to the day before."""
    limited = {**HARD, "limits": [{"type": "daily", "value": 1}]}
    moments = ["2026-01-05T23:00:00+00:00", "2026-01-06T01:30:00+02:00", "2026-01-06T02:00:00+02:00"]
    lines = [boxes(0.4, number=number, at=moment) for number, moment in enumerate(moments)]
    assert [answer["kept"] for answer in explain(lines, limited)] == [True, False, True]


def test_a_credit_is_spent_by_the_strategy_that_is_charged_alone():
    """The second strategy matches each time, and still has its credit when the first has run out of its own."""
    first, second = ({**HARD, "name": name, "limits": [{"type": "hourly", "value": 1}]} for name in ("first", "second"))
    answers = explain(times("12:00:00", "12:00:01", "12:00:02"), first, second)
    assert [answer["strategy"] for answer in answers] == ["first", "second", None]
    assert answers[2]["reason"] == "no credit: 'first' hourly 1 of 1; 'second' hourly 1 of 1"
    assert answers[2]["matched"] == ["first", "second"]


@pytest.mark.parametrize(
    ("interval", "moments", "batches"),
    [
        ("never", ["2026-01-05T12:00:00", "2027-01-05T12:00:00"], ["al", None]),
        ("daily", ["2026-01-05T23:59:59", "2026-01-06T00:00:00"], ["al_2026_01_05", "al_2026_01_06"]),
        ("weekly", ["2026-01-04T12:00:00", "2026-01-05T12:00:00"], ["al_2025_12_29", "al_2026_01_05"]),
        ("weekly", ["2026-01-05T12:00:00", "2026-01-11T12:00:00"], ["al_2026_01_05", None]),
        ("monthly", ["2026-01-31T12:00:00", "2026-02-01T00:00:00"], ["al_2026_01_01", "al_2026_02_01"]),
    ],
)
def test_batches_start_anew_at_their_interval(interval, moments, batches):
    """With room for one image a batch, the second frame is kept exactly where its batch is another one."""
    batching = {"batches_name_prefix": "al", "recreation_interval": interval, "max_batch_images": 1}
    for answer, batch in zip(explain(times(*moments), HARD, batching_strategy=batching), batches):
        expected = f"kept by 'hard' for batch '{batch}'" if batch else "batch full: 'al"
        assert answer["reason"].startswith(expected)


def test_the_size_of_the_batch_goes_before_the_limits():
    """A frame that neither the batch nor the limit has room for is refused by the batch, and takes no credit."""
    limited = {**HARD, "limits": [{"type": "daily", "value": 2}]}
    batching = {"recreation_interval": "daily", "max_batch_images": 2}
    answers = explain(times("01:00:00", "02:00:00", "03:00:00"), limited, batching_strategy=batching)
    assert answers[2]["reason"].startswith("batch full: 'batch_2026_01_05' holds 2 of 2 images")
    one_a_day = {**HARD, "limits": [{"type": "daily", "value": 1}]}
    answers = explain(times("01:00:00", "02:00:00"), one_a_day, batching_strategy=batching)
    assert answers[1]["reason"] == "no credit: 'hard' daily 1 of 1"


def test_exploration_is_outside_of_limits_and_batches():
    """A `random` strategy without limits keeps what it draws, also into a full batch; one with limits does not."""
    full = {"max_batch_images": 1}
    lines = times("01:00:00", "02:00:00")
    assert [answer["kept"] for answer in explain(lines, ALWAYS, batching_strategy=full)] == [True, True]
    limited = {**ALWAYS, "limits": [{"type": "daily", "value": 9}]}
    assert [answer["kept"] for answer in explain(lines, limited, batching_strategy=full)] == [True, False]


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
        (json.dumps(boxes(0.4)).replace("[1, 2, 30, 40]", "[30, 2, 1, 40]"), "detections.0.xyxy: expected x1 <= x2"),
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
