"""Prefect's server is away for half an hour while a collector runs."""

from __future__ import annotations

import pytest

from tasks.collector import collector_pid
from tests.flows.away import prefect_with_worker, status_of
from tests.flows.test_collect_away import attached_run, paced_device, rows_of, server_goes_away

SECONDS = 30 * 60


@pytest.mark.timeout(SECONDS + 1200)
def test_prefect_may_be_away_for_half_an_hour(tmp_path):
    """Collection goes on though Prefect's worker gives up and ends its runs; started anew, the next run attaches."""
    device = paced_device(tmp_path)
    with prefect_with_worker(tmp_path, device) as prefect:
        run = attached_run(prefect, device, SECONDS + 20)
        pid = collector_pid(device.outbox)
        figures = server_goes_away(prefect, device, SECONDS)
        print(f"\nPrefect away: {figures}")
        if not prefect.worker_runs:  # as its service does
            prefect.start_worker()
        following = prefect.run(window_seconds=3)
        ended = prefect.wait_for(following, "COMPLETED", "FAILED", "CRASHED", within=300)
        print(f"the run that was attached: {prefect.state_of(run)}; the next one: {ended}")
        assert ended == "COMPLETED", prefect.logs()
        rows = rows_of(prefect, device)
        assert rows["collector"] == "attached"
        assert rows["frames decided"] >= figures["frames while away"]
        assert collector_pid(device.outbox) == pid
        assert status_of(device).frames_lost == 0
