"""What models saw in images, kept in a local folder, so that a model looks at an image once.

Evaluation, gate, review and suggestion ask the same models about the same images. The bucket and the models hold the
truth: the folder may be deleted at any time, and whatever in it is damaged is computed again.

    {folder}/{model}/{16 hex}.npz    the images of one pass that were new to it

`{model}` names all that detections follow from but the image: the file's sha256, both class lists, the detector's
settings, our code between pixels and boxes, and the libraries below it. A file begins with the sha256 of the rest.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from tasks.adapters import detector as detector_package
from tasks.adapters.detector import Detector
from tasks.core import boxes
from tasks.core.entities import Detections, content_id

LARGEST = 2 * 2**30  # bytes of the folder; 300 detections take 7 kB, so about 300,000 images
IMAGES_A_FILE = 500  # a pass that is cut off has the rest to do again
DIGEST_BYTES = 32


class DetectionCache:
    """Detections below a local folder, of at most `largest` bytes: what was not used for longest goes first."""

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        self._folder = folder
        self._largest = largest

    @contextmanager
    def of(
        self, detector: Detector, model_classes: Sequence[str], images: Collection[str]
    ) -> Iterator[DetectionsOfModel]:
        """What `detector` saw in those of `images` (sha256 of the encoded image) that it looked at before.

        What is added is kept when the block ends, also by an error. model_classes: the model's own class names.
        """
        known = DetectionsOfModel(self._folder / key_of(detector, model_classes), detector.class_names, images)
        try:
            yield known
        finally:
            known.keep()
            self._shrink()

    def _shrink(self) -> None:
        """Also of files that somebody left half written."""
        sizes = {}
        for path in self._folder.glob("*/*"):
            with suppress(OSError):  # another process shrinks, too
                found = path.stat()
                sizes[path] = (found.st_mtime_ns, found.st_size)
        total = sum(size for _, size in sizes.values())
        for path, (_, size) in sorted(sizes.items(), key=lambda item: item[1]):
            if total <= self._largest:
                return
            total -= size
            _remove(path)
            with suppress(OSError):  # others are left in it
                path.parent.rmdir()


class DetectionsOfModel:
    """What one model saw, by the sha256 of the encoded image."""

    def __init__(self, folder: Path, class_names: Sequence[str], images: Collection[str]) -> None:
        self._folder = folder
        self._class_names = tuple(class_names)
        self._new: dict[str, Detections] = {}
        self._known: dict[str, Detections] = {}
        wanted = set(images)
        for path in sorted(folder.glob("*.npz")):
            if found := self._read(path, wanted):
                self._known |= found
                with suppress(OSError):
                    os.utime(path)  # used: it goes last

    def get(self, image: str) -> Detections | None:
        return self._known.get(image)

    def add(self, image: str, detections: Detections) -> None:
        self._known[image] = self._new[image] = detections
        if len(self._new) == IMAGES_A_FILE:
            self.keep()

    def keep(self) -> None:
        """Write what is new. That it cannot be written costs time, no result."""
        new, self._new = self._new, {}
        if not new:
            return
        part = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_packed(new))
            os.replace(part, part.with_name(f"{part.stem[1:]}.npz"))
        except OSError as error:
            logging.getLogger(__name__).warning("%s: detections are not kept: %s", self._folder, error)
            _remove(part)

    def _read(self, path: Path, wanted: set[str]) -> dict[str, Detections]:
        try:
            data = path.read_bytes()
        except OSError:
            return {}
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
            _remove(path)
            return {}
        return _unpacked(data[DIGEST_BYTES:], self._class_names, wanted)


def key_of(detector: Detector, model_classes: Sequence[str]) -> str:
    """16 hex of everything that the detections of an image follow from, but the image."""
    classes = [list(model_classes), list(detector.class_names)]
    parts = [detector.sha256, classes, repr(detector.settings), detector.provider, _program()]
    return content_id(json.dumps(parts))


@cache
def _program() -> str:
    """Our code from pixels to boxes, and the libraries that compute: what another version sees may differ."""
    files = [*sorted(Path(str(detector_package.__file__)).parent.glob("*.py")), Path(boxes.__file__)]
    return content_id(onnxruntime.__version__, cv2.__version__, np.__version__, *(file.read_bytes() for file in files))


def _packed(new: dict[str, Detections]) -> bytes:
    """Columns over all images, behind their digest."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=np.array(list(new), "S64"),
        counts=np.array([len(detections) for detections in new.values()], np.int64),
        xyxy=np.concatenate([detections.xyxy for detections in new.values()]),
        confidence=np.concatenate([detections.confidence for detections in new.values()]),
        class_id=np.concatenate([detections.class_id for detections in new.values()]).astype(np.int32),
    )
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


def _unpacked(content: bytes, class_names: tuple[str, ...], wanted: set[str]) -> dict[str, Detections]:
    """Copies of the wanted images' rows, so that those of the others do not stay in memory."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    ends = np.cumsum(columns["counts"]).tolist()
    found = {}
    for image, count, end in zip(columns["images"].astype(str).tolist(), columns["counts"].tolist(), ends):
        if image in wanted:
            rows = slice(end - count, end)
            found[image] = Detections(
                columns["xyxy"][rows].copy(),
                columns["confidence"][rows].copy(),
                columns["class_id"][rows].astype(np.int64),
                class_names,
            )
    return found


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
