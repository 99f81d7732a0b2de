"""`Collector`: starts the threads, decides frame after frame, and drains when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import DeviceLock, Outbox
from tasks.adapters.releases import InstalledRelease, installed_release
from tasks.collector.capture import CaptureThread, FrameQueue, OpenSource
from tasks.collector.config import INSTALLED_FOLDER, CollectorConfig, CollectorState, Position, read_state, write_state
from tasks.collector.inference import InferenceThread
from tasks.collector.orders import Orders
from tasks.collector.pipeline import Pipeline
from tasks.collector.runner import OpenDetector, Runner, RunnerFactory
from tasks.collector.spooler import Snapshot, Spooler, write_status
from tasks.collector.tally import Tally
from tasks.collector.uploader import Uploader
from tasks.core.entities import DeviceStatus
from tasks.core.errors import BucketError, ModelError, SettingsError

_TICK_S = 1.0  # how often state and status are written on the device
_DRAIN_S = 9.0  # a stopped collector has to be gone within 10 s
_LAST_STATUS_S = 1.5  # of it, kept for the last status
_PATIENCE_S = 3.0  # for the first answer about releases, when there is something to start with
_LOOK_UP_S = 0.2  # how long the main loop waits for a frame before it looks up


class Collector:
    """One run. `run` holds the device's lock from its beginning to its end."""

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
        if not device.cameras:
            raise SettingsError(f"device {device.name}: names no camera: add one under cameras")
        self._config = config
        self._device = device
        self._stop = stop
        self._on_progress = on_progress
        self._open_source = open_source
        self._folder = Path(device.outbox)
        self._bucket = Bucket(device.bucket, device.project)
        self._factory = RunnerFactory(
            open_detector,
            project_classes=config.project_classes,
            model_classes=config.model_classes,
            threads=device.threads,
        )
        self._orders: Orders | None = None
        self._next_tick = 0.0
        self._saved_numbers = False

    def run(self) -> DeviceStatus:
        with DeviceLock(self._folder):
            try:
                self._set_up()
            except BaseException:
                self._stop_orders()
                raise
            try:
                self._loop()
            finally:
                status = self._drain()
                self._bucket.close()
        self._complain_without_cameras()
        return status

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        before = read_state(self._folder)
        self._outbox = Outbox(self._folder, self._device.outbox_megabytes * 10**6)
        self._tally = Tally(self._device, before)
        self._tally.count_also(lambda: dict(self._outbox.drops))
        self._start_orders()
        runner = self._first_runner()
        self._spooler = Spooler(self._outbox, self._device.name, self._tally)
        positions = before.positions if before else {}
        self._pipeline = Pipeline(
            self._device,
            runner,
            self._tally,
            self._spooler,
            sampler_state=before.sampler if before else {},
            positions=positions,
            went_bad=lambda bad, reason: self._orders.went_bad(bad, reason) if self._orders else None,
        )
        write_state(self._folder, self._state(clean=False))
        self._queue = FrameQueue([c.name for c in self._device.cameras])
        self._tally.count_also(lambda: {"live frame replaced by a newer one": self._queue.replaced})
        self._captures = self._captures_from(positions)
        self._inference = InferenceThread(self._queue, self._pipeline.run_model)
        self._uploader = Uploader(
            self._device, self._bucket, self._outbox, self._spooler.traffic_folder, self._tally, self._status
        )
        write_status(self._folder, self._status())  # whoever started us waits for it
        for thread in (self._spooler, self._uploader, self._inference, *self._captures):
            thread.start()

    def _start_orders(self) -> None:
        if not self._config.follow_releases:
            return
        folder = self._folder / INSTALLED_FOLDER
        installed = self._installed()
        number = installed.release.number if installed else 0
        self._orders = Orders(self._device, self._bucket, folder, self._factory, self._tally, number)
        self._orders.start()

    def _stop_orders(self) -> None:
        if self._orders is not None:
            self._orders.stop()

    def _installed(self) -> InstalledRelease | None:
        """The installed release, when it is one of this device's group."""
        installed = installed_release(self._folder / INSTALLED_FOLDER) if self._config.follow_releases else None
        return installed if installed is not None and installed.release.group == self._device.group else None

    def _first_runner(self) -> Runner:
        """What to begin with: the installed release, what we were given, or, having asked, nothing but the default."""
        given = self._config.model is not None or self._config.sampling is not None
        installed = self._installed_runner()
        if self._orders is not None:
            # A recording would be over before the first answer, so it is waited for, but not for long.
            self._wait_for_orders(_PATIENCE_S if installed or given else None)
            newer = self._orders.take()
            if newer is not None:
                return newer
        return installed or self._factory.of_files(self._config.model, self._config.sampling)

    def _installed_runner(self) -> Runner | None:
        installed = self._installed()
        if installed is None:
            return None
        try:
            return self._factory.of_release(installed)
        except (ModelError, SettingsError) as error:
            self._tally.error(f"release {installed.release.number}: {error}")
            return None

    def _wait_for_orders(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._orders is not None and not self._orders.asked_once.wait(_LOOK_UP_S):
            if self._stop.is_set() or (deadline is not None and time.monotonic() > deadline):
                return

    def _captures_from(self, positions: dict[str, Position]) -> list[CaptureThread]:
        return [
            CaptureThread(
                camera,
                self._queue,
                self._tally,
                positions.get(camera.name),
                partial(
                    self._open_source,
                    camera.source,
                    camera.name,
                    start=self._config.start,
                    time_scale=self._config.time_scale,
                ),
                self._pipeline.prepare,
            )
            for camera in self._device.cameras
        ]

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stop.is_set() and not self._is_enough():
            self._tick()
            if self._orders is not None and (runner := self._orders.take()) is not None:
                self._pipeline.swap(runner)
            captured = self._inference.get(_LOOK_UP_S)
            if captured is not None:
                self._pipeline.decide(captured)
            elif self._inference.is_finished and not self._waits_for_more():
                return

    def _is_enough(self) -> bool:
        return self._config.max_frames is not None and self._tally.frames >= self._config.max_frames

    def _waits_for_more(self) -> bool:
        """The recordings have ended: go on for orders alone?"""
        if self._config.follow:
            self._stop.wait(_LOOK_UP_S)
        return self._config.follow

    def _tick(self) -> None:
        """Once a second: state and status to the disk, and to whoever watches."""
        numbers_are_new = not self._saved_numbers and self._tally.segment is not None
        if time.monotonic() < self._next_tick and not numbers_are_new:
            return
        self._next_tick = time.monotonic() + _TICK_S
        self._saved_numbers = self._tally.segment is not None
        traffic = self._pipeline.traffic()
        status = self._status()
        if self._spooler.save(Snapshot(self._state(clean=False), status, traffic)):
            self._pipeline.wrote_traffic(len(traffic))
        if self._on_progress is not None:
            self._on_progress(status)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _drain(self) -> DeviceStatus:
        """Finish the frames that were read, write and deliver what is kept, and leave a last state and status."""
        deadline = time.monotonic() + _DRAIN_S
        self._stop_reading(deadline)
        wrote = self._spooler.finish(
            Snapshot(self._state(clean=False), self._status(), self._pipeline.traffic(all_of_it=True)),
            timeout=max(1.0, deadline - time.monotonic() - 3),
        )
        if not wrote:
            self._tally.error(f"{self._folder}: the disk did not take what was kept in time: check it")
        delivered = self._deliver(max(0.5, deadline - time.monotonic() - _LAST_STATUS_S))
        status = self._status(finished=True)
        with self._tally.survive("last state"):
            write_state(self._folder, self._state(clean=True))
            write_status(self._folder, status)
        if delivered and self._uploader.bucket_answers:
            try:
                self._uploader.send_status(status)
            except BucketError as error:
                self._tally.error(str(error))
        if self._on_progress is not None:
            self._on_progress(status)
        return status

    def _deliver(self, limit: float) -> bool:
        """Wait for the uploader: `limit` seconds once we are stopped, else for as long as the bucket answers."""
        self._uploader.finish()
        stopped_at: float | None = None
        while self._uploader.is_alive():
            self._uploader.join(_LOOK_UP_S)
            if stopped_at is None and self._stop.is_set():
                stopped_at = time.monotonic()
            if stopped_at is not None and time.monotonic() - stopped_at > limit:
                return False
            if time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + _TICK_S
                write_status(self._folder, self._status())
        return True

    def _stop_reading(self, deadline: float) -> None:
        """End capture. Frames that were read are decided, unless the number asked for is reached: they come again."""
        if self._is_enough():
            time.sleep(_LOOK_UP_S / 4)  # lets a recording that has just given its last frame say that it has ended
        for capture in self._captures:
            capture.stop()
        self._queue.close()
        self._stop_orders()
        while not self._is_enough() and time.monotonic() < deadline - _DRAIN_S / 2:
            captured = self._inference.get(_LOOK_UP_S)
            if captured is not None:
                self._pipeline.decide(captured)
            elif self._inference.is_finished:
                break
        self._inference.stop()
        for thread in (*self._captures, self._inference):
            thread.join(timeout=0.2)
        self._note_where_recordings_stand()

    def _note_where_recordings_stand(self) -> None:
        """A recording that was cut short goes on from here next time; one that came to its end begins anew.

        A collector that follows does not end with its recordings, so being started again is no wish to see them again.
        """
        for capture in self._captures:
            has_all = self._pipeline.positions.has_decided(capture.camera, capture.last_index)
            if capture.came_to_its_end and has_all and not self._config.follow:
                self._pipeline.positions.forget(capture.camera)
            else:
                self._pipeline.positions.note_skipped(capture.camera, capture.skipped())

    def _complain_without_cameras(self) -> None:
        """Raise what went wrong when no camera gave anything and the run was not stopped."""
        failures = [capture.failure for capture in self._captures if capture.failure is not None]
        if len(failures) == len(self._captures) and not self._tally.frames and not self._stop.is_set():
            raise failures[0]

    # --- telling -----------------------------------------------------------------------------------------------------

    def _state(self, *, clean: bool) -> CollectorState:
        return self._tally.state(
            sampler=self._pipeline.sampler_state(), positions=self._pipeline.positions.all(), clean=clean
        )

    def _status(self, *, finished: bool = False) -> DeviceStatus:
        runner = self._pipeline.runner
        for capture in self._captures:
            capture.report()
        return self._tally.status(
            release_number=runner.release_number,
            model_version=runner.model_version,
            settings_version=runner.settings_version,
            outbox_samples=len(self._outbox),
            outbox_bytes=self._outbox.used_bytes,
            finished=finished,
        )
