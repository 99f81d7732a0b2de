"""Capture threads: one a camera, each alone with its troubles; what they hand over, count and report."""

from __future__ import annotations

import time

import pytest

from tasks.adapters.camera import open_source
from tasks.collector import run_collector
from tasks.collector.capture import CaptureThread, FrameQueue
from tasks.collector.config import Position
from tasks.collector.tally import Tally
from tasks.core.settings import CameraSettings
from tests.adapters.rtsp import free_port, until
from tests.tasks.collecting import a_device, a_folder, sampling


class Captures:
    """Capture threads over one queue and one tally; what is taken of the queue is kept."""

    def __init__(self, tmp_path, cameras, *, open_this=open_source, positions=None):
        self.device = a_device(tmp_path, "x", cameras=cameras)
        self.tally = Tally(self.device, None)
        self.queue = FrameQueue([camera.name for camera in self.device.cameras])
        self.taken = []
        self.threads = {
            camera.name: CaptureThread(
                camera,
                self.queue,
                self.tally,
                (positions or {}).get(camera.name),
                lambda camera=camera: open_this(camera.source, camera.name, settings=camera),
                lambda captured: None,
            )
            for camera in self.device.cameras
        }

    def __enter__(self):
        for thread in self.threads.values():
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self.threads.values():
            thread.stop()
        self.queue.close()
        for thread in self.threads.values():
            thread.join(5)
            assert not thread.is_alive()

    def take(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.queue.is_finished:
            captured = self.queue.get(0.05)
            if captured is not None:
                self.taken.append(captured.frame)
        return self.taken

    def state(self, camera="gate"):
        self.threads[camera].report()
        return self.tally.cameras.get(camera, "")

    @property
    def drops(self):
        return self.status.drops

    @property
    def status(self):
        return self.tally.status(outbox_samples=0, outbox_bytes=0, finished=False)


@pytest.mark.slow
def test_a_dead_camera_never_disturbs_another(tmp_path, frames):
    """Beside an address without a camera and a webcam that is not there, a recording is read at once and whole."""
    cameras = [
        {"name": "dead", "source": f"rtsp://user:secret@127.0.0.1:{free_port()}/cam"},
        {"name": "unplugged", "source": "97"},
        {"name": "gate", "source": str(frames)},
    ]
    with Captures(tmp_path, cameras) as captures:
        until(lambda: len(captures.take(0.2)) == 40, 5, "the recording")
        until(lambda: captures.drops.get("connection_failed", 0) >= 4, 10, "tries of the others")
        assert [frame.index for frame in captures.taken] == list(range(40))
        assert captures.state("gate") == "ended"
        assert "cannot be reached" in captures.state("dead")
        assert "webcam 97 is not there" in captures.state("unplugged")
        assert "camera " in captures.tally.last_error
        assert "secret" not in captures.status.model_dump_json()
    assert captures.threads["gate"].came_to_its_end


def a_live_source(frames, *, fails=()):
    """Opens a folder as a live camera that raises at the given openings, in the middle."""
    opened = []

    def open_this(source, camera, **settings):
        given = open_source(source, camera, **settings)
        opened.append(given)
        number, read = len(opened), given.__iter__

        class Live(type(given)):
            is_live = True

            def __iter__(self):
                for frame in read():
                    time.sleep(0.01)
                    if frame.index == 5 and number in fails:
                        self._skip("corrupt", "bad")
                        raise RuntimeError("a library fell over\nand said much")
                    yield frame

        given.__class__ = Live
        return given

    return open_this


def test_a_live_camera_survives_what_nobody_expected(tmp_path, frames, monkeypatch):
    """An error of no known kind is counted and reported, the camera opened anew; its counts go on."""
    monkeypatch.setattr("tasks.collector.capture._FIRST_RETRY_S", 0.05)
    cameras = [{"name": "gate", "source": str(frames)}]
    with Captures(tmp_path, cameras, open_this=a_live_source(frames, fails=(1, 2))) as captures:
        until(lambda: captures.take(0.2) and captures.queue.is_finished, 10, "the third opening")
    assert captures.taken[-1].index == 39
    assert captures.drops["camera gate failed"] == 2
    assert captures.drops["corrupt"] == 2
    assert captures.tally.last_error in ("camera gate: a library fell over", "bad")


def test_a_recording_that_fails_ends_and_says_so(tmp_path, frames):
    """An error of no known kind ends it: the state does not go on saying that it runs."""

    def open_this(source, camera, **settings):
        raise RuntimeError("a library fell over")

    with Captures(tmp_path, [{"name": "gate", "source": str(frames)}], open_this=open_this) as captures:
        until(lambda: captures.queue.is_finished, 5, "the end")
        assert captures.state() == "failed: see the last error"
        assert captures.tally.last_error == "camera gate: a library fell over"


def test_a_recording_goes_on_at_its_position_under_a_frame_rate(tmp_path, frames):
    """Of 40 pictures a second apart every second one; after a restart at 11 the rest of them, all counted right."""
    camera = {"name": "gate", "source": str(frames), "frame_rate": 0.5}
    with Captures(tmp_path, [camera]) as whole:
        until(lambda: whole.take(0.2) and whole.queue.is_finished, 5, "the recording")
    assert [frame.index for frame in whole.taken] == list(range(0, 40, 2))
    assert whole.drops == {"above_frame_rate": 20}
    position = Position(source=str(frames), next_index=11, skipped_before={"above_frame_rate": 5})
    with Captures(tmp_path, [camera], positions={"gate": position}) as rest:
        until(lambda: rest.take(0.2) and rest.queue.is_finished, 5, "the rest")
    assert [frame.index for frame in rest.taken] == list(range(12, 40, 2))
    assert rest.drops == {"above_frame_rate": 15}


def test_what_a_bad_image_says_is_the_last_error(tmp_path, frames):
    """Skips of a recording are reported with their reason, not only counted."""
    (frames / "0005.jpg").write_bytes(b"")
    with Captures(tmp_path, [{"name": "gate", "source": str(frames)}]) as captures:
        until(lambda: captures.take(0.2) and captures.queue.is_finished, 5, "the recording")
        captures.state()
    assert captures.tally.last_error == "0005.jpg: the file is empty: copy it again"


def test_a_stopped_recording_is_stopped_and_not_ended(tmp_path, frames):
    """One that waits for room in the queue is let go, and has not come to its end."""
    with Captures(tmp_path, [{"name": "gate", "source": str(frames)}]) as captures:
        until(lambda: captures.threads["gate"].last_index is not None, 5, "the first frame")
    assert captures.tally.cameras == {"gate": "stopped"}
    assert not captures.threads["gate"].came_to_its_end


def test_the_settings_of_a_camera_reach_its_pictures(tmp_path):
    """A device's frame rate and region, end to end: half of the frames are decided, and the rest is counted."""
    frames = a_folder(tmp_path / "frames", 20)
    camera = CameraSettings(name="gate", source=str(frames), frame_rate=0.5, region={"left": 0.5}, masks=[{"top": 0.5}])
    status = run_collector(a_device(tmp_path, frames, cameras=[camera]), sampling=sampling(0.0), follow_releases=False)
    assert status.frames == 10
    assert status.drops["above_frame_rate"] == 10


@pytest.mark.parametrize("source", ["rtsp://host:port/cam", "http://user:secret@host/cam"])
def test_an_address_that_can_never_work_ends_its_camera(tmp_path, source):
    """It is a mistake in the settings: said once, without its secrets, and not tried for ever."""
    with Captures(tmp_path, [{"name": "gate", "source": source}]) as captures:
        until(lambda: captures.queue.is_finished, 5, "the end")
        assert captures.state().startswith("unavailable: camera gate: ")
        assert "secret" not in captures.state()
        assert captures.threads["gate"].failure is not None
