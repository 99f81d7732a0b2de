"""Chance that can be replayed: the draws of a frame, and how likely independent draws are to keep it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b

Draw = Callable[[str], float]  # strategy name -> a fraction in [0, 1)


def draws_of(seed: int, device: str, camera: str, frame: str) -> Draw:
    """The draws of one frame: a fraction in [0, 1) for the name of a strategy.

    blake2b over seed, device, camera, frame and strategy, each ended by a zero byte but the last; of its first 8 bytes
    the upper 53 bits, as a fraction of 2**53. Replay, device and tests therefore agree.
    """
    of_frame = blake2b(f"{seed}\0{device}\0{camera}\0{frame}\0".encode(), digest_size=8)

    def draw(strategy: str) -> float:
        digest = of_frame.copy()
        digest.update(strategy.encode())
        return (int.from_bytes(digest.digest(), "big") >> 11) * 2.0**-53

    return draw


def inclusion_probability(probabilities: Sequence[float]) -> float:
    """How likely at least one of independent draws is won: 1 - product(1 - q)."""
    if len(probabilities) == 1:
        return probabilities[0]  # exactly, where 1 - (1 - q) would be off by a rounding
    return 1.0 - math.prod(1.0 - probability for probability in probabilities)
