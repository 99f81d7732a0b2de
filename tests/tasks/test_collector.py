"""The collector end to end: real sources, detectors, sampler, outbox and bucket; only the cameras are paced by hand."""

from __future__ import annotations

import time
from collections import Counter

import cv2
import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import (
    read_status,
    run_collector,
)
from tasks.core import layout
from tasks.core.entities import STUB, DeviceStatus, TrafficRecord
from tasks.core.errors import SettingsError, SourceUnavailable
from tests.adapters.models import constant_detector, sha256_of
from tests.adapters.s3 import fresh_s3_url
from tests.tasks.collecting import (
    CAR,
    TRUCK,
    a_device,
    a_folder,
    images_of,
    samples_of,
    sampling,
    segments_of,
)
from tests.tasks.sources import Paced


@pytest.mark.slow
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

        def __getattr__(self, name):
            return getattr(self._inner, name)

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
