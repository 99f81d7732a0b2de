"""Edge: start the device's collector or attach to it, watch it for a window, report. It lives on when this run ends.

Cancelling a run in the UI stops the collector, drained. Nothing else that happens to a run does: neither its crash nor
the end of its worker, of Prefect's server, or of the link to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow

from tasks.artifacts import tell_table
from tasks.collect import report_rows, start_or_attach, statuses_of, watch
from tasks.collector import stop_collector
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State


def stop_drained(flow: object, flow_run: FlowRun, state: State[Any]) -> None:
    """Somebody has cancelled the run: what was read is decided, what is kept is written, and the collector ends."""
    stop_collector(DeviceSettings.model_validate(flow_run.parameters["device"]).outbox)


@flow(name="collect", flow_run_name="collect {device.name}", on_cancellation=[stop_drained])
def collect(device: DeviceSettings, window_seconds: float = 3600.0, until_frames: int | None = None) -> DeviceStatus:
    """Attach for `window_seconds`, or until so many frames are decided and delivered.

    The word of the device's own project; the report has all of them.
    """
    before = statuses_of(device)
    how = start_or_attach(device)
    status = watch(device, window_seconds, until_frames)
    rows = report_rows(before, statuses_of(device), how)
    tell_table(f"collect-{device.name}", rows, f"{device.name}: {status.frames:,} frames decided, {status.kept:,} kept")
    return status
