"""Roboflow Inference's active learning as data: what its documentation, its code and its own tests say, row by row.

A row is a file of settings, a file of frames, and the strategy that each frame is charged to, None where it is not
kept. `test_conformance.py` runs each through what `edgeloop explain` does. Where we decide otherwise on purpose, the
row has in `differs` what Roboflow does, in the words of the table at the end of SAMPLING.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

ALWAYS = {"name": "all", "type": "random", "traffic_percentage": 1.0}
NEVER = {**ALWAYS, "name": "none", "traffic_percentage": 0.0}
HARD = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 1.0}
CATS = {"name": "cats", "type": "classes_based", "selected_class_names": ["cat"], "probability": 1.0}
NUMBER = {"name": "number", "type": "detections_number_based", "probability": 1.0}
NOON = "2026-01-05T12:00:00Z"  # a Monday
KEPT, LEFT = True, False


@dataclass(frozen=True)
class Row:
    """charged: of each frame, None where it is not kept. batches, matched: of each frame, where the row says. reason:
    how that of the last frame begins.
    """

    frames: Sequence[Json]
    strategies: Sequence[Json]
    charged: Sequence[str | None]
    others: Json = field(default_factory=dict)
    matched: Sequence[Sequence[str]] | None = None
    batches: Sequence[str] | None = None
    reason: str = ""
    differs: str = ""


def boxes(*seen: float | tuple[str, float], number: int = 1, at: str = NOON, **others: Any) -> Json:
    """A frame of object detection; each of `seen` is a confidence, or (class, confidence)."""
    rows = [one if isinstance(one, tuple) else ("car", one) for one in seen]
    detections = [{"class": name, "confidence": score, "xyxy": [1, 2, 30, 40]} for name, score in rows]
    line = {"frame": f"f{number}", "task": "object-detection", "width": 640, "height": 480, "captured_at": at}
    return {**line, "detections": detections, **others}


def times(*moments: str) -> list[Json]:
    """A frame with a detection of 0.4 at each of these times of 5 January 2026, a Monday, or at a full date."""
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
STUB = {"frame": "f1", "task": "object-detection", "captured_at": NOON, "is_stub": True}


def one(frame: Json, strategy: Json, kept: bool, differs: str = "", **others: Any) -> Row:
    """One frame before one strategy."""
    return Row([frame], [strategy], [strategy["name"] if kept else None], others, differs=differs)


def near(confidence: float, threshold: float, epsilon: float, kept: bool, differs: str = "") -> Row:
    return one(boxes(confidence), {**HARD, "threshold": threshold, "epsilon": epsilon}, kept, differs)


def hard(frame: Json, kept: bool, **fields: Any) -> Row:
    return one(frame, {**HARD, **fields}, kept)


def cats(frame: Json, names: Sequence[str], kept: bool) -> Row:
    return one(frame, {**CATS, "selected_class_names": list(names)}, kept)


def number(count: int, kept: bool, **fields: Any) -> Row:
    return one(boxes(*[0.9] * count), {**NUMBER, **fields}, kept)


def limited(limits: Json, moments: Sequence[str], kept: Sequence[int], reason: str = "", differs: str = "") -> Row:
    strategy = {**HARD, "limits": [{"type": kind, "value": value} for kind, value in limits.items()]}
    return Row(times(*moments), [strategy], ["hard" if k else None for k in kept], reason=reason, differs=differs)


def batched(interval: str, moments: Sequence[str], names: Sequence[str]) -> Row:
    others = {"batching_strategy": {"batches_name_prefix": "al", "recreation_interval": interval}}
    return Row(times(*moments), [HARD], ["hard"] * len(moments), others, batches=names)


A_AND_B = boxes(("a", 0.9), ("b", 0.7))
BELOW_THE_CUT = "predictions below the server's cut are not seen"

TABLES: dict[str, Sequence[Row]] = {
    "a confidence is close when abs(confidence - threshold) < epsilon, in floats": [
        near(0.3, 0.4, 0.1, LEFT),  # abs(0.3 - 0.4) is 0.10000000000000003
        near(0.5, 0.4, 0.1, KEPT),  # abs(0.5 - 0.4) is 0.09999999999999998
        near(0.25, 0.5, 0.25, LEFT),  # exact in binary: the edge itself is out
        near(0.75, 0.5, 0.25, LEFT),
        near(0.250001, 0.5, 0.25, KEPT),
        near(0.749999, 0.5, 0.25, KEPT),
        near(0.7, 0.6, 0.1, KEPT),
        near(0.5, 0.6, 0.1, KEPT),
        near(0.2, 0.3, 0.1, KEPT),
        near(0.4, 0.3, 0.1, LEFT),
        near(1.0, 0.9, 0.1, KEPT),  # abs(1.0 - 0.9) is 0.09999999999999998: the documentation's (0.8, 1.0)
        near(0.8, 0.9, 0.1, KEPT),  # abs(0.8 - 0.9) is 0.09999999999999998
        near(0.45, 0.5, 0.06, KEPT),
        near(0.55, 0.5, 0.06, KEPT),
        near(0.44, 0.5, 0.05, LEFT),
        near(0.56, 0.5, 0.05, LEFT),
        near(1, 0.5, 1.0, KEPT),  # an integer is a number too
        near(0.3000000001, 0.4, 0.1, KEPT),  # all digits of a record count
        near(0.05, 0.5, 1.0, KEPT, differs=BELOW_THE_CUT),
        near(0.04, 0.5, 1.0, LEFT),  # below our floor
    ],
    "close_to_threshold counts the detections of the selected classes": [
        hard(A_AND_B, KEPT, threshold=0.5, epsilon=1.0, minimum_objects_close_to_threshold=2),
        hard(A_AND_B, LEFT, threshold=0.5, epsilon=1.0, minimum_objects_close_to_threshold=3),
        hard(A_AND_B, KEPT, threshold=0.6, epsilon=0.15),
        hard(A_AND_B, LEFT, threshold=0.6, epsilon=0.15, minimum_objects_close_to_threshold=2),
        hard(A_AND_B, LEFT, threshold=0.6, epsilon=0.15, selected_class_names=["a", "c"]),
        hard(A_AND_B, KEPT, threshold=0.6, epsilon=0.15, selected_class_names=["b"]),
        hard(A_AND_B, LEFT, threshold=0.6, epsilon=0.15, selected_class_names=[]),
        hard(A_AND_B, KEPT, threshold=0.6, epsilon=0.15, selected_class_names=None),
        hard({**A_AND_B, "task": "instance-segmentation"}, KEPT, threshold=0.6, epsilon=0.15),
        hard({**A_AND_B, "task": "keypoint-detection"}, KEPT, threshold=0.6, epsilon=0.15),
        hard({**A_AND_B, "task": "keypoints-detection"}, KEPT, threshold=0.6, epsilon=0.15),
        hard(boxes(), LEFT, threshold=0.5, epsilon=1.0),
        hard(boxes(0.4, 0.4, 0.4), KEPT, minimum_objects_close_to_threshold=3),
        hard(boxes(0.4), KEPT, only_top_classes=False),  # is for classification
        hard(boxes(0.4), LEFT, probability=0.0),
        one(boxes(0.4), HARD, KEPT, thresholds={"car": 1.0}),  # operating thresholds do not matter to a band
    ],
    "of a classification the top class counts, or the predicted ones, unless only_top_classes is false": [
        hard(AMBULANCE, KEPT, threshold=0.6),
        hard(AMBULANCE, LEFT, threshold=0.8),
        hard(AMBULANCE, LEFT, threshold=0.6, selected_class_names=["Limousine", "Helicopter"]),
        hard(AMBULANCE, KEPT, threshold=0.6, selected_class_names=["Ambulance"]),
        hard(AMBULANCE, LEFT, threshold=0.6, selected_class_names=[]),
        hard(AMBULANCE, LEFT, threshold=0.3),
        hard(AMBULANCE, KEPT, threshold=0.3, only_top_classes=False),
        hard(AMBULANCE, LEFT, threshold=0.45, epsilon=0.05, only_top_classes=False),
        hard(AMBULANCE, LEFT, threshold=0.3, only_top_classes=False, selected_class_names=["Helicopter"]),
        hard(AMBULANCE, KEPT, threshold=0.6, minimum_objects_close_to_threshold=3),  # is for detections
        hard({**AMBULANCE, "classes": None}, KEPT, threshold=0.6),
        hard(CAT_NOT_DOG, KEPT, threshold=0.95, epsilon=0.05),
        hard(CAT_NOT_DOG, LEFT, threshold=0.05, epsilon=0.05),
        hard(CAT_NOT_DOG, KEPT, threshold=0.05, epsilon=0.05, only_top_classes=False),
        hard(
            CAT_NOT_DOG,
            LEFT,
            threshold=0.05,
            epsilon=0.05,
            only_top_classes=False,
            selected_class_names=["cat", "tiger"],
        ),
        hard({**CAT_NOT_DOG, "predicted_classes": []}, LEFT, threshold=0.95, epsilon=0.05),
    ],
    "classes_based is for classification, and looks at the top or the predicted classes": [
        cats(CAT_NOT_DOG, ["cat"], KEPT),
        cats(CAT_NOT_DOG, ["dog"], LEFT),
        cats(CAT_NOT_DOG, [], LEFT),
        cats({**CAT_NOT_DOG, "predicted_classes": ["cat", "dog"]}, ["dog"], KEPT),
        cats({**CAT_NOT_DOG, "predicted_classes": []}, ["cat"], LEFT),
        cats(AMBULANCE, ["Ambulance"], KEPT),
        cats(AMBULANCE, ["Limousine"], LEFT),
        cats(boxes(("cat", 0.9)), ["cat"], LEFT),
        one(CAT_NOT_DOG, {**CATS, "probability": 0.0}, LEFT),
    ],
    "detections_number_based: strictly more_than < n < less_than, each where it is given": [
        number(1, KEPT, less_than=2),
        number(2, KEPT, more_than=1, less_than=5),
        number(5, KEPT, more_than=4),
        number(1, KEPT),
        number(0, KEPT),
        number(1, LEFT, more_than=2),
        number(5, LEFT, less_than=4),
        number(2, LEFT, more_than=2, less_than=5),
        number(5, LEFT, more_than=2, less_than=5),
        number(3, LEFT, more_than=2, less_than=3),  # no number lies between the two
        number(0, KEPT, less_than=1),
        number(0, LEFT, more_than=0),
        number(2, KEPT, selected_class_names=[], less_than=1),
        number(2, LEFT, selected_class_names=["truck"], more_than=0),
        number(2, KEPT, selected_class_names=["car"], more_than=1),
        number(2, LEFT, probability=0.0),
        one(AMBULANCE, NUMBER, LEFT),  # a classification has no number of detections
        one(CAT_NOT_DOG, NUMBER, LEFT),
        one(boxes(0.9, 0.5, 0.3, 0.06), {**NUMBER, "more_than": 3, "less_than": 5}, KEPT),
        one(
            boxes(0.9, 0.5, 0.3, 0.06),
            {**NUMBER, "more_than": 1, "less_than": 3},
            KEPT,
            differs="`detections_number_based` counts all detections",
            thresholds={"car": 0.5},
        ),
    ],
    "random draws on every frame, and is the only one for a stub": [
        one(boxes(), ALWAYS, KEPT),
        one(boxes(), NEVER, LEFT),
        one(AMBULANCE, ALWAYS, KEPT),
        one(STUB, ALWAYS, KEPT),
        one(STUB, HARD, LEFT),
        one(STUB, NUMBER, LEFT),
        one({**boxes(0.4), "is_stub": True}, HARD, LEFT),
        one({**CAT_NOT_DOG, "is_stub": True}, CATS, LEFT),
    ],
    "every strategy is asked, in the order of definition, and the first one with room is charged": [
        Row([boxes(0.4)], [HARD, ALWAYS], ["hard"], matched=[["hard", "all"]]),
        Row([boxes(0.4)], [ALWAYS, HARD], ["all"], matched=[["all", "hard"]]),
        Row([boxes(0.4)], [CATS, NUMBER, HARD], ["number"], matched=[["number", "hard"]]),
        Row([boxes(0.4)], [{**HARD, "probability": 0.0}, NUMBER], ["number"], matched=[["number"]]),
        Row([boxes(0.4)], [NEVER, CATS], [None], matched=[[]], reason="no strategy matched"),
        Row(
            [boxes(0.4)],
            [{**HARD, "limits": [{"type": "daily", "value": 0}]}, NUMBER],
            ["number"],
            matched=[["hard", "number"]],
            differs="in early versions a limit of 0 lets one sample pass",
        ),
    ],
    "limits count by minute, hour and day, and every one of them must have room": [
        limited({"minutely": 1}, ["12:00:00", "12:00:59.999", "12:01:00"], [1, 0, 1]),
        limited({"hourly": 2}, ["12:00:00", "12:30:00", "12:59:59", "13:00:00"], [1, 1, 0, 1]),
        limited({"daily": 1}, ["00:00:00", "23:59:59.999", "2026-01-06T00:00:00"], [1, 0, 1]),
        limited(
            {"minutely": 1, "hourly": 2}, ["12:00:00", "12:00:01", "12:01:00", "12:02:00", "13:00:00"], [1, 0, 1, 0, 1]
        ),
        limited(
            {"hourly": 9, "daily": 2},
            ["10:00:00", "11:00:00", "12:00:00"],
            [1, 1, 0],
            "no credit: 'hard' daily 2 of 2 in 2026-01-05",
        ),
        limited({"hourly": 1}, ["12:00:00", "2026-01-06T12:00:00"], [1, 1]),  # the same hour of another day
        limited({"minutely": 1}, ["12:00:00", "13:00:00"], [1, 1]),  # the same minute of another hour
        limited(
            {"minutely": 1},
            ["12:00:00", "13:00:00", "13:00:30"],
            [1, 1, 0],
            "no credit: 'hard' minutely 1 of 1 in 2026-01-05T13:00",
        ),
        limited({"hourly": 0}, ["12:00:00"], [0], differs="in early versions a limit of 0 lets one sample pass"),
        Row(
            times("01:00:00", "02:00:00"),
            [{**HARD, "limits": [{"type": "daily", "value": 5}, {"type": "daily", "value": 1}]}],
            ["hard", None],
        ),
    ],
    "a credit is taken in all three windows, from the strategy that is charged alone": [
        Row(
            times("12:00:00", "12:00:01", "12:00:02"),
            [{**HARD, "name": name, "limits": [{"type": "hourly", "value": 1}]} for name in ("first", "second")],
            ["first", "second", None],
            matched=[["first", "second"]] * 3,
            reason="no credit: 'first' hourly 1 of 1 in 2026-01-05T12; 'second' hourly 1 of 1 in 2026-01-05T12",
        ),
        Row(
            times("12:00:00", "12:00:01", "12:00:02", "13:00:00"),
            [
                {**HARD, "limits": [{"type": "hourly", "value": 1}]},
                {**NUMBER, "limits": [{"type": "daily", "value": 1}]},
            ],
            ["hard", "number", None, "hard"],
        ),
    ],
    "a duplicate gets its credit back": [
        Row(
            [
                boxes(0.4, number=0, at="2026-01-05T12:00:00Z", image_hash="0" * 64),
                boxes(0.4, number=1, at="2026-01-05T12:00:01Z", image_hash="0" * 64),
                boxes(0.4, number=2, at="2026-01-05T12:00:02Z", image_hash="f" * 64),
            ],
            [{**HARD, "limits": [{"type": "daily", "value": 2}]}],
            ["hard", None, "hard"],
            {"duplicates": {"enabled": True}},
            differs="a duplicate is found by the server, and its credit is given back",
        ),
        Row(
            [boxes(0.4, number=n, at=f"2026-01-05T12:00:0{n}Z", image_hash="0" * 64) for n in range(3)],
            [HARD],
            ["hard", None, None],
            {"duplicates": {"enabled": True}, "batching_strategy": {"max_batch_images": 2}},
            reason="near-duplicate: of frame 'f0', 0 of 256 bits apart",
            differs="a duplicate is found by the server, and its credit is given back",
        ),
    ],
    "a batch is the prefix, or begins anew today, on Monday, or on the 1st": [
        batched("never", ["12:00:00", "2027-01-05T12:00:00"], ["al", "al"]),
        batched("daily", ["23:59:59", "2026-01-06T00:00:00"], ["al_2026_01_05", "al_2026_01_06"]),
        batched("weekly", ["2026-01-04T12:00:00", "12:00:00"], ["al_2025_12_29", "al_2026_01_05"]),
        batched("weekly", ["00:00:00", "2026-01-11T23:59:59.999"], ["al_2026_01_05", "al_2026_01_05"]),
        batched("weekly", ["2024-02-29T12:00:00", "2024-03-04T00:00:00"], ["al_2024_02_26", "al_2024_03_04"]),
        batched("monthly", ["2026-01-31T12:00:00", "2026-02-01T00:00:00"], ["al_2026_01_01", "al_2026_02_01"]),
        batched("monthly", ["2024-02-29T23:59:59.999", "2024-12-31T00:00:00"], ["al_2024_02_01", "al_2024_12_01"]),
        Row(
            [boxes(0.4, at="2026-01-06T01:30:00+02:00")],
            [HARD],
            ["hard"],
            {"batching_strategy": {"batches_name_prefix": "al", "recreation_interval": "daily"}},
            batches=["al_2026_01_05"],
            differs="batches are named by the server's local time",
        ),
    ],
    "the size of the batch is asked before the limits, and begins anew with the batch": [
        Row(
            times("01:00:00", "02:00:00", "03:00:00"),
            [{**HARD, "limits": [{"type": "daily", "value": 2}]}],
            ["hard", "hard", None],
            {"batching_strategy": {"recreation_interval": "daily", "max_batch_images": 2}},
            reason="batch full: 'batch_2026_01_05' holds 2 of 2 images",
        ),
        Row(
            times("01:00:00", "02:00:00"),
            [{**HARD, "limits": [{"type": "daily", "value": 1}]}],
            ["hard", None],
            {"batching_strategy": {"recreation_interval": "daily", "max_batch_images": 2}},
            reason="no credit: 'hard' daily 1 of 1 in 2026-01-05",
        ),
        Row(
            times("01:00:00", "02:00:00", "2026-01-06T01:00:00"),
            [{**HARD, "limits": [{"type": "daily", "value": 1}]}],
            ["hard", None, "hard"],  # what the full batch refused has taken no credit of the day after
            {"batching_strategy": {"recreation_interval": "daily", "max_batch_images": 1}},
        ),
        Row(
            times("01:00:00", "02:00:00"),
            [ALWAYS],
            ["all", "all"],
            {"batching_strategy": {"max_batch_images": 1}},
            differs="`random` obeys the batch size",
        ),
        Row(
            times("01:00:00", "02:00:00"),
            [{**ALWAYS, "limits": [{"type": "daily", "value": 9}]}],
            ["all", None],
            {"batching_strategy": {"max_batch_images": 1}},
        ),
    ],
    "switched off, nothing is kept": [
        Row([boxes(0.4)], [HARD, ALWAYS], [None], {"enabled": False}, reason="sampling disabled"),
    ],
}
