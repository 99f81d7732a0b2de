"""Credits of strategies in calendar windows, and the names and sizes of batches.

The clock is an argument everywhere: the capture time of the frame that is decided, in UTC. Counts survive a restart
(`state`) and stay small: of each kind of window the few that were charged last are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from tasks.core.settings import BatchingStrategy, Limit, WindowType

Windows = dict[WindowType, str]  # the calendar minute, hour and day that a moment lies in
CreditState = dict[str, dict[WindowType, dict[str, int]]]  # strategy -> kind of window -> window -> samples

REMEMBERED_WINDOWS = 8  # of a kind: cameras that disagree about the time by minutes still count in the right window
REMEMBERED_BATCHES = 8
FORMER_STRATEGIES = 32  # whose counts outlive their settings, so that a setting taken back does not start anew


def windows_of(moment: datetime) -> Windows:
    """The calendar windows that `moment` (UTC) lies in: `2026-01-05T10:42`, `2026-01-05T10`, `2026-01-05`."""
    text = moment.isoformat()
    return {"minutely": text[:16], "hourly": text[:13], "daily": text[:10]}


def batch_name(batching: BatchingStrategy, moment: datetime) -> str:
    """The batch of a frame captured at `moment` (UTC): `prefix`, or `prefix_YYYY_MM_DD` of the interval's first day."""
    first_day = moment.date()
    if batching.recreation_interval == "never":
        return batching.batches_name_prefix
    if batching.recreation_interval == "weekly":
        first_day -= timedelta(days=first_day.weekday())
    elif batching.recreation_interval == "monthly":
        first_day = first_day.replace(day=1)
    return f"{batching.batches_name_prefix}_{first_day:%Y_%m_%d}"


class RecentCounts:
    """Counts by key. Beyond `capacity` keys, the one that was longest not added to is forgotten."""

    def __init__(self, capacity: int, counts: Mapping[str, int] | None = None) -> None:
        self._capacity = capacity
        self._counts = dict(counts or {})

    def of(self, key: str) -> int:
        return self._counts.get(key, 0)

    def add(self, key: str) -> None:
        self._counts[key] = self._counts.pop(key, 0) + 1
        while len(self._counts) > self._capacity:
            del self._counts[next(iter(self._counts))]

    def state(self) -> dict[str, int]:
        """The counts, the least recently added to first."""
        return dict(self._counts)


class Credits:
    """How many samples each strategy was charged for in each minute, hour and day.

    All three windows count whatever limits are configured, so that a limit that arrives with new settings knows what
    has already been taken.
    """

    def __init__(self, strategies: Collection[str], state: CreditState | None = None) -> None:
        """strategies: names in the settings in force. state: an earlier `state()`."""
        state = state or {}
        former = [name for name in state if name not in strategies][-FORMER_STRATEGIES:]
        self._charged = {
            name: {kind: RecentCounts(REMEMBERED_WINDOWS, counts) for kind, counts in state[name].items()}
            for name in state
            if name in strategies or name in former
        }

    def exhausted(self, strategy: str, limits: Sequence[Limit], windows: Windows) -> Limit | None:
        """The first of `limits` that has no room in its window; None when all of them have."""
        for limit in limits:
            if self.used(strategy, limit.type, windows) >= limit.value:
                return limit
        return None

    def used(self, strategy: str, kind: WindowType, windows: Windows) -> int:
        """Samples that `strategy` was charged for in the window of `kind`."""
        counts = self._charged.get(strategy, {}).get(kind)
        return counts.of(windows[kind]) if counts else 0

    def charge(self, strategy: str, windows: Windows) -> None:
        """One sample of `strategy`, in every window."""
        charged = self._charged.pop(strategy, {})
        for kind, window in windows.items():
            charged.setdefault(kind, RecentCounts(REMEMBERED_WINDOWS)).add(window)
        self._charged[strategy] = charged

    def state(self) -> CreditState:
        """What a restart needs, as JSON types; the strategy charged last comes last."""
        return {
            name: {kind: counts.state() for kind, counts in charged.items()} for name, charged in self._charged.items()
        }
