"""Masks and keypoints of COCO annotations and results.

    segmentation    a list of polygons [[x1, y1, x2, y2, ...], ...], {"size": [h, w], "counts": [...]}, or the same with
                    COCO's compressed counts, a string
    keypoints       [x1, y1, v1, x2, y2, v2, ...]; v is 0 not labelled, 1 hidden, 2 visible, of a result its confidence

Polygons become pixels as COCO's own code makes them, faster-coco-eval's port of it. The counts of a file are read here:
they come from outside, and COCO's code trusts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.labels.dataset import BAD_LINE, BadBox, number
from tasks.core.errors import DataError
from tasks.core.masks import Mask

MAX_POINTS = 100_000  # of an annotation
MAX_KEYPOINTS = 1_000
FARTHEST = 1e6  # pixels
_FIRST = 48  # of the 64 characters that stand for six bits each
_BITS, _MORE, _SIGN = 5, 0x20, 0x10


def mask_of(entry: Mapping[str, Any], height: int, width: int) -> Mask | None:
    """The mask of an annotation or a result; None where it has none. Raises BadBox for one that cannot be read."""
    segmentation = entry.get("segmentation")
    if segmentation is None or segmentation == []:
        return None
    counts = _polygon_counts(segmentation, height, width) if isinstance(segmentation, list) else None
    if counts is None:
        if not isinstance(segmentation, dict):
            raise BadBox(BAD_LINE, "segmentation is neither a list of polygons nor an object with size and counts")
        if segmentation.get("size") != [height, width]:
            size = str(segmentation.get("size"))[:40]
            raise BadBox(BAD_LINE, f"segmentation has the size {size}, its image is {[height, width]} (height, width)")
        counts = _counts(segmentation.get("counts"))
    try:
        return Mask((height, width), counts)
    except DataError as error:
        raise BadBox(BAD_LINE, str(error)) from None


def keypoints_of(entry: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """(k, 3) x, y, visibility; None where it has none. Raises BadBox for what are no such numbers."""
    values = entry.get("keypoints")
    if values is None:
        return None
    if not isinstance(values, list) or len(values) % 3 or not 0 < len(values) <= 3 * MAX_KEYPOINTS:
        raise BadBox(BAD_LINE, "keypoints is not a list of x, y and visibility of each")
    return _numbers(values, "keypoints").reshape(-1, 3)


def compressed(mask: Mask) -> dict[str, Any]:
    """A mask as COCO's programs want it."""
    from faster_coco_eval.core import mask as coco_masks

    height, width = mask.size
    plain = {"size": [height, width], "counts": mask.counts.tolist()}
    run_lengths: dict[str, Any] = coco_masks.frPyObjects(plain, height, width)
    counts = run_lengths["counts"]
    return {"size": [height, width], "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _polygon_counts(polygons: list[Any], height: int, width: int) -> NDArray[np.int64]:
    from faster_coco_eval.core import mask as coco_masks

    if sum(len(polygon) if isinstance(polygon, list) else 0 for polygon in polygons) > 2 * MAX_POINTS:
        raise BadBox(BAD_LINE, f"segmentation has more than {MAX_POINTS} points")
    corners = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise BadBox(BAD_LINE, "segmentation has a polygon that is not a list of at least three x, y")
        corners.append(_numbers(polygon, "segmentation").tolist())
    united = coco_masks.merge(coco_masks.frPyObjects(corners, height, width))
    return _counts(united["counts"].decode() if isinstance(united["counts"], bytes) else united["counts"])


def _numbers(values: list[Any], what: str) -> NDArray[np.float64]:
    numbers = np.array([number(value, what) for value in values], np.float64)
    if (np.abs(numbers) > FARTHEST).any():
        raise BadBox(BAD_LINE, f"{what} lies far outside of any image")
    return numbers


def _counts(counts: Any) -> NDArray[np.int64]:
    """Run lengths from a list of whole numbers, or from COCO's compressed string."""
    if isinstance(counts, str):
        return np.array(_from_text(counts), np.int64)
    if not isinstance(counts, list) or any(isinstance(c, bool) or not isinstance(c, int) for c in counts):
        raise BadBox(BAD_LINE, "counts of a segmentation are neither a list of whole numbers nor a string")
    if any(not 0 <= count <= FARTHEST**2 for count in counts):
        raise BadBox(BAD_LINE, "counts of a segmentation are negative or larger than any image")
    return np.array(counts, np.int64)


def _from_text(text: str) -> list[int]:
    """COCO's compressed counts (maskApi.c, rleFrString): five bits a character, from the third run on differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - _FIRST
        if not 0 <= bits < 64 or shift > 50:
            raise BadBox(
                BAD_LINE, f"counts of a segmentation hold {character!r}, which is not of COCO's compressed form"
            )
        value |= (bits & 0x1F) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        if not 0 <= counts[-1] <= FARTHEST**2:
            raise BadBox(BAD_LINE, "counts of a segmentation are negative or larger than any image")
        value = shift = 0
    if shift:
        raise BadBox(BAD_LINE, "counts of a segmentation end in the middle of a number")
    return counts
