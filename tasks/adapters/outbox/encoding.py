"""Pixels to the JPEG that is kept."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import ImageUnreadable


def encode_jpeg(
    pixels: NDArray[np.uint8], quality: int, max_size: tuple[int, int] | None = None
) -> tuple[bytes, int, int]:
    """A JPEG of `pixels` (height, width, 3, BGR), with its width and height in pixels.

    quality: 1 to 100. max_size: (height, width) that the image is shrunk into, keeping its aspect; never enlarged.
    Raises ImageUnreadable when the pixels are no image.
    """
    try:
        image = _shrunk(pixels, max_size)
        encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise ImageUnreadable(f"a frame of shape {pixels.shape} cannot be encoded as JPEG: {error.err}") from None
    if not encoded:
        raise ImageUnreadable(f"a frame of shape {pixels.shape} cannot be encoded as JPEG: check the camera's format")
    return data.tobytes(), int(image.shape[1]), int(image.shape[0])


def _shrunk(pixels: NDArray[np.uint8], max_size: tuple[int, int] | None) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if max_size is None or (height <= max_size[0] and width <= max_size[1]):
        return pixels
    scale = min(max_size[0] / height, max_size[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
