"""The thread of one of the device's projects: begins it anew when it fails, so that it disturbs no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tasks.collector.cameras import Cameras
from tasks.collector.config import Position
from tasks.collector.project import Project
from tasks.collector.tally import Tally
from tasks.core.entities import Frame
from tasks.core.settings import CameraSettings

_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0
_WELL_AGAIN_S = 300.0  # after which a failure counts as the first one


class ProjectThread(threading.Thread):
    """Runs a project until it ends. To the cameras it is one and the same project, however often it was begun anew.

    failure: what made the last attempt fail, none while it goes well.
    """

    def __init__(
        self,
        make: Callable[[Tally], Project],
        cameras: Cameras,
        tally: Tally,
        *,
        begin_again: bool,
        stop: threading.Event,
    ) -> None:
        """make: a new run of the project, which goes on with its tally. begin_again: after a failure; else that is its
        end.
        """
        super().__init__(name=f"project-{tally.project}", daemon=True)
        self.tally = tally
        self._make = make
        self._cameras = cameras
        self._begin_again = begin_again
        self._stopping = stop
        self.project = make(tally)
        self.failure: BaseException | None = None
        self.has_begun = threading.Event()

    def run(self) -> None:
        pause = _FIRST_RETRY_S
        while True:
            began = time.monotonic()
            try:
                if self.failure is not None:
                    self._renew()
                self.project.run(self._well_begun)
            except Exception as error:  # noqa: BLE001 - reported; the other projects go on
                self.failure = error
                self.project.tell_failure(error)
            else:
                return
            finally:
                self.has_begun.set()
            pause = _FIRST_RETRY_S if time.monotonic() - began > _WELL_AGAIN_S else pause
            if not self._begin_again or self._stopping.wait(pause):
                return
            pause = min(pause * 2, _LONGEST_RETRY_S)

    # --- to the cameras ----------------------------------------------------------------------------------------------

    def position_of(self, camera: CameraSettings) -> Position:
        return self.project.position_of(camera)

    def take(self, frame: Frame, *, is_live: bool) -> bool:
        """False when the project takes no more frames, ever."""
        if self.project.take(frame, is_live=is_live):
            return True
        is_down = self.project.has_failed and self._begin_again
        if is_down:
            self.tally.drop("frame missed, project not running")
        return is_down

    def end_lane(self, camera: str) -> None:
        self.project.end_lane(camera)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _well_begun(self) -> None:
        self.failure = None
        self.has_begun.set()

    def _renew(self) -> None:
        self.project = self._make(self.tally)
        self._cameras.begin_anew(self)
