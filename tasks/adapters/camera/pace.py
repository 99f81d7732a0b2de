"""Which frames of a camera are looked at when it gives more than are asked for."""

from __future__ import annotations


class Pace:
    """A limit of frames a second, over any clock that does not go back: one of the machine, or capture times.

    Frames are taken on a grid of 1 / rate seconds, each up to a quarter of a step early, so that of 25 frames a second
    10 can be taken, and all of a camera that gives 10 not quite evenly. In any span of T seconds fewer than
    T * rate + 2 frames are taken. After a gap longer than a step the grid begins anew: nothing is caught up with.
    """

    def __init__(self, rate: float | None) -> None:
        """rate: frames a second at most; None takes every frame."""
        self._step = 1 / rate if rate else 0.0
        self._due: float | None = None

    def is_due(self, seconds: float) -> bool:
        """Is the frame of this time taken? Ask once a frame, in their order."""
        if not self._step:
            return True
        if self._due is None:
            self._due = seconds - self._step / 4
        if seconds < self._due:
            return False
        next_due = self._due + self._step
        self._due = next_due if next_due > seconds else seconds + 0.75 * self._step
        return True
