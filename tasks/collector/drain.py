"""An outbox delivered by hand, without a collector: for a device that is taken out of service."""

from __future__ import annotations

from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import DeviceLock, Outbox
from tasks.collector.config import CollectorState, read_state, write_state
from tasks.collector.spooler import TRAFFIC_FOLDER
from tasks.collector.tally import Tally
from tasks.collector.uploader import Uploader
from tasks.core.errors import BucketError
from tasks.core.settings import DeviceSettings


def drain_outbox(device: DeviceSettings, folder: Path) -> int:
    """Deliver everything that waits in `folder`, of all projects of the device; the number of samples delivered.

    Raises AlreadyRunning beside a collector, and BucketError when a bucket did not take everything: what is left stays,
    and calling it again goes on. One project's bucket that is away keeps no other from being delivered.
    """
    delivered, failures = 0, []
    with DeviceLock(folder):
        for project in device.model_copy(update={"outbox": str(folder)}).of_each_project():
            try:
                delivered += _drain(project, Path(project.outbox))
            except BucketError as error:
                failures.append(error)
    if failures:
        raise failures[0]
    return delivered


def _drain(device: DeviceSettings, folder: Path) -> int:
    """Of one project."""
    before = read_state(folder)
    outbox = Outbox(folder, device.outbox_megabytes * 10**6)
    tally = Tally(device, before)
    bucket = Bucket(device.bucket, device.project)
    delivered = tally.uploaded
    uploader = Uploader(device, bucket, outbox, folder / TRAFFIC_FOLDER, tally, status=None)
    uploader.finish()
    uploader.start()
    uploader.join()
    bucket.close()
    _save_numbers(folder, before, tally)
    if len(outbox) or not uploader.bucket_answers:
        raise BucketError(f"{folder}: {len(outbox)} samples still wait: {tally.last_error or 'try again'}")
    return tally.uploaded - delivered


def _save_numbers(folder: Path, before: CollectorState | None, tally: Tally) -> None:
    """What was committed becomes part of the state; a run that was killed is still to be gone on with."""
    state = before or CollectorState(started_at=tally.started_at, clean=True)
    update = {
        "segment": tally.segment,
        "traffic": tally.traffic,
        "uploaded": tally.uploaded,
        "committed": tally.committed,
    }
    write_state(folder, state.model_copy(update=update))
