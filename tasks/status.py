"""Status: what the devices of a project said last, read from the bucket, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from pydantic import ValidationError

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import DeviceStatus, read_tolerantly
from tasks.core.errors import BucketError, ObjectMissing
from tasks.core.fleet import DeviceRow, Report, rows_of

AT_ONCE = 32  # requests; reading a status is waiting for an answer


def fleet(bucket: Bucket, now: datetime) -> list[DeviceRow]:
    """A row for every device that has ever reported. Raises BucketError when the bucket cannot be listed."""
    reports = read_reports(bucket)
    groups = {report.status.group for report in reports if report.status is not None}
    return rows_of(reports, now, newest_releases(bucket, groups))


def read_reports(bucket: Bucket) -> list[Report]:
    """One a device; what has samples and no status, as an imported dataset, is no device."""
    names = [name for name in bucket.children("devices") if layout.NAME.match(name)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="status") as pool:
        reports = pool.map(partial(read_report, bucket), names)
        return [report for report in reports if report is not None]


def read_report(bucket: Bucket, device: str) -> Report | None:
    """A device's status, also one that the next version wrote. Nothing that a device has written makes this fail."""
    try:
        data = bucket.get(layout.device_status(device))
    except ObjectMissing:
        return None
    except BucketError as error:
        return Report(device, problem=str(error))
    try:
        status, unknown = read_tolerantly(DeviceStatus, data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        return Report(device, problem=f"status.json: {field + ': ' if field else ''}{first['msg']}")
    return Report(device, status, unknown_fields=unknown)


def newest_releases(bucket: Bucket, groups: Iterable[str]) -> dict[str, int]:
    """The highest release number of each group; a group that no key can name has none."""
    known = [group for group in sorted(set(groups)) if layout.NAME.match(group)]
    return {group: bucket.latest_number(partial(layout.release, group)) for group in known}
