"""The uploader alone: what it does of a bucket that refuses some things, loses others, or is slow."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone

import pytest

from tasks.adapters.bucket import Bucket, TransientBucketError
from tasks.adapters.outbox import Outbox
from tasks.collector import uploader as module
from tasks.collector.tally import Tally
from tasks.collector.uploader import Uploader
from tasks.core import layout
from tasks.core.entities import DeviceStatus, Sample
from tasks.core.errors import BucketError, OutboxFull
from tests.adapters.rtsp import until
from tests.adapters.samples import a_sample
from tests.tasks.collecting import a_device


class Device:
    """An uploader over a folder, with samples that wait."""

    def __init__(self, folder, samples=0, **fields):
        self.settings = a_device(folder, "none", **fields)
        self.bucket = Bucket(self.settings.bucket, "yard")
        self.outbox = Outbox(self.settings.outbox, 10**8)
        self.traffic = self.outbox.folder / "traffic"
        self.traffic.mkdir()
        self.tally = Tally(self.settings, None)
        for number in range(samples):
            self.outbox.put(*a_sample(number))

    def uploader(self):
        return Uploader(self.settings, self.bucket, self.outbox, self.traffic, self.tally, self.status)

    def status(self):
        now = datetime(2026, 5, 1, tzinfo=timezone.utc)
        return DeviceStatus(device="edge-1", group="all", reported_at=now, started_at=now)

    def run_once(self):
        """Deliver what can be delivered."""
        uploader = self.uploader()
        uploader.finish()
        uploader.start()
        uploader.join(30)
        assert not uploader.is_alive()

    def delivered(self):
        """Ids in the segments."""
        keys = self.bucket.list(f"{layout.device_prefix('edge-1')}/segments/")
        return [sample.sample_id for key in keys for sample in self.bucket.read_lines(key, Sample)[0]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.1)


def test_what_is_refused_of_one_kind_does_not_keep_the_others(tmp_path, monkeypatch):
    """Samples that may not be written keep neither the traffic log nor the status from the bucket."""
    device = Device(tmp_path, samples=3)
    (device.traffic / f"1-{hashlib.sha256(b'log').hexdigest()[:16]}.jsonl.gz").write_bytes(b"log")
    put = device.bucket.put

    def refuse(key, data):
        if "/samples/" in key:
            raise BucketError("the server answers AccessDenied")
        put(key, data)

    monkeypatch.setattr(device.bucket, "put", refuse)
    device.run_once()
    assert device.bucket.exists(layout.device_status("edge-1"))
    assert device.bucket.get(layout.traffic("edge-1", 1)) == b"log"
    assert "AccessDenied" in device.tally.last_error
    assert len(device.outbox) == 3
    monkeypatch.undo()
    device.run_once()
    assert len(device.delivered()) == 3
    assert len(device.outbox) == 0


def test_after_an_outage_one_call_tells_that_the_bucket_is_away(tmp_path, monkeypatch):
    """A bucket that does not answer is asked for one kind of thing a round, and not for all of them."""
    device, asked = Device(tmp_path, samples=3), []

    def nothing(key, *more):
        asked.append(key)
        raise TransientBucketError("no answer")

    for verb in ("put", "create", "exists"):
        monkeypatch.setattr(device.bucket, verb, nothing)
    device.run_once()
    assert len(asked) == 1


def test_a_slow_link_gets_fewer_images_at_once_and_loses_none_that_got_through(tmp_path, monkeypatch):
    """While sending several at once times out they are sent one by one; what succeeded is not sent again."""
    device, busy, sent = Device(tmp_path, samples=12, segment_samples=12), threading.Semaphore(1), []
    put = device.bucket.put

    def one_at_a_time(key, data):
        if not busy.acquire(blocking=False):
            raise TransientBucketError("no answer within 8 s")
        try:
            time.sleep(0.02)
            sent.append(key)
            put(key, data)
        finally:
            busy.release()

    monkeypatch.setattr(device.bucket, "put", one_at_a_time)
    uploader = device.uploader()
    uploader.start()
    until(lambda: len(device.outbox) == 0, 30, "the backlog")
    uploader.finish()
    uploader.join(10)
    images = [key for key in sent if "/samples/" in key]
    assert len(images) == 12 == len(set(images)) == len(set(device.delivered()))


def test_a_corrupt_traffic_log_is_put_aside(tmp_path):
    """A file that is not what was stored is quarantined and counted; the whole ones are delivered."""
    device = Device(tmp_path)
    for number, data in enumerate((b"one", b"two")):
        name = f"{number}-{hashlib.sha256(data).hexdigest()[:16]}.jsonl.gz"
        (device.traffic / name).write_bytes(data if number else b"onf")
    device.run_once()
    assert device.bucket.get(layout.traffic("edge-1", 1)) == b"two"
    assert not device.bucket.exists(layout.traffic("edge-1", 2))
    assert list(device.traffic.iterdir()) == []
    assert device.outbox.drops == {"quarantined, corrupt": 1}


def test_a_traffic_log_that_cannot_be_removed_is_not_sent_again_and_again(tmp_path, monkeypatch):
    """On a disk that has become read-only the log goes once."""
    device = Device(tmp_path)
    path = device.traffic / f"1-{hashlib.sha256(b'log').hexdigest()[:16]}.jsonl.gz"
    path.write_bytes(b"log")

    def read_only(self, missing_ok=False):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(type(path), "unlink", read_only)
    uploader = device.uploader()
    uploader.start()
    until(lambda: "Read-only" in device.tally.last_error, 10, "the error")
    time.sleep(0.5)
    uploader.finish()
    uploader.join(10)
    monkeypatch.undo()
    assert not device.bucket.exists(layout.traffic("edge-1", 2))


def test_the_samples_in_a_segment_say_how_likely_they_were_to_get_there(tmp_path):
    """An outbox that met its cap passes on what that cost those that are left."""
    device = Device(tmp_path)
    device.outbox.cap_bytes = 40_000
    for number in range(40):
        with suppress(OutboxFull):
            device.outbox.put(*a_sample(number, random_slice=True))
    device.run_once()
    keys = device.bucket.list(f"{layout.device_prefix('edge-1')}/segments/")
    chances = [s.probability_delivered for key in keys for s in device.bucket.read_lines(key, Sample)[0]]
    assert 8 <= len(chances) <= 12
    assert all(0 < chance < 1 for chance in chances)
    assert 20 < sum(1 / chance for chance in chances) < 80
