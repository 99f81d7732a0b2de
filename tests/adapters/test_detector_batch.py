"""Several frames at once, and execution providers: what a device may ask of ONNX Runtime, and what it gets."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tasks.adapters.detector import open_detector
from tasks.adapters.detector.providers import NAMES
from tasks.core.errors import ModelError, SettingsError
from tests.adapters.models import (
    ULTRALYTICS,
    constant_model,
    finished,
    saved,
    ultralytics_output,
    with_metadata,
)

CLASSES = ("car", "dog")
SIDE = 64


def convolving_model(folder: Path, batch: int | str = "batch", name: str = "conv.onnx") -> Path:
    """A model of ultralytics' kind whose output follows from its picture: a convolution for each of three strides."""
    rng = np.random.default_rng(7)
    rows = 4 + len(CLASSES)
    nodes, weights, parts = [], [], []
    for stride in (8, 16, 32):
        weight = rng.normal(0, 0.5 / stride, (rows, 3, stride, stride)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{stride}"))
        nodes += [
            helper.make_node("Conv", ["images", f"w{stride}"], [f"c{stride}"], strides=[stride, stride]),
            helper.make_node("Sigmoid", [f"c{stride}"], [f"s{stride}"]),
            helper.make_node("Reshape", [f"s{stride}", "shape"], [f"r{stride}"]),
        ]
        parts.append(f"r{stride}")
    nodes += [
        helper.make_node("Concat", parts, ["all"], axis=2),
        helper.make_node("Mul", ["all", "scale"], ["output0"]),
    ]
    scale = np.array([SIDE, SIDE, 20, 20, 1, 1], np.float32).reshape(1, rows, 1)
    weights += [
        numpy_helper.from_array(scale, "scale"),
        numpy_helper.from_array(np.array([0, rows, -1], np.int64), "shape"),
    ]
    graph = helper.make_graph(
        nodes,
        "convolving",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, rows, 84])],
        weights,
    )
    return saved(with_metadata(finished(graph), {**ULTRALYTICS, "names": dict(enumerate(CLASSES))}), folder, name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return convolving_model(tmp_path_factory.mktemp("model"))


def a_picture(seed: int, height: int = 48, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(found, expected) -> None:
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    np.testing.assert_array_equal(found.class_id, expected.class_id)


# --- batches ---------------------------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 9),
    batch=st.integers(1, 5),
    sizes=st.lists(st.tuples(st.integers(8, 120), st.integers(8, 120)), min_size=9, max_size=9),
)
@settings(max_examples=40, deadline=None)
def test_a_batch_finds_what_single_frames_give(model, count, batch, sizes):
    """Frames of any sizes, fewer or more than the batch holds: the same boxes, confidences and classes, bit by bit."""
    pictures = [a_picture(seed, *sizes[seed]) for seed in range(count)]
    alone = open_detector(model, project_classes=None, threads=1)
    together = open_detector(model, project_classes=None, threads=1, batch=batch)
    assert together.batch == batch
    expected = [alone.detect(picture) for picture in pictures]
    assert sum(map(len, expected)) > 0
    for _ in range(2):  # the buffers are used again
        prepared = [together.prepare(picture) for picture in pictures]
        together.run_batch(prepared)
        assert all(one.has_run for one in prepared)
        for one, detections in zip(prepared, expected):
            same(together.detect_prepared(one), detections)


def test_what_has_run_is_not_run_again(model):
    """A frame that was run alone keeps its output within a batch of others."""
    detector = open_detector(model, project_classes=None, batch=4)
    pictures = [a_picture(seed) for seed in range(3)]
    prepared = [detector.prepare(picture) for picture in pictures]
    first = detector.run(prepared[1])
    marked = first.copy()
    first[...] += 0.001
    detector.run_batch(prepared)
    np.testing.assert_array_equal(prepared[1].input.output, marked + np.float32(0.001))
    same(detector.detect_prepared(prepared[0]), detector.detect(pictures[0]))


def test_a_model_of_one_frame_at_a_time_says_so_and_runs_them_one_by_one(tmp_path, model):
    """A fixed batch of 1, and a batch that is dynamic in name only: `batch` is 1, and `run_batch` still serves."""
    fixed = convolving_model(tmp_path, batch=1)
    in_name = saved(
        constant_model(
            ultralytics_output([((32, 32, 16, 8), (0.9, 0.1))], 2), names=CLASSES, input_shape=("n", 3, 64, 64)
        ),
        tmp_path,
    )
    for path in (fixed, in_name):
        detector = open_detector(path, project_classes=None, batch=4)
        assert detector.batch == 1
        pictures = [a_picture(seed) for seed in range(3)]
        prepared = [detector.prepare(picture) for picture in pictures]
        detector.run_batch(prepared)
        for one, picture in zip(prepared, pictures):
            same(detector.detect_prepared(one), detector.detect(picture))


def test_a_batch_of_a_large_fixed_size_is_refused(tmp_path):
    """A model that always takes four would make a single frame cost four."""
    with pytest.raises(ModelError, match="takes 4 images at a time: export it with batch=1"):
        open_detector(convolving_model(tmp_path, batch=4), project_classes=None, batch=4)


def test_frames_of_another_detector_are_refused_in_a_batch(model):
    """As around an exchange of models: an error, and none of the frames is read with the wrong model."""
    one, other = (open_detector(model, project_classes=None, batch=2) for _ in range(2))
    prepared = [one.prepare(a_picture(0)), other.prepare(a_picture(1))]
    with pytest.raises(ModelError, match="not prepared by this detector"):
        one.run_batch(prepared)
    assert not any(frame.has_run for frame in prepared)


def test_threads_may_share_the_batches_of_a_detector(model):
    """Four threads run batches of their own on one detector: each gets the outputs of its own frames."""
    detector = open_detector(model, project_classes=None, threads=1, batch=3)
    expected = {seed: detector.detect(a_picture(seed)) for seed in range(12)}
    wrong: list[int] = []

    def work(first: int) -> None:
        for _ in range(20):
            seeds = range(first, first + 3)
            prepared = [detector.prepare(a_picture(seed)) for seed in seeds]
            detector.run_batch(prepared)
            for seed, one in zip(seeds, prepared):
                found = detector.detect_prepared(one)
                if not np.array_equal(found.xyxy, expected[seed].xyxy):
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(3 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- execution providers ---------------------------------------------------------------------------------------------


def absent() -> str:
    """A provider that this ONNX Runtime does not have."""
    there = ort.get_available_providers()
    return next(name for name, of_runtime in NAMES.items() if of_runtime not in there)


def test_the_first_provider_that_is_there_computes(model):
    """One that is absent is passed over and named; the CPU, asked for alone or after it, computes."""
    alone = open_detector(model, project_classes=None)
    assert (alone.provider, alone.passed_over) == ("cpu", ())
    second = open_detector(model, project_classes=None, providers=(absent(), "cpu"))
    assert second.provider == "cpu"
    assert second.passed_over == (f"{absent()} is not in this onnxruntime",)
    same(second.detect(a_picture(3)), alone.detect(a_picture(3)))


def test_a_device_whose_providers_are_all_absent_is_told_what_there_is(model):
    """One line: what was asked for, what this ONNX Runtime has, what to do."""
    with pytest.raises(SettingsError) as error:
        open_detector(model, project_classes=None, providers=(absent(),))
    message = str(error.value)
    assert "\n" not in message
    assert f"{absent()} is not in this onnxruntime; it has cpu" in message
    with pytest.raises(SettingsError, match="'npu' is not known"):
        open_detector(model, project_classes=None, providers=("npu",))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_passed_over(model, monkeypatch, capfd):
    """ONNX Runtime says that it has a provider and then opens a session without: the next one computes, and nothing is
    printed."""
    there = [NAMES["cuda"], NAMES["cpu"]]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    detector = open_detector(model, project_classes=None, providers=("cuda", "cpu"))
    assert detector.provider == "cpu"
    assert detector.passed_over[0].startswith("cuda does not start")
    assert len(detector.detect(a_picture(1))) > 0
    with pytest.raises(SettingsError, match="cuda does not start"):
        open_detector(model, project_classes=None, providers=("cuda",))
    assert capfd.readouterr() == ("", "")


def test_operators_of_other_libraries_are_refused(tmp_path):
    """A model that needs a library of custom operators does not load, and none is ever registered."""
    node = helper.make_node("Thresher", ["images"], ["output0"], domain="com.example")
    graph = helper.make_graph(
        [node],
        "custom",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 84])],
    )
    custom = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.example", 1)], ir_version=8
    )
    path = saved(with_metadata(custom, {**ULTRALYTICS, "names": dict(enumerate(CLASSES))}), tmp_path)
    with pytest.raises(ModelError, match="cannot load it"):
        open_detector(path, project_classes=None)
    source = "\n".join(p.read_text() for p in (Path(__file__).parents[2] / "tasks").rglob("*.py"))
    assert "register_custom_ops" not in source


# --- models that hang ------------------------------------------------------------------------------------------------


def test_a_model_that_hangs_can_be_interrupted(model):
    """An interruptible detector fails from the interrupt on, with one line; one that is not goes on as if nothing were;
    what it finds is the same either way."""
    watched, other = (open_detector(model, project_classes=None) for _ in range(2))
    watched.interruptible = True
    assert (watched.interruptible, other.interruptible) == (True, False)
    same(watched.detect(a_picture(0)), other.detect(a_picture(0)))
    watched.interrupt()
    other.interrupt()
    with pytest.raises(ModelError, match="the model failed on a frame"):
        watched.detect(a_picture(0))
    assert len(other.detect(a_picture(0))) > 0
    stub = open_detector("stub", project_classes=["car"])
    stub.interruptible = True
    stub.interrupt()
    assert (stub.interruptible, len(stub.detect(a_picture(0)))) == (False, 0)
