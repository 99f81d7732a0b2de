"""`edgeloop status`: the fleet in a terminal, from a real bucket."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import Alert, DeviceStatus, Rates
from tasks.status import AT_ONCE, fleet, read_reports
from tests.adapters.s3 import fresh_s3_url
from tests.conftest import edgeloop, plain_environment


def now() -> datetime:
    return datetime.now(timezone.utc)


def a_status(name: str, **fields) -> DeviceStatus:
    return DeviceStatus(
        **{
            "device": name,
            "group": "all",
            "project": "yard",
            "reported_at": now() - timedelta(seconds=5),
            "started_at": now() - timedelta(days=1),
            "release_number": 2,
            "model_version": "1f0c2a9be77d0e14",
            "rates": Rates(seconds=60, frames_per_second=12.5),
            "cameras": {"north": "running"},
            **fields,
        }
    )


@pytest.fixture
def bucket(tmp_path):
    """A project with two releases, and its configuration."""
    (tmp_path / "project.yaml").write_text(f"project: yard\nbucket: {tmp_path}/bucket\nclasses: [car]\n")
    bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
    for number in (1, 2):
        bucket.put(layout.release("all", number), b"{}")
    return bucket


def write(bucket: Bucket, *statuses: DeviceStatus) -> None:
    for status in statuses:
        bucket.write_record(layout.device_status(status.device), status)


def status_of(tmp_path, *options: str, **environment: str):
    return edgeloop("status", "--config", "project.yaml", *options, cwd=tmp_path, **{"COLUMNS": "140", **environment})


def test_a_fleet_that_is_well_is_exit_code_0(tmp_path, bucket):
    """A line a device with its figures, and one that sums up."""
    write(bucket, a_status("gate-1", kept=1234, outbox_samples=7, outbox_oldest_seconds=42.0), a_status("gate-2"))
    done = status_of(tmp_path)
    assert done.returncode == 0, done.stderr
    header, first, second, last = done.stdout.splitlines()
    assert header.split()[:4] == ["device", "seen", "release", "model"]
    for word in ("gate-1", "2", "1f0c2a9b", "12.5", "1,234", "7, 42 s", "1/1"):
        assert word in first
    assert "gate-2" in second
    assert last == "2 devices: 2 well; 25.0 frames/s, 7 samples wait, 2 on the newest release"


@pytest.mark.slow
def test_devices_in_trouble_come_first_and_are_exit_code_1(tmp_path, bucket):
    """A silent one, one with an alert, a corrupt status; escape sequences of a device do not reach the terminal."""
    write(
        bucket,
        a_status("a-well"),
        a_status("b-silent", reported_at=now() - timedelta(hours=5)),
        a_status("c-alert", alerts=(Alert(name="disk nearly full", since=now(), message="3 MB"),)),
        a_status("d-evil", cameras={"north": "unavailable"}, last_error="\x1b[2J\x1b]0;owned\x07 camera north: gone"),
        a_status("e-behind", release_number=1),
    )
    bucket.put(layout.device_status("f-corrupt"), b'{"device": ')
    bucket.put(layout.device_status("g-foreign"), b'{"schema_version": 1, "device": "g-foreign", "surprise": 1}')
    bucket.put("devices/imported/segments/000000000001.jsonl.gz", b"")
    done = status_of(tmp_path)
    assert done.returncode == 1, done.stderr
    assert "\x1b" not in done.stdout
    names = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("● ")]
    assert names == ["f-corrupt", "g-foreign", "b-silent", "c-alert", "d-evil", "e-behind", "a-well"]
    for words in (
        "unreadable",
        "Invalid JSON",
        "5.0 h",
        "disk nearly full",
        "north down",
        "camera north: gone",
        "1 of 2",
    ):
        assert words in done.stdout
    only = status_of(tmp_path, "--trouble")
    assert "a-well" not in only.stdout
    assert "2 that are not in trouble are not shown" in only.stdout


def test_a_device_of_the_next_version_is_read(tmp_path, bucket):
    """Fields that this version does not know are counted; the rest of what it says is shown."""
    newer = a_status("gate-1").model_dump(mode="json")
    newer |= {"schema_version": newer["schema_version"] + 1, "temperature": 61.5}
    newer["rates"]["watts"] = 7
    bucket.put(layout.device_status("gate-1"), json.dumps(newer).encode())
    done = status_of(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["device"], row["health"], row["unknown_fields"]) == ("gate-1", "well", 2)
    assert row["frames_per_second"] == 12.5


def test_a_narrow_terminal_has_the_errors_below_the_figures(tmp_path, bucket):
    """At 90 columns no line is longer, and the error is there in full."""
    error = "camera north: rtsp://192.0.2.10/stream cannot be opened: timed out after 10 s, tried again"
    write(bucket, a_status("gate-1", cameras={"north": "unavailable"}, last_error=error))
    done = status_of(tmp_path, COLUMNS="90")
    assert max(map(len, done.stdout.splitlines())) <= 90
    assert error in " ".join(done.stdout.split())


@pytest.mark.slow
def test_no_device_and_no_bucket_are_one_clear_line(tmp_path, bucket):
    """An empty fleet is said and is no failure; a bucket that cannot be used is exit code 2."""
    done = status_of(tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "no device has reported yet")
    (tmp_path / "project.yaml").write_text("project: yard\nbucket: ftp://somewhere\nclasses: [car]\n")
    done = status_of(tmp_path)
    assert done.returncode == 2
    assert "ftp://" in done.stderr


def test_a_thousand_devices_are_read_with_a_bound_on_what_is_under_way(tmp_path, bucket):
    """1,000 statuses, one of them corrupt, each read once, never more than the bound at the same time."""
    for n in range(1000):
        path = tmp_path / "bucket" / "yard" / layout.device_status(f"edge-{n:04d}")
        path.parent.mkdir(parents=True)
        path.write_bytes(a_status(path.parent.name).to_json() if n < 999 else b"nonsense")
    lock, under_way, most, reads = threading.Lock(), 0, 0, []
    get = bucket.get

    def counted(key: str) -> bytes:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            reads.append(key)
        try:
            time.sleep(0.002)
            return get(key)
        finally:
            with lock:
                under_way -= 1

    bucket.get = counted
    rows = fleet(bucket, now())
    assert len(rows) == len(reads) == len(set(reads)) == 1000
    assert 4 < most <= AT_ONCE
    assert [row.device for row in rows if row.in_trouble] == ["edge-0999"]


def test_statuses_are_read_from_s3(request):
    """The same from a real S3 server: only devices that have a status are devices."""
    bucket = Bucket(fresh_s3_url(request), "yard")
    write(bucket, *(a_status(f"edge-{n}") for n in range(3)))
    bucket.put("devices/imported/samples/2026-05-01/0123456789abcdef0123.jpg", b"x")
    assert [report.device for report in read_reports(bucket)] == ["edge-0", "edge-1", "edge-2"]
    bucket.close()


@pytest.mark.slow
def test_watching_shows_the_fleet_again_and_again_until_ctrl_c(tmp_path, bucket):
    """In a terminal: what changes in the bucket is seen, a bucket that goes away is said, and Ctrl-C is a good end."""
    write(bucket, a_status("gate-1"))
    config = ("--config", "project.yaml")
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 140, 0, 0))
    process = subprocess.Popen(
        # A background job of a shell hands on that it ignores Ctrl-C; somebody at a terminal does not.
        ["env", "--default-signal=INT", sys.executable, "-m", "flows.cli", "status", "--watch", "--every=1", *config],
        cwd=tmp_path,
        env=plain_environment(TERM="xterm"),
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    shown = b""

    def shows(words: bytes) -> None:
        nonlocal shown
        deadline = time.monotonic() + 30
        while words not in shown:
            assert time.monotonic() < deadline, shown[-2000:]
            if select.select([ours], [], [], 0.5)[0]:
                shown += os.read(ours, 65536)

    try:
        shows(b"1 device: 1 well")
        write(bucket, a_status("gate-2", cameras={"north": "unavailable"}))
        shows(b"2 devices: 1 well, 1 degraded")
        (tmp_path / "bucket" / "yard" / "devices").rename(tmp_path / "away")
        (tmp_path / "bucket" / "yard" / "devices").symlink_to("devices")  # to itself, so it cannot be read
        shows(b"cannot be")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
