"""Ratios of speeds, measured in interleaved pairs, so that a busy machine slows both sides of each ratio."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timed:
    """Seconds of one call, of the wall and of the CPU over all threads."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Timed:
    began, busy = time.perf_counter(), time.process_time()
    work()
    return Timed(time.perf_counter() - began, time.process_time() - busy)


@dataclass(frozen=True)
class Pairs:
    """What was measured of two sides, round by round. The first is what the second is held against."""

    first: list[Timed]
    second: list[Timed]

    @property
    def speed_ratio(self) -> float:
        """How many times as fast the second side is: the median over the rounds."""
        return float(np.median([a.wall / b.wall for a, b in zip(self.first, self.second)]))

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the rounds' ratios."""
        low, high = np.percentile([a.wall / b.wall for a, b in zip(self.first, self.second)], (25, 75))
        return float(low), float(high)

    def seconds(self, side: str = "second") -> float:
        """Median wall seconds of a side."""
        return float(np.median([one.wall for one in getattr(self, side)]))

    def cpu(self, side: str = "second") -> float:
        """Median CPU seconds of a side."""
        return float(np.median([one.cpu for one in getattr(self, side)]))


def measure_pairs(first: Callable[[], Timed], second: Callable[[], Timed], rounds: int) -> Pairs:
    """Both sides in every round, each time in the other order. A round before the first warms up and does not count."""
    pairs = Pairs([], [])
    for turn in range(rounds + 1):
        one, two = (first(), second()) if turn % 2 else tuple(reversed((second(), first())))
        if turn:
            pairs.first.append(one)
            pairs.second.append(two)
    return pairs
