"""How the devices of a project are doing, from what they said last: a row each, and one sentence about all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tasks.core.entities import STUB, DeviceStatus

Health = Literal["unreadable", "silent", "degraded", "behind", "well", "stopped"]
WORST_FIRST: tuple[Health, ...] = ("unreadable", "silent", "degraded", "behind", "well", "stopped")
_BEST_FIRST: tuple[Health, ...] = ("well", "behind", "degraded", "silent", "unreadable", "stopped")
IN_TROUBLE: frozenset[Health] = frozenset(("unreadable", "silent", "degraded"))

_SILENT_AFTER = 3  # intervals of its status
_GRACE_S = 5.0  # that a status may take until it is in the bucket
_CLOCK_AHEAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a device's status object holds: a status, or why it cannot be read."""

    device: str
    status: DeviceStatus | None = None
    problem: str = ""
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as an operator sees it. Ages are in seconds, `none` where the device never said."""

    device: str
    health: Health
    group: str = ""
    seen_seconds: float | None = None
    uptime_seconds: float = 0.0
    release: int = 0
    newest_release: int = 0
    model: str = STUB
    frames_per_second: float = 0.0
    frames: int = 0
    kept: int = 0
    kept_per_hour: float = 0.0
    uploaded: int = 0
    waiting: int = 0
    waiting_seconds: float = 0.0
    cameras_up: int = 0
    cameras_down: Mapping[str, str] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()
    last_error: str = ""
    software: str = ""
    unknown_fields: int = 0

    @property
    def in_trouble(self) -> bool:
        return self.health in IN_TROUBLE


def row_of(report: Report, now: datetime, newest_releases: Mapping[str, int]) -> DeviceRow:
    """newest_releases: the highest number by group."""
    status = report.status
    if status is None:
        return DeviceRow(report.device, "unreadable", last_error=report.problem)
    newest = newest_releases.get(status.group, 0)
    seen = (now - status.reported_at).total_seconds()
    down = {camera: state for camera, state in status.cameras.items() if not status.is_up(camera)}
    alerts = _alerts_of(report.device, status, seen, newest)
    return DeviceRow(
        device=report.device,
        health=_health(status, seen, bool(down or alerts), newest),
        group=status.group,
        seen_seconds=seen,
        uptime_seconds=status.uptime_seconds,
        release=status.release_number,
        newest_release=newest,
        model=status.model_version,
        frames_per_second=0.0 if status.finished else status.rates.frames_per_second,
        frames=status.frames,
        kept=status.kept,
        kept_per_hour=status.rates.kept_per_hour,
        uploaded=status.uploaded,
        waiting=status.outbox_samples,
        waiting_seconds=status.outbox_oldest_seconds,
        cameras_up=len(status.cameras) - len(down),
        cameras_down=down,
        alerts=alerts,
        last_error=status.last_error or _refusal(status, newest),
        software=status.versions.software,
        unknown_fields=len(report.unknown_fields),
    )


def _health(status: DeviceStatus, seen: float, has_problem: bool, newest: int) -> Health:
    """A device that was stopped is expected to be silent, and its cameras to be dark."""
    if status.finished:
        return "stopped"
    if seen > _SILENT_AFTER * status.status_seconds + _GRACE_S:
        return "silent"
    if has_problem:
        return "degraded"
    return "behind" if status.release_number < newest else "well"


def _alerts_of(device: str, status: DeviceStatus, seen: float, newest: int) -> tuple[str, ...]:
    alerts = [alert.name for alert in status.alerts]
    if _refusal(status, newest):
        alerts.append(f"release {refused_number(status)} refused")
    if seen < -_CLOCK_AHEAD_S:
        alerts.append("clock ahead")
    if status.device != device:
        alerts.append(f"says that it is {status.device}")
    return tuple(alerts)


def _refusal(status: DeviceStatus, newest: int) -> str:
    """Why the newest release is not in force; empty when it is, or is yet to come."""
    refused = refused_number(status)
    return f"release {status.refused_release}" if refused > status.release_number and refused >= newest else ""


def refused_number(status: DeviceStatus) -> int:
    """The release that was refused last; 0 for none."""
    number = status.refused_release.partition(":")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def rows_of(reports: Sequence[Report], now: datetime, newest_releases: Mapping[str, int]) -> list[DeviceRow]:
    """Those that need somebody first, each kind by name."""
    rows = [row_of(report, now, newest_releases) for report in reports]
    return sorted(rows, key=lambda row: (WORST_FIRST.index(row.health), row.device))


def summary(rows: Sequence[DeviceRow]) -> str:
    """`9 devices: 7 well, 1 degraded, 1 silent; 143.2 frames/s, 812 samples wait, 7 on the newest release`."""
    if not rows:
        return "no device has reported yet"
    counts = Counter(row.health for row in rows)
    healths = ", ".join(f"{counts[health]} {health}" for health in _BEST_FIRST if counts[health])
    alive = [row for row in rows if row.health not in ("silent", "unreadable", "stopped")]
    rate = sum(row.frames_per_second for row in alive)
    waiting = sum(row.waiting for row in rows)
    newest = sum(row.newest_release > 0 and row.release >= row.newest_release for row in rows)
    return (
        f"{_counted(len(rows), 'device')}: {healths}; {rate:,.1f} frames/s, "
        f"{_counted(waiting, 'sample')} {'waits' if waiting == 1 else 'wait'}, {newest} on the newest release"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def age_text(seconds: float | None) -> str:
    """`12 s`, `4 min`, `3.1 h`, `12 d`; a time to come is `in ...`."""
    if seconds is None:
        return "never"
    if seconds < -1:
        return f"in {age_text(-seconds)}"
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    for size, unit, last in ((60, "min", 100 * 60), (3600, "h", 48 * 3600)):
        if seconds < last:
            return f"{seconds / size:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds / 86400:,.0f} d"
