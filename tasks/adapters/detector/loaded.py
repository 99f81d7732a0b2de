"""A loaded model with its buffers: frame after frame, or several frames at once.

`InferenceSession.run` would allocate and copy the output of every frame, 1% of a small model's time (measured). So
inputs and outputs are bound to buffers that are used again for later frames.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tasks.adapters.detector.embedding import BoundEmbedding
from tasks.adapters.detector.formats import ModelFormat
from tasks.adapters.detector.model_file import ModelFile
from tasks.adapters.detector.ort_errors import ORT_ERRORS, first_line
from tasks.adapters.detector.preprocessing import InputBuffer
from tasks.core.boxes import Letterbox
from tasks.core.errors import ModelError


@dataclass(frozen=True, slots=True)
class BoundInput:
    """An input buffer and an output of its own, bound to the session of one model.

    prototypes: of masks, where these are asked for.
    """

    buffer: InputBuffer
    output: NDArray[Any]
    binding: ort.IOBinding
    model: LoadedModel
    prototypes: NDArray[Any] | None = None
    embedding: BoundEmbedding | None = None


@dataclass(slots=True)
class Prepared:
    """A frame as a model's input, and how it lies there; empty for the stub, and after it was detected in.

    has_run: the model's output for it is there, too. embedding: (d,) once it was detected in, where it is asked for.
    """

    input: BoundInput | None
    letterbox: Letterbox
    has_run: bool = False
    embedding: NDArray[np.float32] | None = None


class LoadedModel:
    """A session, and the inputs and outputs that are bound to it."""

    def __init__(self, file: ModelFile, format_: ModelFormat, masks: bool = False, embeds: bool = False) -> None:
        """masks: also what masks are made of; then frames are run one by one. embeds: also the embedding."""
        self.file = file
        self.format = format_
        self.interruptible = False
        self._free: deque[BoundInput] = deque()  # its append and pop are atomic
        self._masks = masks and file.prototypes is not None
        self._embeds = embeds
        self._batches = _Batches(file, embeds) if file.batch > 1 and not self._masks else None

    def free_input(self) -> BoundInput:
        try:
            return self._free.pop()
        except IndexError:
            buffer = InputBuffer(self.format, self.file.image_size, self.file.input_type)
            output: NDArray[Any] = np.zeros(self.file.output_shape, self.file.output_type)
            binding = _bound(self.file, buffer.tensor, output)
            embedding = BoundEmbedding.bound(self.file, binding) if self._embeds else None
            return BoundInput(buffer, output, binding, self, self._bound_prototypes(binding), embedding)

    def note_embedding(self, prepared: Prepared) -> None:
        """Of a frame that was run, where it is asked for."""
        if self._embeds and (embedding := self._input_of(prepared).embedding) is not None:
            prepared.embedding = embedding.copy()

    def give_back(self, prepared: Prepared) -> None:
        """Use its buffer for a later frame; it is taken from `prepared`, so that no two frames can share one."""
        if prepared.input is not None:
            self._free.append(prepared.input)
            prepared.input = None

    def run(self, prepared: Prepared) -> NDArray[np.float32]:
        bound = self._input_of(prepared)
        if not prepared.has_run:
            self._run(bound.binding)
            prepared.has_run = True
        return bound.output.astype(np.float32, copy=False)

    def run_batch(self, prepared: Sequence[Prepared]) -> None:
        """As `run` for each of them, as many at once as the model takes."""
        waiting = [one for one in prepared if not one.has_run]
        if self._batches is None or len(waiting) < 2:
            for one in waiting:
                self.run(one)
            return
        for start in range(0, len(waiting), self.file.batch):
            together = waiting[start : start + self.file.batch]
            self._batches.run([self._input_of(one) for one in together], self._run)
            for one in together:
                one.has_run = True

    def prototypes(self, prepared: Prepared) -> NDArray[np.float32] | None:
        """(m, height, width) of a frame that was run; None where no masks are asked for."""
        prototypes = self._input_of(prepared).prototypes
        return None if prototypes is None else prototypes[0].astype(np.float32, copy=False)

    def _bound_prototypes(self, binding: ort.IOBinding) -> NDArray[Any] | None:
        of_masks = self.file.prototypes
        if of_masks is None or not self._masks:
            return None
        values: NDArray[Any] = np.zeros(of_masks.shape, of_masks.type)
        binding.bind_output(of_masks.name, "cpu", 0, of_masks.type, values.shape, values.ctypes.data)
        return values

    def _run(self, binding: ort.IOBinding) -> None:
        # Run options cost 0.03 ms, a fifth of all that surrounds the model (measured).
        options = self.file.run_options if self.interruptible else None
        try:
            self.file.session.run_with_iobinding(binding, options)
        except ORT_ERRORS as error:
            raise ModelError(f"{self.file.where}: the model failed on a frame: {first_line(error)}") from None

    def _input_of(self, prepared: Prepared) -> BoundInput:
        bound = prepared.input
        if bound is None or bound.model is not self:
            raise ModelError(f"{self.file.where}: the frame was not prepared by this detector: prepare it again")
        return bound


class _Batches:
    """Buffers for several images at once. Each frame keeps its own input and output; they are copied in and out."""

    def __init__(self, file: ModelFile, embeds: bool = False) -> None:
        self._file = file
        self._embeddings = BoundEmbedding.buffer(file, file.batch) if embeds else None
        self._images: NDArray[Any] = np.zeros((file.batch, 3, *file.image_size), file.input_type)
        self._outputs: NDArray[Any] = np.zeros((file.batch, *file.output_shape[1:]), file.output_type)
        self._bindings: dict[int, ort.IOBinding] = {}
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[BoundInput], run: Callable[[ort.IOBinding], None]) -> None:
        count = len(inputs)
        with self._lock:
            for image, bound in zip(self._images, inputs):
                np.copyto(image, bound.buffer.tensor[0])
            run(self._binding(count))
            for row, bound in enumerate(inputs):
                np.copyto(bound.output[0], self._outputs[row])
                if self._embeddings is not None and bound.embedding is not None:
                    np.copyto(bound.embedding.values[0], self._embeddings[row])

    def _binding(self, count: int) -> ort.IOBinding:
        if count not in self._bindings:
            self._bindings[count] = _bound(self._file, self._images[:count], self._outputs[:count])
            if self._embeddings is not None:
                BoundEmbedding.bound(self._file, self._bindings[count], self._embeddings[:count])
        return self._bindings[count]


def _bound(file: ModelFile, images: NDArray[Any], outputs: NDArray[Any]) -> ort.IOBinding:
    binding = file.session.io_binding()
    binding.bind_input(file.input_name, "cpu", 0, file.input_type, images.shape, images.ctypes.data)
    binding.bind_output(file.output_name, "cpu", 0, file.output_type, outputs.shape, outputs.ctypes.data)
    return binding
