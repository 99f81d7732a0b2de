"""Can the wall clock be trusted? Samples that were taken while it jumped are marked."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

_JUMP_S = 2.0  # NTP slews smaller differences away without a jump
_SUSPECT_S = 600.0  # after a jump; whoever sets a clock may set it again
_EARLIEST = datetime(2024, 1, 1, tzinfo=timezone.utc)  # a device without a battery begins in 1970


class ClockWatch:
    """Compares the wall clock with the monotonic one each time it is asked."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        last_known: datetime | None = None,
    ) -> None:
        """last_known: the time at which the run before last looked at its clock."""
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._suspect_until = float("-inf")
        self._last_known = last_known
        self._known_at = monotonic()

    def is_suspect(self) -> bool:
        """True while the wall clock lies before 2024, and for ten minutes after it has jumped by over 2 s."""
        wall, now = self._wall(), self._monotonic()
        if abs(wall - now - self._offset) > _JUMP_S:
            self._offset = wall - now
            self._suspect_until = now + _SUSPECT_S
        return wall < _EARLIEST.timestamp() or now < self._suspect_until

    def has_lost_the_date(self, captured_at: datetime) -> bool:
        """It cannot be so early."""
        return captured_at < _EARLIEST

    def counting_time(self, captured_at: datetime) -> datetime:
        """The time by which limits count a live frame: when it was captured, where the clock knows the date.

        Each start of a device that begins in 1970 would charge the same first day again, until its limits were used up
        for good. There time goes on from when it was last known, by the monotonic clock.
        """
        if self._last_known is None or not self.has_lost_the_date(captured_at):
            return captured_at
        return self._last_known + timedelta(seconds=self._monotonic() - self._known_at)

    def now(self) -> datetime:
        """The time to remember across a restart."""
        return self.counting_time(datetime.fromtimestamp(max(0.0, self._wall()), timezone.utc))
