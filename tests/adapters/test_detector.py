"""The detector against files and outputs of every kind, good and bad."""

import hashlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tasks.adapters.detector import COCO_80, DetectorSettings, open_detector, probe_frame
from tasks.adapters.detector.formats import UltralyticsFormat, YoloxFormat
from tasks.adapters.detector.preprocessing import InputBuffer
from tasks.core.boxes import Letterbox
from tasks.core.errors import ClassesDoNotOverlap, ImageUnreadable, ModelError
from tests.adapters.models import constant_model, finished, saved, ultralytics_output, with_metadata

CAR_AND_DOG = ("car", "dog")
FRAME = np.zeros((128, 128, 3), np.uint8)  # twice the 64 x 64 of the test models


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_an_ultralytics_export_gives_boxes_in_frame_pixels(two_boxes):
    """Boxes come back through the letterbox, in descending confidence, as float32 and int64 columns."""
    detector = open_detector(two_boxes, project_classes=None)
    detections = detector.detect(FRAME)
    assert detector.format == "ultralytics"
    assert detections.names == ["car", "dog"]
    np.testing.assert_allclose(detections.xyxy, [[48, 56, 80, 72], [0, 0, 64, 64]])
    np.testing.assert_allclose(detections.confidence, [0.9, 0.3])
    assert (detections.xyxy.dtype, detections.confidence.dtype) == (np.float32, np.float32)
    assert detections.class_id.dtype == np.int64


def test_the_model_version_is_the_digest_of_the_file(two_boxes):
    """16 hex of the sha256, so that equal files are equal versions everywhere."""
    digest = hashlib.sha256(two_boxes.read_bytes()).hexdigest()
    detector = open_detector(two_boxes, project_classes=None)
    assert (detector.sha256, detector.model_version) == (digest, digest[:16])
    assert detector.image_size == (64, 64)
    assert not detector.is_stub


def test_class_ids_are_those_of_the_project(two_boxes):
    """Names decide, not positions; surplus classes are left out and named, missing ones are named."""
    detector = open_detector(two_boxes, project_classes=["bus", "dog"])
    detections = detector.detect(FRAME)
    assert detector.class_names == detections.class_names == ("bus", "dog")
    assert detections.class_id.tolist() == [1]
    assert detector.surplus_classes == ("car",)
    assert detector.missing_classes == ("bus",)


def test_a_model_without_any_class_of_the_project_is_refused(two_boxes):
    """The error names both lists, so that a differing spelling can be seen."""
    with pytest.raises(ClassesDoNotOverlap) as error:
        open_detector(two_boxes, project_classes=["Car", "truck"])
    assert "car, dog" in one_line(error)
    assert "Car, truck" in one_line(error)


def test_only_what_reaches_the_floor_is_kept(two_boxes):
    """The floor itself is kept (0.3), what lies below it is not; settings can be exchanged between frames."""
    detector = open_detector(two_boxes, project_classes=None, confidence_floor=0.3)
    assert len(detector.detect(FRAME)) == 2
    detector.settings = DetectorSettings(confidence_floor=0.31)
    assert detector.detect(FRAME).names == ["car"]


def test_nms_is_class_wise_and_the_number_of_detections_is_capped(tmp_path):
    """Copies of a box are suppressed within their class only; the best `max_detections` stay."""
    box = (32, 32, 16, 16)
    rows = [(box, (0.9, 0)), (box, (0.8, 0)), (box, (0, 0.7)), ((8, 8, 8, 8), (0.2, 0))]
    path = saved(constant_model(ultralytics_output(rows, 2), names=CAR_AND_DOG), tmp_path)
    found = open_detector(path, project_classes=None).detect(FRAME)
    assert found.names == ["car", "dog", "car"]
    np.testing.assert_allclose(found.confidence, [0.9, 0.7, 0.2])
    assert len(open_detector(path, project_classes=None, max_detections=2).detect(FRAME)) == 2


def test_the_iou_of_nms_is_the_one_that_is_set(tmp_path):
    """Boxes that overlap the best one by 0.80 and by exactly 0.6 come back one by one as the limit rises."""
    rows = [((32, 32, 40, 40), (0.9, 0)), ((32, 36.5, 40, 40), (0.8, 0)), ((42, 32, 40, 40), (0.7, 0))]  # 0.80, 0.6
    path = saved(constant_model(ultralytics_output(rows, 2), names=CAR_AND_DOG), tmp_path)
    assert len(open_detector(path, project_classes=None, nms_iou=0.59).detect(FRAME)) == 1
    assert len(open_detector(path, project_classes=None).detect(FRAME)) == 2
    assert len(open_detector(path, project_classes=None, nms_iou=0.85).detect(FRAME)) == 3


def test_boxes_are_clipped_and_those_in_the_padding_are_left_out(tmp_path):
    """A wide frame leaves padding above and below; a box there is of nothing."""
    rows = [((32, 32, 100, 20), (0.9, 0)), ((32, 4, 20, 4), (0.8, 0))]
    path = saved(constant_model(ultralytics_output(rows, 2), names=CAR_AND_DOG), tmp_path)
    detections = open_detector(path, project_classes=None).detect(np.zeros((64, 128, 3), np.uint8))
    np.testing.assert_allclose(detections.xyxy, [[0, 12, 128, 52]])


def test_the_nms_free_head_is_not_suppressed_again(tmp_path):
    """Rows of (1, 300, 6) are taken as they are, boxes as corners, padding rows left out."""
    output = np.zeros((1, 300, 6), np.float32)
    output[0, :3] = [[8, 8, 24, 24, 0.05, 1], [8, 8, 24, 24, 0.9, 1], [0, 0, 64, 64, 0.0499, 0]]
    model = constant_model(output, names=CAR_AND_DOG, metadata={"end2end": True})
    detector = open_detector(saved(model, tmp_path), project_classes=None)
    detections = detector.detect(FRAME)
    assert detector.format == "ultralytics-nms-free"
    assert detections.names == ["dog", "dog"]
    np.testing.assert_allclose(detections.confidence, [0.9, 0.05])
    np.testing.assert_allclose(detections.xyxy, [[16, 16, 48, 48]] * 2)


def test_yolox_is_decoded_with_its_grid_and_strides(tmp_path):
    """xy = (raw + grid) * stride, wh = exp(raw) * stride, confidence = objectness * class, letterbox top left."""
    output = np.zeros((1, 84, 85), np.float32)  # 8 x 8 + 4 x 4 + 2 x 2 cells of a 64 x 64 input
    output[0, 8 * 3 + 2, :5] = [0.5, 0.25, np.log(2), np.log(1), 0.8]  # stride 8, cell (2, 3)
    output[0, 8 * 3 + 2, 5 + 2] = 0.5
    output[0, 64 + 4 * 1 + 3, :5] = [0, 0, 0, 0, 0.9]  # stride 16, cell (3, 1)
    output[0, 64 + 4 * 1 + 3, 5 + 7] = 0.9
    detector = open_detector(saved(constant_model(output), tmp_path), project_classes=None, model_classes="coco80")
    detections = detector.detect(np.zeros((64, 32, 3), np.uint8))
    assert detector.format == "yolox"
    assert detector.class_names == COCO_80
    assert detections.names == ["car"]  # the truck's box (40 to 56) lies right of the frame
    np.testing.assert_allclose(detections.xyxy, [[12, 22, 28, 30]], rtol=1e-6)
    np.testing.assert_allclose(detections.confidence, [0.4])


def test_the_stub_sees_nothing():
    """A device without a model runs the same loop, with the project's class names and no detections."""
    detector = open_detector("stub", project_classes=["car", "truck"])
    assert len(detector.detect(FRAME)) == 0
    assert detector.detect(FRAME).class_names == ("car", "truck")
    assert detector.is_stub
    assert (detector.model_version, detector.sha256, detector.format) == ("stub", "", "stub")
    assert detector.missing_classes == ("car", "truck")
    assert detector.raw_output(FRAME).size == 0


def test_a_half_precision_model_runs(tmp_path):
    """Float16 inputs and outputs, as exports with half=True have, give float32 columns."""
    output = ultralytics_output([((32, 32, 16, 8), (0.875, 0))], 2).astype(np.float16)
    model = constant_model(output, names=CAR_AND_DOG, input_type=TensorProto.FLOAT16)
    detections = open_detector(saved(model, tmp_path), project_classes=None).detect(FRAME)
    assert detections.confidence.tolist() == [0.875]
    assert detections.confidence.dtype == np.float32


def test_a_dynamic_input_takes_its_size_from_the_metadata(tmp_path):
    """An export with dynamic=True runs at the imgsz it was exported for."""
    output = ultralytics_output([((48, 32, 16, 8), (0.9, 0))], 2)
    shape = ("batch", 3, "height", "width")
    model = constant_model(output, names=CAR_AND_DOG, input_shape=shape, metadata={"imgsz": [64, 96]})
    assert open_detector(saved(model, tmp_path), project_classes=None).image_size == (64, 96)
    model = constant_model(output, names=CAR_AND_DOG, input_shape=shape)
    with pytest.raises(ModelError, match="set imgsz"):
        open_detector(saved(model, tmp_path), project_classes=None)


def test_equal_frames_give_equal_detections_whatever_came_between(tmp_path):
    """Buffers that are used again leave nothing of an earlier frame of another size."""
    detector = open_detector(saved(picture_model(), tmp_path), project_classes=None)
    frames = [probe_frame(*size) for size in ((480, 640), (64, 64), (100, 33), (480, 640))]
    first = [detector.raw_output(frame) for frame in frames]
    again = [detector.raw_output(frame) for frame in reversed(frames)][::-1]
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], first[1])


def picture_model():
    """A model whose output is its input, so that tests can look at what it was given: (1, 4 + 188, 64) for 64 x 64."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "shape"], ["output0"])],
        "picture",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, (1, 192, 64))],
        [numpy_helper.from_array(np.array([1, 192, 64]), "shape")],
    )
    return with_metadata(finished(graph), {"names": [f"class {i}" for i in range(188)], "stride": 32})


# --- what goes in ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 300), st.integers(2, 300), st.sampled_from([(64, 64), (64, 96)]), st.integers(0, 2**31))
def test_the_input_is_the_reference_letterbox(height, width, input_size, seed):
    """One pass into the buffer equals resize, copyMakeBorder with 114, transpose and divide, for both families."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    for format_ in (UltralyticsFormat(), YoloxFormat(input_size)):
        buffer = InputBuffer(format_, input_size, np.float32)
        letterbox = buffer.write(pixels)
        (rows, columns), (left, top) = letterbox.resized, letterbox.pad
        scaled = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR)
        below, right = input_size[0] - rows - top, input_size[1] - columns - left
        padded = cv2.copyMakeBorder(scaled, top, below, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        if isinstance(format_, UltralyticsFormat):
            expected = padded[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        else:
            expected = padded.transpose(2, 0, 1).astype(np.float32)
        np.testing.assert_array_equal(buffer.tensor[0], expected)


def test_the_letterbox_sits_where_each_family_wants_it():
    """Ultralytics centres, with the odd pixel right and below; YOLOX starts at the upper left corner."""
    assert UltralyticsFormat().letterbox((480, 640), (416, 416)) == Letterbox.centred((480, 640), (416, 416))
    assert Letterbox.centred((10, 20), (31, 20)).pad == (0, 10)
    assert Letterbox.centred((20, 10), (20, 31)).pad == (10, 0)
    assert YoloxFormat((416, 416)).letterbox((480, 640), (416, 416)).pad == (0, 0)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_frame_is_one_bad_item(two_boxes, pixels):
    """It is a DataError that loops can count, and the next frame works."""
    detector = open_detector(two_boxes, project_classes=None)
    for one in (detector, open_detector("stub", project_classes=["car"])):
        with pytest.raises(ImageUnreadable):
            one.detect(pixels)
    assert len(detector.detect(FRAME)) == 2


def test_views_and_strides_of_a_frame_do_not_matter(tmp_path):
    """A crop, a mirrored view and a Fortran copy give what their contiguous copy gives."""
    detector = open_detector(saved(picture_model(), tmp_path), project_classes=None)
    frame = probe_frame(200, 300)
    for view in (frame[20:100, 30:150], frame[:, ::-1], np.asfortranarray(frame), frame[::2, ::3]):
        np.testing.assert_array_equal(detector.raw_output(view), detector.raw_output(np.ascontiguousarray(view)))


def test_the_probe_frame_is_the_same_everywhere():
    """Its bytes are fixed: central and device compare outputs for it."""
    assert hashlib.sha256(probe_frame().tobytes()).hexdigest()[:16] == "fa9840fdc6161a64"
    assert probe_frame(480, 640).shape == (480, 640, 3)


# --- preparing ahead -------------------------------------------------------------------------------------------------


def test_frames_prepared_ahead_give_what_detect_gives(tmp_path):
    """A thread that prepares frames of several sizes while the model runs changes no output."""
    detector = open_detector(saved(picture_model(), tmp_path), project_classes=None)
    frames = [probe_frame(40 + 7 * i, 90 - 5 * i) for i in range(12)] * 4
    ready: queue.Queue = queue.Queue(3)

    def prepare():
        for frame in frames:
            ready.put(detector.prepare(frame))

    thread = threading.Thread(target=prepare)
    thread.start()
    for frame in frames:
        prepared = ready.get()
        output = detector.run(prepared).copy()
        buffer = InputBuffer(UltralyticsFormat(), (64, 64), np.float32)
        assert prepared.letterbox == buffer.write(frame)
        np.testing.assert_array_equal(output.ravel(), buffer.tensor.ravel())
        detector.settings = DetectorSettings(confidence_floor=1)
        detector.detect_prepared(prepared)  # gives the buffer back, so that it is used again
    thread.join()


def test_frames_run_ahead_keep_their_outputs_apart(tmp_path):
    """Outputs of several frames wait side by side, each decoded later and in any order to what `raw_output` gives."""
    detector = open_detector(saved(picture_model(), tmp_path), project_classes=None)
    frames = [probe_frame(40 + 9 * i, 70 + 5 * i) for i in range(5)]
    expected = [detector.raw_output(frame) for frame in frames]
    waiting = [detector.prepare(frame) for frame in frames]
    for prepared in waiting:
        detector.run(prepared)
    for prepared, output in zip(waiting[::-1], expected[::-1]):
        np.testing.assert_array_equal(detector.run(prepared), output)
        detector.detect_prepared(prepared)


def test_the_model_runs_once_on_a_prepared_frame(tmp_path):
    """A second run gives the first one's output, also when the input has been written over."""
    detector = open_detector(saved(picture_model(), tmp_path), project_classes=None)
    prepared = detector.prepare(probe_frame())
    output = detector.run(prepared).copy()
    prepared.input.buffer.tensor.fill(0)
    np.testing.assert_array_equal(detector.run(prepared), output)
    assert output.any()


def test_threads_may_share_a_detector(two_boxes):
    """Four threads detect at the same time, each in frames of its own size: every one gets its own boxes."""
    detector = open_detector(two_boxes, project_classes=None, threads=1)
    sizes = [(64, 64), (128, 128), (256, 256), (512, 512)]
    expected = [detector.detect(np.zeros((*size, 3), np.uint8)) for size in sizes]

    def detect(size):
        return [detector.detect(np.zeros((*size, 3), np.uint8)) for _ in range(50)]

    with ThreadPoolExecutor(len(sizes)) as pool:
        for alone, together in zip(expected, pool.map(detect, sizes)):
            assert all(np.array_equal(alone.xyxy, one.xyxy) for one in together)
            assert all(np.array_equal(alone.confidence, one.confidence) for one in together)


def test_a_prepared_frame_belongs_to_its_detector_and_is_detected_in_once(two_boxes):
    """A frame of the model before a swap, of the stub, or one that was used already is refused, not misread."""
    detector, other = (open_detector(two_boxes, project_classes=None) for _ in range(2))
    used = detector.prepare(FRAME)
    assert len(detector.detect_prepared(used)) == 2
    stub = open_detector("stub", project_classes=["car"])
    for prepared in (used, other.prepare(FRAME), stub.prepare(FRAME)):
        with pytest.raises(ModelError, match="not prepared by this detector"):
            detector.detect_prepared(prepared)
    assert len(stub.detect_prepared(other.prepare(FRAME))) == 0
    assert len(detector.detect(FRAME)) == len(other.detect(FRAME)) == 2
