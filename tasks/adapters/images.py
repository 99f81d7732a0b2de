"""The images of samples as local files, fetched from the bucket once and checked before anything decodes them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import Sample
from tasks.core.errors import ImageUnreadable

JPEG_MAGIC = b"\xff\xd8\xff"
LARGEST_IMAGE = 64 * 2**20  # bytes; what devices upload is untrusted


class ImageCache:
    """Verified copies of sample images below a local folder. The bucket holds the truth: the folder may be deleted."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket = bucket
        self._folder = folder

    def path_of(self, sample: Sample) -> Path:
        """A local file with the sample's image.

        Raises ImageUnreadable when the object is no JPEG, is too large, or is not what its sample says;
        ObjectMissing when the bucket does not have it.
        """
        path = self._folder / sample.sample_id[:2] / f"{sample.sample_id}.jpg"
        if path.exists():
            return path
        key = layout.sample_image(sample.device, sample.captured_at, sample.sample_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._bucket.download(key, path, sha256=sample.sha256)
        with path.open("rb") as file:
            magic = file.read(len(JPEG_MAGIC))
        if magic != JPEG_MAGIC or path.stat().st_size > LARGEST_IMAGE:
            path.unlink()
            raise ImageUnreadable(f"{self._bucket.url_of(key)}: is not a JPEG of a sensible size: it is left out")
        return path

    def pixels_of(self, sample: Sample) -> NDArray[np.uint8]:
        """The decoded image, (height, width, 3) uint8 BGR, of the size that its sample says."""
        path = self.path_of(sample)
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ImageUnreadable(f"{path}: cannot be decoded: it is left out")
        if pixels.shape[:2] != (sample.height, sample.width):
            height, width = pixels.shape[:2]
            raise ImageUnreadable(
                f"{path}: is {width} x {height} pixels, but its sample says {sample.width} x {sample.height}: left out"
            )
        return np.asarray(pixels, np.uint8)
