"""Can the wall clock be trusted? Samples that were taken while it jumped are marked."""

from __future__ import annotations

import time
from collections.abc import Callable

_JUMP_S = 2.0  # NTP slews smaller differences away without a jump
_SUSPECT_S = 600.0  # after a jump; whoever sets a clock may set it again
_EARLIEST = 1_704_067_200.0  # 2024-01-01: a device without a battery begins in 1970


class ClockWatch:
    """Compares the wall clock with the monotonic one each time it is asked."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._suspect_until = float("-inf")

    def is_suspect(self) -> bool:
        """True while the wall clock lies before 2024, and for ten minutes after it has jumped by over 2 s."""
        wall, now = self._wall(), self._monotonic()
        if abs(wall - now - self._offset) > _JUMP_S:
            self._offset = wall - now
            self._suspect_until = now + _SUSPECT_S
        return wall < _EARLIEST or now < self._suspect_until
