"""`Project`: what this device does for one project, from its first orders to its last status.

It has a detector, a sampler, a spool, an uploader, orders, counters and a status of its own. From other projects of the
device it only shares the cameras (`cameras`), which hand it their frames.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import Outbox
from tasks.adapters.privacy import Privacy
from tasks.collector import alerts
from tasks.collector.ahead import Captured
from tasks.collector.beginning import first_runner, installed_here
from tasks.collector.cameras import Cameras
from tasks.collector.capture import ASKED_FOR, FrameQueue
from tasks.collector.clock import ClockWatch
from tasks.collector.config import INSTALLED_FOLDER, CollectorConfig, CollectorState, Position, read_state, write_state
from tasks.collector.consumers import Consumers
from tasks.collector.inference import InferenceThread
from tasks.collector.pipeline import Pipeline
from tasks.collector.runner import OpenDetector, Runner, RunnerFactory
from tasks.collector.spooler import Snapshot, Spooler, write_status
from tasks.collector.tally import Tally
from tasks.collector.uploader import Uploader
from tasks.core.entities import STUB, DeviceStatus, Frame
from tasks.core.errors import BucketError
from tasks.core.settings import CameraSettings, Thresholds

if TYPE_CHECKING:
    from tasks.collector.orders import Orders

_TICK_S = 1.0  # how often state and status are written on the device
_DRAIN_S = 9.0  # a stopped collector has to be gone within 10 s
_LAST_STATUS_S = 1.5  # of it, kept for the last status
_LOOK_UP_S = 0.2  # how long the loop waits for a frame before it looks up


class Project:
    """One run of one project. `run` may take a thread of its own; `take` is for capture threads.

    has_failed: it cannot go on; somebody may begin it anew. status: the last one that was made, none before the first.
    """

    def __init__(
        self,
        config: CollectorConfig,
        cameras: Cameras,
        tally: Tally,
        *,
        stop: threading.Event,
        open_detector: OpenDetector,
        consumers: Consumers | None = None,
        takes_from_outside: bool = False,
    ) -> None:
        """config: of this project alone, with its own cameras, bucket and spool. tally: of the run, which goes on when
        the project is begun anew. takes_from_outside: it is also handed frames of no camera, by `take_in_order`.
        """
        device = config.device
        self.has_failed = False
        self.status: DeviceStatus | None = None
        self._config = config
        self._device = device
        self._cameras = cameras
        self._stop = stop
        self._consumers = consumers
        self._folder = Path(device.outbox)
        self._before = read_state(self._folder)
        self._positions = self._before.positions if self._before else {}
        self._last_taken: dict[str, int] = {}
        self._was_cut_short: set[str] = set()
        self.tally = tally
        self._queue = FrameQueue([*(c.name for c in device.cameras), *([ASKED_FOR] if takes_from_outside else [])])
        self.tally.count_also(lambda: {"live frame replaced by a newer one": self._queue.replaced})
        self._bucket: Bucket | None = None
        self._factory = RunnerFactory.for_device(
            device, open_detector, project_classes=config.project_classes, model_classes=config.model_classes
        )
        self._orders: Orders | None = None
        self._pipeline: Pipeline | None = None
        self._next_tick = 0.0
        self._saved_numbers = False

    def run(self, has_begun: Callable[[], None] = lambda: None) -> DeviceStatus:
        """Until the recordings end, the number of frames asked for is decided, or `stop` is set.

        has_begun: called once everything runs. Raises what makes it impossible to begin or to go on.
        """
        try:
            pipeline = self._set_up()
        except BaseException:
            self._give_up()
            raise
        self.tally.clear(alerts.PROJECT_DOWN)
        has_begun()
        try:
            self._loop(pipeline)
        except BaseException:
            self.has_failed = True
            raise
        finally:
            status = self._drain(pipeline)
            self._close_bucket()
        return status

    def tell_failure(self, error: Exception) -> None:
        """Why it cannot go on, in its status."""
        why = str(error) or type(error).__name__
        self.tally.error(why)
        self.tally.alert(alerts.PROJECT_DOWN, f"it cannot collect: {why}")
        with self.tally.survive("status"):
            self._folder.mkdir(parents=True, exist_ok=True)
            self.status = self._status()
            write_status(self._folder, self.status)

    # --- for the cameras ---------------------------------------------------------------------------------------------

    def position_of(self, camera: CameraSettings) -> Position:
        """Where this project stands in a camera's recording."""
        known = self._positions.get(camera.name)
        return known if known is not None and known.source == camera.source else Position(source=camera.source)

    def take(self, frame: Frame, *, is_live: bool) -> bool:
        """Hand over a frame of one of our cameras; False when no more are taken."""
        captured = Captured(frame, is_live)
        if is_live:
            return self._queue.put_latest(captured)
        known = self._positions.get(frame.camera)
        if known is not None and frame.index < known.next_index and self._is_of(known, frame.camera):
            return True  # decided before the restart
        if self._pipeline is not None:
            self._pipeline.prepare(captured)
        self._last_taken[frame.camera] = frame.index
        if self._queue.put_and_wait(captured):
            return True
        self._was_cut_short.add(frame.camera)
        return False

    def take_in_order(self, captured: Captured) -> bool:
        """Hand over a frame that somebody waits for; False where there is no room, or no project yet."""
        return self._pipeline is not None and self._queue.put_in_order(captured)

    def in_force(self) -> tuple[Thresholds, str]:
        """Operating thresholds and model version."""
        if self._pipeline is None:
            return {}, STUB
        runner = self._pipeline.runner
        return runner.settings.thresholds, runner.model_version

    def end_lane(self, camera: str) -> None:
        """The camera has ended."""
        self._queue.end_lane(camera)

    def _is_of(self, known: Position, camera: str) -> bool:
        return any(known.source == one.source for one in self._device.cameras if one.name == camera)

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _set_up(self) -> Pipeline:
        before = self._before
        self._bucket = bucket = Bucket(self._device.bucket, self._device.project)
        self._outbox = Outbox(self._folder, self._device.outbox_megabytes * 10**6)
        self.tally.count_also(lambda: dict(self._outbox.drops))
        self._start_orders(bucket)
        runner = first_runner(self._config, self._orders, self._factory, self.tally, self._stop)
        self._spooler = Spooler(self._outbox, self._device.name, self.tally, Privacy(self._device.privacy))
        self._clock = ClockWatch(last_known=before.clock if before else None)
        self._pipeline = pipeline = Pipeline(
            self._device,
            runner,
            self.tally,
            self._spooler,
            sampler_state=before.sampler if before else {},
            positions=self._positions,
            went_bad=self._went_bad,
            passed=self._passed,
            clock=self._clock,
            consumers=self._consumers,
        )
        if self._orders is not None:
            self._orders.watch_over(pipeline.watch)
        with self.tally.survive("first state"):  # a full disk is no reason not to begin: what waits must leave it
            write_state(self._folder, self._state(pipeline, clean=False))
        self._inference = InferenceThread(self._queue, pipeline.run_model, lambda: pipeline.batch)
        self._uploader = Uploader(
            self._device, bucket, self._outbox, self._spooler.traffic_folder, self.tally, self._status
        )
        with self.tally.survive("first status"):
            write_status(self._folder, self._status())  # whoever started us waits for it
        for thread in (self._spooler, self._uploader, self._inference):
            thread.start()
        return pipeline

    def _start_orders(self, bucket: Bucket) -> None:
        if not self._config.follow_releases:
            return
        installed = installed_here(self._config)
        number = installed.release.number if installed else 0
        folder = self._folder / INSTALLED_FOLDER
        from tasks.collector.orders import Orders  # with TUF: half of the start, and only for who follows releases

        self._orders = Orders(self._device, bucket, folder, self._factory, self.tally, number, self._without_release)
        self._orders.start()

    def _without_release(self) -> Runner:
        return self._factory.of_files(self._config.model, self._config.sampling)

    def _stop_orders(self) -> None:
        if self._orders is not None:
            self._orders.stop()

    def _went_bad(self, bad: Runner, reason: str, before: Runner | None) -> Runner:
        """What is in force instead of a release that broke the limits of its probation."""
        return self._orders.went_bad(bad, reason, before) if self._orders is not None else before or bad

    def _passed(self, runner: Runner) -> None:
        if self._orders is not None:
            self._orders.passed(runner)

    def _give_up(self) -> None:
        """It could not begin: nobody has to wait for it."""
        self.has_failed = True
        self._queue.close()
        self._stop_orders()
        self._close_bucket()

    def _close_bucket(self) -> None:
        if self._bucket is not None:
            self._bucket.close()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self, pipeline: Pipeline) -> None:
        while not self._stop.is_set() and not self._is_enough():
            self._tick(pipeline)
            if self._orders is not None and (runner := self._orders.take()) is not None:
                pipeline.swap(runner)
            captured = self._inference.get(_LOOK_UP_S)
            if captured is not None:
                pipeline.decide(captured)
            elif self._inference.is_finished and not self._waits_for_more():
                return

    def _is_enough(self) -> bool:
        return self._config.max_frames is not None and self.tally.frames >= self._config.max_frames

    def _waits_for_more(self) -> bool:
        """The recordings have ended: go on for orders alone?"""
        if self._config.follow:
            self._stop.wait(_LOOK_UP_S)
        return self._config.follow

    def _tick(self, pipeline: Pipeline) -> None:
        """Once a second: state and status to the disk, and to whoever watches."""
        numbers_are_new = not self._saved_numbers and self.tally.segment is not None
        if time.monotonic() < self._next_tick and not numbers_are_new:
            return
        self._next_tick = time.monotonic() + _TICK_S
        self._saved_numbers = self.tally.segment is not None
        pipeline.settle(only_silent=True)
        traffic = pipeline.traffic()
        status = self._status()
        if self._spooler.save(Snapshot(self._state(pipeline, clean=False), status, traffic)):
            pipeline.wrote_traffic(len(traffic))
        self.status = status

    # --- the end -----------------------------------------------------------------------------------------------------

    def _drain(self, pipeline: Pipeline) -> DeviceStatus:
        """Finish the frames that were read, write and deliver what is kept, and leave a last state and status."""
        deadline = time.monotonic() + _DRAIN_S
        self.tally.draining(
            "it failed" if self.has_failed else "it was stopped" if self._stop.is_set() else "all is read"
        )
        self._stop_reading(pipeline, deadline)
        wrote = self._spooler.finish(
            Snapshot(self._state(pipeline, clean=False), self._status(), pipeline.traffic(all_of_it=True)),
            timeout=max(1.0, deadline - time.monotonic() - 3),
        )
        if not wrote:
            self.tally.error(f"{self._folder}: the disk did not take what was kept in time: check it")
        delivered = self._deliver(max(0.5, deadline - time.monotonic() - _LAST_STATUS_S))
        status = self._status(finished=True)
        with self.tally.survive("last state"):
            write_state(self._folder, self._state(pipeline, clean=not self.has_failed))
            write_status(self._folder, status)
        self.status = status
        if delivered and self._uploader.bucket_answers:
            try:
                self._uploader.send_status(status)
            except BucketError as error:
                self.tally.error(str(error))
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
                self._uploader.abandon()
                return False
            if time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + _TICK_S
                with self.tally.survive("status"):
                    write_status(self._folder, self._status())
        return True

    def _stop_reading(self, pipeline: Pipeline, deadline: float) -> None:
        """Take no more frames. Those that were read are decided, unless the number asked for is reached: they come
        again.
        """
        if self._is_enough():
            time.sleep(_LOOK_UP_S / 4)  # lets a recording that has just given its last frame say that it has ended
        self._queue.close()
        self._stop_orders()
        while not self._is_enough() and time.monotonic() < deadline - _DRAIN_S / 2:
            captured = self._inference.get(_LOOK_UP_S)
            if captured is not None:
                pipeline.decide(captured)
            elif self._inference.is_finished:
                break
        self._inference.stop()
        self._inference.join(timeout=_LOOK_UP_S)
        pipeline.settle()
        self._note_where_recordings_stand(pipeline)

    def _note_where_recordings_stand(self, pipeline: Pipeline) -> None:
        """A recording that was cut short goes on from here next time; one that came to its end begins anew.

        A collector that follows does not end with its recordings, so being started again is no wish to see them again.
        """
        for camera in self._device.cameras:
            capture = self._cameras.captures.get(camera.name)
            if capture is None:
                continue
            has_all = pipeline.positions.has_decided(camera.name, self._last_taken.get(camera.name))
            was_cut_short = camera.name in self._was_cut_short or not capture.came_to_its_end
            if has_all and not was_cut_short and not self._config.follow:
                pipeline.positions.forget(camera.name)
            else:
                pipeline.positions.note_skipped(camera.name, capture.skipped())

    # --- telling -----------------------------------------------------------------------------------------------------

    def _state(self, pipeline: Pipeline, *, clean: bool) -> CollectorState:
        state = self.tally.state(sampler=pipeline.sampler_state(), positions=pipeline.positions.all(), clean=clean)
        return state.model_copy(update={"clock": self._clock.now()})

    def _status(self, *, finished: bool = False) -> DeviceStatus:
        if self._pipeline is None:
            return self.tally.status(finished=finished)
        self._cameras.report()
        self.tally.on_probation(str(self._pipeline.watch))
        runner = self._pipeline.runner
        return self.tally.status(
            provider=runner.detector.provider,
            release_number=runner.release_number,
            model_version=runner.model_version,
            settings_version=runner.settings_version,
            outbox_samples=len(self._outbox),
            outbox_bytes=self._outbox.used_bytes,
            outbox_oldest_seconds=self._outbox.oldest_seconds,
            finished=finished,
        )
