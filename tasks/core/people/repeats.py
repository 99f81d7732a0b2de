"""Near-duplicates among the images of a batch: nobody learns anything from the same picture twice.

Two views must agree, as on the device (core/duplicates.py): the difference hash of the picture, and what the model
saw. So neither a new small object that hardly changes the picture nor a new picture with the same objects is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.duplicates import signature, signatures_agree
from tasks.core.entities import Sample, detections_from_records
from tasks.core.splits import camera_of, is_imported


def repeats(
    samples: Sequence[Sample],
    hashes: Mapping[str, NDArray[np.uint8]],
    class_names: Sequence[str],
    maximum_distance: int,
    spared: Collection[str] = (),
) -> dict[str, str]:
    """Sample id -> the sample id that it repeats, of those that can be left out; `samples` is the order of offering.

    An image repeats one of the same camera that comes before it and stays, whose hash is at most `maximum_distance`
    bits away and in which the model saw the same. The random slice and what is `spared` always stay: what measures must
    be whole. hashes: sample id -> (32,) uint8; an image without one is left out for nothing.

    Costs one comparison for each pair of a camera that stays, all of a camera's at once.
    """
    left_out: dict[str, str] = {}
    kept: dict[str, _Kept] = {}
    for sample in sorted(samples, key=lambda s: not _stays(s, spared)):  # what stays comes first, else as they are
        image_hash = hashes.get(sample.sample_id)
        if image_hash is None or is_imported(sample):
            continue
        of_camera = kept.setdefault(camera_of(sample), _Kept())
        cells = signature(detections_from_records(sample.detections, class_names))
        if not _stays(sample, spared):
            repeated = of_camera.repeated_by(image_hash, cells, maximum_distance)
            if repeated:
                left_out[sample.sample_id] = repeated
                continue
        of_camera.add(sample.sample_id, image_hash, cells)
    return left_out


def _stays(sample: Sample, spared: Collection[str]) -> bool:
    return sample.random_slice or sample.sample_id in spared


class _Kept:
    """The images of one camera that stay."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._cells: list[NDArray[np.int64]] = []
        self._hashes = np.zeros((16, 32), np.uint8)

    def add(self, sample_id: str, image_hash: NDArray[np.uint8], cells: NDArray[np.int64]) -> None:
        if len(self._ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[len(self._ids)] = image_hash
        self._ids.append(sample_id)
        self._cells.append(cells)

    def repeated_by(self, image_hash: NDArray[np.uint8], cells: NDArray[np.int64], maximum_distance: int) -> str:
        """The nearest kept image that shows the same, the first of several; empty when there is none."""
        differing = np.unpackbits(self._hashes[: len(self._ids)] ^ image_hash, axis=1).sum(axis=1)
        for place in np.argsort(differing, kind="stable"):
            if differing[place] > maximum_distance:
                break
            if signatures_agree(cells, self._cells[place]):
                return self._ids[int(place)]
        return ""
