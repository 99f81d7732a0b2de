"""The figures of a run: counted by all threads, reported in the status, saved in the state."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from tasks.collector.config import CollectorState, Position
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings

_SWAPS_SHOWN = 20


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Tally:
    """Counters of one run. Each method may be called from any thread.

    taken: frames that the main loop took from capture; what of them is neither decided nor counted as failed is lost.
    """

    def __init__(self, settings: DeviceSettings, before: CollectorState | None) -> None:
        """before: the state of the last run; one that was killed is gone on with, else only numbers are taken over."""
        resumed = before if before is not None and not before.clean else None
        self._settings = settings
        self._lock = threading.Lock()
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
        self._unaccounted = 0
        self._outside: list[Callable[[], Mapping[str, int]]] = []
        self._rebuilt: list[Callable[[], Mapping[str, int]]] = []

    # --- counting ----------------------------------------------------------------------------------------------------

    def took_frame(self) -> None:
        with self._lock:
            self._unaccounted += 1

    def decided(self, outcome: str, strategy: str | None) -> None:
        """One frame decided: kept and charged to `strategy`, or dropped with `outcome`."""
        with self._lock:
            self._unaccounted -= 1
            self.frames += 1
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
            self.last_error = error

    def drop(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self._drops[reason] += count

    def error(self, message: str) -> None:
        with self._lock:
            self.last_error = message

    def camera(self, name: str, state: str) -> None:
        with self._lock:
            self.cameras[name] = state

    def swapped(self, what: str) -> None:
        with self._lock:
            self.swaps.append(f"frame {self.frames}: {what}")

    def refused(self, number: int, reason: str) -> None:
        with self._lock:
            self.refused_number, self.refused_reason = number, f"{number}: {reason}"

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
        (self._rebuilt if rebuilt else self._outside).append(drops)

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

    def status(self, **fields: Any) -> DeviceStatus:
        """The status with what other parts know: release, model, settings, outbox."""
        with self._lock:
            return DeviceStatus(
                device=self._settings.name,
                group=self._settings.group,
                reported_at=utc_now(),
                started_at=self.started_at,
                refused_release=self.refused_reason,
                frames=self.frames,
                frames_lost=max(0, self._unaccounted),
                kept=self.kept,
                kept_by_strategy=dict(self.kept_by_strategy),
                drops={k: n for k, n in sorted(self._all_drops(self._outside + self._rebuilt).items()) if n},
                swaps=tuple(self.swaps[-_SWAPS_SHOWN:]),
                uploaded=self.uploaded,
                segments=self.committed,
                cameras=dict(self.cameras),
                last_error=self.last_error,
                **fields,
            )

    def _all_drops(self, sources: list[Callable[[], Mapping[str, int]]]) -> Counter[str]:
        total = Counter(self._drops)
        for drops in sources:
            total.update(dict(drops()))
        return total
