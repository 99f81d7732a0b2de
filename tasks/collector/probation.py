"""A new release on probation: its first frames are watched, and one that does not keep to its limits is gone back from.

The limits are part of the release (`Probation`), so they are signed. Nothing here reads a clock of its own or knows a
file: `orders` remembers across restarts that a release is on probation, and how often the process died within it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import mean, median

from tasks.collector.runner import Runner
from tasks.core.settings import Probation

_JUDGED_FROM = 30  # frames; a median or a mean of fewer says little
_REMEMBERED = 300  # times of the model, for what the next release is held against


class ProbationWatch:
    """Watches whatever is in force. The main loop calls all of it, but for `running`, which the inference thread uses,
    and `hang` and `condemn`, which are the orders thread's.

    before: what the main loop goes back to at once; none after a restart, when it has to be opened again.
    """

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._busy: dict[int, float] = {}  # since when a thread has been in the model, by thread
        self._reference: float | None = None
        self._condemned: str | None = None
        self._outcomes: list[int | None] | None = None  # detections by frame, none where it failed; none: no probation
        self.before: Runner | None = None

    def begin(self, runner: Runner, before: Runner | None) -> None:
        """`runner` is in force from now on. It is watched when it is a release that has not passed its probation."""
        with self._lock:
            # Of two releases on probation in a row, the second is held against what was proven, where there is that.
            was_proven = self._outcomes is None
            if was_proven or self._reference is None:
                self._reference = median(self._seconds) if self._seconds else None
            if was_proven or self.before is None:
                self.before = before
            self._runner = runner
            self._seconds = deque(maxlen=_REMEMBERED)
            self._busy = {}
            self._condemned = None
            self._outcomes = [] if runner.on_probation else None
            if not runner.on_probation:
                self.before = None

    @contextmanager
    def running(self, runner: Runner, frames: int = 1) -> Iterator[None]:
        """Around one run of the model of `runner` on so many frames: how long it takes, and whether it ever ends."""
        thread, started = threading.get_ident(), time.monotonic()
        is_watched = runner is self._runner and not runner.detector.is_stub
        with self._lock:
            if is_watched:
                self._busy[thread] = started
        try:
            yield
            if is_watched and runner is self._runner:
                self._seconds.append((time.monotonic() - started) / frames)
        finally:
            with self._lock:
                self._busy.pop(thread, None)

    def frame(self, detections: int | None) -> str | None:
        """One more frame was decided, with so many detections, or failed (none). Why the release has to go, if so."""
        if self._outcomes is None or self._runner is None:
            return None
        self._outcomes.append(detections)
        return self._condemned or why_not(self._runner.probation, self._outcomes, list(self._seconds), self._reference)

    def has_passed(self) -> bool:
        """Whether the release has just come to the end of its probation; true once."""
        if self._outcomes is None or self._runner is None or len(self._outcomes) < self._runner.probation.frames:
            return False
        self._outcomes, self.before = None, None
        return True

    def hang(self, now: float) -> str | None:
        """Why the release has to go when its model has not answered for too long. now: of time.monotonic()."""
        with self._lock:
            if self._outcomes is None or self._runner is None or not self._busy:
                return None
            waited, limit = now - min(self._busy.values()), self._runner.probation.hang_seconds
        return f"its model has not answered for {waited:.0f} s" if waited > limit else None

    def condemn(self, reason: str) -> None:
        """Whatever its next frame is, the release has to go."""
        self._condemned = reason

    @property
    def runner(self) -> Runner | None:
        return self._runner

    def __str__(self) -> str:
        outcomes, runner = self._outcomes, self._runner
        if outcomes is None or runner is None:
            return ""
        failed = sum(outcome is None for outcome in outcomes)
        return f"release {runner.release_number}: {len(outcomes)} of {runner.probation.frames} frames, {failed} failed"


def why_not(
    limits: Probation, outcomes: Sequence[int | None], seconds: Sequence[float], reference: float | None
) -> str | None:
    """Which limit a release has broken; None for none so far.

    outcomes: detections of each of its frames, None where it failed. seconds: time of the model on each, as far as it
    was measured. reference: median of these for the release before; None where there is none to compare with.
    """
    failed = sum(outcome is None for outcome in outcomes)
    if failed >= max(1.0, limits.error_rate * limits.frames):
        return f"failed on {failed} of its first {len(outcomes)} frames"
    enough = min(_JUDGED_FROM, limits.frames)
    if len(seconds) >= enough:
        too_slow = _too_slow(limits, median(seconds), reference)
        if too_slow:
            return too_slow
    counts = [outcome for outcome in outcomes if outcome is not None]
    if len(counts) >= enough:
        found = mean(counts)
        if not limits.least_detections <= found <= limits.most_detections:
            return (
                f"sees {found:.1f} detections a frame, its probation allows {limits.least_detections:g} to "
                f"{limits.most_detections:g}"
            )
    return None


def _too_slow(limits: Probation, taken: float, reference: float | None) -> str | None:
    if limits.latency_seconds is not None and taken > limits.latency_seconds:
        return f"takes {taken * 1000:.1f} ms a frame, its probation allows {limits.latency_seconds * 1000:g} ms"
    if limits.latency_factor is not None and reference and taken > limits.latency_factor * reference:
        return (
            f"takes {taken * 1000:.1f} ms a frame, {taken / reference:.1f} times the {reference * 1000:.1f} ms of the "
            f"release before; its probation allows {limits.latency_factor:g} times"
        )
    return None
