"""Ultralytics' segmentation, pose and classification exports, beside what ultralytics makes of the same files."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.adapters.detector import open_detector
from tasks.collector import run_collector
from tasks.core.settings import SamplingSettings
from tests.adapters.models import constant_model, saved
from tests.tasks.collecting import a_device, samples_of

SIDE = 64  # pixels of the input, as `enliven` feeds it
FLOOR, NMS_IOU = 0.05, 0.6
CLASSES = 3
SATURATED = 0.9999  # confidences of an untrained network that may be equal


def pictures(count, sizes=((64, 64), (120, 200), (150, 90))):
    """Smooth random pictures with hard edges, so that outputs vary and resampling matters."""
    rng = np.random.default_rng(5)
    made = []
    for n in range(count):
        height, width = sizes[n % len(sizes)]
        coarse = rng.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        x, y = rng.integers(0, [width // 2, height // 2])
        cv2.rectangle(picture, (int(x), int(y)), (int(x) + 20, int(y) + 30), rng.integers(0, 256, 3).tolist(), -1)
        made.append(picture)
    return made


@pytest.fixture(scope="module")
def ultralytics_folder(tmp_path_factory):
    pytest.importorskip("ultralytics")
    from tasks.adapters.trainer.library import ultralytics
    from tests.benchmarks.edge_models import prepare_ultralytics

    ultralytics()  # its own import replaces Pillow's open for all tests after these

    folder = tmp_path_factory.mktemp("ultralytics")
    prepare_ultralytics(folder)
    return folder


def exported(folder, name, **arguments):
    """An untrained network of three classes from its yaml, made to answer differently to different pictures."""
    import torch
    import yaml
    from ultralytics import YOLO
    from ultralytics.utils import ROOT

    from tests.benchmarks.edge_models import enliven

    family = name.removeprefix("yolo")[:2]
    config = yaml.safe_load((ROOT / "cfg" / "models" / family / f"{name[:6]}{name[7:]}.yaml").read_text())
    config.update(nc=CLASSES, scale="n")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    model = YOLO(str(path))
    model.model.pt_path = str(path.with_suffix(".pt"))
    enliven(model.model, pictures(6))
    head = model.model.model[-1]
    if hasattr(head, "linear"):
        head.linear.weight.data.normal_(0, 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing names everything that it freezes
        return Path(
            model.export(format="onnx", imgsz=SIDE, opset=17, simplify=False, verbose=False, device="cpu", **arguments)
        )


def only_ours(ours, pairs):
    """Rows of ours that have no partner, but those of confidence 1."""
    return [n for n in range(len(ours)) if ours.confidence[n] < SATURATED and n not in {row for _, row in pairs}]


def predicted(path, task, pixels, **settings):
    from ultralytics import YOLO

    given = {"imgsz": SIDE, "conf": FLOOR, "iou": NMS_IOU, "max_det": 300, "rect": False, **settings}
    return YOLO(str(path), task=task).predict(pixels, **given, verbose=False, device="cpu")


def few_of(boxes):
    return max(2, 0.05 * len(boxes))


def partners(ours, result):
    """`(row of ultralytics, row of ours)` of every box that has an area and that both have, to 0.02 in all columns.

    Of two boxes that overlap by the limit of NMS but for a rounding error, either may be the one that stays: hence both
    may have two boxes, or one in twenty, that the other has not. Boxes of confidence 1 have no order among themselves,
    so that NMS may leave others of them.
    """
    boxes = result.boxes.data.numpy()
    rows = np.flatnonzero((boxes[:, 2:4] > boxes[:, :2]).all(axis=1))
    if not len(ours):
        assert not len(rows)
        return []
    table = np.column_stack([ours.xyxy, ours.confidence, ours.class_id])
    difference = np.abs(table[:, None] - boxes[rows]).max(axis=2)
    pairs = [(int(rows[n]), int(row)) for n, row in enumerate(difference.argmin(axis=0)) if difference[row, n] < 0.02]
    found = {theirs for theirs, _ in pairs}
    assert sum(boxes[row, 4] < SATURATED and row not in found for row in rows.tolist()) <= few_of(rows)
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "format_"),
    [("yolo11n-pose", {}, "ultralytics"), ("yolo26n-pose", {"nms": False}, "ultralytics-nms-free")],
)
def test_keypoints_are_those_that_ultralytics_predicts(ultralytics_folder, name, arguments, format_):
    """The same boxes and the same keypoints, to a hundredth of a pixel, in pictures of three shapes."""
    path = exported(ultralytics_folder, name, **arguments)
    detector = open_detector(path, project_classes=None, confidence_floor=FLOOR, nms_iou=NMS_IOU, threads=1)
    assert (detector.format, detector.task) == (format_, "keypoint-detection")
    frames, compared = pictures(6), 0
    for frame, result in zip(frames, predicted(path, "pose", frames)):
        ours, expected = detector.detect(frame), result.keypoints.data.numpy()
        pairs = partners(ours, result)
        assert len(only_ours(ours, pairs)) <= few_of(ours)
        for theirs, row in pairs:
            np.testing.assert_allclose(ours.keypoints[row], expected[theirs], atol=0.01)
        compared += len(pairs)
    assert compared > 50


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), [("yolo11n-seg", {}), ("yolo26n-seg", {"nms": False})])
def test_masks_are_those_that_ultralytics_predicts(ultralytics_folder, name, arguments):
    """The same boxes; masks at the size of the frame agree but for pixels at their edges, IoU 0.95 in the median."""
    path = exported(ultralytics_folder, name, **arguments)
    detector = open_detector(path, project_classes=None, confidence_floor=FLOOR, nms_iou=NMS_IOU, threads=1, masks=True)
    assert detector.task == "instance-segmentation"
    agreement = []
    frames = pictures(9)
    for frame, result in zip(frames, predicted(path, "segment", frames, retina_masks=True)):
        ours = detector.detect(frame)
        pairs = partners(ours, result)
        for theirs, row in pairs:
            expected = result.masks.data[theirs].numpy() > 0
            found = ours.masks[row].pixels()
            agreement.append((found & expected).sum() / (found | expected).sum())
        # Ultralytics leaves out what has a box and no pixel of a mask; to sampling it is a detection like others.
        assert sum(ours.masks[row].area > 4 for row in only_ours(ours, pairs)) <= few_of(ours)
    assert len(agreement) > 40
    assert np.median(agreement) > 0.95
    assert np.mean(np.array(agreement) > 0.8) > 0.9


@pytest.mark.slow
def test_probabilities_are_those_that_ultralytics_predicts(ultralytics_folder):
    """Equal in pictures whose shorter side is the input's; how near the input is to Pillow's in others is tested apart.

    An untrained network may answer a few grey values with another class.
    """
    path = exported(ultralytics_folder, "yolo11n-cls")
    detector = open_detector(path, project_classes=None, confidence_floor=0.0, threads=1)
    assert (detector.format, detector.task) == ("ultralytics-classify", "classification")
    frames, seen = pictures(10, ((64, 64), (64, 101), (90, 64), (64, 300), (201, 64))), set()
    for frame, result in zip(frames, predicted(path, "classify", frames)):
        ours, expected = detector.detect(frame), result.probs.data.numpy()
        np.testing.assert_allclose(ours.confidence[np.argsort(ours.class_id)], expected, atol=1e-5)
        assert ours.class_id[0] == result.probs.top1
        seen.add(round(float(expected[0]), 3))
    assert len(seen) > 6  # the network answers differently


# --- collecting with a classifier ------------------------------------------------------------------------------------


def a_classifier(folder, probabilities):
    output = np.array([probabilities], np.float32)
    return saved(constant_model(output, names=("cat", "dog", "owl"), metadata={"task": "classify"}), folder)


def a_strategy(**fields):
    return SamplingSettings.model_validate({"sampling_strategies": [{"name": "only", "probability": 1, **fields}]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "keeps"),
    [
        ({"type": "classes_based", "selected_class_names": ["dog"]}, True),
        ({"type": "classes_based", "selected_class_names": ["cat"]}, False),
        ({"type": "close_to_threshold", "threshold": 0.6, "epsilon": 0.1}, True),
        ({"type": "close_to_threshold", "threshold": 0.3, "epsilon": 0.1}, False),
        ({"type": "close_to_threshold", "threshold": 0.3, "epsilon": 0.1, "only_top_classes": False}, True),
    ],
    ids=["its top class", "not its top class", "top class close", "another one close", "another one close, any asked"],
)
def test_a_collector_samples_by_top_classes(tmp_path, strategy, keeps):
    """A model that sees dog at 0.62 and cat at 0.31 in every picture: what is kept depends on which one is on top."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, picture in enumerate(pictures(4)):
        cv2.imwrite(str(folder / f"{n}.png"), picture)
    device = a_device(tmp_path, folder)
    model = a_classifier(tmp_path, [0.31, 0.62, 0.04])
    status = run_collector(device, model=str(model), sampling=a_strategy(**strategy), follow_releases=False)
    assert (status.frames, status.kept, status.last_error) == (4, 4 if keeps else 0, "")
    if keeps:
        from tasks.adapters.bucket import Bucket

        sample = samples_of(Bucket(device.bucket, "yard"))[0]
        assert [(d.class_name, d.confidence) for d in sample.detections] == [("dog", 0.62), ("cat", 0.31)]
        assert sample.detections[0].xyxy == (0, 0, sample.width, sample.height)
