"""The figures of a run: counted by all threads, reported in the status, saved in the state, told to the log."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tasks.collector import alerts
from tasks.collector.alerts import Alerts, Check
from tasks.collector.clock import ClockWatch
from tasks.collector.config import CollectorState, Position
from tasks.collector.figures import Faults, Monotone, RateMeter, resident_bytes, versions_of_this_process
from tasks.collector.logs import Redactor, about, logger
from tasks.core.entities import DeviceStatus
from tasks.core.errors import BucketError
from tasks.core.settings import DeviceSettings, SamplingSettings

_SWAPS_SHOWN = 20
_LONGEST_MESSAGE = 500  # characters of an error
_NO_FAULT = ("running", "ended", "connecting", "stopped")  # beginnings of a camera's state
_NOT_TIMED = nullcontext()

OnLatency = Callable[[str, float], None]  # "detection" or "decision", seconds


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Tally:
    """Counters of one run of one project. Each method may be called from any thread.

    taken: frames that the main loop took from capture; what of them is neither decided nor counted as failed is lost.
    Whatever is told in words (errors, states of cameras, reasons) is redacted here, before it goes anywhere.
    """

    def __init__(self, settings: DeviceSettings, before: CollectorState | None) -> None:
        """before: the state of the last run; one that was killed is gone on with, else only numbers are taken over."""
        resumed = before if before is not None and not before.clean else None
        self._settings = settings
        self._lock = threading.Lock()
        self._redact = Redactor(settings)
        self._began = time.monotonic()
        self.resumed = resumed
        self.started_at = resumed.started_at if resumed else utc_now()
        self.frames = resumed.frames if resumed else 0
        self.kept = resumed.kept if resumed else 0
        self.uploaded = resumed.uploaded if resumed else 0
        self.committed = resumed.committed if resumed else 0
        self.kept_by_strategy: Counter[str] = Counter(resumed.kept_by_strategy if resumed else {})
        self.swaps: list[str] = list(resumed.swaps) if resumed else []
        self._drops: Counter[str] = Counter(resumed.drops if resumed else {})
        self.segment: int | None = before.segment if before else None
        self.traffic = before.traffic if before else 0
        self.refused_number = before.refused_number if before else 0
        self.refused_reason = before.refused_reason if before else ""
        self.last_error = ""
        self.cameras: dict[str, str] = {}
        self.probation = ""
        self.on_latency: OnLatency | None = None
        self.latest: DeviceStatus | None = None
        self._unaccounted = 0
        self._outside: list[Monotone] = []
        self._rebuilt: list[Monotone] = []
        self._faults = Faults()
        self._alerts = Alerts(utc_now)
        self._checks: list[Check] = []
        self._clock = ClockWatch()
        self._meter = RateMeter(self.frames, self.kept, self.uploaded, self._began)

    @property
    def project(self) -> str:
        return self._settings.project

    # --- counting ----------------------------------------------------------------------------------------------------

    def took_frame(self) -> None:
        with self._lock:
            self._unaccounted += 1

    def decided(self, outcome: str, strategy: str | None) -> None:
        """One frame decided: kept and charged to `strategy`, or dropped with `outcome`."""
        with self._lock:
            self._unaccounted -= 1
            self.frames += 1
            self._account(outcome, strategy)

    def decided_until_settled(self) -> None:
        """One frame decided, but not finally: whether it is kept is said by `settled`."""
        with self._lock:
            self._unaccounted -= 1
            self.frames += 1

    def settled(self, outcome: str, strategy: str | None) -> None:
        """What became of a frame whose decision was open, as for `decided`."""
        with self._lock:
            self._account(outcome, strategy)

    def _account(self, outcome: str, strategy: str | None) -> None:
        if strategy is None:
            self._drops[outcome] += 1
        else:
            self.kept += 1
            self.kept_by_strategy[strategy] += 1

    def failed_frame(self, reason: str, error: str) -> None:
        """One frame that could not be decided."""
        with self._lock:
            self._unaccounted -= 1
            self._drops[reason] += 1
        self.error(error)

    def drop(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self._drops[reason] += count

    def error(self, message: str) -> None:
        """Something went wrong, and the work goes on."""
        message = self._in_one_line(message)
        with self._lock:
            self.last_error = message
            self._faults.add(message, utc_now())
        self._log_warning("error", message)

    def camera(self, name: str, state: str) -> None:
        """state: `running...` and `ended` are well, everything else is not."""
        state = self._in_one_line(state)
        with self._lock:
            before, self.cameras[name] = self.cameras.get(name, ""), state
        if _kind_of(state) != _kind_of(before):
            log = self._log if state.startswith(_NO_FAULT) else self._log_warning
            log("camera", f"camera {name}: {state}", camera=name)

    def swapped(self, what: str) -> None:
        with self._lock:
            self.swaps.append(f"frame {self.frames}: {what}")
        self._log("release", f"in force: {what}")

    def refused(self, number: int, reason: str) -> None:
        reason = self._in_one_line(reason)
        with self._lock:
            self.refused_number, self.refused_reason = number, f"{number}: {reason}"
        self._log_warning("release", f"release {number} refused: {reason}", release=number)

    def on_probation(self, state: str) -> None:
        """Where a new release's probation stands; empty: there is none."""
        self.probation = state

    def committed_segment(self, number: int, samples: int) -> None:
        """Segment `number` is in the bucket and holds `samples` of ours."""
        with self._lock:
            self.segment = max(self.segment or 0, number)
            self.uploaded += samples
            self.committed += 1

    def advance_segment(self, number: int) -> None:
        """Numbers up to `number` are taken."""
        with self._lock:
            self.segment = max(self.segment or 0, number)

    def committed_traffic(self, number: int) -> None:
        with self._lock:
            self.traffic = max(self.traffic, number)

    def count_also(self, drops: Callable[[], Mapping[str, int]], *, rebuilt: bool = False) -> None:
        """Count what another part counts itself. rebuilt: a restart counts it again, so the state leaves it out."""
        (self._rebuilt if rebuilt else self._outside).append(Monotone(drops))

    # --- alerts and events -------------------------------------------------------------------------------------------

    def alert(self, name: str, message: str) -> None:
        """Raise an alert of `tasks.collector.alerts`; it stays until it is cleared."""
        message = self._in_one_line(message)
        with self._lock:
            is_new = self._alerts.set(name, message)
        if is_new:
            self._log_warning("alert", f"{name}: {message}", alert=name)

    def clear(self, name: str) -> None:
        """The cause of an alert has gone."""
        with self._lock:
            ended = self._alerts.clear(name)
        if ended is not None:
            self._log("alert", f"{alerts.told(ended)}: over", alert=name)

    def set_alert(self, name: str, message: str) -> None:
        """Raise an alert, or clear it where there is nothing to say."""
        if message:
            self.alert(name, message)
        else:
            self.clear(name)

    def check_also(self, check: Check) -> None:
        """Ask another part for its alerts with each status: names, and what is wrong or nothing."""
        self._checks.append(check)

    def bucket_failed(self, error: BucketError) -> None:
        """A call did not get through: an error, and the alert that says whose fault it is."""
        self.alert(*alerts.of_bucket_error(error))
        self.error(str(error))

    def bucket_answered(self) -> None:
        for name in (alerts.BUCKET_UNREACHABLE, alerts.CREDENTIALS_REFUSED):
            self.clear(name)

    def judge_thresholds(self, settings: SamplingSettings, class_names: tuple[str, ...]) -> None:
        """Alert when the thresholds that come into force cannot be right for the model's classes."""
        self.set_alert(alerts.BAD_THRESHOLDS, alerts.thresholds_problem(settings, class_names))

    def draining(self, why: str) -> None:
        self._log("drain", f"draining: {why}")

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Measure "detection" or "decision" of a frame, when somebody wants to know."""
        return _NOT_TIMED if self.on_latency is None else _timing(stage, self.on_latency)

    @contextmanager
    def survive(self, what: str) -> Iterator[None]:
        """Count and report whatever goes wrong inside, and go on: a thread of the collector must not die."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place; counted, reported, and the loop goes on
            self.drop(f"{what} failed")
            self.error(f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    # --- telling -----------------------------------------------------------------------------------------------------

    def state(self, *, sampler: dict[str, Any], positions: dict[str, Position], clean: bool) -> CollectorState:
        with self._lock:
            return CollectorState(
                started_at=self.started_at,
                clean=clean,
                frames=self.frames,
                kept=self.kept,
                kept_by_strategy=dict(self.kept_by_strategy),
                drops=dict(self._all_drops(self._outside)),
                swaps=tuple(self.swaps[-_SWAPS_SHOWN:]),
                uploaded=self.uploaded,
                committed=self.committed,
                segment=self.segment,
                traffic=self.traffic,
                refused_number=self.refused_number,
                refused_reason=self.refused_reason,
                positions=positions,
                sampler=sampler,
            )

    def status(self, *, provider: str = "", **fields: Any) -> DeviceStatus:
        """The status with what other parts know: release, model, settings, outbox, execution provider."""
        self._look_around(fields)
        now = time.monotonic()
        with self._lock:
            told: dict[str, Any] = {
                "device": self._settings.name,
                "group": self._settings.group,
                "project": self._settings.project,
                "reported_at": utc_now(),
                "started_at": self.started_at,
                "uptime_seconds": round(now - self._began, 1),
                "status_seconds": self._settings.status_seconds,
                "versions": versions_of_this_process(provider),
                "refused_release": self.refused_reason,
                "probation": self.probation,
                "frames": self.frames,
                "frames_lost": max(0, self._unaccounted),
                "kept": self.kept,
                "kept_by_strategy": dict(self.kept_by_strategy),
                "drops": {k: n for k, n in sorted(self._all_drops(self._outside + self._rebuilt).items()) if n > 0},
                "swaps": tuple(self.swaps[-_SWAPS_SHOWN:]),
                "rates": self._meter.rates(self.frames, self.kept, self.uploaded, now),
                "outbox_cap_bytes": self._settings.outbox_megabytes * 10**6,
                "uploaded": self.uploaded,
                "segments": self.committed,
                "cameras": dict(self.cameras),
                "memory_bytes": resident_bytes(),
                "alerts": self._alerts.all(),
                "errors": self._faults.all(),
                "last_error": self.last_error,
            }
            status = DeviceStatus(**{**told, **fields})
            before, self.latest = self.latest, status
        self._tell_of_beginning_and_end(before, status)
        return status

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look_around(self, fields: Mapping[str, Any]) -> None:
        """The alerts that nobody else raises."""
        is_suspect = self._clock.is_suspect()
        self.set_alert(alerts.CLOCK_SUSPECT, "it jumped, or lies before 2024: samples are marked" if is_suspect else "")
        self.set_alert(alerts.DISK_NEARLY_FULL, alerts.disk_problem(Path(self._settings.outbox)))
        cap = self._settings.outbox_megabytes * 10**6
        self.set_alert(alerts.OUTBOX_NEARLY_FULL, alerts.outbox_problem(int(fields.get("outbox_bytes", 0)), cap))
        for check in self._checks:
            for name, message in check().items():
                self.set_alert(name, message)

    def _tell_of_beginning_and_end(self, before: DeviceStatus | None, status: DeviceStatus) -> None:
        force = f"release {status.release_number}" if status.release_number else "no release"
        if before is None:
            self._log(
                "start",
                f"collecting: {force}, model {status.model_version}, {len(self._settings.cameras)} cameras"
                f"{', going on with a run that was cut off' if self.resumed else ''}",
                software=status.versions.software,
                release=status.release_number,
                model=status.model_version,
            )
        if status.finished and not (before and before.finished):
            self._log(
                "end",
                f"ended: {status.frames} frames decided, {status.kept} kept, {status.uploaded} uploaded, "
                f"{status.outbox_samples} wait",
            )

    def _log(self, event: str, message: str, **fields: Any) -> None:
        logger.info(message, extra=self._about(event, fields))

    def _log_warning(self, event: str, message: str, **fields: Any) -> None:
        logger.warning(message, extra=self._about(event, fields))

    def _about(self, event: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return about(event=event, device=self._settings.name, project=self._settings.project, **fields)

    def _in_one_line(self, message: str) -> str:
        return self._redact(" ".join(message.split()))[:_LONGEST_MESSAGE]

    def _all_drops(self, sources: list[Monotone]) -> Counter[str]:
        total = Counter(self._drops)
        for source in sources:
            total.update(source.total())
        return total


def _kind_of(state: str) -> str:
    """A camera's state without its details: `no frame for # s`."""
    return re.sub("[0-9]+", "#", state.partition(":")[0])


@contextmanager
def _timing(stage: str, tell: OnLatency) -> Iterator[None]:
    began = time.perf_counter()
    yield
    tell(stage, time.perf_counter() - began)
