"""Labels that a model surely disagrees with, against a slow reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.boxes import iou_matrix
from tasks.core.entities import Detections
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.people.suspected import PRIOR, Yardstick, kinds_counted, suspects, yardstick_of

CLASSES = ("car", "truck")
THRESHOLDS = {"car": 0.5, "truck": 0.4}
KNOWN = Yardstick({"car": 0.9, "truck": 0.3}, {"car": 98, "truck": 8}, {("class", "car", "truck"): 9})


def image(detections, truths):
    """detections: (class id, confidence, box); truths: (class id, box[, crowd])."""
    seen = sorted(detections, key=lambda d: -d[1])
    return ImageResult(
        Detections(
            np.array([d[2] for d in seen], np.float32).reshape(-1, 4),
            np.array([d[1] for d in seen], np.float32),
            np.array([d[0] for d in seen], np.int64),
            CLASSES,
        ),
        GroundTruths(
            np.array([t[1] for t in truths], np.float64).reshape(-1, 4),
            np.array([t[0] for t in truths], np.int64),
            np.array([len(t) > 2 for t in truths], np.bool_),
        ),
    )


HERE, NEAR, FAR = (0, 0, 20, 20), (8, 0, 28, 20), (60, 60, 90, 90)


@pytest.mark.parametrize(
    ("detections", "truths", "kinds"),
    [
        ([(0, 0.9, HERE)], [(0, HERE)], []),
        ([(1, 0.9, HERE)], [(0, HERE)], ["class"]),
        ([(1, 0.9, HERE), (0, 0.6, HERE)], [(0, HERE)], []),  # it sees what is labelled, too
        ([(0, 0.9, NEAR)], [(0, HERE)], ["place"]),
        ([(0, 0.9, FAR)], [], ["overlooked"]),
        ([(0, 0.49, FAR)], [], []),  # not sure
        ([], [(0, HERE)], ["nothing there"]),
        ([], [(1, HERE)], []),  # of this class it misses most
        ([(0, 0.6, HERE)], [(0, HERE), (0, HERE)], ["nothing there"]),  # labelled twice, there once
        ([(0, 0.9, HERE)], [(0, (0, 0, 90, 90), "crowd")], []),
        ([], [(0, HERE, "crowd")], []),
        ([(0, 0.9, FAR)], [(0, HERE)], ["nothing there", "overlooked"]),
        ([], [], []),
    ],
)
def test_each_kind_by_its_definition(detections, truths, kinds):
    """One box, one suspicion; no suspicion where the model is unsure or agrees."""
    found = suspects([image(detections, truths)], CLASSES, THRESHOLDS, KNOWN)
    assert sorted(one.kind for one in found) == kinds
    assert sum(kinds_counted(found).values()) == len(kinds)


def test_a_rare_disagreement_says_more_than_a_common_one():
    """worth = prior / (prior + rate), by Laplace's rule; half a prior's odds where nothing is known."""
    assert KNOWN.worth("class", "car", "truck") == pytest.approx(PRIOR / (PRIOR + 10 / 100))
    assert KNOWN.worth("place", "car", "car") == pytest.approx(PRIOR / (PRIOR + 1 / 100))
    assert Yardstick({}, {}, {}).worth("place", "bus", "bus") == pytest.approx(PRIOR / (PRIOR + 0.5))


def test_the_yardstick_is_what_the_model_did_on_measured_images():
    """Recall at the threshold, boxes, and disagreements by kind and classes; empty where nothing was measured."""
    measured = [image([(0, 0.9, HERE), (0, 0.3, FAR)], [(0, HERE), (0, FAR)]), image([(1, 0.9, HERE)], [(0, HERE)])]
    found = yardstick_of(measured, CLASSES, THRESHOLDS)
    assert found.recall == {"car": pytest.approx(2 / 5), "truck": 0.5}
    assert found.labelled == {"car": 3, "truck": 0}
    assert found.disagreements == {("class", "car", "truck"): 1}
    assert yardstick_of([], CLASSES, THRESHOLDS).disagreements == {}


# --- the reference ---------------------------------------------------------------------------------------------------


def slow_suspects(results, known):
    """One box and one detection after another, by the page's definition; (image, kind, row, seen class, gain)."""
    made = []
    for i, result in enumerate(results):
        outcome = match([result])
        iou = lambda a, b: float(iou_matrix(np.array([a]), np.array([b]))[0, 0])  # noqa: E731
        least = [THRESHOLDS[name] for name in CLASSES]
        boxes = []
        for t in range(len(outcome.truths)):
            row = int(outcome.truths.row[t])
            score = 0.0 if np.isnan(outcome.truths.confidence[t]) else float(outcome.truths.confidence[t])
            boxes.append([row, int(outcome.truths.class_id[t]), outcome.truths.xyxy[t], score])
        free = []
        for d in range(len(outcome.detections)):
            of, c = outcome.detections, int(outcome.detections.class_id[d])
            if of.confidence[d] >= least[c] and not of.is_true[d] and not of.is_ignored[d]:
                free.append((c, of.xyxy[d], float(of.confidence[d])))
        everything, opened, left = list(free), [b for b in boxes if b[3] < least[b[1]]], list(free)
        for kind in ("class", "place"):
            for detection in list(left):
                best = None
                for b in opened:
                    overlap, same = iou(b[2], detection[1]), b[1] == detection[0]
                    fits = (not same and overlap >= 0.5) if kind == "class" else (same and 0.1 <= overlap < 0.5)
                    if fits and (best is None or overlap > best[0]):
                        best = (overlap, b)
                if best is None:
                    continue
                b = best[1]
                opened = [other for other in opened if other is not b]
                left = [other for other in left if other is not detection]
                worth = known.worth(kind, CLASSES[b[1]], CLASSES[detection[0]])
                gain = worth * detection[2] * (1 - b[3] / least[b[1]])
                made.append((i, kind, b[0], CLASSES[detection[0]], gain))
        for c, xyxy, confidence in left:
            most = max((iou(b[2], xyxy) for b in boxes), default=0.0)
            if most < 0.5:
                worth = known.worth("overlooked", CLASSES[c], CLASSES[c])
                made.append((i, "overlooked", -1, CLASSES[c], worth * confidence * (1 - most)))
        for row, c, xyxy, score in opened:
            if known.recall[CLASSES[c]] > 0.5 and all(iou(xyxy, d[1]) < 0.5 for d in everything):
                gain = known.worth("nothing there", CLASSES[c], "") * (1 - score / least[c])
                made.append((i, "nothing there", row, "", gain))
    return sorted(made)


BOX = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(2, 6)] * 2).map(
    lambda b: (b[0] * 4, b[1] * 4, b[0] * 4 + b[2] * 4, b[1] * 4 + b[3] * 4)
)
CLASS, CONFIDENCE = st.integers(0, 1), st.sampled_from([0.01, 0.2, 0.39, 0.4, 0.45, 0.5, 0.7, 0.93])
LABELS = st.one_of(st.tuples(CLASS, BOX), st.tuples(CLASS, BOX, st.just("crowd")))
IMAGES = st.lists(
    st.builds(
        image,
        st.lists(st.tuples(CLASS, CONFIDENCE, BOX), max_size=7, unique_by=lambda d: (d[0], d[2])),
        st.lists(LABELS, max_size=5, unique_by=lambda t: (t[0], t[1])),
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_the_columns_say_what_the_slow_reference_says(results):
    """The same suspects with the same gains, best first; each label at most once; gains between 0 and 1."""
    found = suspects(results, CLASSES, THRESHOLDS, KNOWN)
    ours = sorted((s.image, s.kind, s.row, s.seen_class, s.gain) for s in found)
    expected = slow_suspects(results, KNOWN)
    assert [row[:4] for row in ours] == [row[:4] for row in expected]
    assert [row[4] for row in ours] == pytest.approx([row[4] for row in expected], abs=1e-5)
    gains = [one.gain for one in found]
    assert gains == sorted(gains, reverse=True)
    assert all(0 <= gain <= 1 for gain in gains)
    labelled = [(one.image, one.row) for one in found if one.row >= 0]
    assert len(labelled) == len(set(labelled))


@settings(max_examples=50, deadline=None)
@given(IMAGES)
def test_images_are_judged_one_by_one(results):
    """What is suspected of an image does not depend on the others."""
    together = suspects(results, CLASSES, THRESHOLDS, KNOWN)
    alone = [s for result in results for s in suspects([result], CLASSES, THRESHOLDS, KNOWN)]
    assert sorted(s.gain for s in together) == pytest.approx(sorted(s.gain for s in alone))
