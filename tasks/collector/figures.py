"""What a status says beside the counters: rates, faults, versions, memory."""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from tasks.core.entities import Fault, Rates, Versions

_WINDOW_S = 60.0  # of the rates
_STEP_S = 1.0  # between two of their points
_FAULTS = 10  # that are told


class RateMeter:
    """Frames, kept samples and deliveries of the last minute, from counters that it is shown now and then."""

    def __init__(self, frames: int, kept: int, uploaded: int, now: float) -> None:
        """now: monotonic, s."""
        self._points: deque[tuple[float, int, int, int]] = deque([(now, frames, kept, uploaded)])

    def rates(self, frames: int, kept: int, uploaded: int, now: float) -> Rates:
        """Over the time since the newest point that is a minute old, or the oldest one there is."""
        while len(self._points) > 1 and now - self._points[1][0] >= _WINDOW_S:
            self._points.popleft()
        since, frames_then, kept_then, uploaded_then = self._points[0]
        seconds = now - since
        if now - self._points[-1][0] >= _STEP_S:
            self._points.append((now, frames, kept, uploaded))
        if seconds <= 0:
            return Rates()
        return Rates(
            seconds=round(seconds, 3),
            frames_per_second=round(max(0, frames - frames_then) / seconds, 3),
            kept_per_hour=round(max(0, kept - kept_then) / seconds * 3600, 1),
            uploaded_per_hour=round(max(0, uploaded - uploaded_then) / seconds * 3600, 1),
        )


class Faults:
    """The last errors. One that is repeated is counted, and moves to the end."""

    def __init__(self) -> None:
        self._faults: OrderedDict[str, Fault] = OrderedDict()

    def add(self, message: str, now: datetime) -> None:
        before = self._faults.pop(message, None)
        first_at, count = (before.first_at, before.count) if before else (now, 0)
        self._faults[message] = Fault(at=now, first_at=first_at, message=message, count=count + 1)
        if len(self._faults) > _FAULTS:
            self._faults.popitem(last=False)

    def all(self) -> tuple[Fault, ...]:
        return tuple(self._faults.values())


class Monotone:
    """Counters of another part. There they may begin anew, as when a camera is opened again; here they go on."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read
        self._last: Counter[str] = Counter()
        self._carried: Counter[str] = Counter()

    def total(self) -> Counter[str]:
        now = Counter(dict(self._read()))
        for name, count in self._last.items():
            if now[name] < count:
                self._carried[name] += count
        self._last = now
        total = Counter(now)
        total.update(self._carried)
        return total


def versions_of_this_process(provider: str) -> Versions:
    """onnxruntime: of the module that is loaded, because the wheel has other names where it knows a GPU."""
    runtime = sys.modules.get("onnxruntime")
    return Versions(
        software=_software(),
        python=platform.python_version(),
        onnxruntime=str(getattr(runtime, "__version__", "")),
        provider=provider,
    )


def _software() -> str:
    try:
        return version("edgeloop")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system has no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
