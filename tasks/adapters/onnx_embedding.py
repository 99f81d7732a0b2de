"""onnx, on central: give a detector's model its own features as a second output, for the `novelty` strategy.

What a detector's backbone makes of a frame is there anyway when its boxes are computed. Its last feature map, averaged
over the picture, is an embedding of the frame for the price of that average.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, helper

from tasks.core.errors import ModelError

EMBEDDING = "embedding"
_UPSAMPLING = ("Resize", "Upsample")


def add_embedding_output(model_path: Path, out_path: Path, *, tensor: str = "", name: str = EMBEDDING) -> str:
    """Write the model of `model_path` to `out_path` with a further output (1, channels): a feature map, averaged.

    tensor: the name of a feature map (n, channels, height, width); by default what a detector's neck enlarges first,
    which is the last and coarsest map of its backbone. name: of the output. The other outputs stay the same, bit by
    bit, and so does the metadata; the file has another digest, and is another model version. Returns the name of the
    feature map. Raises ModelError for a file that is no model, for one without such a map, and where the output is
    there already.
    """
    model = _loaded(model_path)
    graph = model.graph
    if any(output.name == name for output in graph.output):
        raise ModelError(f"{model_path}: has an output {name!r} already: use it as it is")
    source = tensor or _last_of_the_backbone(graph)
    if not source:
        raise ModelError(f"{model_path}: no neck that enlarges a feature map was found: name the feature map as tensor")
    kind, channels = _feature_map(model, source, model_path)
    taken = {output for node in graph.node for output in node.output} | {one.name for one in graph.initializer}
    pooled = _free(f"{name}_pooled", taken)
    graph.node.append(helper.make_node("GlobalAveragePool", [source], [pooled], name=_free(f"{name}_pool", taken)))
    graph.node.append(helper.make_node("Flatten", [pooled], [name], name=_free(f"{name}_flatten", taken), axis=1))
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    size = batch.dim_param or batch.dim_value or None
    graph.output.append(helper.make_tensor_value_info(name, kind, [size, channels]))
    _written(model, out_path, model_path)
    return source


def has_neck(model_path: Path) -> bool:
    """Is there a last feature map of a backbone, by which `add_embedding_output` needs no name of one?

    Raises ModelError for a file that is no model.
    """
    return bool(_last_of_the_backbone(_loaded(model_path).graph))


def _loaded(path: Path) -> ModelProto:
    try:
        return onnx.load(str(path))
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such model file: check the path") from None
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX file, or a part of one: export it again") from None


def _written(model: ModelProto, out: Path, path: Path) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path}: with an embedding it is no valid model: {str(error).splitlines()[0]}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(out))


def _last_of_the_backbone(graph: Any) -> str:
    """What the first node that enlarges a feature map is given: the neck begins there, in YOLO and YOLOX alike.

    Empty where there is no such node.
    """
    computed = {output for node in graph.node for output in node.output}
    for node in graph.node:  # in an order in which they can be computed, as ONNX asks
        if node.op_type in _UPSAMPLING and node.input[0] in computed:
            return str(node.input[0])
    return ""


def _feature_map(model: ModelProto, source: str, path: Path) -> tuple[int, int]:
    """Element type and channels of a feature map."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    for value in (*inferred.value_info, *inferred.output):
        if value.name == source:
            kind, dimensions = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
            if len(dimensions) == 4 and dimensions[1].dim_value and kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
                return int(kind), int(dimensions[1].dim_value)
    raise ModelError(
        f"{path}: {source!r} is no feature map (n, channels, height, width) of floats: name another tensor"
    )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
