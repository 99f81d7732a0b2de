"""Detector and sampler: every frame is decided here, one after another, by whatever is in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks.collector import ahead
from tasks.collector.ahead import Captured
from tasks.collector.clock import ClockWatch
from tasks.collector.config import Position
from tasks.collector.keeping import Kept, is_logged, observation_of, traffic_record
from tasks.collector.positions import Positions
from tasks.collector.probation import ProbationWatch
from tasks.collector.runner import Runner
from tasks.collector.spooler import Spooler
from tasks.collector.tally import Tally
from tasks.core.duplicates import COOLDOWN, NEAR_DUPLICATE
from tasks.core.entities import Detections, Frame, TrafficRecord
from tasks.core.errors import ImageUnreadable, RecordInvalid
from tasks.core.sampling import Decision, Observation, Sampler
from tasks.core.settings import DeviceSettings

_TRAFFIC_RECORDS = 500  # a file
_TRAFFIC_HELD = 5000  # at most while the disk is behind


class Pipeline:
    """Used by the main loop alone, but for `prepare`, `run_model`, and for what it is told to count."""

    def __init__(
        self,
        device: DeviceSettings,
        runner: Runner,
        tally: Tally,
        spooler: Spooler,
        *,
        sampler_state: Mapping[str, Any],
        positions: Mapping[str, Position],
        went_bad: Callable[[Runner, str, Runner | None], Runner],
        passed: Callable[[Runner], None],
    ) -> None:
        """went_bad: told of a release that failed its probation, why, and what was in force before it, where that is
        still open; says what is in force instead. passed: told of a release that has kept to its limits.
        """
        self.runner = runner
        self.watch = ProbationWatch()
        self.watch.begin(runner, before=None)
        self.positions = Positions({camera.name: camera.source for camera in device.cameras}, positions)
        self._device = device
        self._tally = tally
        self._spooler = spooler
        self._sampler = _sampler(runner, device, sampler_state, tally)
        self._clock = ClockWatch()
        self._went_bad = went_bad
        self._passed = passed
        self._traffic: list[TrafficRecord] = []
        self._traffic_since = time.monotonic()

    def prepare(self, captured: Captured) -> None:
        """Make a frame the input of the model in force; for capture threads."""
        ahead.prepare(captured, self.runner.detector)

    def run_model(self, captured: Captured) -> None:
        """Run the model in force on a frame, in advance; for the inference thread."""
        runner = self.runner
        with self.watch.running(runner):
            ahead.run(captured, runner.detector)

    def decide(self, captured: Captured) -> None:
        """Detect, sample, and hand over what is kept. Nothing that goes wrong with one frame stops the next."""
        self._tally.took_frame()
        frame, is_live = captured.frame, captured.is_live
        try:
            detections = ahead.detect(captured, self.runner.detector)
            decision = self._sampler.decide(self._observation(frame, detections))
            self._log_traffic(frame, detections, decision)
        except Exception as error:  # noqa: BLE001 - this loop must not die: counted, reported, the next frame comes
            reason = "frame unreadable" if isinstance(error, ImageUnreadable) else "inference failed"
            self._tally.failed_frame(reason, f"camera {frame.camera}, frame {frame.index}: {error}")
            if not isinstance(error, ImageUnreadable):
                self._judge(None)
        else:
            self._tally.decided(decision.outcome, decision.strategy if decision.kept else None)
            if decision.kept:
                self._spooler.keep(self._kept(frame, detections, decision, is_live), wait=not is_live)
            self._judge(len(detections))
        if not is_live:
            self.positions.advance(frame.camera, frame.index)

    def swap(self, runner: Runner) -> None:
        """Between two frames: all of what is in force is exchanged; the sampler's counters go on."""
        before, self.runner = self.runner, runner
        self.watch.begin(runner, before)
        self._put_in_force(runner, str(runner))

    def sampler_state(self) -> dict[str, Any]:
        return self._sampler.state()

    def traffic(self, *, all_of_it: bool = False) -> list[TrafficRecord]:
        """The traffic log, when it is long or old enough to be written."""
        is_old = time.monotonic() - self._traffic_since >= self._device.segment_seconds
        return list(self._traffic) if all_of_it or is_old or len(self._traffic) >= _TRAFFIC_RECORDS else []

    def wrote_traffic(self, records: int) -> None:
        """The first `records` lines are on their way."""
        if records:
            del self._traffic[:records]
        if not self._traffic:
            self._traffic_since = time.monotonic()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _observation(self, frame: Frame, detections: Detections) -> Observation:
        return observation_of(frame, detections, self._device.name, self.runner.settings, self.runner.detector.is_stub)

    def _kept(self, frame: Frame, detections: Detections, decision: Decision, is_live: bool) -> Kept:
        return Kept(
            frame=frame,
            detections=detections,
            decision=decision,
            settings=self.runner.settings,
            settings_version=self.runner.settings_version,
            model_version=self.runner.model_version,
            clock_suspect=is_live and self._clock.is_suspect(),
        )

    def _log_traffic(self, frame: Frame, detections: Detections, decision: Decision) -> None:
        """A uniform sample of all frames after duplicates, kept or not; a stub's confidences mean nothing."""
        settings = self.runner.settings
        rate = settings.traffic_log_rate
        if self.runner.detector.is_stub or not rate or decision.outcome in (COOLDOWN, NEAR_DUPLICATE):
            return
        if not is_logged(frame, self._device.name, settings.seed, rate):
            return
        if len(self._traffic) >= _TRAFFIC_HELD:
            self._tally.drop("traffic record dropped, disk behind")
            return
        self._traffic.append(traffic_record(frame, detections, rate, self.runner.model_version))

    # --- a new release on probation ----------------------------------------------------------------------------------

    def _judge(self, detections: int | None) -> None:
        """One more frame, with so many detections or failed (none): a release that breaks its limits has to go."""
        reason = self.watch.frame(detections)
        if reason is not None:
            if detections is None:
                reason += f", the last time: {self._tally.last_error}"
            good = self._went_bad(self.runner, reason, self.watch.before)
            self.watch.begin(good, before=None)
            self._put_in_force(good, f"back to {good}")
        elif self.watch.has_passed():
            self._passed(self.runner)

    def _put_in_force(self, runner: Runner, what: str) -> None:
        self._sampler = self._sampler.with_settings(runner.settings)
        self.runner = runner
        self._tally.swapped(what)


def _sampler(runner: Runner, device: DeviceSettings, state: Mapping[str, Any], tally: Tally) -> Sampler:
    try:
        return Sampler(runner.settings, device=device.name, state=dict(state) or None)
    except RecordInvalid as error:  # written by another version; counting anew is better than not sampling
        tally.error(str(error))
        return Sampler(runner.settings, device=device.name)
