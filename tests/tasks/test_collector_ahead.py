"""What the collector does of a frame in advance: letterbox and model run in other threads than the decision."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.detector import open_detector
from tasks.collector import ahead, run_collector
from tasks.collector.ahead import Captured
from tasks.collector.capture import FrameQueue
from tasks.collector.config import Position
from tasks.collector.inference import InferenceThread
from tasks.collector.positions import Positions
from tasks.core.entities import Frame
from tasks.core.errors import ImageUnreadable, ModelError
from tests.adapters.models import constant_detector
from tests.tasks.collecting import CAR, TRUCK, a_device, a_folder, a_release, samples_of, sampling
from tests.tasks.sources import Paced

NOW = datetime(2026, 5, 1, tzinfo=timezone.utc)


def a_frame(index: int = 0, pixels: np.ndarray | None = None) -> Captured:
    given = np.full((48, 64, 3), index, np.uint8) if pixels is None else pixels
    return Captured(Frame(given, "gate", NOW, index, f"{index}.png"), is_live=False)


@pytest.fixture
def sees_car(tmp_path):
    return open_detector(constant_detector(tmp_path / "car.onnx", [CAR]), project_classes=None)


@pytest.fixture
def sees_both(tmp_path):
    return open_detector(constant_detector(tmp_path / "both.onnx", [CAR, TRUCK]), project_classes=None)


def slowed(detector, seconds):
    """A detector whose model takes a while, so that frames that were prepared pile up before it."""
    run = detector.run

    def slow(prepared):
        time.sleep(seconds)
        return run(prepared)

    detector.run = slow
    return detector


# --- the steps -------------------------------------------------------------------------------------------------------


def test_steps_in_advance_give_what_detect_gives(sees_both):
    """A frame that was only captured, prepared, or prepared and run, has the detections of `detect`."""
    expected = sees_both.detect(a_frame().frame.pixels)
    for steps in ((), (ahead.prepare,), (ahead.prepare, ahead.run), (ahead.run,)):
        captured = a_frame()
        for step in steps:
            step(captured, sees_both) if step is ahead.prepare else step([captured], sees_both)
        assert (captured.ahead is not None) == bool(steps)
        detections = ahead.detect(captured, sees_both)
        np.testing.assert_array_equal(detections.xyxy, expected.xyxy)
        np.testing.assert_array_equal(detections.confidence, expected.confidence)
        assert len(detections) == 2


def test_what_was_done_for_another_model_is_not_used(sees_car, sees_both):
    """A frame prepared, or run, before an exchange of models is detected in anew by the model in force."""
    prepared, run = a_frame(), a_frame()
    ahead.prepare(prepared, sees_car)
    ahead.run([run], sees_car)
    assert [len(ahead.detect(captured, sees_both)) for captured in (prepared, run)] == [2, 2]
    ahead.run([prepared], sees_both)
    assert prepared.ahead.detector is sees_both
    assert len(ahead.detect(prepared, sees_both)) == 2


def test_what_cannot_be_prepared_is_met_by_whoever_detects(sees_car):
    """A grey picture is no frame: the steps in advance leave it alone, `detect` raises the error that is counted."""
    captured = a_frame(pixels=np.zeros((48, 64), np.uint8))
    ahead.prepare(captured, sees_car)
    ahead.run([captured], sees_car)
    assert captured.ahead is None
    with pytest.raises(ImageUnreadable):
        ahead.detect(captured, sees_car)


def test_a_stub_has_nothing_to_do_in_advance():
    """A device without a model neither letterboxes nor runs, and sees nothing."""
    stub, captured = open_detector("stub", project_classes=["car"]), a_frame()
    ahead.prepare(captured, stub)
    ahead.run([captured], stub)
    assert captured.ahead is None
    assert len(ahead.detect(captured, stub)) == 0


# --- the inference thread --------------------------------------------------------------------------------------------


def a_queue_of(frames):
    """Filled by a thread of its own, as by a camera, for it has room for few."""
    queue = FrameQueue(["gate"])

    def read():
        for captured in frames:
            queue.put_and_wait(captured)
        queue.end_lane("gate")

    threading.Thread(target=read, daemon=True).start()
    return queue


def test_frames_leave_the_inference_thread_in_order_and_it_says_when_all_are_taken():
    """Four frames, the model failing on one: all four come, that one without output, and only then it is finished."""

    def run_model(together):
        (captured,) = together
        captured.ahead = "output"
        if captured.frame.index == 1:
            raise ModelError("it fails on this one")

    frames = [a_frame(index) for index in range(4)]
    thread = InferenceThread(a_queue_of(frames), run_model)
    thread.start()
    taken = []
    while not thread.is_finished:
        captured = thread.get(5)
        if captured is not None:
            assert not thread.is_finished
            taken.append((captured.frame.index, captured.ahead))
    assert taken == [(0, "output"), (1, None), (2, "output"), (3, "output")]
    assert thread.get(0) is None
    thread.join(2)
    assert not thread.is_alive()


def test_the_inference_thread_runs_ahead_by_two_frames_at_most():
    """One that waits to be decided and one in its hands: a slow disk or sampler lets no frames pile up behind it."""
    seen = []
    thread = InferenceThread(a_queue_of([a_frame(i) for i in range(4)]), lambda c: seen.append(c[0].frame.index))
    thread.start()
    time.sleep(0.5)
    assert seen == [0, 1]
    thread.stop()
    thread.join(2)
    assert not thread.is_alive()


def test_a_closed_queue_ends_the_inference_thread_when_it_is_empty():
    """Cameras that are still open do not keep it: what waits comes first, then the end, without a pause."""
    queue = FrameQueue(["gate"])
    for index in range(2):
        queue.put_and_wait(a_frame(index))
    queue.close()
    thread = InferenceThread(queue, lambda captured: None)
    thread.start()
    began = time.monotonic()
    assert [thread.get(5).frame.index for _ in range(2)] == [0, 1]
    assert thread.get(5) is None
    assert thread.is_finished
    assert time.monotonic() - began < 1


# --- the place in a recording ----------------------------------------------------------------------------------------


def test_the_place_in_a_recording_goes_on_from_the_last_run():
    """Bad images that were counted stay counted; another source begins anew; a camera that has gone is remembered."""
    before = {
        "gate": Position(source="a.mp4", next_index=5, skipped_before={"corrupt": 2}),
        "dock": Position(source="old.mp4", next_index=9, skipped_before={"empty": 1}),
        "gone": Position(source="c.mp4", next_index=3),
    }
    positions = Positions({"gate": "a.mp4", "dock": "new.mp4", "yard": "d.mp4"}, before)
    assert positions.all() == before
    for camera in ("gate", "dock"):
        positions.advance(camera, 6)
    assert positions.of("gate") == Position(source="a.mp4", next_index=7, skipped_before={"corrupt": 2})
    assert positions.of("dock") == Position(source="new.mp4", next_index=7)
    positions.note_skipped("gate", {"corrupt": 4})
    assert positions.of("gate") == Position(source="a.mp4", next_index=7, skipped_before={"corrupt": 4})
    assert [positions.has_decided("gate", index) for index in (6, 7, None)] == [True, False, True]
    positions.forget("gate")
    assert set(positions.all()) == {"dock", "gone"}
    assert positions.of("yard") is None


# --- end to end ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_swap_while_frames_wait_misreads_none(tmp_path):
    """With a slow model all queues are full of frames of the old one when release 2 comes: each sample has the
    detections of the version that it names, and versions change once."""
    device = a_device(tmp_path, a_folder(tmp_path / "frames", 120))  # long enough for a busy machine to install it
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, constant_detector(tmp_path / "1.onnx", [CAR]), sampling(1.0))
    second = constant_detector(tmp_path / "2.onnx", [CAR, TRUCK])
    source = Paced(at={8: lambda: a_release(bucket, second, sampling(1.0))})
    stop = threading.Event()

    def watch(status):
        if status.swaps:
            threading.Timer(0.6, stop.set).start()

    status = run_collector(
        device,
        open_source=source,
        open_detector=lambda *given, **named: slowed(open_detector(*given, **named), 0.1),
        stop=stop,
        on_progress=watch,
    )
    samples = sorted(samples_of(bucket), key=lambda s: s.captured_at)
    versions = [s.settings_version for s in samples]
    switch = versions.index("all/2")
    after = status.frames - switch
    assert (status.frames_lost, len(samples)) == (0, status.frames)
    assert after > 3
    assert versions == ["all/1"] * switch + ["all/2"] * after
    assert [len(s.detections) for s in samples] == [1] * switch + [2] * after


def test_a_model_that_fails_on_some_frames_is_counted_once_for_each(tmp_path, frames):
    """Tried in advance and again at the decision: every fourth of 40 frames fails, 10 are counted, none is lost."""
    model = constant_detector(tmp_path / "m.onnx", [CAR])
    bad = {cv2.imread(str(path)).tobytes() for path in sorted(frames.iterdir())[::4]}

    def failing(*given, **named):
        detector = open_detector(*given, **named)
        prepare, run, poisoned = detector.prepare, detector.run, []

        def prepare_this(pixels):
            prepared = prepare(pixels)
            if pixels.tobytes() in bad:
                poisoned.append(prepared)
            return prepared

        def run_this(prepared):
            if any(prepared is one for one in poisoned):
                raise ModelError("it fails on this one")
            return run(prepared)

        detector.prepare, detector.run = prepare_this, run_this
        return detector

    given = {"model": str(model), "sampling": sampling(1.0), "follow_releases": False}
    status = run_collector(a_device(tmp_path, frames), open_detector=failing, **given)
    assert (status.frames, status.kept, status.frames_lost) == (30, 30, 0)
    assert status.drops == {"inference failed": 10}
    assert status.last_error.endswith("it fails on this one")


@pytest.mark.slow
def test_stopping_amid_a_recording_decides_each_frame_once(tmp_path, frames):
    """Stopped with frames in all queues, and started again: 40 frames in all, 40 samples, none twice."""
    model = constant_detector(tmp_path / "m.onnx", [CAR])
    device, stop = a_device(tmp_path, frames), threading.Event()

    def slow(*given, **named):
        return slowed(open_detector(*given, **named), 0.03)

    given = {"model": str(model), "sampling": sampling(1.0), "follow_releases": False, "open_detector": slow}
    first = run_collector(device, stop=stop, open_source=Paced(at={20: stop.set}), **given)
    second = run_collector(device, **given)
    assert 0 < first.frames < 40
    assert first.frames + second.frames == 40
    assert (first.frames_lost, second.frames_lost) == (0, 0)
    assert len(samples_of(Bucket(device.bucket, "yard"))) == 40
