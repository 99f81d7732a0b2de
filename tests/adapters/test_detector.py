"""The detector against files and outputs of every kind, good and bad."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tasks.adapters.detector import COCO_80, DetectorSettings, open_detector, probe_frame
from tasks.adapters.detector.formats import NmsFreeFormat, UltralyticsFormat, YoloxFormat
from tasks.adapters.detector.preprocessing import InputBuffer
from tasks.core.boxes import Letterbox
from tasks.core.errors import ClassesDoNotOverlap, EdgeloopError, ImageUnreadable, ModelError, SettingsError
from tests.adapters.detector_models import constant_model, finished, saved, ultralytics_output, with_metadata

CAR_AND_DOG = ("car", "dog")
FRAME = np.zeros((128, 128, 3), np.uint8)  # twice the 64 x 64 of the test models


@pytest.fixture
def two_boxes(tmp_path):
    """A car in the middle at 0.9 and a dog in the upper left quarter at 0.3."""
    output = ultralytics_output([((32, 32, 16, 8), (0.9, 0.1)), ((16, 16, 32, 32), (0.02, 0.3))], classes=2)
    return saved(constant_model(output, names=CAR_AND_DOG), tmp_path)


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
    with pytest.raises(ImageUnreadable):
        detector.detect(pixels)
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


# --- class names -----------------------------------------------------------------------------------------------------


def test_a_file_without_names_asks_for_them(tmp_path):
    """The message says how many names are needed and which option gives them; a list or coco80 does."""
    path = saved(constant_model(np.zeros((1, 84, 7), np.float32)), tmp_path)
    with pytest.raises(ModelError) as error:
        open_detector(path, project_classes=["car"])
    assert "--classes" in one_line(error)
    assert "2 classes" in one_line(error)
    for named in (["car", "dog"], "car, dog"):
        assert open_detector(path, project_classes=None, model_classes=named).class_names == CAR_AND_DOG
    with pytest.raises(ModelError, match="has 2 classes, but 80 names"):
        open_detector(path, project_classes=None, model_classes="coco80")
    with pytest.raises(ModelError, match="'coco' is not known"):
        open_detector(path, project_classes=None, model_classes="coco")


def test_the_names_of_the_file_win(two_boxes):
    """`model_classes` is for files that say nothing; a file's own names are what it was trained with."""
    detector = open_detector(two_boxes, project_classes=None, model_classes=["x", "y"])
    assert detector.class_names == CAR_AND_DOG


def test_coco_has_80_different_classes():
    """In the order of the 80-class detectors: person first, toothbrush last, car third."""
    assert len(set(COCO_80)) == 80
    assert (COCO_80[0], COCO_80[2], COCO_80[7], COCO_80[79]) == ("person", "car", "truck", "toothbrush")


@pytest.mark.parametrize("names", ["{0: 'car'}", "{1: 'car', 2: 'dog'}", "['car', 3]", "nonsense", "{}"])
def test_names_that_do_not_fit_are_refused(tmp_path, names):
    """Too few, not from 0, no texts, no literal: one line, not a wrong class."""
    output = ultralytics_output([], 2)
    path = saved(constant_model(output, metadata={"names": names, "task": "detect", "stride": 32}), tmp_path)
    with pytest.raises(ModelError) as error:
        open_detector(path, project_classes=None)
    assert str(path) in one_line(error)


# --- bad files -------------------------------------------------------------------------------------------------------


def bad_file(kind, folder):
    good = constant_model(ultralytics_output([], 2), names=CAR_AND_DOG)
    content = good.SerializeToString()
    path = folder / "model.onnx"
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
        return path
    path.write_bytes({"empty": b"", "text": b"no model " * 50, "truncated": content[: len(content) // 2]}[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "truncated"])
def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path, kind, capfd):
    """The line names the file and what to do, and the runtime adds nothing of its own."""
    path = bad_file(kind, tmp_path)
    with pytest.raises(ModelError) as error:
        open_detector(path, project_classes=None)
    assert str(path) in one_line(error)
    assert "again" in one_line(error) or "check the path" in one_line(error)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_damaged_file_raises_a_model_error_or_runs(tmp_path_factory, data):
    """Whatever byte is changed or cut, no other exception comes out."""
    content = bytearray(constant_model(ultralytics_output([], 2), names=CAR_AND_DOG).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        open_detector(path, project_classes=None).detect(FRAME)
    except EdgeloopError as error:
        assert "\n" not in str(error)  # noqa: PT017 - running without an error is right, too


def test_two_inputs_two_outputs_or_no_image_are_refused(tmp_path):
    """Each message says what the model has and what a detector has."""
    output = ultralytics_output([], 2)
    two_inputs, two_outputs = constant_model(output, names=CAR_AND_DOG), constant_model(output, names=CAR_AND_DOG)
    two_inputs.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (1,)))
    two_outputs.graph.output.append(helper.make_tensor_value_info("nothing", TensorProto.FLOAT, ()))
    models = {
        "one input, this model has 2": two_inputs,
        "one output, this model has 2": two_outputs,
        r"takes float images": constant_model(output, names=CAR_AND_DOG, input_shape=(1, 1, 64, 64)),
        r"is tensor\(uint8\)": constant_model(output, names=CAR_AND_DOG, input_type=TensorProto.UINT8),
        r"takes 4 images at a time": constant_model(output, names=CAR_AND_DOG, input_shape=(4, 3, 64, 64)),
        r"is tensor\(int64\), not floats": constant_model(output.astype(np.int64), names=CAR_AND_DOG),
    }
    for message, model in models.items():
        with pytest.raises(ModelError, match=message):
            open_detector(saved(model, tmp_path), project_classes=None)


@pytest.mark.parametrize("shape", [(1, 7, 84), (1, 6), (2, 6, 84), (1, 84, 9), (1, 300, 38)])
def test_an_output_of_no_known_format_is_refused_with_its_shape(tmp_path, shape):
    """Two classes in 64 x 64 pixels are (1, 6, 84) or (1, k, 6) and nothing else."""
    path = saved(constant_model(np.zeros(shape, np.float32), names=CAR_AND_DOG), tmp_path)
    with pytest.raises(ModelError) as error:
        open_detector(path, project_classes=None)
    assert str(shape) in one_line(error)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"task": "segment"}, "task 'segment'"),
        ({"head": "RTDETRDecoder"}, "RT-DETR"),
        ({"args": {"nms": True}}, "without nms"),
    ],
)
def test_models_of_another_kind_are_refused_by_their_metadata(tmp_path, metadata, message):
    """Other tasks, RT-DETR, and exports that cut confidences off inside the model."""
    output = np.zeros((1, 300, 6), np.float32)
    path = saved(constant_model(output, names=CAR_AND_DOG, metadata=metadata), tmp_path)
    with pytest.raises(ModelError, match=message):
        open_detector(path, project_classes=None)


@pytest.mark.parametrize("place", ["initializer", "constant node"])
@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "absolute", "*/_ORT_MEM_ADDR_/*"])
def test_tensors_outside_of_the_file_are_refused(tmp_path, monkeypatch, location, place):
    """External data is never followed: not beside the file, not in the working folder, not above, not absolute."""
    folder = tmp_path / "models"
    folder.mkdir()
    output = ultralytics_output([((32, 32, 16, 8), (0.9, 0.1))], 2)
    for beside in (tmp_path, folder):
        (beside / "weights.bin").write_bytes(output.tobytes())
    model = constant_model(output, names=CAR_AND_DOG)
    tensor = model.graph.initializer[0]
    if place == "constant node":
        node = helper.make_node("Constant", [], ["answer"], value=tensor)
        model.graph.node.insert(0, node)
        tensor = model.graph.node[0].attribute[0].t
        del model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    where = str(tmp_path / "weights.bin") if location == "absolute" else location
    for key, value in (("location", where), ("offset", "0"), ("length", str(output.nbytes))):
        tensor.external_data.add(key=key, value=value)
    path = saved(model, folder)
    monkeypatch.chdir(folder)
    for spelled in (path, Path("model.onnx")):
        with pytest.raises(ModelError, match="external data"):
            open_detector(spelled, project_classes=None)


# --- bad outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (0, 5, 83)])
def test_nan_and_infinity_are_an_error_not_an_empty_frame(tmp_path, value, place):
    """A model gone wrong must not look like one that sees nothing."""
    output = ultralytics_output([], 2)
    output[place] = value
    detector = open_detector(saved(constant_model(output, names=CAR_AND_DOG), tmp_path), project_classes=None)
    with pytest.raises(ModelError, match="NaN or infinity"):
        detector.detect(FRAME)


def test_an_exploding_yolox_box_is_an_error(tmp_path):
    """exp of a large raw side is infinite, although the output itself is finite."""
    output = np.zeros((1, 84, 85), np.float32)
    output[0, 0, [2, 4, 5]] = [1000, 1, 1]
    detector = open_detector(saved(constant_model(output), tmp_path), project_classes=None, model_classes="coco80")
    with pytest.raises(ModelError, match="not finite"):
        detector.detect(FRAME)


def test_a_confidence_above_one_is_an_error(tmp_path):
    """Raw logits or pixels read as scores mean that the output is of another format; rounding is allowed for."""
    for score, is_fine in ((1.0005, True), (1.5, False)):
        output = ultralytics_output([((32, 32, 16, 8), (score, 0))], 2)
        detector = open_detector(saved(constant_model(output, names=CAR_AND_DOG), tmp_path), project_classes=None)
        if is_fine:
            assert detector.detect(FRAME).confidence.max() == 1
        else:
            with pytest.raises(ModelError, match="above 1"):
                detector.detect(FRAME)


def test_a_class_that_the_model_does_not_have_is_an_error():
    """The NMS-free head writes class numbers; one out of range is no index to count with."""
    output = np.zeros((1, 300, 6), np.float32)
    output[0, 0] = [0, 0, 8, 8, 0.9, 2]
    with pytest.raises(ModelError, match="classes 2 to 2, but it has 2"):
        NmsFreeFormat(classes=2).decode(output, 0.05)


@pytest.mark.parametrize(
    "wrong", [{"confidence_floor": 1.5}, {"confidence_floor": -0.1}, {"nms_iou": 0}, {"max_detections": 0}]
)
def test_settings_out_of_range_are_refused(wrong):
    """The message names the field."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        open_detector("stub", project_classes=["car"], **wrong)


def test_the_detector_needs_nothing_of_central():
    """Importing it loads no torch, pandas, onnx or Prefect."""
    script = (
        "import sys, tasks.adapters.detector, tasks.adapters.camera;"
        "print([m for m in ('torch','pandas','onnx','prefect','ultralytics','fiftyone') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
