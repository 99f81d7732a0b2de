"""The images of samples as local files, fetched from the bucket once and checked before anything decodes them."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.bucket import Bucket
from tasks.adapters.labels.dataset import MAX_IMAGE_BYTES, image_size
from tasks.core import layout
from tasks.core.duplicates import difference_hash
from tasks.core.entities import Sample
from tasks.core.errors import ImageUnreadable

JPEG_MAGIC = b"\xff\xd8\xff"
JPEG_QUALITY = 95  # of images that come in another format


class ImageCache:
    """Verified copies of sample images below a local folder. The bucket holds the truth: the folder may be deleted."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket = bucket
        self._folder = folder

    def path_of(self, sample: Sample) -> Path:
        """A local file with the sample's image: a whole JPEG, with the digest and the size that the sample says.

        Raises ImageUnreadable when the object is something else, and ObjectMissing when the bucket does not have it.
        """
        path = self._folder / sample.sample_id[:2] / f"{sample.sample_id}.jpg"
        if not path.exists():
            self._fetch(sample, path)
        return path

    def pixels_of(self, sample: Sample) -> NDArray[np.uint8]:
        """The decoded image, (height, width, 3) uint8 BGR, of the size that its sample says."""
        path = self.path_of(sample)
        return _decoded(path, sample.width, sample.height)

    def _fetch(self, sample: Sample, path: Path) -> None:
        """The file appears under its name when it has been checked, or not at all."""
        key = layout.sample_image(sample.device, sample.captured_at, sample.sample_id)
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            self._bucket.download(key, part)
            _check(part, sample, self._bucket.url_of(key))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def picture_hash(path: Path) -> NDArray[np.uint8]:
    """(32,) uint8: the 256-bit difference hash of an image file, whose large ones are decoded at an eighth.

    Raises ImageUnreadable for what cannot be decoded.
    """
    width, height = image_size(path)
    large = min(width, height) >= 8 * 2 * 17
    grey = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_8 if large else cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ImageUnreadable(f"{path}: cannot be decoded: it is left out")
    return difference_hash(np.asarray(cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA), np.uint8))


def as_jpeg(path: Path, width: int, height: int) -> bytes:
    """An image file of `width` x `height` as JPEG: its own bytes when it is one, else its pixels, encoded.

    Raises ImageUnreadable for what cannot be decoded or has another size.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageUnreadable(f"{path}: cannot be read ({error.strerror}): it is left out") from None
    if content.startswith(JPEG_MAGIC):
        return content
    pixels = _decoded(path, width, height)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


def _check(file: Path, sample: Sample, where: str) -> None:
    """What devices upload is untrusted: cheap tests first, and no decoder sees what fails them."""
    content = file.read_bytes() if file.stat().st_size <= MAX_IMAGE_BYTES else b""
    if not content.startswith(JPEG_MAGIC):
        raise ImageUnreadable(f"{where}: is not a JPEG of a sensible size: it is left out")
    digest = hashlib.sha256(content).hexdigest()
    if digest != sample.sha256:
        raise ImageUnreadable(f"{where}: its sha256 is {digest[:16]}..., not that of its sample: it is left out")
    try:
        size = image_size(file)
    except ImageUnreadable as error:
        reason = str(error).removeprefix(f"{file.name}: ")
        raise ImageUnreadable(f"{where}: cannot be decoded ({reason}): it is left out") from None
    if size != (sample.width, sample.height):
        raise ImageUnreadable(_other_size(where, size, (sample.width, sample.height)))


def _decoded(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ImageUnreadable(f"{path}: cannot be decoded: it is left out")
    found = (pixels.shape[1], pixels.shape[0])
    if found != (width, height):
        raise ImageUnreadable(_other_size(path, found, (width, height)))
    return np.asarray(pixels, np.uint8)


def _other_size(where: object, found: tuple[int, int], said: tuple[int, int]) -> str:
    return f"{where}: is {found[0]} x {found[1]} pixels, not {said[0]} x {said[1]} as its record says: it is left out"
