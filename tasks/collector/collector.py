"""`Collector`: all that a device does. It holds the device's lock, reads its cameras and hosts its projects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from tasks.adapters.outbox import DeviceLock
from tasks.collector.cameras import Cameras
from tasks.collector.capture import OpenSource
from tasks.collector.config import CollectorConfig, read_state, write_running
from tasks.collector.consumers import Consumers
from tasks.collector.hosting import ProjectThread
from tasks.collector.metrics import start_metrics
from tasks.collector.project import Project
from tasks.collector.runner import OpenDetector
from tasks.collector.server import InferServer
from tasks.collector.tally import Tally
from tasks.core.entities import DeviceStatus
from tasks.core.errors import SettingsError

_GONE_S = 9.0  # after a stop; whatever hangs by then is left behind
_SERVER_S = 1.0  # of it, for requests that are being answered
_CONSUMERS_S = 2.0  # for messages that wait
_LOOK_UP_S = 0.2


class Collector:
    """One run. `run` holds the device's lock from its beginning to its end.

    Each project has a thread of its own, the device's own project first. What the collector is told beside the device's
    settings, a model or sampling settings to begin with, is for that one; the others have releases.
    """

    def __init__(
        self,
        config: CollectorConfig,
        *,
        stop: threading.Event,
        on_progress: Callable[[DeviceStatus], None] | None,
        open_source: OpenSource,
        open_detector: OpenDetector,
    ) -> None:
        device = config.device
        if not device.cameras and device.server is None:
            raise SettingsError(f"device {device.name}: names no camera: add one under cameras, or a server")
        self._config = config
        self._stop = stop
        self._on_progress = on_progress
        self._open_detector = open_detector
        self._folder = Path(device.outbox)
        self._cameras = Cameras(config, open_source)
        self._threads: list[ProjectThread] = []
        self._consumers: Consumers | None = None
        self._server: InferServer | None = None
        self._told: dict[str, DeviceStatus] = {}

    def run(self) -> DeviceStatus:
        with DeviceLock(self._folder):
            write_running(self._folder, self._config)
            self._host_projects()
            with closing(start_metrics(self._config.device, lambda: [thread.tally for thread in self._threads])):
                try:
                    self._begin()
                    self._watch()
                except BaseException:
                    self._stop.set()
                    raise
                finally:
                    self._end()
            self._complain()
            self._tell()
            return self._status()

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _host_projects(self) -> None:
        device, every = self._config.device, self._config.of_each_project()
        tallies = [Tally(config.device, read_state(Path(config.device.outbox))) for config in every]
        if device.consumers:
            self._consumers = Consumers(device, tallies[0].drop, tallies[0].error)
        for number, (config, tally) in enumerate(zip(every, tallies)):
            make = partial(
                Project,
                config,
                self._cameras,
                stop=self._stop,
                open_detector=self._open_detector,
                consumers=self._consumers,
                takes_from_outside=number == 0 and device.server is not None,
            )
            thread = ProjectThread(make, self._cameras, tally, begin_again=len(every) > 1, stop=self._stop)
            self._cameras.add(thread, config.device.cameras)
            self._threads.append(thread)
        if device.server is not None:
            self._server = self._a_server(self._threads[0])

    def _a_server(self, thread: ProjectThread) -> InferServer:
        """For frames from outside; the device's own project answers."""
        return InferServer(
            self._config.device,
            submit=lambda captured: thread.project.take_in_order(captured),
            in_force=lambda: thread.project.in_force(),
            tell_drop=thread.tally.drop,
            tell_error=thread.tally.error,
        )

    def _begin(self) -> None:
        """Cameras are opened when there is somebody to look; recordings wait for the others, live cameras do not."""
        if self._consumers is not None:
            self._consumers.start()
        for thread in self._threads:
            thread.start()
        while not any(thread.has_begun.wait(_LOOK_UP_S / len(self._threads)) for thread in self._threads):
            if self._stop.is_set():
                return
        if any(thread.is_alive() for thread in self._threads):
            self._cameras.start()
            if self._server is not None:
                self._server.start()

    # --- while it runs -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stop.is_set():
            alive = [thread for thread in self._threads if thread.is_alive()]
            if not alive:
                return
            alive[0].join(_LOOK_UP_S)
            if self._server is not None and self._config.device.server is not None:
                self._threads[0].tally.camera(self._config.device.server.camera, self._server.state)
            self._tell()

    def _tell(self) -> None:
        """Each new status of each project to whoever watches; of the device's own project last."""
        if self._on_progress is None:
            return
        for thread in reversed(self._threads):
            status = thread.project.status
            if status is not None and status is not self._told.get(thread.tally.project):
                self._told[thread.tally.project] = status
                self._on_progress(status)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """All projects drain at the same time; one that hangs, or a camera that does, is left behind."""
        deadline = time.monotonic() + _GONE_S
        self._cameras.stop()
        if self._server is not None:
            self._server.stop(_SERVER_S)
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(_LOOK_UP_S)
        if self._consumers is not None:
            self._consumers.stop(max(_LOOK_UP_S, min(_CONSUMERS_S, deadline - time.monotonic())))
        self._cameras.join(deadline)

    def _complain(self) -> None:
        """Raise why nothing could be collected, when it was not for want of time."""
        failures = [thread.failure for thread in self._threads if thread.failure is not None]
        if len(failures) == len(self._threads):
            raise failures[0]
        of_cameras = self._cameras.failures
        has_seen = any(thread.tally.frames for thread in self._threads)
        is_blind = 0 < len(of_cameras) == len(self._config.device.cameras)
        if is_blind and not has_seen and not self._stop.is_set():
            raise of_cameras[0]

    def _status(self) -> DeviceStatus:
        own = self._threads[0].project
        return own.status or own.tally.status()
