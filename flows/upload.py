"""Edge: drain a device's outbox by hand."""

from __future__ import annotations

from prefect import flow

from tasks.artifacts import tell_table
from tasks.core.settings import DeviceSettings
from tasks.upload import drain


@flow(name="upload", flow_run_name="upload {device.name}")
def upload(device: DeviceSettings) -> int:
    """Deliver what the outbox holds. The collector does this by itself; this is for a device that is taken out."""
    delivered = drain(device)
    tell_table(f"upload-{device.name}", [{"samples delivered": delivered}], "Outbox drained by hand")
    return delivered
