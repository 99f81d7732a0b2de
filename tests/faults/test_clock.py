"""A wall clock that jumps stops nothing and loses nothing."""

import time

import pytest

from tasks.collector.alerts import CLOCK_SUSPECT
from tests.faults.clock import WallClock
from tests.faults.edge import Edge, delivered, lost

GAP_S = 1.0
JUMPS = {"+2 h": 7200, "-2 h": -7200, "1970": None}


def through_jumps(tmp_path, ceph, jumps, seconds):
    """(last status, delivered ids, longest gap between frames, errors told while the clock was wrong)."""
    clock = WallClock(tmp_path)
    told = {}
    environment = {**ceph.environment(), **clock.environment}
    with Edge(tmp_path, ceph.fresh_url(), environment=environment, fraction=0.2) as edge:
        edge.wait_for(lambda status: status.uploaded >= 3, 60, "uploads")
        began = time.monotonic()
        for name, shift in jumps:
            before = edge.status()
            clock.shift(-int(time.time()) + 3600 if shift is None else shift)
            edge.wait_for(lambda status: "set the clock" in status.last_error, 30, f"an alert at {name}")
            told[name] = edge.status()
            time.sleep(seconds)
            assert edge.status().kept > before.kept
            clock.shift(0)
            last = edge.status().uploaded
            edge.wait_for(lambda status, last=last: status.uploaded > last, 60, f"uploads after {name}")
        gap = edge.longest_gap(began)
        edge.wait_for(lambda status: status.outbox_samples < 10, 60, "the backlog")
        status = edge.stop()
    return status, delivered(edge)[0], gap, told


@pytest.mark.slow
def test_a_clock_that_jumps_stops_nothing(tmp_path, ceph, edge_environment, promise):
    """Two hours ahead, two behind, and 1970: frames go on, the status says what the server says, nothing is lost."""
    status, there, gap, told = through_jumps(tmp_path, ceph, JUMPS.items(), 2.0)
    gone = lost(status, len(set(there)))
    promise("clock jumps", jumps=len(told), longest_gap=f"{1000 * gap:.0f} ms", lost=gone, alerts=len(told))
    assert gap <= GAP_S
    assert gone == 0
    assert len(there) == len(set(there))
    assert all(CLOCK_SUSPECT in [alert.name for alert in status.alerts] for status in told.values())
