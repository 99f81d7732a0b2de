"""Recordings: video files and folders of images. Every frame, in order, as fast as it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2

from tasks.adapters.camera.images import MAX_IMAGE_PIXELS, SUFFIXES, ImageRefused, read_image
from tasks.adapters.camera.source import ABOVE_FRAME_RATE, ClosableSource, Timeline
from tasks.core.entities import Frame
from tasks.core.errors import SourceUnavailable
from tasks.core.settings import CameraSettings

_UNSUPPORTED_SUFFIXES = (".webp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".jp2")
_DEFAULT_VIDEO_FPS = 25.0  # where the file does not say; FFmpeg's own default
_DEFAULT_FOLDER_FPS = 1.0
_COUNTED_CONTAINERS = (".mp4", ".mov", ".m4v")  # they store the number of frames; elsewhere it is estimated


class VideoFile(ClosableSource):
    """Every frame of a video. A damaged one yields what can be decoded and then says how much was missing.

    skipped: `missing_frames`, frames that the file announces and does not give; `oversized`, frames above
    `MAX_IMAGE_PIXELS` in a video that began with smaller ones.
    """

    def __init__(self, path: Path, camera: str, timeline: Timeline, settings: CameraSettings | None = None) -> None:
        super().__init__(camera, settings)
        self._path = path
        if not path.exists():
            raise SourceUnavailable(f"camera {camera}: there is no file or folder {path}: check the path")
        if not path.is_file():  # a pipe would be waited for, without a time limit
            raise SourceUnavailable(f"camera {camera}: {path} is neither a file nor a folder: check the path")
        capture = self._open()
        self.fps = _plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self._announced = int(max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0))
        capture.release()
        self._timeline = timeline.anchored(path, self.fps)

    def __iter__(self) -> Iterator[Frame]:
        capture, pace, index = self._open(), self._pace(), 0
        try:
            while not self._closed.is_set():
                captured_at = self._timeline.at(index)
                is_wanted = pace.is_due(captured_at.timestamp())
                read, pixels = capture.read() if is_wanted else (capture.grab(), None)
                if not read:
                    self._count_missing(index)
                    return
                if pixels is None:
                    self._count(ABOVE_FRAME_RATE)
                elif pixels.shape[0] * pixels.shape[1] > MAX_IMAGE_PIXELS:
                    self._skip("oversized", f"{self._path.name}: frame {index} is larger than what is read: shrink it")
                else:
                    name = f"{self._path.name}#{index}"
                    yield Frame(self._view(pixels), self.camera, captured_at, index, name)  # type: ignore[arg-type]
                index += 1
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        # Only FFmpeg: other backends would take a name such as frame_%03d.png for a pattern.
        # One thread of it: decoding runs beside the detector, and costs a fifth less CPU than with two (measured).
        capture = cv2.VideoCapture(os.fspath(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if not capture.isOpened() or width * height > MAX_IMAGE_PIXELS:
            capture.release()
            raise SourceUnavailable(
                f"camera {self.camera}: {self._path} is no video that can be decoded: check that it plays elsewhere"
            )
        return capture

    def _count_missing(self, frames: int) -> None:
        missing = self._announced - frames
        tolerance = 0 if self._path.suffix.lower() in _COUNTED_CONTAINERS else 1 + self._announced // 100
        if missing > tolerance:
            self._skip(
                "missing_frames",
                f"{self._path.name}: {frames} of {self._announced} frames could be read; the file is cut or damaged",
                missing,
            )


class ImageFolder(ClosableSource):
    """The images of a folder, sorted by name. A bad one is skipped and counted, and keeps its place in time.

    skipped: `empty`, `corrupt`, `oversized`, `unreadable`, `unsupported` (WebP, TIFF and others). Files that are no
    images by their suffix are ignored.
    """

    def __init__(self, folder: Path, camera: str, timeline: Timeline, settings: CameraSettings | None = None) -> None:
        super().__init__(camera, settings)
        self._folder = folder
        self._names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.name.lower().endswith((*SUFFIXES, *_UNSUPPORTED_SUFFIXES)) and entry.is_file()
        )
        if not self._names:
            raise SourceUnavailable(
                f"camera {camera}: there is no image in the folder {folder}: put JPEG or PNG files in"
            )
        self._timeline = timeline.anchored(folder / self._names[0], _DEFAULT_FOLDER_FPS)

    def __len__(self) -> int:
        """Images in the folder, good and bad."""
        return len(self._names)

    def __iter__(self) -> Iterator[Frame]:
        pace = self._pace()
        for index, name in enumerate(self._names):
            if self._closed.is_set():
                return
            captured_at = self._timeline.at(index)
            if not pace.is_due(captured_at.timestamp()):
                self._count(ABOVE_FRAME_RATE)
                continue
            if name.lower().endswith(_UNSUPPORTED_SUFFIXES):
                self._skip("unsupported", f"{name}: this kind of image is not read: convert it to JPEG or PNG")
                continue
            try:
                pixels = read_image(self._folder / name)
            except ImageRefused as error:
                self._skip(error.reason, str(error))
                continue
            yield Frame(self._view(pixels), self.camera, captured_at, index, name)


def _plausible_fps(fps: float) -> float:
    """A container may say 0, NaN or its time base instead of a rate."""
    return fps if 0 < fps <= 1000 else _DEFAULT_VIDEO_FPS
