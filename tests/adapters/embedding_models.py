"""Small detectors with a backbone and a neck, whose features can be an embedding, and embedders of their own."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.adapters.models import (
    CLASSES,
    LOCATIONS,
    SIDE,
    ULTRALYTICS,
    finished,
    saved,
    ultralytics_output,
    with_metadata,
)


def detector_with_a_neck(path, *, kind=np.float32, neck="Resize", batch=1):
    """Sees one car; its backbone is one convolution of 3 to 5 channels, and its neck enlarges what that gives."""
    rng = np.random.default_rng(0)
    answer = ultralytics_output([((32, 32, 20, 20), (0.5, 0.1))], len(CLASSES)).astype(kind)
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["map"], kernel_shape=[3, 3], strides=[16, 16]),
        helper.make_node(neck, ["map", "", "scales"] if neck == "Resize" else ["map"], ["large"]),
        helper.make_node("ReduceMean", ["large"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["mean3"]),
        helper.make_node("Mul", ["mean3", "little"], ["hair"]),
        helper.make_node("Add", ["answer", "hair"], ["output0"]),
    ]
    constants = {
        "kernel": rng.normal(size=(5, 3, 3, 3)).astype(kind),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "shape": np.array([-1, 1, 1], np.int64),
        "little": np.array(1e-3, kind),
        "answer": answer,
    }
    if neck != "Resize":
        del constants["scales"]
    tensor = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", tensor, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", tensor, [batch, 4 + len(CLASSES), LOCATIONS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = with_metadata(finished(graph), {**ULTRALYTICS, "names": dict(enumerate(CLASSES))})
    return saved(model, path.parent, path.name)


def colour_embedder(path, shape=(1, 3)):
    """Embeds a picture as the mean of its red, green and blue."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, list(shape))],
        [numpy_helper.from_array(np.array(shape, np.int64), "shape")],
    )
    return saved(finished(graph), path.parent, path.name)
