"""Conditions that a person should look at: raised where they are noticed, ended when their cause has gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tasks.core.entities import Alert, format_utc
from tasks.core.errors import BucketError
from tasks.core.settings import SamplingSettings

CLOCK_SUSPECT = "clock suspect"
METADATA_EXPIRED = "metadata expired"
RELEASES_NOT_FOLLOWED = "releases not followed"
RELEASES_NOT_TRUSTED = "releases not trusted"
CREDENTIALS_REFUSED = "credentials refused"
DISK_NEARLY_FULL = "disk nearly full"
OUTBOX_NEARLY_FULL = "outbox nearly full"
BUCKET_UNREACHABLE = "bucket unreachable"
BAD_THRESHOLDS = "bad thresholds"
PROVIDER_MISSING = "provider missing"
NO_BATCHES = "no batches"
NOT_PRIVATE = "not private"
PROJECT_DOWN = "project down"
METRICS_NOT_SERVED = "metrics not served"

KNOWN = (
    CLOCK_SUSPECT,
    METADATA_EXPIRED,
    RELEASES_NOT_FOLLOWED,
    RELEASES_NOT_TRUSTED,
    CREDENTIALS_REFUSED,
    DISK_NEARLY_FULL,
    OUTBOX_NEARLY_FULL,
    BUCKET_UNREACHABLE,
    BAD_THRESHOLDS,
    PROVIDER_MISSING,
    NO_BATCHES,
    NOT_PRIVATE,
    PROJECT_DOWN,
    METRICS_NOT_SERVED,
)

_DISK_LEFT = 0.05  # of the file system, or
_DISK_LEFT_BYTES = 200 * 10**6
_OUTBOX_USED = 0.9  # of its cap
_REFUSED = re.compile(
    r"answers (AccessDenied|AllAccessDisabled|ExpiredToken|InvalidAccessKeyId|InvalidClientTokenId|InvalidToken|"
    r"SignatureDoesNotMatch|TokenRefreshRequired|AuthorizationHeaderMalformed|UnauthorizedAccess|401|403|Forbidden)\b"
    r"|no credentials|permission denied",
    re.IGNORECASE,
)
_SKEWED = re.compile(r"RequestTimeTooSkewed|RequestExpired")


class Alerts:
    """Those that are up, each with the time since when. Not safe between threads: its tally is."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._up: dict[str, Alert] = {}

    def set(self, name: str, message: str) -> bool:
        """Raise an alert, or give the one that is up another message; True when it was not up."""
        before = self._up.get(name)
        self._up[name] = Alert(name=name, since=before.since if before else self._now(), message=message)
        return before is None

    def clear(self, name: str) -> Alert | None:
        """End an alert; the one that was up."""
        return self._up.pop(name, None)

    def all(self) -> tuple[Alert, ...]:
        """The ones that are up, those that have been for longest first."""
        return tuple(sorted(self._up.values(), key=lambda alert: (alert.since, alert.name)))


def of_bucket_error(error: BucketError) -> tuple[str, str]:
    """The alert that an error of the bucket stands for: whose fault is it that nothing can be delivered?"""
    message = str(error).splitlines()[0]
    if _SKEWED.search(message):
        return CLOCK_SUSPECT, f"the bucket's server finds this device's clock wrong: {message}"
    if _REFUSED.search(message):
        return CREDENTIALS_REFUSED, message
    return BUCKET_UNREACHABLE, message


def disk_problem(folder: Path) -> str:
    """Why the disk under `folder` is nearly full; empty when it is not, or cannot be asked."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return ""
    if disk.free >= min(_DISK_LEFT * disk.total, _DISK_LEFT_BYTES):
        return ""
    return f"{disk.free / 1e6:.0f} MB of {disk.total / 1e6:.0f} MB are free"


def outbox_problem(used_bytes: int, cap_bytes: int) -> str:
    """Why samples will soon be evicted; empty when they will not."""
    if used_bytes < _OUTBOX_USED * cap_bytes:
        return ""
    return f"holds {used_bytes / 1e6:.1f} of {cap_bytes / 1e6:.0f} MB: the least valuable samples make room"


def thresholds_problem(settings: SamplingSettings, class_names: Sequence[str]) -> str:
    """What is wrong with the operating thresholds of a model with these classes; empty when nothing is."""
    known = set(class_names)
    unknown = sorted(name for name in settings.thresholds if name not in known)
    below = sorted(n for n, value in settings.thresholds.items() if n in known and value < settings.confidence_floor)
    problems = [f"for classes that the model does not have: {', '.join(unknown)}"] if unknown else []
    if below:
        problems.append(f"below the confidence floor of {settings.confidence_floor:g}: {', '.join(below)}")
    return "; ".join(problems)


def told(alert: Alert) -> str:
    """`bucket unreachable since 2026-05-01T12:00:00.000Z: no answer within 8 s`."""
    return f"{alert.name} since {format_utc(alert.since)}: {alert.message}"


Check = Callable[[], Mapping[str, str]]  # names of alerts -> what is wrong; empty: nothing is
