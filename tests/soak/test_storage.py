"""The promises of outbox, bucket and uploader, the long versions: what tests/faults does, for longer and more often."""

import random
import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tasks.adapters.outbox import Outbox
from tests.adapters.outbox_machine import OutboxMachine
from tests.adapters.test_outbox_histories import HISTORY
from tests.conftest import plain_environment
from tests.faults.edge import lost
from tests.faults.test_clock import JUMPS, through_jumps
from tests.faults.test_crashes import RESUMED_S, kill_collector, kill_server
from tests.faults.test_disk import CAP, without_a_bucket
from tests.faults.test_network import hold_to_the_promise, through_all_of_it
from tests.faults.test_power_cut import cut_power
from tests.faults.test_writers_race import race


def test_five_thousand_histories_agree_with_a_plain_model(promise):
    """As the suite's, in greater number and length."""
    run_state_machine_as_test(OutboxMachine, settings=settings(HISTORY, max_examples=5000, stateful_step_count=50))
    promise("the outbox does what its model does", histories=5000, steps=50)


def test_a_writer_that_is_killed_two_hundred_times_loses_nothing(tmp_path, promise):
    """SIGKILL at any instant of a write: what `put` acknowledged is there, and whole."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.outbox_victim", str(tmp_path), "200", str(2**40)],
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    acknowledged = {line for line in done.stdout.splitlines() if len(line) == 20}
    outbox = Outbox(tmp_path, 2**40)
    there = {item.sample.sample_id for item in outbox.pending(10**6) if outbox.read_image(item.sample)}
    promise(
        "an acknowledged sample survives a crash",
        kills=200,
        acknowledged=len(acknowledged),
        lost=len(acknowledged - there),
        torn=outbox.drops["quarantined, corrupt"],
    )
    assert len(acknowledged) > 1000
    assert acknowledged <= there
    assert outbox.drops == {}


def test_an_acknowledged_sample_survives_a_hundred_power_cuts(tmp_path, promise):
    """A hundred times the disk loses what was not synced."""
    acknowledged, gone, torn = cut_power(tmp_path, 100)
    promise("an acknowledged sample survives a power cut", cuts=100, acknowledged=acknowledged, lost=gone, torn=torn)
    assert (gone, torn) == (0, 0)


def test_a_collector_that_is_killed_a_hundred_times_uploads_every_sample_once(
    tmp_path, ceph, edge_environment, promise
):
    """SIGKILL at any instant against a real server."""
    expected, there, images = kill_collector(tmp_path, ceph, edge_environment, kills=100, frames=4000)
    missing, twice = set(expected) - set(there), len(there) - len(set(there))
    promise("is uploaded once", kills=100, samples=len(expected), lost=len(missing), duplicate_objects=twice)
    assert sorted(there) == sorted(expected)
    assert images == len(expected)


def test_ten_crashes_of_the_server_lose_nothing(tmp_path, ceph, edge_environment, promise):
    """All of Ceph's daemons killed, again and again, while a device uploads."""
    status, there, lines, resumed = kill_server(tmp_path, ceph, edge_environment, crashes=10)
    gone = lost(status, there)
    promise("survives the server's crash", crashes=10, kept=status.kept, lost=gone, resumed_s=f"{max(resumed):.1f}")
    assert gone == 0 == lines - there
    assert max(resumed) <= RESUMED_S


def test_capture_never_waits_for_the_network_for_minutes(tmp_path, ceph, edge_environment, promise):
    """Each fault of the link for a minute."""
    figures = through_all_of_it(tmp_path, ceph, 60.0)
    hold_to_the_promise(figures, promise)


def test_the_cap_is_never_passed_by_ten_thousand_samples(tmp_path, ceph, edge_environment, promise):
    """A cap of 1 MB and a hundred times as many samples."""
    status, there, most = without_a_bucket(tmp_path, ceph, 10_000, outbox_megabytes=1)
    promise("bounded disk, cap", cap=CAP, most_bytes=most, kept=status.kept, delivered=len(there))
    assert most <= CAP
    assert lost(status, len(there)) == 0


def test_thirty_jumps_of_the_clock_stop_nothing(tmp_path, ceph, edge_environment, promise):
    """Two hours ahead, two behind, and 1970, in any order."""
    chance = random.Random(0)
    jumps = [chance.choice(list(JUMPS.items())) for _ in range(30)]
    status, there, gap, told = through_jumps(tmp_path, ceph, jumps, 5.0)
    gone = lost(status, len(set(there)))
    promise("clock jumps", jumps=30, longest_gap=f"{1000 * gap:.0f} ms", lost=gone, alerts=len(told))
    assert gone == 0 == len(there) - len(set(there))


@pytest.mark.parametrize("kind", ["Ceph", "folder"])
def test_a_thousand_races_have_one_winner_each(tmp_path, ceph, edge_environment, kind, promise):
    """Sixteen writers of a number, a thousand numbers."""
    winners = race(ceph.fresh_url() if kind == "Ceph" else f"file://{tmp_path}/bucket", 1000)
    promise(f"writers race, {kind}", writers=16, races=1000, races_with_one_winner=winners.count(1))
    assert winners == [1] * 1000
