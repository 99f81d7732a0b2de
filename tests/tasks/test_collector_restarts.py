"""The collector stopped, killed, cut off and full: nothing acknowledged is lost, nothing is delivered twice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import DeviceLock
from tasks.collector import (
    CollectorConfig,
    drain_outbox,
    run_collector,
)
from tasks.core.entities import DeviceStatus
from tasks.core.errors import AlreadyRunning, BucketError
from tests.adapters.s3 import fresh_s3_url
from tests.tasks.collecting import (
    ROOT,
    a_device,
    a_folder,
    images_of,
    samples_of,
    sampling,
    segments_of,
)
from tests.tasks.sources import Paced


def test_max_frames_leaves_the_recording_where_it_is(tmp_path, frames):
    """Three runs of 15 frames over 40 pictures: 15, 15 and 10, none twice, and the fourth begins anew."""
    device = a_device(tmp_path, frames)
    counts = []
    for _ in range(3):
        status = run_collector(device, sampling=sampling(1.0), follow_releases=False, max_frames=15)
        counts.append((status.frames, status.kept, status.frames_lost))
    assert counts == [(15, 15, 0), (15, 15, 0), (10, 10, 0)]
    samples = samples_of(Bucket(device.bucket, "yard"))
    assert sorted(s.source for s in samples) == sorted(p.name for p in frames.iterdir())
    again = run_collector(device, sampling=sampling(1.0), follow_releases=False, max_frames=15)
    assert again.frames == 15
    assert again.drops == {"sample known already": 15}
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 40


def test_a_stop_drains_what_was_read(tmp_path, frames):
    """After `stop` is set the run ends soon, finished, with everything kept in the bucket and no frame lost."""
    device, stop = a_device(tmp_path, frames), threading.Event()
    source = Paced(0.02, at={12: stop.set})
    began = time.monotonic()
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False, stop=stop, open_source=source)
    assert time.monotonic() - began < 10
    assert 10 <= status.frames <= 14
    assert status.frames_lost == 0
    assert status.finished
    assert len(samples_of(Bucket(device.bucket, "yard"))) == status.kept == status.frames


@pytest.mark.slow
def test_a_follower_that_is_started_again_does_not_read_its_recordings_again(tmp_path, frames):
    """A collector that outlives its recordings decides 40 frames, and after a restart none of them a second time."""
    device, counts = a_device(tmp_path, frames), []
    for wanted in (40, 0):
        stop = threading.Event()

        def watch(status, stop=stop, wanted=wanted):
            if status.frames >= wanted and status.cameras == {"gate": "ended"}:
                stop.set()

        status = run_collector(
            device, sampling=sampling(1.0), follow_releases=False, follow=True, stop=stop, on_progress=watch
        )
        counts.append((status.frames, status.frames_lost))
    assert counts == [(40, 0), (0, 0)]


@pytest.mark.slow
def test_progress_is_reported_while_it_runs(tmp_path, frames):
    """`on_progress` is called about once a second with a status that counts up, and at last with the final one."""
    seen = []
    status = run_collector(
        a_device(tmp_path, frames),
        sampling=sampling(),
        follow_releases=False,
        on_progress=seen.append,
        open_source=Paced(0.04),
    )
    assert len(seen) >= 2
    assert [s.frames for s in seen] == sorted(s.frames for s in seen)
    assert seen[-1] == status
    assert not seen[0].finished


def test_a_second_collector_for_the_same_outbox_is_refused(tmp_path, frames):
    """The device lock is held for the whole run; the error names the process."""
    device = a_device(tmp_path, frames)
    with DeviceLock(Path(device.outbox)), pytest.raises(AlreadyRunning, match=str(os.getpid())):
        run_collector(device, sampling=sampling(), follow_releases=False)


def a_process(config: CollectorConfig, folder: Path, pause: float) -> subprocess.Popen[bytes]:
    """A collector in a process of its own whose source is slow."""
    path = folder / "config.json"
    path.write_text(config.model_dump_json())
    code = (
        "import sys, pathlib; from tasks.collector import CollectorConfig, run_collector; "
        "from tests.tasks.sources import Paced; "
        "c = CollectorConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_text()); "
        "given = {n: getattr(c, n) for n in CollectorConfig.model_fields}; "
        "s = run_collector(**given, open_source=Paced(float(sys.argv[2]))); "
        "print(s.model_dump_json())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(pause)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_killed_collector_goes_on_without_loss_or_repetition(request, tmp_path, kind):
    """SIGKILL at three instants of a recording: in the end every frame is counted once, every sample is there once."""
    frames = a_folder(tmp_path / "frames", 120)
    url = fresh_s3_url(request) if kind == "s3" else None
    device = a_device(tmp_path, frames, url)
    config = CollectorConfig(device=device, sampling=sampling(0.6), follow_releases=False)
    bucket = Bucket(device.bucket, "yard")
    for more in (3, 20, 45):
        child = a_process(config, tmp_path, 0.02)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.02)
            waiting = list((tmp_path / "outbox" / "samples").glob("*.json"))
            if len(waiting) + len(images_of(bucket)) >= more or child.poll() is not None:
                break
        child.kill()
        child.wait()
        child.stdout.close()
    child = a_process(config, tmp_path, 0.0)
    output, _ = child.communicate(timeout=60)
    status = DeviceStatus.model_validate_json(output)
    samples = samples_of(bucket)
    reference = a_device(tmp_path, frames, f"file://{tmp_path}/reference", outbox=str(tmp_path / "reference-outbox"))
    expected = run_collector(reference, sampling=sampling(0.6), follow_releases=False)
    assert (status.frames, status.kept, status.frames_lost) == (120, expected.kept, 0)
    assert len(samples) == len({s.sample_id for s in samples}) == expected.kept
    assert len(images_of(bucket)) == expected.kept == status.uploaded
    assert status.outbox_samples == 0
    bucket.close()


def test_a_committed_segment_whose_note_was_lost_is_not_committed_again(tmp_path, frames):
    """The segment landed and the device died before it knew: the next run finds it and sends nothing twice."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    first = run_collector(device, sampling=sampling(1.0), follow_releases=False, max_frames=6)
    held = samples_of(bucket)
    outbox = Path(device.outbox)
    (outbox / "delivered.txt").unlink()
    (outbox / "state.json").unlink()
    second = run_collector(device, sampling=sampling(1.0), follow_releases=False, max_frames=8)
    assert first.kept == 6
    assert second.segments >= 1
    names = Counter(s.source for s in samples_of(bucket))
    assert set(names) == {p.name for p in sorted(frames.iterdir())[:8]}
    assert segments_of(bucket)[: len(held)][0][0] == held[0]


def test_after_the_loss_of_its_disk_a_device_goes_on_above_the_highest_number(tmp_path, frames):
    """A new outbox knows no numbers: segments of before stay as they are, new ones come after them."""
    device = a_device(tmp_path, frames)
    run_collector(device, sampling=sampling(1.0), follow_releases=False, max_frames=9)
    bucket = Bucket(device.bucket, "yard")
    before = segments_of(bucket)
    fresh = a_device(tmp_path, frames, outbox=str(tmp_path / "new-disk"))
    run_collector(fresh, sampling=sampling(1.0), follow_releases=False, start=datetime(2026, 5, 2))
    after = segments_of(bucket)
    assert after[: len(before)] == before
    assert len(after) > len(before)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["refused", pytest.param("silent", marks=pytest.mark.slow)])
def test_a_dead_bucket_stops_nothing_and_is_drained_to_later(request, tmp_path, frames, monkeypatch, way):
    """Without a bucket every frame is decided and every sample waits; once it is back all of them arrive."""
    url = fresh_s3_url(request)
    alive = os.environ["AWS_ENDPOINT_URL"]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1] if way == "silent" else 9
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        device, stop = a_device(tmp_path, frames, url), threading.Event()
        began = time.monotonic()
        seen = []

        def watch(status):
            seen.append(status)
            if status.frames == 40:
                stop.set()

        status = run_collector(
            device, sampling=sampling(1.0), follow_releases=False, stop=stop, on_progress=watch, follow=True
        )
        assert time.monotonic() - began < 14
    assert (status.frames, status.kept, status.uploaded) == (40, 40, 0)
    assert status.outbox_samples == 40
    assert "cannot be" in status.last_error or way == "silent"
    monkeypatch.setenv("AWS_ENDPOINT_URL", alive)
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "empty" / "one.png"), np.zeros((8, 8, 3), np.uint8))
    later = a_device(tmp_path, tmp_path / "empty", url)
    status = run_collector(later, sampling=sampling(0.0), follow_releases=False)
    assert (status.uploaded, status.outbox_samples) == (40, 0)
    bucket = Bucket(url, "yard")
    assert len(samples_of(bucket)) == 40
    bucket.close()


def test_an_outbox_is_drained_by_hand(tmp_path, frames):
    """What waits is delivered once, beside a collector nothing is, and a dead bucket is an error that says so."""
    (tmp_path / "blocked").write_text("not a folder")
    away = a_device(tmp_path, frames, f"file://{tmp_path}/blocked/bucket")
    run_collector(away, sampling=sampling(1.0), follow_releases=False, max_frames=10)
    outbox = Path(away.outbox)
    with pytest.raises(BucketError, match="10 samples still wait"):
        drain_outbox(away, outbox)
    device = a_device(tmp_path, frames)
    with DeviceLock(outbox), pytest.raises(AlreadyRunning):
        drain_outbox(device, outbox)
    assert drain_outbox(device, outbox) == 10
    assert drain_outbox(device, outbox) == 0
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False)
    assert (status.frames, status.uploaded) == (30, 30)
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 40


@pytest.mark.slow
def test_a_full_outbox_costs_samples_and_counts_them(tmp_path, frames, monkeypatch):
    """With a cap of 1 MB and no bucket the outbox stays below it, and kept = waiting + counted losses."""
    rng = np.random.default_rng(3)
    for path in frames.iterdir():
        cv2.imwrite(str(path), rng.integers(0, 255, (200, 300, 3), np.uint8).astype(np.uint8))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    device = a_device(tmp_path, frames, "s3://gone/p", outbox_megabytes=1)
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False)
    lost = sum(count for reason, count in status.drops.items() if "outbox at its cap" in reason)
    assert status.outbox_bytes <= 1_000_000
    assert lost > 0
    assert status.kept == 40 == status.outbox_samples + lost
