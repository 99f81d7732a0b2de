"""Edge: start the device's collector or attach to it, watch it for a window, report. It lives on when this run ends."""

from __future__ import annotations

from prefect import flow

from tasks.artifacts import tell_table
from tasks.collect import start_or_attach, watch
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings


@flow(name="collect", flow_run_name="collect {device.name}")
def collect(device: DeviceSettings, window_seconds: float = 3600.0, until_frames: int | None = None) -> DeviceStatus:
    """Attach for `window_seconds`, or until so many frames are decided and delivered."""
    start_or_attach(device)
    status = watch(device, window_seconds, until_frames)
    figures = status.model_dump(mode="json", include={"frames", "frames_lost", "kept", "uploaded", "segments"})
    rows = [{"what": name.replace("_", " "), "value": value} for name, value in figures.items()]
    rows += [{"what": f"kept by {name}", "value": n} for name, n in status.kept_by_strategy.items()]
    rows += [{"what": f"dropped: {reason}", "value": n} for reason, n in status.drops.items()]
    rows += [{"what": "swap", "value": swap} for swap in status.swaps]
    rows += [{"what": "last error", "value": status.last_error}] if status.last_error else []
    tell_table(f"collect-{device.name}", rows, f"Collector of {device.name}, model {status.model_version}")
    return status
