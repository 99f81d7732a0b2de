"""Detector and sampler: every frame is decided here, one after another, by whatever is in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.collector import ahead, alerts
from tasks.collector.ahead import Captured
from tasks.collector.clock import ClockWatch
from tasks.collector.config import Position
from tasks.collector.consumers import Consumers
from tasks.collector.held import HeldFrames
from tasks.collector.keeping import Kept, observation_of
from tasks.collector.positions import Positions
from tasks.collector.probation import ProbationWatch
from tasks.collector.runner import Runner
from tasks.collector.spooler import Spooler
from tasks.collector.tally import Tally
from tasks.core.entities import Detections, Frame, TrafficRecord
from tasks.core.errors import ImageUnreadable, RecordInvalid
from tasks.core.sampling import Decision, Observation, Sampler, Settled
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
        clock: ClockWatch,
        consumers: Consumers | None = None,
    ) -> None:
        """went_bad: told of a release that failed its probation, why, and what was in force before it, where that is
        still open; says what is in force instead. passed: told of a release that has kept to its limits. consumers:
        are told what was detected in each frame.
        """
        self.runner = runner
        self.watch = ProbationWatch()
        self.watch.begin(runner, before=None)
        self.positions = Positions({camera.name: camera.source for camera in device.cameras}, positions)
        self._device = device
        self._tally = tally
        self._spooler = spooler
        self._sampler = _sampler(runner, device, sampler_state, tally)
        self._clock = clock
        self._consumers = consumers
        self._went_bad = went_bad
        self._passed = passed
        self._held = HeldFrames()
        self._traffic: list[TrafficRecord] = []
        self._traffic_since = time.monotonic()
        _alert(runner, device, tally)

    @property
    def batch(self) -> int:
        """Frames that are run at once at most: one a camera, as many as the device allows and the model takes."""
        return min(self._device.batch, len(self._device.cameras), self.runner.detector.batch)

    def prepare(self, captured: Captured) -> None:
        """Make a frame the input of the model in force; for capture threads."""
        ahead.prepare(captured, self.runner.detector)

    def run_model(self, together: Sequence[Captured]) -> None:
        """Run the model in force on frames, in advance; for the inference thread."""
        runner = self.runner
        with self.watch.running(runner, len(together)):
            ahead.run(together, runner.detector)

    def decide(self, captured: Captured) -> None:
        """Detect, sample, and hand over what is kept. Nothing that goes wrong with one frame stops the next."""
        self._tally.took_frame()
        frame, is_live = captured.frame, captured.is_live
        try:
            with self._tally.timed("detection"):
                everything = self._detect(captured)
            detections = self._tell(captured, everything)
            with self._tally.timed("decision"):
                observation = self._observation(captured, detections)
                decision = self._sampler.decide(observation)
                self._log_traffic(observation, decision)
        except Exception as error:  # noqa: BLE001 - this loop must not die: counted, reported, the next frame comes
            reason = "frame unreadable" if isinstance(error, ImageUnreadable) else "inference failed"
            self._tally.failed_frame(reason, f"camera {frame.camera}, frame {frame.index}: {error}")
            self._settle(self._sampler.settle(frame.camera))  # what was in this frame, nobody knows
            if not isinstance(error, ImageUnreadable):
                self._judge(None)
        else:
            self._settle(decision.settled)
            if decision.is_open:
                self._tally.decided_until_settled()
                self._held.hold(self._kept(frame, detections, everything, decision, is_live), is_live=is_live)
            else:
                self._tally.decided(decision.outcome, decision.strategy if decision.kept else None)
            if decision.kept and not decision.is_open:
                self._keep(self._kept(frame, detections, everything, decision, is_live), wait=not is_live)
            self._judge(len(detections))
        if not is_live:
            self.positions.advance(frame.camera, frame.index)

    def swap(self, runner: Runner) -> None:
        """Between two frames: all of what is in force is exchanged; the sampler's counters go on."""
        before, self.runner = self.runner, runner
        self.watch.begin(runner, before)
        self._put_in_force(runner, str(runner))

    def settle(self, *, only_silent: bool = False) -> None:
        """No more frames come, or of silent cameras none for long: what waits for an object is handed over."""
        for camera in self._held.silent_cameras() if only_silent else [None]:
            self._settle(self._sampler.settle(camera))

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

    def _detect(self, captured: Captured) -> Detections:
        """What the model sees; whoever waits for the frame is told when it fails."""
        try:
            return ahead.detect(captured, self.runner.detector, embeds=self.runner.embedder is not None)
        except Exception as error:
            if captured.answer is not None:
                captured.answer(error)
            raise

    def _tell(self, captured: Captured, everything: Detections) -> Detections:
        """The detections of the project's classes, told to whoever wants to know."""
        runner = self.runner
        detections = runner.of_the_project(everything)
        if captured.answer is not None:
            captured.answer(detections)
        if self._consumers is not None:
            thresholds, version = runner.settings.thresholds, runner.model_version
            self._consumers.tell(captured.frame, detections, thresholds, version, self._device.project)
        return detections

    def _observation(self, captured: Captured, detections: Detections) -> Observation:
        runner, frame, is_live = self.runner, captured.frame, captured.is_live
        observation = observation_of(
            frame,
            detections,
            self._device.name,
            runner.settings,
            runner.detector.is_stub,
            index=frame.index if is_live else None,
        )
        if runner.embedder is not None:
            embedding = runner.embedder.of(captured)
            observation = replace(observation, embedding=embedding, embedder=runner.embedder.name)
        if is_live and self._clock.has_lost_the_date(frame.captured_at):
            return replace(observation, captured_at=self._clock.counting_time(frame.captured_at))
        return observation

    def _settle(self, settled: Iterable[Settled]) -> None:
        """Frames that were held: hand over those that are kept."""
        for one in settled:
            released = self._held.release(one)
            if released is None:
                continue
            self._tally.settled(one.decision.outcome, one.decision.strategy if one.decision.kept else None)
            if one.decision.kept:
                self._keep(released.kept, wait=not released.is_live)

    def _keep(self, kept: Kept, *, wait: bool) -> None:
        if self.runner.unseen_classes:
            self._tally.drop("sample dropped, cannot be made private")
            return
        self._spooler.keep(kept, wait=wait)

    def _kept(
        self, frame: Frame, detections: Detections, everything: Detections, decision: Decision, is_live: bool
    ) -> Kept:
        return Kept(
            frame=frame,
            detections=detections,
            everything=everything,
            decision=decision,
            settings=self.runner.settings,
            settings_version=self.runner.settings_version,
            model_version=self.runner.model_version,
            clock_suspect=is_live and self._clock.is_suspect(),
        )

    def _log_traffic(self, observation: Observation, decision: Decision) -> None:
        record = self._sampler.traffic_record(observation, decision, self.runner.model_version)
        if record is None:
            return
        if len(self._traffic) >= _TRAFFIC_HELD:
            self._tally.drop("traffic record dropped, disk behind")
            return
        self._traffic.append(record)

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
            self.runner.detector.interruptible = False
            self._passed(self.runner)

    def _put_in_force(self, runner: Runner, what: str) -> None:
        self.settle()
        self._sampler = self._sampler.with_settings(runner.settings)
        self.runner = runner
        self._tally.swapped(what)
        _alert(runner, self._device, self._tally)


def _alert(runner: Runner, device: DeviceSettings, tally: Tally) -> None:
    """What of the device's settings what is in force cannot do, said for as long as it is in force."""
    detector = runner.detector
    is_slow = device.batch > detector.batch and len(device.cameras) > 1 and not detector.is_stub
    one_by_one = f"model {runner.model_version} takes one frame at a time: export it with a dynamic batch"
    unseen = f"model {runner.model_version} cannot see {', '.join(runner.unseen_classes)}: no picture is kept"
    instead = "; ".join((*detector.passed_over, f"{detector.provider} computes instead"))
    tally.set_alert(alerts.PROVIDER_MISSING, instead if detector.passed_over else "")
    tally.set_alert(alerts.NO_BATCHES, one_by_one if is_slow else "")
    tally.set_alert(alerts.NOT_PRIVATE, unseen if runner.unseen_classes else "")
    if not detector.is_stub:
        tally.judge_thresholds(runner.settings, runner.project_classes or detector.class_names)


def _sampler(runner: Runner, device: DeviceSettings, state: Mapping[str, Any], tally: Tally) -> Sampler:
    try:
        return Sampler(runner.settings, device=device.name, state=dict(state) or None)
    except RecordInvalid as error:  # written by another version; counting anew is better than not sampling
        tally.error(str(error))
        return Sampler(runner.settings, device=device.name)
