"""cv2: frames from video files, folders of images, webcams and RTSP cameras.

    with open_source("clip.mp4", "north-gate") as source:
        for frame in source:
            ...

`files` reads recordings, `live` cameras, `images` single images. Recordings end; live cameras are retried for ever.
SOURCES.md says what each kind does when it fails.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tasks.adapters.camera.files import ImageFolder, VideoFile
from tasks.adapters.camera.images import MAX_IMAGE_PIXELS, decode_image, encoded_size, read_image
from tasks.adapters.camera.live import NetworkCamera, Webcam
from tasks.adapters.camera.source import NarrowedSource, Source, Timeline
from tasks.adapters.secrets import expanded
from tasks.core.errors import SourceUnavailable
from tasks.core.settings import CameraSettings

__all__ = [
    "MAX_IMAGE_PIXELS",
    "ImageFolder",
    "NetworkCamera",
    "Source",
    "Timeline",
    "VideoFile",
    "Webcam",
    "decode_image",
    "encoded_size",
    "open_source",
    "read_image",
]

_SIMULATED = ("yard", "replay")


def open_source(
    source: str,
    camera: str,
    *,
    start: datetime | None = None,
    time_scale: float = 1.0,
    fps: float | None = None,
    settings: CameraSettings | None = None,
) -> Source:
    """Open what a device's settings call a source.

    source: a video file, a folder of images, the number or device file (/dev/...) of a webcam, rtsp://, or a simulated
    camera (yard://, replay://). camera: the name that its frames carry. start, time_scale, fps: capture times of a
    recording, which are start + index / fps * time_scale; by default from the file's modification time, at the video's
    own rate or one image a second. Live cameras ignore them. settings: frame rate, region, masks and time limits of
    the camera; its name and source are those given here.

    Raises SourceUnavailable, one line, for what cannot be opened; SettingsError for times that make no sense, and for
    a secret that an rtsp:// address names by `${NAME}` and that is not set. A live
    camera is connected when it is iterated, so that a device starts while its camera is still away.
    """
    scheme, separator, _ = source.partition("://")
    scheme = scheme.lower()
    if separator and scheme in _SIMULATED:
        from tasks.adapters import simulation  # only demos and tests need it

        simulated: Source = simulation.open_source(source, camera, start=start, time_scale=time_scale)
        return NarrowedSource.of(simulated, settings)
    if separator and scheme in ("rtsp", "rtsps"):
        return NetworkCamera(expanded(source), camera, settings)
    if separator or not source:
        raise SourceUnavailable(
            f"camera {camera}: {scheme + separator!r} is no source: pass a video file, a folder, a webcam number or rtsp://"
        )
    if source.isdecimal() or source.startswith("/dev/"):
        return Webcam(int(source) if source.isdecimal() else source, camera, settings)
    path, timeline = Path(source), Timeline(start, fps, time_scale)
    try:
        if path.is_dir():
            return ImageFolder(path, camera, timeline, settings)
        return VideoFile(path, camera, timeline, settings)
    except OSError as error:
        raise SourceUnavailable(f"camera {camera}: {path} cannot be read ({error.strerror}): check the path") from None
