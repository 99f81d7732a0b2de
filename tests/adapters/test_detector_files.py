"""The detector against model files and outputs that are not what they should be."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tasks.adapters.detector import COCO_80, open_detector
from tasks.adapters.detector.formats import NmsFreeFormat
from tasks.core.errors import EdgeloopError, ModelError, SettingsError
from tests.adapters.models import constant_model, saved, ultralytics_output

CAR_AND_DOG = ("car", "dog")
FRAME = np.zeros((128, 128, 3), np.uint8)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


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
        ({"task": "obb"}, "task 'obb'; detect, segment, pose, classify are supported"),
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


def test_the_detector_writes_nothing_into_the_home_folder(two_boxes, tmp_path):
    """A detector that has detected leaves an empty home folder empty: no device id, no database of events."""
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys; from tasks.adapters.detector import open_detector, probe_frame;"
        "print(len(open_detector(sys.argv[1], project_classes=None).detect(probe_frame())))"
    )
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script, str(two_boxes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "2"
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []
