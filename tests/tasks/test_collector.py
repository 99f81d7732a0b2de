"""The collector end to end: real sources, detectors, sampler, outbox and bucket; only the cameras are paced by hand."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import DeviceLock
from tasks.adapters.releases import publish
from tasks.collector import (
    CollectorConfig,
    collector_pid,
    read_status,
    run_collector,
    start_detached,
    stop_collector,
)
from tasks.collector.clock import ClockWatch
from tasks.core import layout
from tasks.core.entities import STUB, DeviceStatus, Release, Sample, TrafficRecord, sample_id_of
from tasks.core.errors import AlreadyRunning, SettingsError, SourceUnavailable
from tasks.core.settings import DeviceSettings, SamplingSettings
from tests.adapters.models import constant_detector, nan_detector, sha256_of
from tests.adapters.s3 import fresh_s3_url
from tests.tasks.sources import Paced

ROOT = Path(__file__).parents[2]
CAR = (20, 20, 16, 16, 0, 0.9)
TRUCK = (32, 32, 20, 10, 1, 0.4)


@pytest.fixture
def frames(tmp_path):
    """A folder of 40 different pictures, JPEG and PNG."""
    return a_folder(tmp_path / "frames", 40)


def a_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.full((48, 64, 3), 40, np.uint8)
        cv2.rectangle(pixels, (index % 40, 5), (index % 40 + 12, 30), (0, 2 * index, 255 - 2 * index), -1)
        cv2.imwrite(str(folder / f"{index:04d}.{'png' if index % 4 == 0 else 'jpg'}"), pixels)
    return folder


def sampling(fraction: float = 0.5, **fields) -> SamplingSettings:
    return SamplingSettings(
        sampling_strategies=[{"type": "random", "name": "random", "traffic_percentage": fraction}], **fields
    )


def a_device(tmp_path: Path, source: Path | str, bucket: str | None = None, **fields) -> DeviceSettings:
    return DeviceSettings(
        **{
            "name": "edge-1",
            "project": "yard",
            "bucket": bucket or f"file://{tmp_path}/bucket",
            "cameras": [{"name": "gate", "source": str(source)}],
            "outbox": str(tmp_path / "outbox"),
            "segment_samples": 4,
            "segment_seconds": 0.3,
            "poll_seconds": 0.1,
            "status_seconds": 0.5,
            "threads": 1,
            **fields,
        }
    )


def a_release(bucket: Bucket, model: Path | None = None, settings: SamplingSettings | None = None, **fields) -> Release:
    """Publish a release, with its model's file."""
    digest = sha256_of(model) if model else ""
    if model is not None:
        bucket.upload(layout.model_file(digest[:16], "model.onnx"), model)
    release = Release(
        group="all",
        number=1,
        created_at=datetime(2026, 5, 1, tzinfo=timezone.utc),
        class_names=("car", "truck"),
        model_version=digest[:16] if model else STUB,
        model_sha256=digest,
        settings=settings or sampling(),
        **fields,
    )
    return publish(bucket, release)


def segments_of(bucket: Bucket, device: str = "edge-1") -> list[list[Sample]]:
    """The segments' samples; they are consecutive from 1, every image is there and is what its sample says."""
    keys = bucket.list(f"{layout.device_prefix(device)}/segments/")
    assert keys == [layout.segment(device, n) for n in range(1, len(keys) + 1)]
    segments = []
    for key in keys:
        samples, problems = bucket.read_lines(key, Sample)
        assert problems == []
        segments.append(samples)
    for sample in (s for samples in segments for s in samples):
        image = bucket.get(layout.sample_image(device, sample.captured_at, sample.sample_id))
        assert sample_id_of(image) == sample.sample_id
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape[:2] == (sample.height, sample.width)
    return segments


def samples_of(bucket: Bucket) -> list[Sample]:
    return [sample for samples in segments_of(bucket) for sample in samples]


def images_of(bucket: Bucket) -> list[str]:
    return bucket.list("devices/edge-1/samples/")


# --- a whole run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_every_frame_is_decided_and_every_kept_one_arrives_once(request, tmp_path, frames, kind):
    """40 frames: decided = kept + not kept, kept = samples in consecutive segments = images; the outbox is empty."""
    url = fresh_s3_url(request) if kind == "s3" else None
    device = a_device(tmp_path, frames, url)
    status = run_collector(device, sampling=sampling(), follow_releases=False)
    bucket = Bucket(device.bucket, "yard")
    samples = samples_of(bucket)
    assert status.frames == 40
    assert status.frames_lost == 0
    assert 10 < status.kept < 30
    assert status.kept + status.drops["no strategy matched"] == 40
    assert status.kept_by_strategy == {"random": status.kept}
    assert len({s.sample_id for s in samples}) == len(samples) == status.kept == status.uploaded
    assert len(images_of(bucket)) == status.kept
    assert all(len(segment) <= 4 for segment in segments_of(bucket))
    assert status.segments == len(segments_of(bucket))
    assert (status.outbox_samples, status.outbox_bytes, status.finished, status.last_error) == (0, 0, True, "")
    assert status.cameras == {"gate": "ended"}
    assert bucket.read_record(layout.device_status("edge-1"), DeviceStatus) == status == read_status(device.outbox)
    for sample in samples:
        assert sample.random_slice
        assert sample.probability == 0.5
        assert (sample.model_version, sample.detections, sample.strategy) == (STUB, (), "random")
        assert len(sample.settings_version) == 16
        assert (frames / sample.source).exists()
    bucket.close()


def test_the_same_recording_draws_the_same_samples_on_any_run(tmp_path, frames):
    """Two devices of one name with outboxes and buckets of their own keep exactly the same frames."""
    kept = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        device = a_device(folder, frames)
        run_collector(device, sampling=sampling(), follow_releases=False)
        kept.append([s.sample_id for s in samples_of(Bucket(device.bucket, "yard"))])
    assert kept[0] == kept[1]


def test_a_sample_carries_what_the_model_saw_in_the_pixels_that_are_kept(tmp_path, frames):
    """Boxes are in pixels of the JPEG: shrunk with it; classes are the project's; tags and batch come along."""
    model = constant_detector(tmp_path / "m.onnx", [CAR, TRUCK])
    settings = sampling(1.0, max_image_size=(24, 64), tags=("yard",), batching_strategy={"batches_name_prefix": "b"})
    device = a_device(tmp_path, frames)
    status = run_collector(
        device, model=str(model), sampling=settings, project_classes=["truck", "car"], follow_releases=False
    )
    samples = samples_of(Bucket(device.bucket, "yard"))
    assert len(samples) == 40 == status.kept
    for sample in samples:
        assert (sample.height, sample.width) == (24, 32)
        assert [d.class_name for d in sample.detections] == ["car", "truck"]
        # 64 x 48 in an input of 64 x 64 has 8 rows of padding above it; the image is then halved.
        assert sample.detections[0].xyxy == pytest.approx((6, 2, 14, 10))
        assert sample.detections[1].confidence == pytest.approx(0.4)
        assert sample.tags == ("yard",)
        assert sample.batch == "b"
        assert sample.model_version == sha256_of(model)[:16] == status.model_version


def test_predictions_are_left_out_where_the_settings_say_so(tmp_path, frames):
    """persist_predictions: false keeps images without detections."""
    model = constant_detector(tmp_path / "m.onnx", [CAR])
    device = a_device(tmp_path, frames)
    settings = sampling(1.0, persist_predictions=False)
    run_collector(device, model=str(model), sampling=settings, follow_releases=False, max_frames=3)
    assert [s.detections for s in samples_of(Bucket(device.bucket, "yard"))] == [()] * 3


def test_the_traffic_log_is_a_uniform_draw_that_a_replay_repeats(tmp_path, frames):
    """About half of 40 frames at a rate of 0.5, kept or not, with confidences; the same ones on a second device."""
    model = constant_detector(tmp_path / "m.onnx", [CAR, TRUCK])
    logs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        device = a_device(tmp_path / name, frames)
        settings = sampling(0.1, traffic_log_rate=0.5)
        run_collector(device, model=str(model), sampling=settings, follow_releases=False)
        bucket = Bucket(device.bucket, "yard")
        keys = bucket.list("devices/edge-1/traffic/")
        assert keys == [layout.traffic("edge-1", n) for n in range(1, len(keys) + 1)]
        logs.append([record for key in keys for record in bucket.read_lines(key, TrafficRecord)[0]])
    assert logs[0] == logs[1]
    assert 10 <= len(logs[0]) <= 30
    for record in logs[0]:
        assert record.class_names == ("car", "truck")
        assert record.confidences == pytest.approx((0.9, 0.4))
        assert record.rate == 0.5


def test_a_corrupt_image_is_a_counted_skip(tmp_path, frames):
    """A cut JPEG and an empty PNG are skipped and counted by reason; the other 38 frames are decided."""
    good = (frames / "0005.jpg").read_bytes()
    (frames / "0005.jpg").write_bytes(good[: len(good) // 2])
    (frames / "0008.png").write_bytes(b"")
    status = run_collector(a_device(tmp_path, frames), sampling=sampling(), follow_releases=False)
    assert status.frames == 38
    assert (status.drops["corrupt"], status.drops["empty"]) == (1, 1)
    assert status.frames_lost == 0


def test_identical_pictures_are_one_sample(tmp_path):
    """Two frames of equal bytes are kept once; the second is counted as the same image."""
    folder = a_folder(tmp_path / "frames", 1)
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes((folder / "0000.png").read_bytes())
    device = a_device(tmp_path, folder)
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False)
    assert status.kept == 3
    assert status.drops == {"sample dropped, same image": 2}
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 1 == status.uploaded


def test_several_cameras_share_the_detector_and_keep_their_names(tmp_path, frames):
    """Two cameras over the same pictures: all frames of both are decided, and each draws for itself."""
    other = tmp_path / "other"
    other.mkdir()
    for path in frames.iterdir():
        pixels = cv2.imread(str(path))
        cv2.imwrite(str(other / path.name), 255 - pixels)
    cameras = [{"name": "gate", "source": str(frames)}, {"name": "dock", "source": str(other)}]
    device = a_device(tmp_path, frames, cameras=cameras)
    status = run_collector(device, sampling=sampling(), follow_releases=False)
    samples = samples_of(Bucket(device.bucket, "yard"))
    by_camera = Counter(s.camera for s in samples)
    assert status.frames == 80
    assert set(by_camera) == {"gate", "dock"}
    assert {s.source for s in samples if s.camera == "gate"} != {s.source for s in samples if s.camera == "dock"}


def test_one_missing_camera_does_not_stop_the_others(tmp_path, frames):
    """A camera that cannot be opened is named in the status; the other one is collected."""
    cameras = [{"name": "gate", "source": str(frames)}, {"name": "gone", "source": str(tmp_path / "none.mp4")}]
    status = run_collector(a_device(tmp_path, frames, cameras=cameras), sampling=sampling(), follow_releases=False)
    assert status.frames == 40
    assert status.cameras["gone"].startswith("unavailable: ")


def test_a_device_without_any_camera_that_opens_says_so(tmp_path):
    """No source can be opened: SourceUnavailable; none is configured: SettingsError."""
    with pytest.raises(SourceUnavailable, match="there is no file or folder"):
        run_collector(a_device(tmp_path, tmp_path / "none"), sampling=sampling(), follow_releases=False)
    with pytest.raises(SettingsError, match="names no camera"):
        run_collector(a_device(tmp_path, "x", cameras=[]), sampling=sampling(), follow_releases=False)


def test_a_live_camera_gives_its_latest_frame_and_counts_the_others(tmp_path, frames):
    """With a slow detector the newest frame wins: decided + replaced = read, and nothing is called lost."""

    class Sluggish:
        model_version, is_stub = STUB, True

        def __init__(self, inner):
            self._inner = inner

        def detect(self, pixels):
            time.sleep(0.03)
            return self._inner.detect(pixels)

    def sluggish(model, **options):
        return Sluggish(camera_detector(model, **options))

    from tasks.adapters.detector import open_detector as camera_detector

    status = run_collector(
        a_device(tmp_path, frames),
        sampling=sampling(1.0),
        follow_releases=False,
        open_source=Paced(0.005, is_live=True),
        open_detector=sluggish,
    )
    replaced = status.drops["live frame replaced by a newer one"]
    assert replaced > 5
    assert status.frames + replaced == 40
    assert status.frames_lost == 0


# --- stopping and going on -------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("way", ["refused", "silent"])
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


# --- orders ----------------------------------------------------------------------------------------------------------


def test_a_release_is_in_force_from_the_first_frame_when_it_is_there(tmp_path, frames):
    """A device that finds release 1 at its start collects by it, and a restart without the bucket does too."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    release = a_release(bucket, constant_detector(tmp_path / "m.onnx", [CAR]), sampling(1.0))
    status = run_collector(device, max_frames=5)
    assert (status.release_number, status.settings_version) == (1, "all/1")
    assert {s.settings_version for s in samples_of(bucket)} == {"all/1"}
    assert {s.model_version for s in samples_of(bucket)} == {release.model_version}
    elsewhere = a_device(tmp_path, frames, f"file://{tmp_path}/frames/0000.png/not-a-folder")
    status = run_collector(elsewhere, max_frames=5)
    assert (status.release_number, status.model_version, status.frames) == (1, release.model_version, 5)
    assert status.outbox_samples == 5


def test_a_release_of_another_group_is_none_of_ours(tmp_path, frames):
    """Orders follow the group; without any the device begins with the stub and the default settings."""
    device = a_device(tmp_path, frames, group="dock")
    a_release(Bucket(device.bucket, "yard"), settings=sampling(1.0))
    status = run_collector(device)
    assert (status.release_number, status.model_version, status.frames) == (0, STUB, 40)


def test_a_hot_swap_loses_no_frame(tmp_path, frames):
    """Release 2 is published while the recording runs: each frame is decided once, by one of the two, in order."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    first = a_release(bucket, constant_detector(tmp_path / "1.onnx", [CAR]), sampling(1.0))
    second = constant_detector(tmp_path / "2.onnx", [CAR, TRUCK])
    source = Paced(0.08, at={5: lambda: a_release(bucket, second, sampling(1.0, jpeg_compression_level=60))})
    status = run_collector(device, open_source=source)
    samples = sorted(samples_of(bucket), key=lambda s: s.captured_at)
    versions = [s.settings_version for s in samples]
    switch = versions.index("all/2")
    assert (status.frames, status.frames_lost, status.kept) == (40, 0, 40)
    assert len(samples) == 40
    assert 5 <= switch < 40
    assert versions == ["all/1"] * switch + ["all/2"] * (40 - switch)
    assert [len(s.detections) for s in samples] == [1] * switch + [2] * (40 - switch)
    assert {s.model_version for s in samples[:switch]} == {first.model_version}
    assert status.swaps == (f"frame {switch}: release 2, model {sha256_of(second)[:16]}",)


def test_a_refused_release_is_reported_once_and_the_old_one_stays(tmp_path, frames):
    """A model that gives NaN is refused in its smoke test; the reason is in the status; release 3 is taken after it."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0))
    good = constant_detector(tmp_path / "good.onnx", [CAR])
    seen = []
    source = Paced(
        0.08,
        at={
            3: lambda: a_release(bucket, nan_detector(tmp_path / "nan.onnx")),
            20: lambda: a_release(bucket, good, sampling(1.0)),
        },
    )
    status = run_collector(device, open_source=source, on_progress=seen.append)
    assert status.refused_release.startswith("2: ")
    assert "NaN" in status.refused_release
    assert [s.split(": ")[1].split(",")[0] for s in status.swaps] == ["release 3"]
    assert any(s.release_number == 1 and s.refused_release for s in seen)
    assert (status.frames, status.frames_lost, status.release_number) == (40, 0, 3)


def test_a_release_that_fails_on_real_frames_goes_back(tmp_path, frames):
    """The model passes its smoke test and fails afterwards: after five failures the one before is in force again."""
    from tasks.adapters.detector import open_detector
    from tasks.core.errors import ModelError

    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0))
    bad = constant_detector(tmp_path / "bad.onnx", [CAR])

    def open_this(model, **options):
        detector = open_detector(model, **options)
        if model != STUB:
            detector.detect = lambda pixels: (_ for _ in ()).throw(ModelError("it fails on frames"))
        return detector

    source = Paced(0.06, at={3: lambda: a_release(bucket, bad, sampling(1.0))})
    status = run_collector(device, open_source=source, open_detector=open_this)
    assert status.drops["inference failed"] == 5
    assert status.frames == 35
    assert status.frames_lost == 0
    assert status.release_number == 1
    assert status.refused_release.startswith("2: failed on 5 of its first frames")
    assert len(status.swaps) == 2
    assert "back to release 1" in status.swaps[1]
    again = run_collector(device, open_detector=open_this)
    assert (again.release_number, again.frames) == (1, 40)


def test_limits_go_on_counting_across_a_swap_and_a_restart(tmp_path, frames):
    """Ten samples a day is ten, however often the settings are published again or the collector is started."""
    limited = SamplingSettings(
        sampling_strategies=[
            {
                "type": "random",
                "name": "random",
                "traffic_percentage": 1.0,
                "limits": [{"type": "daily", "value": 10}],
            }
        ]
    )
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=limited)
    source = Paced(0.05, at={4: lambda: a_release(bucket, settings=limited, reason="again")})
    start = datetime(2026, 5, 1, 10)
    first = run_collector(device, open_source=source, start=start, max_frames=20)
    second = run_collector(device, start=start)
    assert first.release_number == 2
    assert first.kept + second.kept == 10


# --- as a process ----------------------------------------------------------------------------------------------------


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
