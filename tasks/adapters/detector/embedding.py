"""Embeddings of frames: the pooled features of the detector's own model, or those of an ONNX file of its own.

The first kind costs next to nothing: the model has computed its features anyway, and gives them as a second output,
(1, d) or (1, d, 1, 1). The second kind is a model with one image input, (1, 3, height, width), that is given the whole
frame in RGB from 0 to 1, without its aspect; what else it wants of its input it has to do itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tasks.adapters.detector.model_file import EMBEDDING, ModelFile, read_model
from tasks.adapters.detector.ort_errors import ORT_ERRORS, first_line
from tasks.adapters.detector.preprocessing import frame_size
from tasks.core.errors import ModelError

MAX_DIMENSIONS = 4096


@dataclass(frozen=True, slots=True)
class BoundEmbedding:
    """The output of a model that is the embedding, in a buffer that is bound to its session."""

    values: NDArray[Any]

    @staticmethod
    def buffer(file: ModelFile, images: int = 1) -> NDArray[Any]:
        """(images, ...)"""
        output = file.embedding
        assert output is not None  # `check_embedding` was asked first
        return np.zeros((images, *output.shape[1:]), output.type)

    @classmethod
    def bound(cls, file: ModelFile, binding: ort.IOBinding, values: NDArray[Any] | None = None) -> BoundEmbedding:
        """values: the buffer; by default a new one, for one image."""
        output = file.embedding
        assert output is not None
        values = cls.buffer(file) if values is None else values
        binding.bind_output(output.name, "cpu", 0, output.type, values.shape, values.ctypes.data)
        return cls(values)

    def copy(self) -> NDArray[np.float32]:
        """(d,)"""
        return np.array(self.values, np.float32).reshape(-1)


def check_embedding(file: ModelFile, name: str) -> None:
    """Raises ModelError where the model has no output of that name that is an embedding."""
    if file.embedding is None:
        has = ", ".join(node.name for node in file.session.get_outputs())
        raise ModelError(
            f"{file.where}: novelty asks for its output {name!r}, and it has only {has}: add one "
            f"(add_embedding_output), or name an ONNX file as the embedding"
        )
    check_shape(file.embedding.shape, name, file.where)


def check_shape(shape: Sequence[int], name: str, where: str) -> None:
    """Raises ModelError for what is not one vector of an image."""
    size = int(np.prod(shape))
    if len(shape) < 2 or shape[0] != 1 or max(shape) != size or not 1 < size <= MAX_DIMENSIONS:
        raise ModelError(
            f"{where}: the output {name!r} is {tuple(shape)}, not (1, d) with d up to {MAX_DIMENSIONS}: pool it"
        )


class OnnxEmbedder:
    """An embedding of a frame from an ONNX file of its own. name: 16 hex of the file's sha256."""

    def __init__(self, path: str | Path, threads: int = 0, output_name: str = EMBEDDING) -> None:
        """output_name: of the output, where the file has several. Raises ModelError."""
        file = read_model(path, threads, wanted=output_name)
        check_shape(file.output_shape, file.output_name, file.where)
        self.name = file.sha256[:16]
        self.size = file.output_shape[1]
        self._file = file

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(d,) of a BGR frame (height, width, 3). Raises ImageUnreadable for what is no frame, ModelError."""
        frame_size(pixels)
        height, width = self._file.image_size
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        image = small[:, :, ::-1].transpose(2, 0, 1)[None].astype(self._file.input_type) / 255
        try:
            (output,) = self._file.session.run(
                [self._file.output_name], {self._file.input_name: np.ascontiguousarray(image, self._file.input_type)}
            )
        except ORT_ERRORS as error:
            raise ModelError(f"{self._file.where}: the embedder failed on a frame: {first_line(error)}") from None
        return np.array(output, np.float32).reshape(-1)
