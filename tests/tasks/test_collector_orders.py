"""The collector and its releases: swapped between two frames, refused with a reason, gone back from."""

from __future__ import annotations

from datetime import datetime

import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import (
    run_collector,
)
from tasks.core.entities import STUB
from tasks.core.settings import SamplingSettings
from tests.adapters.models import constant_detector, nan_detector, sha256_of
from tests.tasks.collecting import (
    CAR,
    TRUCK,
    a_device,
    a_release,
    samples_of,
    sampling,
)
from tests.tasks.sources import Paced


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


@pytest.mark.slow
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
            detector.run = lambda prepared: (_ for _ in ()).throw(ModelError("it fails on frames"))
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
