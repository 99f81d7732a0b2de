"""The part of a camera's picture that anything sees: masks painted over, then the region cut out.

Both are given in fractions of the whole picture, and so hold for whatever resolution the camera gives. All later
coordinates, boxes included, are pixels of the region.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings.device import CameraSettings, Region


class View:
    """What is left of pictures of one camera."""

    def __init__(self, region: Region | None = None, masks: Sequence[Region] = ()) -> None:
        self._region = region
        self._masks = tuple(masks)

    @classmethod
    def of(cls, settings: CameraSettings | None) -> View:
        return cls(settings.region, settings.masks) if settings is not None else cls()

    @property
    def is_whole(self) -> bool:
        """Does it leave pictures as they are?"""
        return self._region is None and not self._masks

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What may be seen of a picture (height, width, 3). The given pixels are painted over, too.

        Masks are black. Edges between two pixels are moved outwards: a mask hides every pixel that it touches.
        """
        height, width = pixels.shape[:2]
        for mask in self._masks:
            pixels[_pixels_of(mask, height, width)] = 0
        if self._region is None:
            return pixels
        return pixels[_pixels_of(self._region, height, width)].copy()  # so that the rest does not stay in memory


def _pixels_of(region: Region, height: int, width: int) -> tuple[slice, slice]:
    return _span(region.top, region.bottom, height), _span(region.left, region.right, width)


def _span(first: float, last: float, size: int) -> slice:
    """At least one pixel of `size`."""
    begin = min(math.floor(first * size), size - 1)
    return slice(begin, max(begin + 1, math.ceil(last * size)))
