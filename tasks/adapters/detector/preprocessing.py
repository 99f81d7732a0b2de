"""A frame into a model's input: scaled, letterboxed, in planes, as floats, in buffers that are allocated once.

One pass: the scaled picture is split into planes and converted straight into its window of the input; the padding
around it is written once for a picture size. On 640 x 480 this took 0.15 ms for an input of 256 px and 0.36 ms for 416,
against 0.21 and 1.44 ms for a letterboxed copy and `cv2.dnn.blobFromImage`, which allocates its result (measured).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector.formats import ModelFormat
from tasks.core.boxes import Letterbox
from tasks.core.errors import ImageUnreadable

PADDING = 114  # grey value of the letterbox's padding, in all formats


def frame_size(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """(height, width) of a BGR frame; ImageUnreadable for an array that is no such frame."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ImageUnreadable(
            f"a frame is (height, width, 3) uint8 in BGR, this one is {pixels.shape} {pixels.dtype}: convert it"
        )
    return int(pixels.shape[0]), int(pixels.shape[1])


class InputBuffer:
    """The input tensor of a model, (1, 3, height, width), rewritten for every frame. One thread at a time."""

    def __init__(self, format_: ModelFormat, input_size: tuple[int, int], input_type: type[np.floating[Any]]) -> None:
        self.tensor: NDArray[Any] = np.zeros((1, 3, *input_size), input_type)
        self._format = format_
        self._input_size = input_size
        self._letterbox: Letterbox | None = None

    def write(self, pixels: NDArray[np.uint8]) -> Letterbox:
        """Put a BGR frame (height, width, 3) into the tensor, and say how it lies there.

        Raises ImageUnreadable for an array that is no such frame.
        """
        size = frame_size(pixels)
        if self._letterbox is None or self._letterbox.image_size != size:
            self._letterbox = self._fit(size)
        if size != self._letterbox.resized:
            if self._antialias is not None:
                pixels = self._antialias.blurred(pixels)
            pixels = cv2.resize(pixels, self._resized.shape[1::-1], dst=self._resized, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        if self._cut is not None:
            pixels = pixels[self._cut]
        cv2.split(pixels, self._planes_in_order)
        if self._format.divisor == 1:
            np.copyto(self._window, self._planes)
        else:
            np.divide(self._planes, self._divisor, out=self._window, casting="same_kind")
        return self._letterbox

    def _fit(self, image_size: tuple[int, int]) -> Letterbox:
        letterbox = self._format.letterbox(image_size, self._input_size)
        (height, width), (left, top) = letterbox.resized, letterbox.pad
        self._antialias = Antialias.before(letterbox) if self._format.antialiases else None
        self._divisor = np.float32(self._format.divisor)
        self._resized: NDArray[np.uint8] = np.empty((height, width, 3), np.uint8)
        # What reaches out of the input is cut off.
        above, beside, left, top = max(-top, 0), max(-left, 0), max(left, 0), max(top, 0)
        height, width = min(height, self._input_size[0]), min(width, self._input_size[1])
        is_cut = letterbox.resized != (height, width)
        self._cut = np.s_[above : above + height, beside : beside + width] if is_cut else None
        self._planes: NDArray[np.uint8] = np.empty((3, height, width), np.uint8)
        self._planes_in_order = list(self._planes[::-1] if self._format.swaps_to_rgb else self._planes)
        self._window = self.tensor[0, :, top : top + height, left : left + width]
        self.tensor.fill(np.float32(PADDING) / self._divisor)
        return letterbox


@dataclass(frozen=True, slots=True)
class Antialias:
    """What makes a bilinear shrinking one like Pillow's, whose triangle is as wide as the factor by which it shrinks.

    Large frames are averaged in whole squares of `step` pixels first, which is quick; then they are blurred. Variances
    add up: Pillow's is factor^2 / 6, bilinear sampling is a triangle of 1/6, an average over `step` (step^2 - 1) / 12.
    On photographs the input is 0.5 grey values off Pillow's in the mean, with `INTER_AREA` alone 1.3 (measured).
    """

    step: int
    kernel: NDArray[np.float32]

    @classmethod
    def before(cls, letterbox: Letterbox) -> Antialias | None:
        """None where nothing is shrunk."""
        factor = 1 / max(letterbox.scale)
        if factor <= 1:
            return None
        step = max(int(factor / 2), 1)
        width = math.sqrt((factor / step) ** 2 - 1 - (1 - 1 / step**2) / 2)
        if width < 2:  # three taps of the same variance; a sampled triangle has another one when it is so narrow
            share = width * width / 6
            return cls(step, np.array([share / 2, 1 - share, share / 2], np.float32))
        taps = np.arange(-math.floor(width), math.floor(width) + 1)
        kernel = 1 - np.abs(taps) / width
        return cls(step, np.asarray(kernel / kernel.sum(), np.float32))

    def blurred(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A BGR frame without the detail that it is about to lose, and `step` times smaller."""
        image: Any = pixels
        if self.step > 1:
            smaller = max(pixels.shape[1] // self.step, 1), max(pixels.shape[0] // self.step, 1)
            image = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
        return np.asarray(
            cv2.sepFilter2D(image, -1, self.kernel, self.kernel, borderType=cv2.BORDER_REPLICATE), np.uint8
        )
