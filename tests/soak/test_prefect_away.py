"""Prefect's server is away for half an hour while a collector runs."""

from __future__ import annotations

import pytest

from tests.flows.away import prefect_with_worker
from tests.flows.test_collect_away import paced_device, server_goes_away

SECONDS = 30 * 60


@pytest.mark.timeout(SECONDS + 1200)
def test_prefect_may_be_away_for_half_an_hour(tmp_path):
    """Collection goes on, no frame is lost, and the run that was attached is Completed afterwards with its report."""
    device = paced_device(tmp_path)
    with prefect_with_worker(tmp_path, device) as prefect:
        print(f"\nPrefect away: {server_goes_away(prefect, device, SECONDS)}")
