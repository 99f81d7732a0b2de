"""Small ONNX files for tests, made node by node: models that always answer the same, and models that misbehave."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIDE = 64  # pixels of the input; strides 8, 16 and 32 make 84 locations of it
LOCATIONS = 84
CLASSES = ("car", "truck")
ULTRALYTICS = {"task": "detect", "stride": 32, "end2end": False}


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- models that always answer the same ------------------------------------------------------------------------------


def constant_model(
    output: NDArray[Any],
    *,
    names: Sequence[str] | None = None,
    input_shape: Sequence[int | str] = (1, 3, SIDE, SIDE),
    metadata: Mapping[str, object] | None = None,
    input_type: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model that answers every image with `output`; with `names` its metadata is that of an ultralytics export."""
    written = dict(metadata or {})
    if names is not None:
        written = {**ULTRALYTICS, "names": dict(enumerate(names)), **written}
    nodes = [
        helper.make_node("Cast", ["mean"], ["cast"], to=helper.np_dtype_to_tensor_dtype(output.dtype)),
        helper.make_node("Mul", ["cast", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    constants = {"answer": output, "zero": np.zeros((), output.dtype)}
    return with_metadata(_model(nodes, constants, output, input_shape, input_type), written)


def constant_detector(
    path: Path, boxes: Iterable[tuple[float, float, float, float, int, float]], names: Sequence[str] = CLASSES
) -> Path:
    """A detector of ultralytics' kind that sees `boxes`, (cx, cy, w, h, class id, confidence), in every frame."""
    rows = [(box, np.eye(len(names))[class_id] * confidence) for *box, class_id, confidence in boxes]
    return saved(constant_model(ultralytics_output(rows, len(names)), names=names), path.parent, path.name)


def ultralytics_output(
    rows: Sequence[tuple[Sequence[float], Sequence[float]]], classes: int, locations: int = LOCATIONS
) -> NDArray[np.float32]:
    """(1, 4 + classes, locations) from boxes (cx, cy, w, h) and their class scores."""
    output = np.zeros((1, 4 + classes, locations), np.float32)
    for column, (box, scores) in enumerate(rows):
        output[0, :, column] = [*box, *scores]
    return output


# --- models that misbehave -------------------------------------------------------------------------------------------


def nan_detector(path: Path) -> Path:
    """A detector whose outputs are not numbers."""
    output = np.full((1, 4 + len(CLASSES), LOCATIONS), np.nan, np.float32)
    return saved(constant_model(output, names=CLASSES), path.parent, path.name)


def greedy_detector(path: Path, gigabytes: int = 160) -> Path:
    """A small file that asks for a lot of memory when it runs."""
    nodes = [
        helper.make_node("Mul", ["mean", "numbers"], ["many"]),
        helper.make_node("Cast", ["many"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["top"], keepdims=0),
        helper.make_node("Add", ["answer", "top"], ["output0"]),
    ]
    numbers = np.full(1, gigabytes * 2**29, np.float32)  # the trial frame's mean is 0.5, a float 4 bytes
    return _misbehaving(path, nodes, {"numbers": numbers})


def endless_detector(path: Path) -> Path:
    """A detector that does not come back."""
    nodes = [
        helper.make_node("Loop", ["turns", "yes", "mean"], ["end"], body=loop_body()),
        helper.make_node("Add", ["answer", "end"], ["output0"]),
    ]
    return _misbehaving(path, nodes, {"turns": np.array(2**62, np.int64), "yes": np.array(True)})


def loop_body() -> GraphProto:
    """Of a loop that runs for as many turns as it is given."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["state"], ["next_state"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, []),
        ],
    )


# --- how they are put together ---------------------------------------------------------------------------------------


def finished(graph: Any) -> ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def with_metadata(model: ModelProto, metadata: Mapping[str, object]) -> ModelProto:
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model


def saved(model: ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def _misbehaving(path: Path, nodes: Sequence[NodeProto], constants: Mapping[str, NDArray[Any]]) -> Path:
    answer = np.zeros((1, 4 + len(CLASSES), LOCATIONS), np.float32)
    model = _model(nodes, {**constants, "answer": answer}, answer, (1, 3, SIDE, SIDE), TensorProto.FLOAT)
    return saved(with_metadata(model, {**ULTRALYTICS, "names": dict(enumerate(CLASSES))}), path.parent, path.name)


def _model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray[Any]],
    output: NDArray[Any],
    input_shape: Sequence[int | str],
    input_type: int,
) -> ModelProto:
    """Nodes that make `output0`, of the shape and kind of `output`, from the `mean` of all pixels of `images`."""
    head = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
    ]
    graph = helper.make_graph(
        [*head, *nodes],
        "detector",
        [helper.make_tensor_value_info("images", input_type, input_shape)],
        [helper.make_tensor_value_info("output0", helper.np_dtype_to_tensor_dtype(output.dtype), output.shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return finished(graph)
