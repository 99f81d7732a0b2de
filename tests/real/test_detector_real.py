"""The detector on real photographs and video with a real model, and side by side with ultralytics on its exports."""

import cv2
import numpy as np
import pytest

from tasks.adapters.camera import ImageFolder, Timeline, open_source
from tasks.adapters.detector import COCO_80, open_detector
from tasks.core.boxes import iou_matrix
from tests.real.shared_data import VEHICLE_CLASSES, VEHICLES, VIDEO, YOLOX_NANO, needs

FLOOR, NMS_IOU = 0.05, 0.6


def yolox(**changes):
    settings = {"project_classes": VEHICLE_CLASSES, "model_classes": "coco80", "threads": 1, **changes}
    return open_detector(YOLOX_NANO, **settings)


def photographs(split="test"):
    return ImageFolder(VEHICLES / "images" / split, "photographs", Timeline())


def true_boxes(frame, split="test"):
    """Class ids (n,) and boxes (n, 4) in pixels from a YOLO label file."""
    text = (VEHICLES / "labels" / split / frame.source).with_suffix(".txt").read_text()
    rows = np.array([line.split() for line in text.splitlines() if line.strip()], float).reshape(-1, 5)
    centre, size = rows[:, 1:3], rows[:, 3:5]
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return rows[:, 0].astype(int), corners * np.tile([frame.width, frame.height], 2)


def reference_yolox(session, pixels):
    """YOLOX's demo, step by step: preproc, demo_postprocess, the best class of every location, NMS one by one."""
    ratio = min(416 / pixels.shape[0], 416 / pixels.shape[1])
    padded = np.full((416, 416, 3), 114, np.uint8)
    resized = cv2.resize(pixels, (int(pixels.shape[1] * ratio), int(pixels.shape[0] * ratio)))
    padded[: resized.shape[0], : resized.shape[1]] = resized
    blob = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)
    output = session.run(None, {"images": blob})[0][0]
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(416 // stride) for x in range(416 // stride)]
    found = []
    for row, (x, y, stride) in zip(output, cells):
        scores = row[4] * row[5:]
        if scores.max() >= FLOOR:
            centre, size = (row[:2] + np.array([x, y])) * stride, np.exp(row[2:4]) * stride
            found.append((*(centre - size / 2), *(centre + size / 2), scores.max(), scores.argmax()))
    kept = []
    for row in sorted(found, key=lambda row: -row[4]):
        if all(k[5] != row[5] or iou_matrix([k[:4]], [row[:4]])[0, 0] <= NMS_IOU for k in kept):
            kept.append(row)
    result = np.array(kept).reshape(-1, 6)
    limits = np.tile([pixels.shape[1], pixels.shape[0]], 2)
    result[:, :4] = np.clip(result[:, :4] / ratio, 0, limits)
    return result


@needs(VEHICLES, YOLOX_NANO)
def test_yolox_sees_most_of_the_labelled_vehicles():
    """At 0.3, at least 6 of 10 labelled vehicles of the classes it knows have a box of their class at IoU 0.5."""
    detector = yolox(confidence_floor=0.3)
    assert detector.missing_classes == ("ambulance",)
    assert len(detector.surplus_classes) == 76
    seen = labelled = 0
    for frame in photographs():
        class_id, boxes = true_boxes(frame)
        detections = detector.detect(frame.pixels)
        matches = (iou_matrix(boxes, detections.xyxy) >= 0.5) & (class_id[:, None] == detections.class_id)
        known = class_id != VEHICLE_CLASSES.index("ambulance")
        seen, labelled = seen + matches.any(axis=1)[known].sum(), labelled + known.sum()
    assert labelled == 120
    assert seen >= 0.6 * labelled


@pytest.mark.slow
@needs(VEHICLES, YOLOX_NANO)
def test_yolox_equals_its_reference_on_photographs():
    """The same boxes, confidences and classes as the demo's steps, on the photographs of the test split."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(YOLOX_NANO), providers=["CPUExecutionProvider"])
    detector = yolox(project_classes=None)
    compared = 0
    for frame in list(photographs())[::3]:
        # Squares fill the input; a crop also exercises the scale and the padding.
        for pixels in (frame.pixels, frame.pixels[40:300]):
            ours, expected = detector.detect(pixels), reference_yolox(session, pixels)
            assert len(ours) == len(expected)
            np.testing.assert_allclose(ours.confidence, expected[:, 4], atol=1e-5)
            np.testing.assert_allclose(ours.xyxy, expected[:, :4], atol=0.01)
            assert ours.class_id.tolist() == expected[:, 5].astype(int).tolist()
            compared += len(ours)
    assert compared > 200


@needs(VIDEO, YOLOX_NANO)
def test_the_video_is_read_to_its_end_and_its_cars_are_seen():
    """All 377 frames at 12.5 a second; from above, YOLOX-nano takes the cars for many things, but it sees them."""
    detector = yolox(project_classes=None)
    source = open_source(str(VIDEO), "road")
    frames = found = 0
    for index, frame in enumerate(source):
        frames += 1
        if index % 10 == 0:
            assert frame.pixels.shape == (432, 768, 3)
            found += len(detector.detect(frame.pixels))
    assert (frames, source.fps, source.skipped) == (377, 12.5, {})
    assert found > 20
    assert detector.class_names == COCO_80


# --- ultralytics -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ultralytics_folder(tmp_path_factory):
    pytest.importorskip("ultralytics")
    from tests.benchmarks.edge_models import prepare_ultralytics

    folder = tmp_path_factory.mktemp("ultralytics")
    prepare_ultralytics(folder)
    return folder


@pytest.mark.slow
@needs(VEHICLES)
@pytest.mark.parametrize(
    ("architecture", "arguments", "format_"),
    [
        ("v5/yolov5", {}, "ultralytics"),
        ("v8/yolov8", {}, "ultralytics"),
        ("11/yolo11", {}, "ultralytics"),
        ("11/yolo11", {"dynamic": True}, "ultralytics"),
        ("26/yolo26", {}, "ultralytics"),
        ("26/yolo26", {"nms": False}, "ultralytics-nms-free"),
    ],
    ids=["v5u", "v8", "11", "11 dynamic", "26", "26 NMS-free"],
)
def test_exports_give_what_ultralytics_predicts(ultralytics_folder, architecture, arguments, format_):
    """The same detections as `YOLO("x.onnx").predict` on photographs, wide and high crops of them included."""
    from ultralytics import YOLO

    from tests.benchmarks.edge_models import SMALL_INPUT, export_small_model

    frames = [frame.pixels for frame in photographs()]
    path = export_small_model(ultralytics_folder, architecture, pictures=frames[::4], **arguments)
    detector = open_detector(path, project_classes=None, confidence_floor=FLOOR, nms_iou=NMS_IOU, threads=1)
    assert detector.format == format_
    assert detector.image_size == (SMALL_INPUT, SMALL_INPUT)
    reference, compared = YOLO(str(path), task="detect"), 0
    for frame in frames[::12]:
        for pixels in (frame, frame[100:233], frame[:, 50:151].copy()):
            settings = {"imgsz": SMALL_INPUT, "conf": FLOOR, "iou": NMS_IOU, "max_det": 300, "rect": False}
            expected = reference.predict(pixels, **settings, verbose=False, device="cpu")[0].boxes.data.numpy()
            compared += assert_same_detections(detector.detect(pixels), expected)
    assert compared > 100


def assert_same_detections(ours, expected):
    """Equal as sets: where confidences tie, the order is no part of the meaning. Returns how many there were."""
    has_area = (expected[:, 2:4] > expected[:, :2]).all(axis=1)
    rows = np.column_stack([ours.xyxy, ours.confidence, ours.class_id])
    assert len(rows) == has_area.sum()
    for table in (rows, expected):
        assert (np.diff(table[:, 4]) <= 0).all()
    if len(rows):
        difference = np.abs(rows[:, None] - expected[has_area]).max(axis=2)
        assert difference.min(axis=0).max() < 0.02, "a detection of ultralytics is missing"
        assert difference.min(axis=1).max() < 0.02, "a detection of ours is no detection of ultralytics"
    return len(rows)
