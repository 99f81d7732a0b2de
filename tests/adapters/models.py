"""ONNX files for tests, made node by node: a detector that always sees the same, and detectors that misbehave."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64  # pixels of the input; strides 8, 16 and 32 make 84 locations of it
LOCATIONS = 84


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def constant_detector(path: Path, boxes, names=("car", "truck")) -> Path:
    """A detector of ultralytics' kind that sees `boxes`, (cx, cy, w, h, class id, confidence), in every frame."""
    output = np.zeros((1, 4 + len(names), LOCATIONS), np.float32)
    for column, (cx, cy, w, h, class_id, confidence) in enumerate(boxes):
        output[0, :4, column] = cx, cy, w, h
        output[0, 4 + class_id, column] = confidence
    nodes = [
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    constants = {"answer": output, "zero": np.zeros((1, 1, 1), np.float32)}
    return _save(path, nodes, constants, output.shape, names)


def nan_detector(path: Path) -> Path:
    """A detector whose outputs are not numbers."""
    output = np.full((1, 6, LOCATIONS), np.nan, np.float32)
    nodes = [helper.make_node("Add", ["answer", "mean"], ["output0"])]
    return _save(path, nodes, {"answer": output}, output.shape, ("car", "truck"))


def greedy_detector(path: Path, gigabytes: int = 160) -> Path:
    """A small file that asks for a lot of memory when it runs."""
    nodes = [
        helper.make_node("Mul", ["mean", "numbers"], ["many"]),
        helper.make_node("Cast", ["many"], ["many_int"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["many_int", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["top"], keepdims=0),
        helper.make_node("Add", ["answer", "top"], ["output0"]),
    ]
    constants = {
        "numbers": np.full((1, 1, 1), gigabytes * 2**29, np.float32),  # the trial frame's mean is 0.5, a float 4 bytes
        "one": np.array([1], np.int64),
        "answer": np.zeros((1, 6, LOCATIONS), np.float32),
    }
    return _save(path, nodes, constants, (1, 6, LOCATIONS), ("car", "truck"))


def endless_detector(path: Path) -> Path:
    """A detector that does not come back."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["state"], ["next_state"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 1, 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [1, 1, 1]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "yes", "mean"], ["end"], body=body),
        helper.make_node("Add", ["answer", "end"], ["output0"]),
    ]
    constants = {
        "turns": np.array(2**62, np.int64),
        "yes": np.array(True),
        "answer": np.zeros((1, 6, LOCATIONS), np.float32),
    }
    return _save(path, nodes, constants, (1, 6, LOCATIONS), ("car", "truck"))


def _save(path, nodes, constants, shape, names) -> Path:
    head = [
        helper.make_node("ReduceMean", ["images"], ["mean4"], keepdims=1),
        helper.make_node("Reshape", ["mean4", "three"], ["mean"]),
    ]
    constants = {**constants, "three": np.array([1, 1, 1], np.int64)}
    graph = helper.make_graph(
        [*head, *nodes],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    meta = {"names": str(dict(enumerate(names))), "task": "detect", "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]"}
    helper.set_model_props(model, meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
