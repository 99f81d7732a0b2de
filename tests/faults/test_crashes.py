"""Every kept sample is delivered, and once, whoever is killed: the collector, or every daemon of the server."""

import random
import time

import pytest

from tasks.collector import run_collector
from tests.adapters.rtsp import until
from tests.faults.edge import Edge, delivered, lost
from tests.faults.edge_process import Metronome
from tests.tasks.collecting import a_device, sampling

RESUMED_S = 30.0  # the promise


def expected_of(tmp_path, frames, fraction):
    """Ids of the samples that a run without any accident keeps of the same recording."""
    device = a_device(tmp_path, "metronome", f"file://{tmp_path}/reference", outbox=str(tmp_path / "reference-outbox"))
    edge = Edge(tmp_path, device.bucket, outbox=device.outbox)

    def open_source(source, camera, *, start=None, time_scale=1.0, settings=None):
        return Metronome(camera, 10**6, frames, tmp_path / "reference-log")

    run_collector(device, sampling=sampling(fraction), follow_releases=False, open_source=open_source)
    return delivered(edge)[0]


def kill_collector(tmp_path, ceph, environment, kills, frames):
    """(expected, delivered, images) after so many SIGKILLs in the midst of a recording."""
    chance = random.Random(kills)
    seconds = 1.2 * kills  # of the recording
    edge = Edge(tmp_path, ceph.fresh_url(), fps=frames / seconds, frames=frames, fraction=0.5, environment=environment)
    for _ in range(kills):
        edge.start()
        seen = len(edge.frames())
        until(lambda seen=seen: len(edge.frames()) > seen + 3 or not edge.is_running, 60, "frames")
        time.sleep(chance.uniform(0, 1.5))
        edge.kill()
    with edge:
        status = edge.ended(seconds + 120)
    assert status.outbox_samples == 0
    return expected_of(tmp_path, frames, 0.5), *delivered(edge)


@pytest.mark.slow
def test_a_collector_that_is_killed_ten_times_uploads_every_sample_once(tmp_path, ceph, edge_environment, promise):
    """SIGKILL at any instant against a real server: what an undisturbed run keeps is there, each in one segment."""
    expected, there, images = kill_collector(tmp_path, ceph, edge_environment, kills=10, frames=400)
    missing, twice = set(expected) - set(there), len(there) - len(set(there))
    promise("is uploaded once", kills=10, samples=len(expected), lost=len(missing), duplicate_objects=twice)
    assert len(expected) > 150
    assert sorted(there) == sorted(expected)
    assert images == len(expected)


def kill_server(tmp_path, ceph, environment, crashes):
    """(kept, lost, duplicates, seconds until uploads went on) over so many crashes of all daemons."""
    resumed = []
    with Edge(tmp_path, ceph.fresh_url(), environment=environment, fraction=0.2) as edge:
        for _ in range(crashes):
            before = edge.status().uploaded
            edge.wait_for(lambda status, before=before: status.uploaded > before + 5, 60, "uploads")
            ceph.kill()
            time.sleep(3)
            before = edge.status().uploaded
            ceph.start()
            until(ceph.answers, 60, "the gateway")
            resumed.append(edge.wait_for(lambda status, before=before: status.uploaded > before, 60, "uploads again"))
        edge.wait_for(lambda status: status.outbox_samples < 10, 60, "the backlog")
        status = edge.stop()
    there, images = delivered(edge)
    assert images == len(set(there))
    return status, len(set(there)), len(there), resumed


@pytest.mark.slow
def test_a_crash_of_the_server_loses_nothing(tmp_path, ceph, edge_environment, promise):
    """All of Ceph's daemons killed while a device uploads: what was committed is there, uploads go on within 30 s."""
    status, there, lines, resumed = kill_server(tmp_path, ceph, edge_environment, crashes=1)
    gone = lost(status, there)
    promise("survives the server's crash", crashes=1, kept=status.kept, lost=gone, resumed_s=f"{max(resumed):.1f}")
    assert gone == 0 == lines - there
    assert max(resumed) <= RESUMED_S
