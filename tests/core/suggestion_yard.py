"""Images whose matching is known by construction, and worlds made of them."""

from datetime import datetime, timedelta, timezone

import numpy as np
from hypothesis import strategies as st

from tasks.core.bands import evaluate
from tasks.core.entities import Detections, Suggestion, TrafficRecord
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.suggestion import suggest

NAMES = ("car", "person")
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def image(objects=(), alarms=()):
    """An image of `(class, s)` objects, s None where blind, and `(class, confidence)` false detections."""
    found = [(20 * row, class_id, s) for row, (class_id, s) in enumerate(objects) if s is not None]
    found += [(1000 + 20 * row, class_id, s) for row, (class_id, s) in enumerate(alarms)]
    return ImageResult(
        Detections(
            np.array([(x, 0, x + 10, 10) for x, *_ in found], np.float32).reshape(-1, 4),
            np.array([s for *_, s in found], np.float32),
            np.array([class_id for _, class_id, _ in found], np.int64),
            NAMES,
        ),
        GroundTruths(
            np.array([(20 * row, 0, 20 * row + 10, 10) for row in range(len(objects))], np.float64).reshape(-1, 4),
            np.array([class_id for class_id, _ in objects], np.int64),
            np.zeros(len(objects), np.bool_),
        ),
    )


def suggested(contents, *, clusters=None, thresholds=None, model_version="", **options) -> Suggestion:
    """The suggestion for images as `image` takes them, at thresholds of 0.5 and by rules unless said."""
    matches = match([image(*content) for content in contents])
    clusters = clusters or [f"cluster {number // 2}" for number in range(len(contents))]
    thresholds = {"car": 0.5, "person": 0.5} if thresholds is None else thresholds
    common = {"created_at": NOW, "replicates": 200}
    evaluation = evaluate(matches, clusters, NAMES, thresholds=thresholds, model_version=model_version, **common)
    options = {"budget": 100, "frames_a_day": 1000, "strategy": "rules", **common, **options}
    return suggest(matches, clusters, evaluation, **options)


def traffic_of(contents, *, rate=0.1, model_version=""):
    """Records of the confidences of images, one a minute."""
    for number, (objects, alarms) in enumerate(contents):
        seen = [(c, s) for c, s in [*objects, *alarms] if s is not None]
        yield TrafficRecord(
            camera="gate",
            captured_at=NOW + timedelta(minutes=number),
            rate=rate,
            model_version=model_version,
            class_names=tuple(NAMES[c] for c, _ in seen),
            confidences=tuple(s for _, s in seen),
        )


def rules_of(suggestion):
    return [strategy for strategy in suggestion.settings.sampling_strategies if strategy.type == "close_to_threshold"]


def exploration_of(suggestion):
    return suggestion.settings.exploration_strategy.traffic_percentage


EASY = ([(0, 0.9)], [])  # nothing missed
HARD = ([(0, 0.9), (0, 0.22)], [])  # a miss with a candidate at 0.22
ALARM = ([(0, 0.9)], [(0, 0.4)])  # a false detection in the popular band
BLIND = ([(0, 0.9), (0, None)], [])  # a miss that nothing shows
YARD = [HARD] * 20 + [ALARM] * 30 + [BLIND] * 10 + [EASY] * 140


# Few kinds of images, each of them often.
confidences = st.sampled_from([0.06, 0.1, 0.12, 0.15, 0.22, 0.3, 0.35, 0.45, 0.5, 0.52, 0.8])
confidences = confidences.map(lambda s: float(np.float32(s)))
detected = st.tuples(st.integers(0, 1), confidences)
contents = st.tuples(
    st.lists(st.tuples(st.integers(0, 1), st.none() | confidences), max_size=3), st.lists(detected, max_size=3)
)
worlds = st.lists(contents, min_size=1, max_size=6).flatmap(
    lambda kinds: st.lists(st.sampled_from(kinds), min_size=3, max_size=30)
)


def world(count, random):
    """A quarter of images is hard: there 6 of 10 cars are seen at 0.15 to 0.3 only. One object in twenty is blind.

    Beside it false detections: below 0.15, in the popular band from 0.3 to 0.5, and anywhere.
    """
    for _ in range(count):
        hard = random.random() < 0.25
        objects, alarms = [], []
        for _ in range(random.poisson(2)):
            class_id, luck = int(random.random() < 0.4), random.random()
            doubtful = class_id == 0 and hard and luck < 0.6
            seen_at = random.uniform(0.15, 0.3) if doubtful else random.uniform(0.5, 0.95)
            objects.append((class_id, None if random.random() < 0.05 else seen_at))
        for _ in range(random.poisson(0.6)):
            low, high = [(0.05, 0.15), (0.3, 0.5), (0.05, 0.5)][random.integers(3)]
            alarms.append((int(random.integers(2)), random.uniform(low, high)))
        yield objects, alarms
