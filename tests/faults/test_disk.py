"""Disk of a device: bounded by the cap, bounded by itself, and corrupt."""

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import Outbox
from tasks.collector import drain_outbox
from tests.adapters.rtsp import until
from tests.adapters.samples import a_sample
from tests.faults.disks import small_disk
from tests.faults.edge import Edge, delivered, lost
from tests.faults.proxy import FaultProxy
from tests.tasks.collecting import a_device

CAP = 1_000_000


class Watch(threading.Thread):
    """The most that the samples and the quarantine of an outbox have taken."""

    def __init__(self, outbox: Path) -> None:
        super().__init__(daemon=True)
        self._outbox, self._ended, self.most = outbox, threading.Event(), 0

    def run(self) -> None:
        while not self._ended.wait(0.02):
            sizes = []
            for path in [p for name in ("samples", "quarantine") for p in (self._outbox / name).glob("*")]:
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue  # it has just left
            self.most = max(self.most, sum(sizes))

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.most


def without_a_bucket(folder, ceph, frames, **device):
    """(last status, ids delivered, most bytes) of a device that has no bucket for most of its recording."""
    with FaultProxy(ceph.port) as way:
        way.set("reset")
        edge = Edge(
            folder,
            ceph.fresh_url(),
            fps=60,
            frames=frames,
            fraction=1.0,
            environment=ceph.environment(way.endpoint),
            **device,
        )
        watch = Watch(edge.outbox)
        watch.start()
        with edge:
            edge.wait_for(lambda status: status.frames >= 0.7 * frames, 600, "the recording")
            way.set("ok")
            status = edge.ended()
        return status, delivered(edge)[0], watch.end()


@pytest.mark.slow
def test_the_cap_is_never_passed_and_every_drop_is_counted(tmp_path, ceph, edge_environment, promise):
    """A cap of 1 MB and twice as many samples: never over it, each loss is counted, the rest is delivered."""
    status, there, most = without_a_bucket(tmp_path, ceph, 400, outbox_megabytes=1)
    dropped = status.kept - len(there)
    promise("bounded disk, cap", cap=CAP, most_bytes=most, kept=status.kept, delivered=len(there), dropped=dropped)
    assert most <= CAP
    assert dropped > 50
    assert lost(status, len(there)) == 0
    assert len(there) == len(set(there)) > 20


@pytest.mark.slow
def test_a_full_disk_costs_samples_that_are_counted_and_drains_afterwards(tmp_path, ceph, edge_environment, promise):
    """An outbox on a tmpfs of 2 MB, far below its cap: nothing dies, each loss is counted, the rest is delivered."""
    with small_disk(tmp_path / "small", 2) as disk:
        status, there, most = without_a_bucket(tmp_path, ceph, 400, outbox=str(disk / "outbox"))
        files = [path.name for path in (disk / "outbox" / "samples").iterdir()]
    dropped = status.kept - len(there)
    promise("bounded disk, full tmpfs", most_bytes=most, kept=status.kept, delivered=len(there), dropped=dropped)
    assert dropped > 50
    assert lost(status, len(there)) == 0
    assert len(there) == len(set(there)) > 20
    assert files == []


@pytest.mark.slow
def test_a_collector_begins_on_a_full_disk_and_empties_it(tmp_path, ceph, edge_environment, promise):
    """What waited on a disk that has not one byte left is delivered by the next start, each sample once."""
    with small_disk(tmp_path / "small", 2) as disk, FaultProxy(ceph.port) as way:
        url, outbox, environment = ceph.fresh_url(), str(disk / "outbox"), ceph.environment(way.endpoint)
        way.set("reset")
        with Edge(tmp_path, url, environment=environment, fraction=0.2, outbox=outbox) as edge:
            edge.wait_for(lambda status: status.outbox_samples >= 5, 60, "samples that wait")
            edge.kill()
        waited = {path.name[:20] for path in (disk / "outbox" / "samples").glob("*.json")}
        fill(disk / "ballast")
        way.set("ok")
        with Edge(tmp_path, url, environment=environment, fraction=0.0, outbox=outbox) as edge:
            until(lambda: not edge.is_running or waited <= set(delivered(edge)[0]), 60, "what had waited")
            status = edge.stop()
            there, _ = delivered(edge)
    promise("begins on a full disk", waited=len(waited), delivered=len(there), twice=len(there) - len(set(there)))
    assert status.finished
    assert sorted(there) == sorted(waited)


def fill(path):
    """Take every byte that is left on a disk."""
    with open(path, "wb", buffering=0) as file:
        for size in (65_536, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


@pytest.mark.slow
def test_a_hundred_corrupt_files_are_quarantined_and_none_is_uploaded(tmp_path, ceph, edge_environment, promise):
    """Of 120 samples 100 have a file flipped or cut, images and records: 100 in quarantine, the 20 others delivered."""
    chance, device = np.random.default_rng(1), a_device(tmp_path, "none", ceph.fresh_url())
    outbox = Outbox(device.outbox, 10**8)
    samples = [a_sample(number) for number in range(120)]
    for sample, jpeg in samples:
        outbox.put(sample, jpeg)
    for number, (sample, _) in enumerate(samples[:100]):
        paths = sorted((outbox.folder / "samples").glob(f"{sample.sample_id}*"))
        path = paths[number % len(paths)]
        data = bytearray(path.read_bytes())
        if number % 4 < 2:
            data[chance.integers(len(data))] ^= 1 << chance.integers(8)
        else:
            del data[chance.integers(len(data)) :]
        path.write_bytes(data)
    uploaded = drain_outbox(device, outbox.folder)
    bucket = Bucket(device.bucket, device.project)
    images = bucket.list("devices/edge-1/samples/")
    bucket.close()
    corrupt = {sample.sample_id for sample, _ in samples[:100]}
    wrong = [key for key in images if Path(key).stem in corrupt]
    put_aside = {path.name[:20] for path in (outbox.folder / "quarantine").iterdir()}
    promise("corruption seen", corrupt=100, quarantined=len(put_aside & corrupt), uploaded=len(wrong))
    assert put_aside == corrupt
    assert wrong == []
    assert uploaded == 20 == len(images)
