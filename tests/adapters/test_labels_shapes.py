"""Masks and keypoints of COCO files: read as COCO's own programs read them, and evaluated with their AP."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.coco import COCO_FIGURES, KEYPOINT_FIGURES, coco_figures
from tasks.adapters.labels import open_pair
from tasks.adapters.labels.dataset import BadBox
from tasks.adapters.labels.pair import coco_pair, read_coco_pair
from tasks.adapters.labels.shapes import compressed, mask_of
from tasks.core.errors import LabelsInvalid
from tasks.core.masks import Mask
from tasks.evaluate import evaluate_files
from tests.conftest import edgeloop

SIDE = 200
POLYGON = [[10.0, 10.0, 60.5, 12.0, 40.0, 70.0]]


def reference(segmentation, height=SIDE, width=SIDE):
    """Pixels by pycocotools."""
    from pycocotools import mask as coco_masks

    if isinstance(segmentation, list):
        segmentation = coco_masks.merge(coco_masks.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_masks.frPyObjects(segmentation, height, width)
    return coco_masks.decode(segmentation).astype(bool)


# --- segmentations ---------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.lists(st.integers(-100, 2100), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0),
        min_size=1,
        max_size=3,
    )
)
@settings(deadline=None, max_examples=60)
def test_polygons_become_the_pixels_of_pycocotools(polygons):
    """Also those that cross themselves, lie partly outside, or are many."""
    polygons = [[value / 10 for value in polygon] for polygon in polygons]
    found = mask_of({"segmentation": polygons}, SIDE, SIDE)
    np.testing.assert_array_equal(found.pixels(), reference(polygons))


@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
@settings(deadline=None, max_examples=60)
def test_run_lengths_are_read_as_numbers_and_as_text(seed, share):
    """Uncompressed and compressed counts give the same mask, and what is written is what pycocotools reads."""
    from pycocotools import mask as coco_masks

    pixels = np.random.default_rng(seed).random((30, 40)) < share
    text = coco_masks.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
    plain = Mask.of_pixels(pixels)
    for counts in (text, plain.counts.tolist()):
        found = mask_of({"segmentation": {"size": [30, 40], "counts": counts}}, 30, 40)
        np.testing.assert_array_equal(found.pixels(), pixels)
    np.testing.assert_array_equal(reference(compressed(plain), 30, 40), pixels)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ("text", "neither a list of polygons nor an object"),
        ([[1, 2, 3, 4]], "at least three x, y"),
        ([[1, 2, 3, 4, 5, 6, 7]], "at least three x, y"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not finite"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside"),
        ([{"x": 1}], "at least three x, y"),
        ({"size": [200, 100], "counts": [20000]}, "has the size"),
        ({"size": [200, 200], "counts": [5]}, "its runs have 5 pixels"),
        ({"size": [200, 200], "counts": [-1, 40001]}, "negative"),
        ({"size": [200, 200], "counts": [1.5]}, "whole numbers"),
        ({"size": [200, 200], "counts": "é"}, "compressed form"),
        ({"size": [200, 200], "counts": "oooooooooooooooooooo"}, "compressed form"),
        ({"size": [200, 200], "counts": "o"}, "in the middle of a number"),
        ({"size": [200, 200], "counts": "O"}, "negative"),
        ({"size": [200, 200]}, "neither a list of whole numbers nor a string"),
    ],
)
def test_segmentations_that_are_none_are_refused(segmentation, says):
    """Whatever is in the file: one line that says what is wrong with it."""
    with pytest.raises(BadBox, match=says) as error:
        mask_of({"segmentation": segmentation}, SIDE, SIDE)
    assert "\n" not in str(error.value)


# --- pairs of files --------------------------------------------------------------------------------------------------


def square(x, y, side, cut=0):
    """A square polygon, its lower right corner cut off."""
    return [[x, y, x + side, y, x + side, y + side - cut, x + side - cut, y + side, x, y + side]]


def written(folder, annotations, results):
    """Two images of 200 x 200; ids of annotations are counted where they are missing."""
    truth = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": SIDE, "height": SIDE} for n in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": [10, 10, 60, 60], **a}
            for n, a in enumerate(annotations, start=1)
        ],
    }
    paths = folder / "truth.json", folder / "predictions.json"
    given_results = [{"image_id": 1, "category_id": 1, "score": 0.8, **result} for result in results]
    for path, content in zip(paths, (truth, given_results)):
        path.write_text(json.dumps(content))
    return paths


def test_the_predictions_say_which_task_it_is(tmp_path):
    """Boxes alone are a detection, whatever the ground truth has; masks and keypoints are told by their keys."""
    box, polygons = {"bbox": [10, 10, 60, 60]}, {"segmentation": square(10, 10, 60)}
    for result, task in ((box, "detection"), (box | polygons, "segmentation"), ({"keypoints": [1, 2, 2]}, "keypoints")):
        assert open_pair(*written(tmp_path, [polygons], [result])).task == task


@pytest.mark.slow
def test_a_mask_that_is_badly_drawn_is_a_blind_miss(tmp_path):
    """The command finds both boxes; one of them has a mask of a third of the object and is missed for its place."""
    annotations = [
        {"segmentation": square(10, 10, 60)},
        {"segmentation": square(100, 100, 60), "bbox": [100, 100, 60, 60]},
    ]
    good = {"segmentation": square(12, 10, 60), "bbox": [12, 10, 60, 60]}
    bad = {"segmentation": square(100, 100, 30), "bbox": [100, 100, 60, 60]}
    truth, predictions = written(tmp_path, annotations, [good, bad])
    out = tmp_path / "out"
    done = edgeloop("evaluate", "--ground-truth", truth, "--predictions", predictions, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "evaluation.json").read_text())
    assert record["task"] == "segmentation"
    figures = record["classes"]["cat"]
    assert (figures["misses"], figures["blind_localisation"], figures["ground_truths"]) == (1, 1, 2)
    assert evaluate_files(truth, predictions, out, task="detection").classes["cat"].misses == 0
    assert "AP50" in done.stdout


def test_boxes_come_from_masks_and_keypoints_that_have_none(tmp_path):
    """The smallest box around the pixels, and around the keypoints."""
    pair = read_coco_pair(
        *written(tmp_path, [{"segmentation": POLYGON}], [{"segmentation": square(20, 30, 40)}]), "segmentation"
    )
    np.testing.assert_array_equal(pair.images[0].detections.xyxy, [[20, 30, 60, 70]])
    keypoints = {"keypoints": [5, 6, 0.9, 25, 16, 0.8]}
    pair = read_coco_pair(*written(tmp_path, [{"keypoints": [5, 6, 2, 0, 0, 0]}], [keypoints]), "keypoints")
    np.testing.assert_array_equal(pair.images[0].detections.xyxy, [[5, 6, 25, 16]])
    np.testing.assert_array_equal(pair.images[0].truths.keypoints, [[[5, 6, 2], [0, 0, 0]]])


def test_a_ground_truth_without_a_pixel_is_left_out_and_said(tmp_path):
    """A mask that covers nothing cannot be found; a box without area neither."""
    nothing = {"segmentation": {"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}}
    flat = {"segmentation": POLYGON, "bbox": [10, 10, 0, 5]}
    files = open_pair(*written(tmp_path, [nothing, flat, {"segmentation": POLYGON}], [{"segmentation": POLYGON}]))
    pair = coco_pair(files, "segmentation")
    assert len(pair.images[0].truths) == 1
    assert "2 boxes without area or outside their image left out" in pair.warnings[0]


@pytest.mark.parametrize(
    ("annotations", "results", "task", "says"),
    [
        ([{}], [{"segmentation": POLYGON}], "segmentation", r"annotations\[0\]: .*has no segmentation"),
        ([{"segmentation": POLYGON}], [{"bbox": [1, 1, 5, 5]}], "segmentation", r"results\[0\]: has no segmentation"),
        ([{}], [{"bbox": [1, 1, 5, 5]}], "keypoints", r"results\[0\]: has no keypoints"),
        ([{}], [{"keypoints": [1, 2]}], "keypoints", r"results\[0\]: keypoints is not a list"),
        ([{}], [{"keypoints": [1, 2, float("nan")]}], "keypoints", r"results\[0\]: keypoints is not finite"),
        ([{"keypoints": [1, 2, 2]}, {"keypoints": [1, 2, 2] * 2}], [], "keypoints", "different numbers of keypoints"),
        ([{"keypoints": [1, 2, 2], "area": -1}], [], "keypoints", "area is -1"),
        ([{"id": 1}, {"id": 1}], [], "detection", r"annotations\[1\] has the id '1' of another"),
    ],
)
def test_what_a_task_needs_and_a_file_lacks_is_named(tmp_path, annotations, results, task, says):
    """Missing and broken masks and keypoints, areas below nought, ids given twice: file and entry in one line."""
    with pytest.raises(LabelsInvalid, match=says) as error:
        coco_pair(open_pair(*written(tmp_path, annotations, results)), task)
    assert "\n" not in str(error.value)


# --- AP --------------------------------------------------------------------------------------------------------------


def random_files(folder, seed, task, keypoints=17):
    """Objects of all sizes, a crowd now and then; results are jittered copies and noise, with equal scores."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in (1, 2):
        for _ in range(6):
            side = float(rng.choice([12, 40, 110]))
            x, y = rng.uniform(0, SIDE - side, 2)
            crowd = int(rng.random() < 0.15)
            polygon = square(x, y, side, side / 4)
            shape = reference(polygon)
            entry = {"image_id": image_id, "bbox": [x, y, side, side], "area": int(shape.sum()), "iscrowd": crowd}
            points = np.column_stack([rng.uniform(x, x + side, keypoints), rng.uniform(y, y + side, keypoints)])
            visible = rng.integers(0, 3, keypoints)
            entry["keypoints"] = np.column_stack([points, visible]).ravel().tolist()
            entry["num_keypoints"] = int((visible > 0).sum())
            entry["segmentation"] = (
                {"size": [SIDE, SIDE], "counts": Mask.of_pixels(shape).counts.tolist()} if crowd else polygon
            )
            annotations.append(entry)
            for spread in (0.02, 0.1):
                dx, dy = rng.normal(0, spread * side, 2)
                result = {"image_id": image_id, "score": float(np.round(rng.random(), 1))}
                if task == "segmentation":
                    result["segmentation"] = square(max(x + dx, 0), max(y + dy, 0), side)
                else:
                    moved = points + rng.normal(0, spread * side, points.shape)
                    result["keypoints"] = np.column_stack([moved, np.ones(keypoints)]).ravel().tolist()
                results.append(result)
    return written(folder, annotations, results)


def by_pycocotools(paths, task, sigmas=None):
    from pycocotools import mask as coco_masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content, results = (json.loads(path.read_text()) for path in paths)
    for result in results:
        if task == "segmentation":
            polygons = coco_masks.frPyObjects(result["segmentation"], SIDE, SIDE)
            result["segmentation"] = coco_masks.merge(polygons)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm" if task == "segmentation" else "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("task", "keypoints"), [("segmentation", 17), ("keypoints", 17), ("keypoints", 5)])
def test_ap_of_masks_and_keypoints_is_that_of_pycocotools(tmp_path, task, keypoints, seed):
    """All twelve figures of masks, all ten of keypoints, from the files to the number; also with five keypoints."""
    paths = random_files(tmp_path, seed, task, keypoints)
    pair = read_coco_pair(*paths, task)
    figures = coco_figures([(image.detections, image.truths) for image in pair.images], pair.class_names, task)
    sigmas = np.full(keypoints, 1 / keypoints) if keypoints != 17 else None
    names = COCO_FIGURES if task == "segmentation" else KEYPOINT_FIGURES
    expected = dict(zip(names, by_pycocotools(paths, task, sigmas)))
    assert {name: figures[name] for name in names} == pytest.approx(expected, abs=1e-6)
    assert 0.05 < figures["AP"] < 0.99


@pytest.mark.parametrize("task", ["segmentation", "keypoints"])
def test_without_any_detection_all_is_missed(tmp_path, task):
    """AP is 0, and the evaluation says so; without ground truths every figure is -1."""
    shape = {"segmentation": POLYGON, "keypoints": [20, 20, 2]}
    evaluation = evaluate_files(*written(tmp_path, [shape], []), tmp_path / "out", task=task)
    assert (evaluation.task, evaluation.coco["AP"], evaluation.classes["cat"].blind) == (task, 0.0, 1)
    empty = read_coco_pair(*written(tmp_path, [], []), task)
    assert set(coco_figures([(i.detections, i.truths) for i in empty.images], ["cat"], task).values()) == {-1.0}
