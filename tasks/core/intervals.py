"""The interval of a share that was counted."""

from __future__ import annotations

from math import sqrt

from tasks.core.bootstrap import UNKNOWN

Z = 1.96  # of a 95% interval


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95% interval of a share of n independent units (Wilson 1927); all shares for none.

    Unlike the plain one it is not empty where all units agree.
    """
    if not n:
        return UNKNOWN
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
