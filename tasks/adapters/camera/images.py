"""One image file into BGR pixels, with its size known before anything is decoded.

A PNG of 1.2 MB can decode to gigabytes. OpenCV's own limit (OPENCV_IO_MAX_IMAGE_PIXELS) allows 2^30 pixels, is read
when the library is loaded and takes the image's word for it only inside the decoder; here the header is read first and
an image above `MAX_IMAGE_PIXELS` is never handed to it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import ImageUnreadable

MAX_IMAGE_PIXELS = 50_000_000  # 150 MB of BGR
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# Start-of-frame markers; C4, C8 and CC lie between them and mean something else (ITU-T T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, b"\xff\xd9"
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class ImageRefused(ImageUnreadable):
    """An image that is not read; `reason` is the key it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_image(path: Path) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of a JPEG, PNG or BMP file, BGR, turned upright where EXIF says so.

    Grey images and images with alpha become BGR. Raises ImageRefused with reason empty, oversized, corrupt or
    unreadable.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageRefused("unreadable", f"{path.name}: cannot be read ({error.strerror}): check it") from None
    return decode_image(content, path.name)


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """The same for an encoded image in memory; `name` is for the message."""
    if not content:
        raise ImageRefused("empty", f"{name}: the file is empty: copy it again")
    width, height = _checked_size(content, name)
    if width * height > MAX_IMAGE_PIXELS:
        raise ImageRefused(
            "oversized", f"{name}: {width} x {height} pixels, more than {MAX_IMAGE_PIXELS // 10**6} million: shrink it"
        )
    try:
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.size == 0:
        raise ImageRefused("corrupt", f"{name}: the image cannot be decoded: copy it again")
    if pixels.shape[0] * pixels.shape[1] != width * height:
        raise ImageRefused("corrupt", f"{name}: it decodes to another size than its header says: copy it again")
    return pixels


def encoded_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) as the header of an encoded image says, before anything of it is decoded. Raises ImageRefused."""
    return _checked_size(content, name)


def _checked_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) from the header of a complete image."""
    try:
        if content.startswith(_JPEG):
            size = _jpeg_size(content)
        elif content.startswith(_PNG):
            size = _png_size(content)
        elif content.startswith(b"BM"):
            size = _bmp_size(content)
        else:
            raise ImageRefused("corrupt", f"{name}: no JPEG, PNG or BMP image: convert it")
    except (struct.error, IndexError):
        size = None
    if size is None or min(size) < 1:
        raise ImageRefused("corrupt", f"{name}: the image is cut off or damaged: copy it again")
    return size


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Walk the segments to the scan; None when the image data does not end with its marker.

    Decoders fill what is missing of a cut image with grey and say nothing, and grey would be sampled.
    """
    size, at = None, 2
    while True:
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", content, at + 5)
            size = (width, height)
        if marker == _START_OF_SCAN:
            return size if content.find(_END_OF_IMAGE, at) > 0 else None
        at += 2 + length


def _png_size(content: bytes) -> tuple[int, int] | None:
    if content[12:16] != b"IHDR" or b"IEND" not in content[-64:]:
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _bmp_size(content: bytes) -> tuple[int, int] | None:
    (size_in_bytes,) = struct.unpack_from("<I", content, 2)
    if size_in_bytes > len(content):
        return None
    (header_bytes,) = struct.unpack_from("<I", content, 14)
    if header_bytes < 40:  # the OS/2 header of 1987
        width, height = struct.unpack_from("<HH", content, 18)
        return width, height
    width, height = struct.unpack_from("<ii", content, 18)
    return width, abs(height)  # a negative height says that rows go from top to bottom
