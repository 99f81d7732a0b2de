"""The collector as a process of its own, and what it may import."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import (
    CollectorConfig,
    collector_pid,
    read_status,
    start_detached,
    stop_collector,
)
from tasks.core.errors import SettingsError
from tasks.core.settings import CameraSettings
from tests.tasks.collecting import (
    ROOT,
    a_device,
    a_folder,
    samples_of,
    sampling,
)


@pytest.mark.slow
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


@pytest.mark.slow
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


def ended(pid: int) -> None:
    """Wait for a child that was started detached: it is ours, whatever session it is in."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def until(holds, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_another_configuration_starts_the_collector_anew(tmp_path, frames):
    """The same configuration, written in another way, attaches; another one stops the collector, drained, and starts
    it with what is wanted now; nothing is lost or decided twice."""
    device = a_device(tmp_path, frames)
    config = CollectorConfig(device=device, sampling=sampling(1.0), follow_releases=False, follow=True)
    first = start_detached(config)
    second = 0
    try:
        until(lambda: (status := read_status(device.outbox)) is not None and status.frames == 40)
        same = CollectorConfig.model_validate_json(config.model_dump_json())
        assert start_detached(same) == first
        a_folder(tmp_path / "more", 12)
        cameras = [*device.cameras, {"name": "dock", "source": str(tmp_path / "more")}]
        wider = device.model_copy(update={"cameras": tuple(CameraSettings.model_validate(c) for c in cameras)})
        second = start_detached(config.model_copy(update={"device": wider}))
        assert second != first
        assert collector_pid(device.outbox) == second
        ended(first)
        until(lambda: (status := read_status(device.outbox)) is not None and status.cameras.get("dock") == "ended")
        until(lambda: read_status(device.outbox).outbox_samples == 0)
        assert stop_collector(device.outbox)
    finally:
        for pid in {collector_pid(device.outbox), second or first} - {None}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            ended(pid)
    samples = samples_of(Bucket(device.bucket, "yard"))
    assert Counter(s.camera for s in samples)["gate"] >= 39  # its pictures are told apart from those of `dock` by bytes
    assert len({s.sample_id for s in samples}) == len(samples)
    assert read_status(device.outbox).frames == 12  # the recording of `gate` was over


@pytest.mark.slow
def test_those_that_start_a_collector_at_the_same_time_share_one(tmp_path, frames):
    """Four processes call `start_detached` at once: one collector runs, and all are told its process id."""
    device = a_device(tmp_path, frames)
    config = CollectorConfig(device=device, sampling=sampling(1.0), follow_releases=False, follow=True)
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    code = (
        "import sys, pathlib; from tasks.collector import CollectorConfig, start_detached; "
        "print(start_detached(CollectorConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_text())))"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    try:
        told = [int(starter.communicate(timeout=90)[0]) for starter in starters]
        assert told == [collector_pid(device.outbox)] * 4
    finally:
        stop_collector(device.outbox)


@pytest.mark.slow
def test_a_detached_device_of_several_projects_drains_all_of_them(tmp_path, frames):
    """SIGTERM to a process that hosts two projects: both are delivered and say that they have finished, within 10 s."""
    dock = {"project": "dock", "bucket": f"file://{tmp_path}/dock"}
    device = a_device(tmp_path, frames, pipelines=[dock], segment_seconds=60, segment_samples=1000)
    config = CollectorConfig(device=device, sampling=sampling(1.0), follow_releases=False, follow=True)
    pid = start_detached(config)
    folders = (device.outbox, f"{device.outbox}/projects/dock")
    try:
        until(lambda: all((one := read_status(folder)) is not None and one.frames == 40 for folder in folders))
        began = time.monotonic()
        assert stop_collector(device.outbox)
        assert time.monotonic() - began < 10
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        ended(pid)
    statuses = [read_status(folder) for folder in folders]
    assert all(one.finished and one.outbox_samples == 0 and one.frames_lost == 0 for one in statuses)
    assert statuses[0].uploaded == 40 == len(samples_of(Bucket(device.bucket, "yard")))


@pytest.mark.slow
def test_whoever_started_the_collector_may_die(tmp_path, frames):
    """The process that started it, as a worker's flow run does, is killed with its whole group: collection goes on,
    and another process attaches."""
    device = a_device(tmp_path, frames)
    config = CollectorConfig(device=device, sampling=sampling(1.0), follow_releases=False, follow=True)
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    code = (
        "import sys, pathlib, time; from tasks.collector import CollectorConfig, start_detached; "
        "start_detached(CollectorConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_text())); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    try:
        until(lambda: collector_pid(device.outbox) is not None and read_status(device.outbox) is not None, 60)
        os.killpg(starter.pid, signal.SIGKILL)
        starter.wait()
        pid = collector_pid(device.outbox)
        until(lambda: read_status(device.outbox).uploaded == 40)
        assert start_detached(config) == pid
    finally:
        assert stop_collector(device.outbox)
