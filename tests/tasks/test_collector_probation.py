"""Bad models on a device that nobody looks after: it goes back by itself, within a minute, and does not try again."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.detector import open_detector
from tasks.adapters.releases import installed_release, try_model
from tasks.collector import CollectorConfig, collector_pid, read_status, run_collector, start_detached, stop_collector
from tasks.collector.config import INSTALLED_FOLDER
from tasks.core.entities import STUB
from tasks.core.errors import ModelError
from tasks.core.settings import Probation
from tests.adapters.dark_models import bad_on_dark_frames
from tests.adapters.models import constant_detector, sha256_of
from tests.tasks.collecting import CAR, a_device, a_folder, a_release, samples_of, sampling, until
from tests.tasks.sources import Paced

LIMITS = Probation(frames=200, error_rate=0.025, hang_seconds=2.0, most_detections=50, deaths=3)


def gone_back(status) -> bool:
    return status.release_number == 1 and status.refused_release.startswith("2: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "NaN or infinity"),
        ("memory", "failed on 5 of its first"),
        ("hang", "its model has not answered for"),
        ("boxes", "detections a frame, its probation allows 0 to 50"),
    ],
)
def test_a_model_that_is_bad_on_real_frames_is_gone_back_from(tmp_path, how, said):
    """It passes its trial and fails afterwards: within 60 s release 1 is in force again, and 2 is not tried again."""
    device = a_device(tmp_path, a_folder(tmp_path / "frames", 60))
    bucket = Bucket(device.bucket, "yard")
    good = constant_detector(tmp_path / "good.onnx", [CAR])
    a_release(bucket, good, sampling(1.0))
    run_collector(device, max_frames=1)
    bad = bad_on_dark_frames(tmp_path / "bad.onnx", how)
    times = {}

    def publish():
        probe = try_model(bad, class_names=("car", "truck")).probe
        a_release(bucket, bad, sampling(1.0), probation=LIMITS, probe=probe)

    def in_force():
        until(device, lambda status: status.release_number == 2)()
        times["in force"] = time.monotonic()

    def back():
        until(device, gone_back)()
        times["back"] = time.monotonic()

    status = run_collector(device, open_source=Paced(0.01, at={5: publish, 6: in_force, 52: back}))
    assert times["back"] - times["in force"] < 60
    assert (status.release_number, status.model_version) == (1, sha256_of(good)[:16])
    assert said in status.refused_release
    assert "back to release 1" in status.swaps[-1]
    assert status.frames_lost == 0
    again = run_collector(device)
    assert (again.release_number, again.frames, len(again.swaps)) == (1, 60, 0)
    assert again.refused_release == status.refused_release


@pytest.mark.slow
def test_a_model_that_is_too_slow_is_gone_back_from(tmp_path, frames):
    """Its time on real frames is held against that of the release before."""
    device = a_device(tmp_path, a_folder(tmp_path / "more", 120))
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, constant_detector(tmp_path / "fast.onnx", [CAR]), sampling(0.0))
    slow = constant_detector(tmp_path / "slow.onnx", [CAR, CAR])

    def open_this(model, **options):
        detector = open_detector(model, **options)
        if detector.model_version == sha256_of(slow)[:16]:
            run = detector.run
            detector.run = lambda prepared: time.sleep(0.05) or run(prepared)
        return detector

    source = Paced(at={40: lambda: a_release(bucket, slow), 42: until(device, lambda s: s.release_number == 2)})
    status = run_collector(device, open_source=source, open_detector=open_this)
    assert status.release_number == 1
    assert "times the" in status.refused_release
    assert status.frames == 120


@pytest.mark.slow
def test_outputs_that_are_not_those_of_the_release_are_refused(tmp_path, frames):
    """The release says what its model saw where it was published; who sees something else stays where it is."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0))
    other = try_model(constant_detector(tmp_path / "other.onnx", [CAR]), class_names=("car", "truck")).probe
    model = constant_detector(tmp_path / "model.onnx", [(*CAR[:5], 0.3)])
    source = Paced(
        at={
            3: lambda: a_release(bucket, model, probe=other),
            20: until(device, lambda status: status.refused_release),
        }
    )
    status = run_collector(device, open_source=source)
    assert status.release_number == 1
    assert "gives other outputs here than where it was published" in status.refused_release


@pytest.mark.slow
def test_a_release_that_fails_on_real_frames_goes_back(tmp_path, frames):
    """After five failures in a hundred frames the one before is in force again; a restart does not try it again."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0))
    bad = constant_detector(tmp_path / "bad.onnx", [CAR])

    def open_this(model, **options):
        detector = open_detector(model, **options)
        if model != STUB:
            detector.run = lambda prepared: (_ for _ in ()).throw(ModelError("it fails on frames"))
        return detector

    source = Paced(
        at={3: lambda: a_release(bucket, bad, sampling(1.0)), 10: until(device, lambda s: s.release_number == 2)}
    )
    status = run_collector(device, open_source=source, open_detector=open_this)
    assert status.drops["inference failed"] == 5
    assert (status.frames, status.frames_lost, status.release_number) == (35, 0, 1)
    assert status.refused_release.startswith("2: failed on 5 of its first 5 frames, the last time: ")
    assert len(status.swaps) == 2
    assert "back to release 1" in status.swaps[1]
    again = run_collector(device, open_detector=open_this)
    assert (again.release_number, again.frames) == (1, 40)


def test_a_release_that_keeps_to_its_limits_is_proven(tmp_path, frames):
    """While it is on probation the status says how far it is; afterwards it is what later releases lead back to."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0), probation=Probation(frames=30))
    installed = device.outbox + "/" + INSTALLED_FOLDER
    status = run_collector(device, max_frames=20)
    assert status.probation == "release 1: 20 of 30 frames, 0 failed"
    assert installed_release(installed).on_probation
    status = run_collector(device)  # the 20 that are left; a restart counts anew
    assert status.probation == "release 1: 20 of 30 frames, 0 failed"
    status = run_collector(device)
    assert status.probation == ""
    assert not installed_release(installed).on_probation


def test_a_first_release_that_fails_leaves_the_device_with_what_it_was_given(tmp_path, frames):
    """Without a release before, the model that the device was started with is in force again."""
    device = a_device(tmp_path, frames)
    bad = constant_detector(tmp_path / "bad.onnx", [CAR])
    given = constant_detector(tmp_path / "given.onnx", [(*CAR[:5], 0.8)])
    a_release(Bucket(device.bucket, "yard"), bad, sampling(1.0))

    def open_this(model, **options):
        detector = open_detector(model, **options)
        if detector.model_version == sha256_of(bad)[:16]:
            detector.run = lambda prepared: (_ for _ in ()).throw(ModelError("it fails on frames"))
        return detector

    given_too = {"model": str(given), "sampling": sampling(1.0), "open_detector": open_this}
    status = run_collector(device, **given_too)
    assert (status.release_number, status.model_version) == (0, sha256_of(given)[:16])
    assert status.refused_release.startswith("1: failed on 5")
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 35
    assert run_collector(device, **given_too).release_number == 0


@pytest.mark.slow
def test_a_release_that_kills_the_process_again_and_again_is_gone_back_from(tmp_path):
    """kill -9 three times within the probation of release 2: the fourth start runs release 1, and says why."""
    device = a_device(tmp_path, a_folder(tmp_path / "frames", 10))
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0), probation=Probation(frames=5))
    run_collector(device)
    a_release(bucket, constant_detector(tmp_path / "2.onnx", [CAR]), probation=LIMITS)
    config = CollectorConfig(device=device, follow=True)
    for _ in range(3):
        pid = start_detached(config)
        until(device, lambda status: status.release_number == 2)()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        (tmp_path / "outbox" / "status.json").unlink()
    began = time.monotonic()
    start_detached(config)
    until(device, gone_back)()
    assert time.monotonic() - began < 60
    assert "the process died 3 times within its probation" in read_status(device.outbox).refused_release
    assert stop_collector(device.outbox)
    assert collector_pid(device.outbox) is None
    status = run_collector(device)
    assert (status.release_number, status.swaps) == (1, ())
