"""Prefect's server and worker go away while a collector runs: collection goes on, and the next run attaches."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import collector_pid
from tasks.core.settings import DeviceSettings
from tests.flows.away import Prefect, frames_grow, prefect_with_worker, status_of, until
from tests.tasks.collecting import a_device, samples_of

PACE = 5  # frames a second; painting one takes 30 ms of a busy core


def paced_device(tmp_path: Path) -> DeviceSettings:
    """A device whose camera gives 5 frames a second, each another one, for ever."""
    return a_device(tmp_path, f"yard://?seed=3&day_frames=2000&pace={PACE}")


def attached_run(prefect: Prefect, device: DeviceSettings, window_seconds: float) -> str:
    """A run that has started the device's collector and watches it."""
    run = prefect.run(window_seconds=window_seconds)
    until(lambda: collector_pid(device.outbox) is not None, 90, "collector", prefect.logs)
    until(lambda: prefect.tasks_of(run).get(f"watch {device.name}") == "RUNNING", 60, "attached", prefect.logs)
    return run


def server_goes_away(prefect: Prefect, device: DeviceSettings, seconds: float) -> dict[str, float]:
    """The server is killed for so long, and is back; the figures of the promise.

    Asserts that frames are decided all the time, that none is lost, and that the collector is the same process.
    """
    pid, before = collector_pid(device.outbox), status_of(device)
    prefect.kill_server()
    seen = frames_grow(device, seconds, every=5)
    prefect.start_server()
    after = status_of(device)
    steps = [later - earlier for earlier, later in pairwise(seen)]
    assert collector_pid(device.outbox) == pid
    assert min(steps[:-1]) > 0, seen
    assert after.frames_lost == 0
    return {
        "seconds away": seconds,
        "frames while away": seen[-1] - before.frames,
        "frames a second": round((seen[-1] - before.frames) / seconds, 1),
        "fewest frames in 5 s": min(steps[:-1], default=0),
        "frames lost": after.frames_lost,
    }


def rows_of(prefect: Prefect, device: DeviceSettings) -> dict[str, object]:
    """The newest report of the device's runs."""
    return {row["figure"]: row["yard"] for row in prefect.table(f"collect-{device.name}")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_prefect_may_go_away_and_the_next_run_attaches(tmp_path):
    """Server gone for 2 minutes, worker killed: collection goes on, the next run attaches, cancel stops it drained."""
    device = paced_device(tmp_path)
    with prefect_with_worker(tmp_path, device) as prefect:
        run = attached_run(prefect, device, 120 + 20)
        pid, before = collector_pid(device.outbox), status_of(device).frames
        figures = server_goes_away(prefect, device, 120)
        print(figures)
        assert prefect.wait_for(run, "COMPLETED", "FAILED", "CRASHED", within=300) == "COMPLETED", prefect.logs()
        assert set(prefect.tasks_of(run).values()) == {"COMPLETED"}
        rows = rows_of(prefect, device)
        assert rows["frames decided"] >= before + figures["frames while away"]
        assert rows["frames decided in this window"] >= figures["frames while away"]

        attached_run(prefect, device, 600)
        prefect.kill_worker()
        grown = frames_grow(device, 6, every=2)
        assert min(later - earlier for earlier, later in pairwise(grown)) > 0, grown
        assert collector_pid(device.outbox) == pid

        prefect.start_worker()
        run = prefect.run(window_seconds=3)
        assert prefect.wait_for(run, "COMPLETED", "FAILED", "CRASHED", within=90) == "COMPLETED", prefect.logs()
        assert rows_of(prefect, device)["collector"] == "attached"
        assert collector_pid(device.outbox) == pid

        run = attached_run(prefect, device, 600)
        prefect.cancel(run)
        assert prefect.wait_for(run, "CANCELLED", "FAILED", "CRASHED", within=60) == "CANCELLED", prefect.logs()
        until(lambda: collector_pid(device.outbox) is None, 20, "drained", prefect.logs)
    last = status_of(device)
    assert last.finished
    assert (last.frames_lost, last.outbox_samples) == (0, 0)
    same = last.drops.get("sample dropped, same image", 0)
    assert len(samples_of(Bucket(device.bucket, "yard"))) == last.uploaded == last.kept - same
    assert last.frames >= figures["frames while away"] + PACE * 6
