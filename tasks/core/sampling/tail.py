"""Which value do so many of the latest frames exceed? A quantile of a stream, sharpest where few do.

What is tracked is `m(x)`, a sum of a few fitted weights: many frames share a value, most have 0, and a day's budget
asks for one frame in ten thousand. Trackers of a single quantile (P2, stochastic approximation) land between values
that frames have, and move by steps for which such a tail is too rare. Here the values themselves are remembered, each
with how often it was seen, so that a tie is known as one, and its share can be drawn.
"""

from __future__ import annotations

import math

from tasks.core.entities.base import Record

HORIZON_SECONDS = 2 * 3600.0  # values are forgotten with this time constant
CROWDED = 384  # values at most; then neighbours are merged
RESOLUTION = 0.08  # neighbours hold together at most this share of what lies above them
FORGOTTEN = 1e-3  # sightings that are left of a value when it is dropped
SMALLEST_UNIT = 1e-9


class TailState(Record):
    """A tail as JSON. values: pairs of a value and its sightings, counted in `unit`s."""

    values: tuple[tuple[float, float], ...] = ()
    unit: float = 1.0
    seconds: float = 0.0


class Tail:
    """Values above 0 with how often they were seen lately, exact where they are largest; its size is bounded."""

    def __init__(self, state: TailState | None = None) -> None:
        state = state or TailState()
        self.seconds = state.seconds  # of traffic that the sightings come from, forgotten as they are
        self._seen = dict(state.values)
        self._unit = state.unit  # what one sighting of old is worth now: all of them age by one multiplication

    def pass_time(self, seconds: float) -> None:
        """`seconds` of traffic go by."""
        kept = math.exp(-seconds / HORIZON_SECONDS)
        self.seconds = self.seconds * kept + HORIZON_SECONDS * (1 - kept)
        self._unit *= kept
        if self._unit < SMALLEST_UNIT:
            self._seen = {value: mass * self._unit for value, mass in self._seen.items()}
            self._unit = 1.0
            self._thin_out()

    def add(self, value: float, sightings: float = 1.0) -> None:
        """A frame has this value, above 0."""
        self._seen[value] = self._seen.get(value, 0.0) + sightings / self._unit
        if len(self._seen) > CROWDED:
            self._thin_out()

    def level(self, sightings: float) -> tuple[float, float]:
        """The value that was exceeded so often, and the share of its own sightings that makes up the rest.

        Where not so many are remembered it is the lowest of all, with all of its sightings; without any it is 0.
        """
        above, value = 0.0, 0.0
        for value in sorted(self._seen, reverse=True):
            mass = self._seen[value] * self._unit
            if above + mass >= sightings:
                return value, max(0.0, (sightings - above) / mass)
            above += mass
        return value, 1.0

    def __len__(self) -> int:
        return len(self._seen)

    def state(self) -> TailState:
        return TailState(values=tuple(self._seen.items()), unit=self._unit, seconds=self.seconds)

    def _thin_out(self) -> None:
        """Drop what is forgotten, and merge neighbours far from the top.

        A merged value is the mean of its neighbours, which hold too little to matter as ties.
        """
        merged: list[tuple[float, float]] = []
        above = 0.0  # sightings above the value that is being merged
        for value, mass in sorted(self._seen.items(), reverse=True):
            if mass * self._unit < FORGOTTEN:
                continue
            if merged and merged[-1][1] + mass <= RESOLUTION * above:
                other, others = merged[-1]
                merged[-1] = (other * others + value * mass) / (others + mass), others + mass
                continue
            above += merged[-1][1] if merged else 0.0
            merged.append((value, mass))
        self._seen = dict(merged)
