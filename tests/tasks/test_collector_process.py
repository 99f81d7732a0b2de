"""The collector as a process of its own, and what it may import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import (
    CollectorConfig,
    collector_pid,
    read_status,
    start_detached,
    stop_collector,
)
from tasks.collector.clock import ClockWatch
from tasks.core.errors import SettingsError
from tests.tasks.collecting import (
    ROOT,
    a_device,
    samples_of,
    sampling,
)


def test_the_collector_knows_no_prefect_and_is_imported_quickly():
    """`import tasks.collector` brings neither Prefect nor what only central has, and takes under 1.5 s of CPU."""
    code = (
        "import sys, time; t = time.process_time(); import tasks.collector, tasks.collector.__main__; "
        "t = time.process_time() - t; import json; "
        "print(json.dumps([t, [m for m in ('prefect', 'pandas', 'fiftyone', 'ultralytics', 'torch', 'matplotlib', "
        "'pyarrow', 's3fs', 'fastapi') if m in sys.modules]]))"
    )
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True
        )
        seconds, found = json.loads(done.stdout)
        assert found == []
        runs.append(seconds)
    assert min(runs) < 1.5


def test_a_detached_collector_is_attached_to_and_stopped(tmp_path, frames):
    """It runs in a session of its own, a second start finds it, its status can be read, and SIGTERM drains it."""
    device = a_device(tmp_path, frames)
    config = CollectorConfig(device=device, sampling=sampling(1.0), follow_releases=False, follow=True)
    pid = start_detached(config)
    try:
        assert os.getsid(pid) == pid != os.getsid(0)
        assert start_detached(config) == pid == collector_pid(device.outbox)
        deadline = time.monotonic() + 20
        while (status := read_status(device.outbox)) is None or status.uploaded < 40:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not status.finished
        began = time.monotonic()
        assert stop_collector(device.outbox)
        assert time.monotonic() - began < 10
    finally:
        if collector_pid(device.outbox) is not None:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    status = read_status(device.outbox)
    assert status.finished
    assert (status.frames, status.uploaded, status.outbox_samples) == (40, 40, 0)
    assert collector_pid(device.outbox) is None
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 40


def test_a_detached_collector_that_cannot_start_says_why(tmp_path):
    """The last line of its log is the error: a source that is not there."""
    config = CollectorConfig(device=a_device(tmp_path, tmp_path / "none"), follow_releases=False, model="none.onnx")
    with pytest.raises(SettingsError, match="there is no such model file"):
        start_detached(config)


def test_a_clock_that_jumps_or_begins_in_1970_is_suspect():
    """Steady or slewed clocks are trusted; a jump marks ten minutes, a clock before 2024 is never trusted."""
    now = {"wall": 1_800_000_000.0, "mono": 50.0}
    watch = ClockWatch(lambda: now["wall"], lambda: now["mono"])

    def after(seconds, jump=0.0):
        now["wall"] += seconds + jump
        now["mono"] += seconds
        return watch.is_suspect()

    assert not after(10)
    assert not after(10, jump=0.5)
    assert after(1, jump=7200)
    assert after(590)
    assert not after(20)
    assert after(1, jump=-7200)
    now["wall"] = 86_400.0
    assert ClockWatch(lambda: now["wall"], lambda: now["mono"]).is_suspect()
