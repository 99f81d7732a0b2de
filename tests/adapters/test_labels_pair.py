"""Ground truth and predictions of anybody's model become what matching takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from label_files import H, W, coco_content, put

from tasks.adapters.labels import (
    read_coco_pair,
    write_coco_pair,
)
from tasks.core.errors import LabelsInvalid

# --- ground truth and predictions -------------------------------------------------------------------------------------


def write_pair(folder: Path, truth: dict, results) -> tuple[Path, Path]:
    return put(folder / "g.json", json.dumps(truth)), put(folder / "p.json", json.dumps(results))


def test_a_pair_is_read_into_what_matching_takes(tmp_path):
    """Class ids are positions in the category list, crowds are marked, detections are sorted, clusters are found."""
    truth = coco_content(
        images=[
            {
                "id": 5,
                "file_name": "a.jpg",
                "width": W,
                "height": H,
                "camera": "gate",
                "captured_at": "2026-03-01T08:59:00Z",
            },
            {"id": "x", "file_name": "b.jpg", "width": W, "height": H, "cluster": "yard@1"},
            {"id": 6, "file_name": "c.jpg", "width": W, "height": H},
        ],
        annotations=[
            {"id": 1, "image_id": 5, "category_id": 20, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 5, "category_id": 10, "bbox": [0, 0, 50, 50], "iscrowd": 1},
            {"id": 3, "image_id": 5, "category_id": 10, "bbox": [4, 4, 0, 4]},
        ],
        categories=[{"id": 20, "name": "bus"}, {"id": 10, "name": "car"}],
    )
    results = [
        {"image_id": 5, "category_id": 20, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 5, "category_id": 10, "bbox": [-3, 2, 3, 4], "score": 0.75},
    ]
    pair = read_coco_pair(*write_pair(tmp_path, truth, results))
    assert pair.class_names == ("car", "bus")
    assert [(i.name, i.cluster, i.camera) for i in pair.images] == [
        ("a.jpg", "gate@2026-03-01T08", "gate"), ("b.jpg", "yard@1", ""), ("c.jpg", "image:c.jpg", ""),
    ]  # fmt: skip
    first = pair.images[0]
    assert first.truths.class_id.tolist() == [1, 0]
    assert first.truths.crowd.tolist() == [False, True]
    assert first.truths.xyxy.tolist() == [[1, 2, 4, 6], [0, 0, 50, 50]]
    assert first.detections.confidence.tolist() == [0.75, 0.25]
    assert first.detections.class_id.tolist() == [0, 1]
    assert first.detections.xyxy.tolist() == [[-3, 2, 0, 6], [1, 2, 4, 6]]
    assert pair.warnings == ("g.json: 1 boxes without area or outside their image left out, the first: annotations[2]",)

    write_coco_pair(tmp_path / "g2.json", tmp_path / "p2.json", pair)
    again = read_coco_pair(tmp_path / "g2.json", tmp_path / "p2.json")
    assert again.class_names == pair.class_names
    for one, two in zip(pair.images, again.images):
        assert (one.name, one.cluster, one.camera) == (two.name, two.cluster, two.camera)
        np.testing.assert_array_equal(one.truths.xyxy, two.truths.xyxy)
        np.testing.assert_array_equal(one.detections.xyxy, two.detections.xyxy)
        np.testing.assert_array_equal(one.detections.confidence, two.detections.confidence)


RESULT = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("truth", "results", "message"),
    [
        (coco_content(images=[]), [], "annotations.0. is of image '1', which is not in the file"),
        (coco_content(images=[], annotations=[]), [], "nothing to evaluate"),
        (coco_content(images=coco_content()["images"] * 2), [], r"images.1. has no id of its own"),
        (coco_content(annotations=coco_content()["annotations"] * 2), [], r"annotations.1. has the id '1' of another"),
        (coco_content(categories=[{"id": 1, "name": "a"}] * 2), [], "category 1 needs a number of its own"),
        (coco_content(categories=[{"id": 2, "name": "a"}]), [], "class that is not in the list: category 1"),
        (coco_content(images=[{"id": 1, "file_name": "a", "width": 0, "height": 3}]), [], "width is '0'"),
        (coco_content(images=[{"id": 1, "file_name": "a"}]), [], "width is 'None'"),
        (coco_content(), {"annotations": []}, "COCO results are a list"),
        (coco_content(), [5], "is no object"),
        (coco_content(), [RESULT | {"image_id": 2}], "image_id '2' is not in the ground truth"),
        (coco_content(), [RESULT | {"image_id": [1]}], "is not in the ground truth"),
        (coco_content(), [RESULT | {"category_id": 3}], "category_id '3' is not one of the ground truth's 1, 2"),
        (coco_content(), [RESULT | {"score": 1.5}], "score 1.5 is outside"),
        (coco_content(), [RESULT | {"score": "high"}], "score is 'high', not a number"),
        (coco_content(), [RESULT | {"bbox": [1, 2, 3]}], "bbox is not a list of four"),
        (coco_content(), [RESULT | {"bbox": [1, 2, 3, float("nan")]}], "bbox is not finite"),
        (coco_content(), [RESULT | {"bbox": [1, 2, 3, 10**400]}], "bbox is not finite"),
        (coco_content(), [RESULT | {"bbox": [1, 2, -3, 4]}], "bbox has a size of"),
    ],
)
def test_a_pair_that_cannot_be_meant_is_an_error_with_its_entry(tmp_path, truth, results, message):
    """Duplicate ids, unknown images and categories, scores and boxes that are none."""
    with pytest.raises(LabelsInvalid, match=message) as caught:
        read_coco_pair(*write_pair(tmp_path, truth, results))
    assert "\n" not in str(caught.value)


def test_a_pair_without_detections_warns(tmp_path):
    """An empty list of results is legal, and said aloud."""
    pair = read_coco_pair(*write_pair(tmp_path, coco_content(), []))
    assert [len(i.detections) for i in pair.images] == [0]
    assert "every object counts as missed" in pair.warnings[0]
