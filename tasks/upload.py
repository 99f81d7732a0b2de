"""Upload: drain a device's outbox by hand, when its collector does not run."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from tasks.collector import drain_outbox
from tasks.core.settings import DeviceSettings
from tasks.retries import may_pass


@task(task_run_name="drain {device.name}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def drain(device: DeviceSettings) -> int:
    """Deliver everything in the outbox; the number of samples delivered. Raises AlreadyRunning beside a collector."""
    return drain_outbox(device, Path(device.outbox))
