"""The cameras of a device: each is decoded once, and its frames are handed to every project that looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from tasks.adapters.camera import Source
from tasks.collector.ahead import Captured
from tasks.collector.capture import CaptureThread, OpenSource
from tasks.collector.config import CollectorConfig, Position
from tasks.collector.tally import Tally
from tasks.core.entities import Frame
from tasks.core.errors import EdgeloopError
from tasks.core.settings import CameraSettings

_JOIN_S = 0.5  # for all capture threads together; one whose camera hangs is left behind


class Looker(Protocol):
    """What a camera needs of a project that looks at it."""

    @property
    def tally(self) -> Tally: ...

    def position_of(self, camera: CameraSettings) -> Position: ...

    def take(self, frame: Frame, *, is_live: bool) -> bool: ...

    def end_lane(self, camera: str) -> None: ...


class Lookers:
    """The projects that look at one camera. To its capture thread they are one queue and one tally.

    A frame of a recording is handed to one project after another, each of which may keep the camera waiting; of a live
    camera each has the newest one that it has not taken.
    """

    def __init__(self, camera: CameraSettings) -> None:
        self._camera = camera
        self._lookers: tuple[Looker, ...] = ()
        self._has_ended = False

    def add(self, looker: Looker) -> None:
        self._lookers = (*self._lookers, looker)

    def begin_anew(self, looker: Looker) -> None:
        """Its project was begun anew, with a new queue."""
        if self._has_ended and looker in self._lookers:
            looker.end_lane(self._camera.name)

    def position(self) -> Position:
        """From where the camera's recording is needed: the first frame that any of the projects has not decided."""
        places = [looker.position_of(self._camera).next_index for looker in self._lookers]
        return Position(source=self._camera.source, next_index=min(places, default=0))

    # --- as a queue --------------------------------------------------------------------------------------------------

    def put_and_wait(self, captured: Captured) -> bool:
        """False when none of the projects takes frames any more."""
        taken = [looker.take(captured.frame, is_live=False) for looker in self._lookers]
        return any(taken)

    def put_latest(self, captured: Captured) -> bool:
        taken = [looker.take(captured.frame, is_live=True) for looker in self._lookers]
        return any(taken)

    def end_lane(self, camera: str) -> None:
        self._has_ended = True
        for looker in self._lookers:
            looker.end_lane(camera)

    # --- as a tally --------------------------------------------------------------------------------------------------

    def camera(self, name: str, state: str) -> None:
        for looker in self._lookers:
            looker.tally.camera(name, state)

    def error(self, message: str) -> None:
        for looker in self._lookers:
            looker.tally.error(message)

    def drop(self, reason: str, count: int = 1) -> None:
        for looker in self._lookers:
            looker.tally.drop(reason, count)

    def count_also(self, drops: Callable[[], Mapping[str, int]], *, rebuilt: bool = False) -> None:
        """rebuilt: since the beginning of a recording; of each project, less what its earlier runs have counted."""
        for looker in self._lookers:
            before = looker.position_of(self._camera).skipped_before if rebuilt else {}
            looker.tally.count_also(partial(_less, drops, before), rebuilt=rebuilt)

    @contextmanager
    def survive(self, what: str) -> Iterator[None]:
        """As of a tally: whatever goes wrong inside is counted and reported, for each of the projects."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a capture thread must not die
            self.drop(f"{what} failed")
            self.error(f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")


def _less(drops: Callable[[], Mapping[str, int]], before: Mapping[str, int]) -> dict[str, int]:
    return {reason: max(0, count - before.get(reason, 0)) for reason, count in drops().items()}


class Cameras:
    """All cameras of a device, each with its thread."""

    def __init__(self, config: CollectorConfig, open_source: OpenSource) -> None:
        self._config = config
        self._open_source = open_source
        self._lookers = {camera.name: Lookers(camera) for camera in config.device.cameras}
        self.captures: dict[str, CaptureThread] = {}

    def add(self, looker: Looker, cameras: Sequence[CameraSettings]) -> None:
        """A project that looks at `cameras`; all are to be known before any camera is read."""
        for camera in cameras:
            self._lookers[camera.name].add(looker)

    def begin_anew(self, looker: Looker) -> None:
        """A project that had failed; it gets recordings from where they are now."""
        for lookers in self._lookers.values():
            lookers.begin_anew(looker)

    def start(self) -> None:
        for camera in self._config.device.cameras:
            lookers = self._lookers[camera.name]
            self.captures[camera.name] = CaptureThread(
                camera, lookers, lookers, lookers.position(), self._opener(camera), lambda captured: None
            )
        for capture in self.captures.values():
            capture.start()

    def stop(self) -> None:
        """Ask all threads to end, all at once: a camera that hangs may not even let itself be closed."""
        for capture in self.captures.values():
            threading.Thread(target=capture.stop, name=f"stop-{capture.camera}", daemon=True).start()

    def join(self, deadline: float) -> None:
        """Wait a little for them, and not beyond `deadline` (monotonic, s)."""
        deadline = min(deadline, time.monotonic() + _JOIN_S)
        for capture in self.captures.values():
            capture.join(max(0.0, deadline - time.monotonic()))

    def report(self) -> None:
        """Say so where a live camera has been silent for long."""
        for capture in self.captures.values():
            capture.report()

    @property
    def failures(self) -> list[EdgeloopError]:
        return [capture.failure for capture in self.captures.values() if capture.failure is not None]

    def _opener(self, camera: CameraSettings) -> Callable[[], Source]:
        return partial(
            self._open_source,
            camera.source,
            camera.name,
            start=self._config.start,
            time_scale=self._config.time_scale,
            settings=camera,
        )
