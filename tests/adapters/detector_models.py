"""Small ONNX files for tests: models that always answer with a given output, and damaged ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

ULTRALYTICS = {"task": "detect", "stride": 32, "end2end": False}


def constant_model(
    output: NDArray[Any],
    *,
    names: Sequence[str] | None = None,
    input_shape: Sequence[int | str] = (1, 3, 64, 64),
    metadata: Mapping[str, object] | None = None,
    input_type: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model that answers every image with `output`; with `names` its metadata is that of an ultralytics export."""
    written = dict(metadata or {})
    if names is not None:
        written = {**ULTRALYTICS, "names": dict(enumerate(names)), **written}
    kind = helper.np_dtype_to_tensor_dtype(output.dtype)
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["cast"], to=kind),
        helper.make_node("Mul", ["cast", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", input_type, input_shape)],
        [helper.make_tensor_value_info("output0", kind, output.shape)],
        [numpy_helper.from_array(output, "answer"), numpy_helper.from_array(np.zeros((), output.dtype), "zero")],
    )
    return with_metadata(finished(graph), written)


def finished(graph: Any) -> ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def with_metadata(model: ModelProto, metadata: Mapping[str, object]) -> ModelProto:
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model


def saved(model: ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def ultralytics_output(
    rows: Sequence[tuple[Sequence[float], Sequence[float]]], classes: int, locations: int = 84
) -> NDArray[np.float32]:
    """(1, 4 + classes, locations) from boxes (cx, cy, w, h) and their class scores; 84 are the locations of 64 x 64."""
    output = np.zeros((1, 4 + classes, locations), np.float32)
    for column, (box, scores) in enumerate(rows):
        output[0, :, column] = [*box, *scores]
    return output
