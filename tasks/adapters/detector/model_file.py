"""An ONNX file, read once: its digest, its session, and what its metadata says.

The bytes that are hashed are the bytes that run, so that nothing can be exchanged in between. A model is one file:
tensors kept in other files ("external data") are refused, wherever they lie.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from tasks.adapters.detector.ort_errors import ORT_ERRORS, first_line
from tasks.adapters.detector.providers import Configured, Opened, open_on_first
from tasks.core.errors import ModelError

_TYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
EMBEDDING = "embedding"  # the usual name of the output with pooled features
_MAXIMUM_SIDE = 8192  # pixels; a larger input is a mistake or an attack on the memory


@dataclass(frozen=True, slots=True)
class Prototypes:
    """The second output of a model for segmentation: (1, m, height, width), of which masks are sums."""

    name: str
    type: type[np.floating[Any]]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A further output with the pooled features of an image. shape: as it really comes out for one image."""

    name: str
    type: type[np.floating[Any]]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A loaded model with one image input and one output; one for segmentation has prototypes of masks, too.

    image_size: (height, width) of the input. output_shape: as it really comes out for one image, batch included.
    batch: how many images it is run on at once at most. provider: what computes; passed_over: why it is none of those
    that were asked for before it. names: class names by the model's class id, None where the file has none. metadata:
    as the exporter wrote it. run_options: of runs that can be interrupted; its `terminate` ends one that hangs.
    """

    where: str
    sha256: str
    session: ort.InferenceSession
    input_name: str
    input_type: type[np.floating[Any]]
    image_size: tuple[int, int]
    output_name: str
    output_type: type[np.floating[Any]]
    output_shape: tuple[int, ...]
    batch: int
    provider: str
    passed_over: tuple[str, ...]
    names: tuple[str, ...] | None
    metadata: Mapping[str, Any]
    prototypes: Prototypes | None = None
    embedding: Embedding | None = None
    run_options: ort.RunOptions = field(default_factory=ort.RunOptions)


def read_model(
    path: str | Path,
    threads: int = 0,
    providers: Sequence[str] = ("cpu",),
    batch: int = 1,
    embedding: str = "",
    wanted: str = "",
) -> ModelFile:
    """Read, check and load a model, and run it once on a grey image.

    threads: of ONNX Runtime within one run; 0 leaves the choice to it. providers: in the order in which they are
    wanted. batch: images at once that are wanted; a model that takes one at a time is run on one. embedding: the
    name of an output that is set aside, beside the usual one. wanted: the only output that matters, where it has it.
    Raises ModelError, one line, and SettingsError when none of the providers is there.
    """
    where = str(path)
    content = _read(Path(path))
    opened = _open(content, where, threads, providers)
    session = opened.session
    metadata = _literals(session.get_modelmeta().custom_metadata_map)
    image_input = _only(session.get_inputs(), "input", where)
    nodes, of_embedding = _set_aside(session.get_outputs(), {embedding or EMBEDDING}, wanted)
    output, of_masks = _outputs(nodes, metadata, where)
    input_type, image_size = _image_input(image_input, metadata, where)
    grey: NDArray[Any] = np.full((1, 3, *image_size), 0.5, input_type)
    names = [node.name for node in (output, *of_masks, *of_embedding)]
    shapes = _trial_run(session, image_input.name, grey, names, where)
    return ModelFile(
        where=where,
        sha256=hashlib.sha256(content).hexdigest(),
        session=session,
        input_name=image_input.name,
        input_type=input_type,
        image_size=image_size,
        output_name=output.name,
        output_type=_TYPES[output.type],
        output_shape=shapes[0],
        batch=_largest_batch(session, image_input, grey, output.name, shapes[0], batch),
        provider=opened.provider,
        passed_over=opened.passed_over,
        names=_class_names(metadata, where),
        metadata=metadata,
        prototypes=_prototypes(of_masks, shapes[1:], where),
        embedding=Embedding(names[-1], _TYPES[of_embedding[0].type], shapes[-1]) if of_embedding else None,
    )


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such model file: check the path") from None
    except OSError as error:
        raise ModelError(f"{path}: the model file cannot be read ({error.strerror}): check the path") from None
    if not content:
        raise ModelError(f"{path}: the model file is empty: export or download it again")
    return content


def _open(content: bytes, where: str, threads: int, providers: Sequence[str]) -> Opened:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and told once
    # Spinning stays at its default: without it two threads took a third longer on two cores (measured).
    #
    # External data is looked for in this folder; a file contains nothing, so that no location can be inside of it.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", where)

    def open_session(configured: Configured) -> ort.InferenceSession:
        return ort.InferenceSession(content, options, providers=configured, enable_fallback=0)

    try:
        return open_on_first(providers, open_session, Path(where))
    except ORT_ERRORS as error:
        reason, told = first_line(error), str(error)
        is_no_onnx = isinstance(error, ort_state.InvalidProtobuf) or "No graph was found" in told
    if "xternal data" in told or "in-memory address marker" in told:
        raise ModelError(
            f"{where}: it keeps tensors outside of the file (external data), which is refused: export it as one file"
        )
    if is_no_onnx:
        raise ModelError(
            f"{where}: not an ONNX file, or a part of one ({len(content)} bytes): export or download it again"
        )
    raise ModelError(f"{where}: ONNX Runtime {ort.__version__} cannot load it: {reason}: export it again")


def _literals(texts: Mapping[str, str]) -> dict[str, Any]:
    """Metadata values are Python literals written as text by the exporter; what is none stays a text."""
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            values[key] = text
    return values


def _only(nodes: list[Any], what: str, where: str) -> Any:
    if len(nodes) != 1:
        names = ", ".join(node.name for node in nodes) or "none"
        raise ModelError(f"{where}: a detector has one {what}, this model has {len(nodes)} ({names}): pass a detector")
    return nodes[0]


def _set_aside(outputs: list[Any], embeddings: set[str], wanted: str) -> tuple[list[Any], list[Any]]:
    """The outputs that are read, and the one that is the embedding, where it is there and of floats."""
    if wanted:
        return [node for node in outputs if node.name == wanted] or outputs, []
    aside = [node for node in outputs if node.name in embeddings and node.type in _TYPES and len(outputs) > 1]
    return [node for node in outputs if node not in aside], aside


def _outputs(outputs: list[Any], metadata: Mapping[str, Any], where: str) -> tuple[Any, list[Any]]:
    """The output with the boxes, and of a model for segmentation that with the prototypes of masks."""
    several = metadata.get("task") == "segment" and len(outputs) == 2
    output = outputs[0] if several else _only(outputs, "output", where)
    for node in outputs[: 1 + several]:
        if node.type not in _TYPES:
            raise ModelError(f"{where}: the output {node.name!r} is {node.type}, not floats: pass a detector")
    return output, outputs[1:] if several else []


def _prototypes(nodes: list[Any], shapes: Sequence[tuple[int, ...]], where: str) -> Prototypes | None:
    if not nodes:
        return None
    shape = shapes[0]
    if len(shape) != 4 or shape[0] != 1 or not all(shape):
        raise ModelError(
            f"{where}: the output {nodes[0].name!r} is {shape}, not (1, masks, height, width): export again"
        )
    return Prototypes(nodes[0].name, _TYPES[nodes[0].type], shape)


def _image_input(node: Any, metadata: Mapping[str, Any], where: str) -> tuple[type[np.floating[Any]], tuple[int, int]]:
    if node.type not in _TYPES or len(node.shape) != 4 or node.shape[1] not in (3, None):
        raise ModelError(
            f"{where}: the input {node.name!r} is {node.type} {node.shape}, but a detector takes float images of shape "
            f"(1, 3, height, width): pass a detector with three channels"
        )
    if isinstance(node.shape[0], int) and node.shape[0] != 1:
        raise ModelError(f"{where}: it takes {node.shape[0]} images at a time: export it with batch=1")
    size = node.shape[2:]
    if not all(isinstance(side, int) and side > 0 for side in size):  # exported with dynamic=True
        size = metadata.get("imgsz")
        size = [size, size] if isinstance(size, int) else size
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise ModelError(f"{where}: the size of its input is neither in its shape nor in its metadata: set imgsz")
    if not all(0 < side <= _MAXIMUM_SIDE for side in size):
        raise ModelError(
            f"{where}: the input is {size[0]} x {size[1]} pixels, more than {_MAXIMUM_SIDE}: export smaller"
        )
    return _TYPES[node.type], (size[0], size[1])


def _trial_run(
    session: ort.InferenceSession, input_name: str, images: NDArray[Any], outputs: Sequence[str], where: str
) -> list[tuple[int, ...]]:
    try:
        found = session.run(list(outputs), {input_name: images})
    except ORT_ERRORS as error:
        raise ModelError(f"{where}: it does not run: {first_line(error)}: export it again") from None
    return [tuple(output.shape) for output in found]


def _largest_batch(
    session: ort.InferenceSession,
    image_input: Any,
    grey: NDArray[Any],
    output_name: str,
    output_shape: tuple[int, ...],
    wanted: int,
) -> int:
    """`wanted` images at once where the model takes them, as it says and as it shows; else one."""
    if wanted == 1 or image_input.shape[0] == 1:
        return 1
    images = np.repeat(grey, wanted, axis=0)
    try:
        output = session.run([output_name], {image_input.name: images})[0]
    except ORT_ERRORS:  # its batch dimension is dynamic in name only, or the memory does not suffice
        return 1
    return wanted if output.shape == (wanted, *output_shape[1:]) else 1


def _class_names(metadata: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    names = metadata.get("names")
    if names is None:
        return None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{where}: the class names in its metadata are not names by class id: export it again")
    return tuple(names)
