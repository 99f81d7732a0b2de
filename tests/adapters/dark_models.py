"""ONNX files that pass their trial, for the probe frames are bright, and misbehave on a camera's dark frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.adapters.models import CLASSES, LOCATIONS, SIDE, ULTRALYTICS, finished, loop_body, saved, with_metadata

DARK = 0.4  # mean of the input, padding included


def bad_on_dark_frames(path: Path, how: str) -> Path:
    """A detector that on dark frames does not come back ("hang"), asks for 160 GB ("memory"), gives NaN ("nan") or sees
    boxes all over ("boxes"). On others it sees nothing.
    """
    head = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Less", ["mean", "limit"], ["is_dark"]),
        helper.make_node("Cast", ["is_dark"], ["dark"], to=TensorProto.FLOAT),
    ]
    nodes, constants = {"hang": _hangs, "memory": _asks_for_memory, "nan": _gives_nan, "boxes": _sees_boxes}[how]()
    constants = {"limit": np.array(DARK, np.float32), "answer": _boxes(how == "boxes"), **constants}
    graph = helper.make_graph(
        [*head, *nodes],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + len(CLASSES), LOCATIONS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = with_metadata(finished(graph), {**ULTRALYTICS, "names": dict(enumerate(CLASSES))})
    return saved(model, path.parent, path.name)


def _boxes(everywhere: bool):
    output = np.zeros((1, 4 + len(CLASSES), LOCATIONS), np.float32)
    if everywhere:
        places = np.arange(LOCATIONS)
        output[0, 0], output[0, 1] = 4 + 6 * (places % 10), 10 + 5 * (places // 10)
        output[0, 2:4], output[0, 4] = 4, 0.9
    return output


def _hangs():
    nodes = [
        helper.make_node("Loop", ["turns", "is_dark", "mean"], ["end"], body=loop_body()),
        helper.make_node("Mul", ["end", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    return nodes, {"turns": np.array(2**62, np.int64), "zero": np.array(0, np.float32)}


def _asks_for_memory():
    nodes = [
        helper.make_node("Mul", ["dark", "numbers"], ["many"]),
        helper.make_node("Cast", ["many"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["answer", "sum"], ["output0"]),
    ]
    return nodes, {"numbers": np.array([160 * 2**28], np.float32)}


def _gives_nan():
    nodes = [
        helper.make_node("Neg", ["dark"], ["minus"]),
        helper.make_node("Sqrt", ["minus"], ["root"]),
        helper.make_node("Add", ["answer", "root"], ["output0"]),
    ]
    return nodes, {}


def _sees_boxes():
    return [helper.make_node("Mul", ["answer", "dark"], ["output0"])], {}
