"""What the outbox acknowledges survives a power cut: an ext4 file system that forgets what was not synced."""

import os
import random
import subprocess
import sys
import time

import pytest

from tasks.adapters.outbox import Outbox
from tasks.core.errors import DataError
from tests.adapters.rtsp import until
from tests.faults.disks import Disk
from tests.tasks.collecting import ROOT

CAP = 256 * 2**20
WRITER = "import sys, pathlib; from tests.adapters.outbox_victim import write_for_ever as w; "
WRITER += "w(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 1, 0.02)"  # most cuts come just after one


def cut_power(tmp_path, cuts):
    """(acknowledged, lost, torn) after so many cuts in the midst of writing."""
    chance, acknowledged, torn = random.Random(cuts), set(), 0
    disk = Disk(tmp_path / "disk.img", tmp_path / "disk")
    try:
        for number in range(cuts):
            known = tmp_path / f"acknowledged-{number}"
            with open(known, "wb") as told:
                writer = subprocess.Popen(
                    [sys.executable, "-c", WRITER, str(disk.folder / "outbox"), str(CAP), str(1000 * cuts + number)],
                    stdout=told,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            until(lambda known=known, writer=writer: known.stat().st_size > 21 or writer.poll(), 60, "a first sample")
            assert writer.poll() is None
            time.sleep(chance.uniform(0, 0.3))
            disk.cut_power()
            writer.kill()
            writer.wait()
            disk.restore_power()
            acknowledged |= {line for line in known.read_text().splitlines() if len(line) == 20}
        outbox, there = Outbox(disk.folder / "outbox", CAP), set()
        for item in outbox.pending(10**6):
            try:
                outbox.read_image(item.sample)
                there.add(item.sample.sample_id)
            except DataError:
                torn += item.sample.sample_id in acknowledged
        return len(acknowledged), len(acknowledged - there), torn
    finally:
        disk.unmount()


@pytest.mark.slow
def test_an_acknowledged_sample_survives_five_power_cuts(tmp_path, promise):
    """The disk loses all that was not synced, in the midst of writing; nothing that `put` acknowledged is gone."""
    acknowledged, lost, torn = cut_power(tmp_path, 5)
    promise("an acknowledged sample survives a power cut", cuts=5, acknowledged=acknowledged, lost=lost, torn=torn)
    assert acknowledged >= 10
    assert (lost, torn) == (0, 0)
