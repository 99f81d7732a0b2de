"""Export: a checkpoint in, one ONNX file out, and the proof that both see the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.onnx_embedding import add_embedding_output, has_neck
from tasks.adapters.trainer.library import first_line, load_checkpoint, quiet
from tasks.core.errors import ImageUnreadable, ModelError, TrainingFailed

OPSET = 17  # every ONNX Runtime since 1.14 runs it
# Where the file was made and when: they would give equal models different digests.
PRIVATE_METADATA = ("date", "description", "args")

_FAILURES = (
    RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError, ImportError,
    NotImplementedError, SystemError, SyntaxError,
)  # fmt: skip


def export_onnx(checkpoint: Path, out: Path, imgsz: int, *, embedding: bool = True) -> Path:
    """Write the model of `checkpoint` to `out`, a single ONNX file, for images of `imgsz` x `imgsz` pixels.

    The raw head stays: no NMS and no confidence cut, or the rows of an NMS-free head. The metadata keeps `names`,
    `imgsz` and `stride`; the same checkpoint gives the same bytes. embedding: the features of the backbone become a
    second output, `embedding`, which changes nothing of the first; a model without a neck has none. Raises ModelError
    for a checkpoint that cannot be used, TrainingFailed when the export does not end in a file that works alone.
    """
    model = load_checkpoint(checkpoint)
    # A model that was trained with an NMS-free head is meant to be used with it: False keeps it, None leaves it out.
    nms = False if getattr(model.model.model[-1], "one2one_cv2", None) is not None else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="export-", dir=out.parent) as folder:
        model.model.pt_path = str(Path(folder) / "model.pt")  # the export is written beside it
        try:
            with quiet():
                written = model.export(
                    format="onnx",
                    imgsz=imgsz,
                    opset=OPSET,
                    simplify=True,
                    dynamic=False,
                    device="cpu",
                    nms=nms,
                )
        except _FAILURES as error:
            raise TrainingFailed(f"export of {checkpoint.name}: {type(error).__name__}: {first_line(error)}") from error
        finished = Path(folder) / "finished.onnx"
        _finish(Path(written), finished)
        if embedding and has_neck(finished):
            add_embedding_output(finished, finished)
        shutil.move(str(finished), out)
    return out


def check_parity(checkpoint: Path, onnx: Path, images: Sequence[Path | NDArray[np.uint8]]) -> dict[str, float]:
    """The largest differences between the outputs of the checkpoint and of the ONNX file, on whole images.

    images: files, or (height, width, 3) uint8 BGR. Returns `box_pixels`, at the size of the model's input,
    `confidence`, and the number of `images`. Raises ModelError for a checkpoint or an ONNX file that cannot be used,
    ImageUnreadable for an image.
    """
    import torch

    model = load_checkpoint(checkpoint).model.float().eval()
    session = _session(onnx)
    entry = session.get_inputs()[0]
    height, width = entry.shape[2:]
    if session.get_modelmeta().custom_metadata_map.get("end2end") == "True":
        model.end2end = True
    box_pixels, confidence = 0.0, 0.0
    for image in images:
        tensor = _as_input(image, height, width)
        with torch.no_grad(), quiet():
            output = model(torch.from_numpy(tensor))
        ours = (output[0] if isinstance(output, (tuple, list)) else output).numpy()
        theirs = session.run(None, {entry.name: tensor})[0]
        if ours.shape != theirs.shape:
            raise ModelError(f"{onnx.name}: gives {theirs.shape} outputs where {checkpoint.name} gives {ours.shape}")
        compare = _compare_rows if ours.shape[-1] == 6 else _compare_anchors
        boxes, scores = compare(ours[0], theirs[0])
        box_pixels, confidence = max(box_pixels, boxes), max(confidence, scores)
    return {"box_pixels": box_pixels, "confidence": confidence, "images": float(len(images))}


def _compare_anchors(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[float, float]:
    """(4 + classes, anchors): anchors answer one by one."""
    difference = np.abs(ours - theirs)
    return float(difference[:4].max(initial=0.0)), float(difference[4:].max(initial=0.0))


def _compare_rows(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[float, float]:
    """(detections, 6) of an NMS-free head: x1, y1, x2, y2, confidence, class, in descending confidence.

    Rows of near-equal confidence may swap, and at the end of the list a hair decides who is on it. So each row of the
    more confident half is held against the nearest one of its class.
    """
    boxes = 0.0
    for one, two in ((ours, theirs), (theirs, ours)):
        for row in one[: (len(one) + 1) // 2]:
            same_class = two[two[:, 5] == row[5]]
            boxes = max(boxes, float(np.abs(same_class[:, :4] - row[:4]).max(axis=1).min(initial=np.inf)))
    return boxes, float(np.abs(ours[:, 4] - theirs[:, 4]).max(initial=0.0))


def _finish(written: Path, target: Path) -> None:
    """Drop what differs from export to export, and refuse a file that would not work alone."""
    import onnx

    model = onnx.load(str(written))
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise TrainingFailed(f"export of {written.name}: wrote its weights into a second file, which devices refuse")
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in PRIVATE_METADATA}
    missing = [key for key in ("names", "imgsz", "stride") if key not in kept]
    if missing:
        raise TrainingFailed(f"export of {written.name}: the file lacks the metadata {', '.join(missing)}")
    onnx.helper.set_model_props(model, kept)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def _session(path: Path) -> Any:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.log_severity_level = 4
    refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (*refusals, state.NotImplemented, state.RuntimeException, RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name}: cannot be run: {first_line(error)}") from None


def _as_input(image: Path | NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """(1, 3, height, width) RGB from 0 to 1, the image shrunk to fit and padded with grey."""
    import cv2

    if isinstance(image, Path):
        pixels = cv2.imread(str(image))
        if pixels is None:
            raise ImageUnreadable(f"{image}: cannot be read as an image")
    else:
        pixels = image
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(pixels, size)
    return np.ascontiguousarray(canvas[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / np.float32(255)
