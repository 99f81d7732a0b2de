"""A frame that is the same everywhere, to see whether a model runs and still gives the outputs it gave elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELL = 64  # pixels


def probe_frame(height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    """A BGR frame (height, width, 3) of gradients in cells with hard edges, in integers: no seed, no codec."""
    y, x = np.mgrid[0:height, 0:width]
    cell = (y // _CELL * 7 + x // _CELL * 13) % 5
    planes = (x * 3 + cell * 51, y * 5 + cell * 29, (x + y) * 2 + cell * 83)
    return np.stack([plane % 256 for plane in planes], axis=2).astype(np.uint8)
