"""Capture never waits for the network: a device in a network namespace of its own, with a link as bad as can be."""

import time
from dataclasses import dataclass, field

import pytest

from tests.faults.edge import Edge, delivered, lost
from tests.faults.network import Namespace
from tests.faults.proxy import FaultProxy

GAP_S = 0.3  # the promise
DRAINED_TIMES = 5.0  # as fast as samples come in


@dataclass
class Figures:
    """What was measured: the longest gap in each state of the link, and the speeds at which a backlog went."""

    gaps: dict[str, float] = field(default_factory=dict)
    drained: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    duplicates: int = 0


def through_all_of_it(tmp_path, ceph, seconds):
    """A device uploads through every fault for `seconds` each, and gets rid of what has waited meanwhile."""
    figures = Figures()
    with Namespace() as link, FaultProxy(ceph.port, link.address) as way:
        environment = ceph.environment(way.endpoint)
        with Edge(tmp_path, ceph.fresh_url(), environment=environment, command=link.command, fraction=0.1) as edge:
            edge.wait_for(lambda status: status.uploaded >= 3, 60, "uploads")
            beginning = time.monotonic()
            for name, fault in {
                "blackhole": link.blackhole,
                "20% loss": lambda: link.loss(20),
                "reset": link.reset,
                "link down": link.link_down,
                "2 Mbit": lambda: link.rate("2mbit"),
            }.items():
                began = time.monotonic()
                fault()
                time.sleep(seconds)
                if name != "2 Mbit":
                    figures.gaps[name] = edge.longest_gap(began)
                    link.clear()
                    continue
                # What has waited so far goes over the slow link, in one go and beside what is new.
                edge.wait_for(lambda status: status.outbox_samples <= 8, 60, "the backlog over 2 Mbit")
                figures.gaps[name] = edge.longest_gap(began)
                link.clear()
            figures.drained["2 Mbit"] = drained(edge, link, seconds)
            figures.gaps["in all"] = edge.longest_gap(beginning)
            status = edge.stop()
        there, _ = delivered(edge)
        figures.lost, figures.duplicates = lost(status, len(set(there))), len(there) - len(set(there))
    return figures


def drained(edge, link, seconds):
    """How many times as fast as new samples come in does a backlog go over 2 Mbit, from its first sample on?"""
    link.blackhole()
    time.sleep(3 * seconds)
    link.clear()
    link.rate("2mbit")
    before = edge.status()
    edge.wait_for(lambda status: status.uploaded > before.uploaded, 60, "uploads again")
    took = edge.wait_for(lambda status: status.outbox_samples <= 4, 60, "the backlog") + 0.5  # a status is a second old
    went = edge.status().uploaded - before.uploaded
    assert went > 5, f"only {went} samples had waited"
    return went / took / (20.0 * 0.1)


def hold_to_the_promise(figures, promise):
    promise(
        "capture never waits for the network",
        **{f"gap, {name}": f"{1000 * gap:.0f} ms" for name, gap in figures.gaps.items()},
        **{f"drained, {name}": f"{times:.1f} times capture" for name, times in figures.drained.items()},
        lost=figures.lost,
    )
    assert max(figures.gaps.values()) <= GAP_S
    assert min(figures.drained.values()) >= DRAINED_TIMES
    assert (figures.lost, figures.duplicates) == (0, 0)


@pytest.mark.slow
def test_capture_never_waits_for_the_network(tmp_path, ceph, edge_environment, promise):
    """Blackhole, loss, resets, a link that is down or slow: frames come on time, and a backlog goes 5 times as fast."""
    figures = through_all_of_it(tmp_path, ceph, 3.0)
    hold_to_the_promise(figures, promise)
