"""Several projects on one device: they share its cameras and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.detector import open_detector
from tasks.adapters.outbox import DeviceLock
from tasks.collector import CollectorConfig, drain_outbox, project, read_status, run_collector
from tasks.core.entities import DeviceStatus
from tasks.core.errors import AlreadyRunning, BucketError, SourceUnavailable
from tasks.core.settings import Probation
from tests.adapters.models import constant_detector
from tests.adapters.signing import trusted_root
from tests.tasks.collecting import CAR, TRUCK, a_device, a_folder, a_release, images_of, samples_of, sampling
from tests.tasks.seeing import until
from tests.tasks.sources import Paced
from tests.tasks.test_collector_restarts import a_process


def a_device_of_two(tmp_path: Path, source: Path, second: dict[str, object] | None = None, **fields):
    """The project `yard` and beside it `dock`, with a bucket of its own."""
    dock = {
        "project": "dock",
        "bucket": f"file://{tmp_path}/dock-bucket",
        "trusted_root": trusted_root("dock"),
        **(second or {}),
    }
    return a_device(tmp_path, source, pipelines=[dock], **fields)


def status_of_dock(device) -> DeviceStatus:
    status = read_status(f"{device.outbox}/projects/dock")
    assert status is not None
    return status


class Opened(Paced):
    """Counts how often each camera is opened, and how many of its frames are read."""

    def __init__(self, **given):
        super().__init__(**given)
        self.times: Counter[str] = Counter()
        self.read: Counter[str] = Counter()

    def __call__(self, source, name, **given):
        self.times[name] += 1
        opened = super().__call__(source, name, **given)
        read, counts = opened.__iter__, self.read

        class Counted(type(opened)):
            def __iter__(counted):
                for frame in read():
                    counts[name] += 1
                    yield frame

        opened.__class__ = Counted
        return opened


def test_a_camera_is_decoded_once_for_all_projects(tmp_path, frames):
    """Two projects, two cameras, the second project looks at one of them: each camera is read once, each project
    decides every frame of its cameras, keeps its own share, in its own bucket, from its own folder."""
    other = a_folder(tmp_path / "other", 30)
    cameras = [{"name": "gate", "source": str(frames)}, {"name": "road", "source": str(other)}]
    device = a_device_of_two(tmp_path, frames, {"cameras": ["road"]}, cameras=cameras)
    a_release(Bucket(device.bucket, "yard"), settings=sampling(0.5))
    a_release(Bucket(device.pipelines[0].bucket, "dock"), settings=sampling(1.0))
    source = Opened()
    status, dock = run_collector(device, open_source=source), status_of_dock(device)
    assert source.times == {"gate": 1, "road": 1}
    assert source.read == {"gate": 40, "road": 30}
    assert (status.project, status.frames, status.frames_lost) == ("yard", 70, 0)
    assert (dock.project, dock.frames, dock.frames_lost) == ("dock", 30, 0)
    assert status.cameras == {"gate": "ended", "road": "ended"}
    assert dock.cameras == {"road": "ended"}
    yards, docks = (samples_of(Bucket(d.bucket, d.project)) for d in device.of_each_project())
    assert {s.camera for s in docks} == {"road"}
    assert len(docks) == dock.uploaded == dock.kept >= 28  # some of the pictures are equal to others
    assert 15 < len(yards) == status.uploaded < 60
    assert (Path(device.outbox) / "state.json").exists()
    assert (Path(device.outbox) / "projects" / "dock" / "state.json").exists()


@pytest.mark.slow
def test_each_project_has_its_own_model_and_swaps_alone(tmp_path, frames):
    """Release 2 of one project while both collect: its samples change model, the other's never do."""
    device = a_device_of_two(tmp_path, frames)
    yard, dock = Bucket(device.bucket, "yard"), Bucket(device.pipelines[0].bucket, "dock")
    one, both = constant_detector(tmp_path / "1.onnx", [CAR]), constant_detector(tmp_path / "2.onnx", [CAR, TRUCK])
    a_release(yard, one, sampling(1.0))
    a_release(dock, one, sampling(1.0))
    seen: list[DeviceStatus] = []
    source = Paced(
        at={
            5: lambda: a_release(dock, both, sampling(1.0)),
            20: lambda: until(lambda: any(one.project == "dock" and one.swaps for one in seen), 60),
        }
    )
    status = run_collector(device, open_source=source, on_progress=seen.append)
    assert (status.frames, status_of_dock(device).frames) == (40, 40)
    assert {len(s.detections) for s in samples_of(yard)} == {1}
    assert {len(s.detections) for s in samples_of(dock)} == {1, 2}
    assert status.swaps == ()
    assert len(status_of_dock(device).swaps) == 1


def test_a_model_that_fails_in_one_project_is_no_matter_of_another(tmp_path, frames):
    """The model of one project fails on every frame: it counts 40 failures, the other decides 40 frames."""
    device = a_device_of_two(tmp_path, frames)
    model = constant_detector(tmp_path / "1.onnx", [CAR])
    a_release(Bucket(device.pipelines[0].bucket, "dock"), settings=sampling(1.0))

    def open_this(given, **options):
        detector = open_detector(given, **options)
        if given == str(model):
            detector.settings = None  # so that decoding fails
        return detector

    status = run_collector(
        device, model=str(model), sampling=sampling(1.0), open_detector=open_this, follow_releases=True
    )
    assert (status.frames, status.drops) == (0, {"inference failed": 40})
    assert (status_of_dock(device).frames, status_of_dock(device).kept) == (40, 40)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["own", "other"])
def test_a_bucket_that_is_away_holds_up_only_its_own_project(tmp_path, frames, monkeypatch, which):
    """Neither its orders nor its uploads ever come through: the other project delivers all, this one keeps all."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    if which == "own":
        device = a_device_of_two(tmp_path, frames, bucket="s3://gone/p")
    else:
        device = a_device_of_two(tmp_path, frames, {"bucket": "s3://gone/p"})
    url = device.pipelines[0].bucket if which == "own" else device.bucket
    well = "dock" if which == "own" else "yard"
    a_release(Bucket(url, well), settings=sampling(1.0))
    own = run_collector(device)
    by_name = {"yard": own, "dock": status_of_dock(device)}
    away = by_name["yard" if which == "own" else "dock"]
    assert (by_name[well].frames, by_name[well].uploaded, by_name[well].outbox_samples) == (40, 40, 0)
    assert (away.frames, away.uploaded, away.outbox_samples) == (40, 0, away.kept)
    assert [alert.name for alert in away.alerts] == ["bucket unreachable"]
    assert by_name[well].alerts == ()


@pytest.mark.slow
def test_a_spool_that_cannot_be_used_is_tried_again(tmp_path, frames):
    """A file lies where a project's folder should be: the other one collects, the status of the device says nothing
    wrong of it; once the file is gone the project begins, and what it missed is counted."""
    device = a_device_of_two(tmp_path, frames)
    a_release(Bucket(device.pipelines[0].bucket, "dock"), settings=sampling(1.0))
    projects = Path(device.outbox) / "projects"
    projects.mkdir(parents=True)
    (projects / "dock").write_text("in the way")
    stop, seen = threading.Event(), []

    def watch(status: DeviceStatus) -> None:
        seen.append((status.project, status.frames))
        if status.project == "yard" and status.frames >= 10 and (projects / "dock").is_file():
            (projects / "dock").unlink()
        if status.project == "dock" and status.kept >= 3:
            stop.set()

    began = time.monotonic()
    last_resort = threading.Timer(30, stop.set)
    last_resort.start()
    status = run_collector(
        device, sampling=sampling(1.0), open_source=Paced(0.1, is_live=True), stop=stop, on_progress=watch, follow=True
    )
    last_resort.cancel()
    dock = status_of_dock(device)
    assert time.monotonic() - began < 30
    assert status.frames >= 10
    assert dock.frames >= 3
    assert dock.drops["frame missed, project not running"] >= 5
    assert any("cannot be used as an outbox" in fault.message for fault in dock.errors)
    assert "project down" not in [alert.name for alert in dock.alerts]


@pytest.mark.slow
def test_a_project_that_fails_in_the_midst_goes_on_after_a_pause(tmp_path, frames, monkeypatch):
    """Something that nobody expected ends the loop of one project: it drains, is begun anew and goes on counting where
    it was; the frames of the pause are counted as missed; the other project and the camera notice nothing."""
    device = a_device_of_two(tmp_path, frames)
    tick, failed = project.Project._tick, []

    def failing(self, pipeline):
        if self.tally.project == "dock" and self.tally.frames >= 8 and not failed:
            failed.append(True)
            raise OSError("the disk has gone")
        tick(self, pipeline)

    monkeypatch.setattr(project.Project, "_tick", failing)
    source = Opened(pause=0.1, is_live=True)
    status = run_collector(device, sampling=sampling(0.5), follow_releases=False, open_source=source)
    dock = status_of_dock(device)
    replaced = dock.drops.get("live frame replaced by a newer one", 0)
    assert source.times == {"gate": 1}
    assert (status.frames, status.frames_lost) == (40, 0)
    assert dock.drops["frame missed, project not running"] >= 10
    assert dock.frames >= 15
    assert dock.frames + replaced + dock.drops["frame missed, project not running"] == 40
    assert (dock.frames_lost, dock.finished, dock.alerts) == (0, True, ())
    assert "the disk has gone" in [fault.message for fault in dock.errors]


@pytest.mark.slow
def test_all_projects_are_drained_by_hand(tmp_path, frames):
    """What waits of two projects is delivered; a bucket that is away is an error, after the other was delivered to."""
    (tmp_path / "blocked").write_text("not a folder")
    device = a_device_of_two(tmp_path, frames, {"bucket": f"file://{tmp_path}/blocked/dock"})
    for one, count in zip(device.of_each_project(), (10, 7)):
        away = one.model_copy(update={"bucket": f"file://{tmp_path}/blocked/{one.project}"})
        run_collector(away, sampling=sampling(1.0), follow_releases=False, max_frames=count)
    outbox = Path(device.outbox)
    with pytest.raises(BucketError, match="projects/dock: 7 samples still wait"):
        drain_outbox(device, outbox)
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 10
    (tmp_path / "blocked").unlink()
    assert drain_outbox(device, outbox) == 7
    assert drain_outbox(device, outbox) == 0
    with DeviceLock(outbox), pytest.raises(AlreadyRunning):
        drain_outbox(device, outbox)


@pytest.mark.slow
def test_a_full_outbox_of_one_project_is_no_matter_of_another(tmp_path, frames, monkeypatch):
    """One project's bucket is away and its cap is 1 MB: it stays below it and counts; the other loses nothing."""
    rng = np.random.default_rng(3)
    for path in frames.iterdir():
        cv2.imwrite(str(path), rng.integers(0, 255, (200, 300, 3), np.uint8).astype(np.uint8))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    device = a_device_of_two(tmp_path, frames, {"bucket": "s3://gone/p", "outbox_megabytes": 1})
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False)
    assert (status.kept, status.uploaded) == (40, 40)
    dock = status_of_dock(device)
    assert dock.frames == 40
    assert dock.outbox_bytes <= 1_000_000


@pytest.mark.slow
def test_a_recording_waits_for_the_slowest_project(tmp_path, frames):
    """The model of one project takes 30 ms a frame: both decide every frame of the recording."""
    device = a_device_of_two(tmp_path, frames)
    slow = constant_detector(tmp_path / "slow.onnx", [CAR])
    status = run_collector(
        device, model=str(slow), sampling=sampling(0.0), follow_releases=False, open_detector=slowed(slow, 0.03)
    )
    assert (status.frames, status_of_dock(device).frames) == (40, 40)
    assert (status.frames_lost, status_of_dock(device).frames_lost) == (0, 0)


@pytest.mark.slow
def test_of_a_live_camera_each_project_has_the_newest_frame(tmp_path, frames):
    """A slow model makes its own project skip frames, counted; the fast one beside it decides many more."""
    device = a_device_of_two(tmp_path, frames)
    slow = constant_detector(tmp_path / "slow.onnx", [CAR])
    status = run_collector(
        device,
        model=str(slow),
        sampling=sampling(0.0),
        follow_releases=False,
        open_detector=slowed(slow, 0.2),
        open_source=Paced(0.03, is_live=True),
    )
    dock = status_of_dock(device)
    for one in (status, dock):
        assert one.frames + one.drops.get("live frame replaced by a newer one", 0) == 40
        assert one.frames_lost == 0
    assert status.frames < 20 < dock.frames


def slowed(model, seconds):
    def open_this(given, **options):
        detector = open_detector(given, **options)
        if given == str(model):
            run = detector.run
            detector.run = lambda prepared: (time.sleep(seconds), run(prepared))[1]
        return detector

    return open_this


def test_a_project_that_comes_later_sees_a_recording_from_its_beginning(tmp_path, frames):
    """The device has decided 25 frames when a project is added: that one decides 40, the other the 15 that are left."""
    alone = a_device(tmp_path, frames)
    given = {"sampling": sampling(1.0), "follow_releases": False}
    assert run_collector(alone, max_frames=25, **given).frames == 25
    device = a_device_of_two(tmp_path, frames)
    status = run_collector(device, **given)
    assert (status.frames, status_of_dock(device).frames) == (15, 40)
    again = run_collector(device, max_frames=5, **given)
    assert (again.frames, status_of_dock(device).frames) == (5, 5)


def test_bad_images_are_counted_once_by_each_project(tmp_path, frames):
    """A cut image: the project that has counted it does not count it again after a restart, the new one does."""
    good = (frames / "0005.jpg").read_bytes()
    (frames / "0005.jpg").write_bytes(good[: len(good) // 2])
    given = {"sampling": sampling(1.0), "follow_releases": False}
    assert run_collector(a_device(tmp_path, frames), max_frames=20, **given).drops["corrupt"] == 1
    device = a_device_of_two(tmp_path, frames)
    status = run_collector(device, **given)
    assert "corrupt" not in status.drops
    assert status_of_dock(device).drops["corrupt"] == 1


def test_a_device_whose_cameras_are_all_missing_says_so(tmp_path):
    """Also with several projects: SourceUnavailable, and both say so in their status."""
    device = a_device_of_two(tmp_path, tmp_path / "none")
    with pytest.raises(SourceUnavailable, match="there is no file or folder"):
        run_collector(device, follow_releases=False)
    assert status_of_dock(device).cameras["gate"].startswith("unavailable")


@pytest.mark.slow
def test_all_projects_drain_within_ten_seconds_of_a_stop(tmp_path, frames, monkeypatch):
    """A bucket that never answers, a camera that hangs and does not let go, a model that is slow: `run` is back in
    10 s, what was kept waits on the disk, every frame that was taken is decided."""
    stop, hangs = threading.Event(), threading.Event()

    class Hanging(Paced):
        def __call__(self, source, name, **given):
            opened = super().__call__(source, name, **given)
            if name == "stuck":
                read = opened.__iter__

                class Stuck(type(opened)):
                    def __iter__(stuck):
                        yield next(read())
                        hangs.wait(60)

                    def close(stuck):
                        hangs.wait(60)

                opened.__class__ = Stuck
            return opened

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        cameras = [{"name": name, "source": str(frames)} for name in ("gate", "stuck")]
        device = a_device_of_two(tmp_path, frames, {"bucket": "s3://gone/p"}, bucket="s3://gone/p", cameras=cameras)
        ended: list[float] = []

        def end_it() -> None:
            time.sleep(6)
            ended.append(time.monotonic())
            stop.set()

        threading.Thread(target=end_it, daemon=True).start()
        status = run_collector(
            device, sampling=sampling(1.0), stop=stop, open_source=Hanging(0.02), follow=True, follow_releases=False
        )
        assert time.monotonic() - ended[0] < 10
        hangs.set()
    for one in (status, status_of_dock(device)):
        assert one.finished
        assert one.frames == 41
        assert one.frames_lost == 0
    assert status.outbox_samples + status.drops.get("sample dropped, same image", 0) == 41


@pytest.mark.slow
def test_a_killed_device_goes_on_in_every_project(tmp_path):
    """SIGKILL at three instants of a recording that two projects look at: in the end each has decided every frame once
    and delivered every sample once."""
    frames = a_folder(tmp_path / "frames", 120)
    device = a_device_of_two(tmp_path, frames)
    buckets = [Bucket(one.bucket, one.project) for one in device.of_each_project()]
    for bucket in buckets:  # whose deaths are no fault of the release
        a_release(bucket, settings=sampling(1.0), probation=Probation(deaths=100))
    for more in (5, 30, 60):
        child = a_process(CollectorConfig(device=device), tmp_path, 0.03)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.02)
            waiting = list((tmp_path / "outbox" / "projects" / "dock" / "samples").glob("*.json"))
            if len(waiting) + len(images_of(buckets[1])) >= more:
                break
        child.kill()
        child.wait()
        child.stdout.close()
    child = a_process(CollectorConfig(device=device), tmp_path, 0.0)
    child.communicate(timeout=120)
    for bucket, folder in zip(buckets, (device.outbox, f"{device.outbox}/projects/dock")):
        status, samples = read_status(folder), samples_of(bucket)
        assert (status.frames, status.kept, status.frames_lost, status.outbox_samples) == (120, 120, 0, 0)
        same = status.drops.get("sample dropped, same image", 0)
        assert len(samples) == len({s.sample_id for s in samples}) == len(images_of(bucket)) == 120 - same
