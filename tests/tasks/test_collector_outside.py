"""What the collector has to do with the world beside cameras and bucket: consumers, `/infer`, privacy, batches."""

from __future__ import annotations

import json
import os
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.detector import open_detector
from tasks.collector import run_collector
from tasks.core import layout
from tasks.core.entities import DeviceStatus
from tests.adapters.models import constant_detector
from tests.adapters.signing import trusted_root
from tests.adapters.test_detector_batch import CLASSES, convolving_model
from tests.tasks.collecting import CAR, TRUCK, a_device, a_folder, a_release, images_of, samples_of, sampling
from tests.tasks.inferring import KEY, ask, picture
from tests.tasks.seeing import until
from tests.tasks.sources import Paced

THRESHOLDS = {"car": 0.5, "truck": 0.5}  # so that the truck, at 0.4, is not told


# --- consumers -------------------------------------------------------------------------------------------------------


def test_consumers_are_told_what_every_project_sees(tmp_path, frames):
    """A file of JSON lines: one for each frame and project, detections from the threshold up, whatever is sampled."""
    path = tmp_path / "lines.jsonl"
    dock = {"project": "dock", "bucket": f"file://{tmp_path}/dock", "trusted_root": trusted_root("dock")}
    consumer = {"type": "file", "path": str(path)}
    device = a_device(tmp_path, frames, consumers=[consumer], pipelines=[dock])
    model = constant_detector(tmp_path / "m.onnx", [CAR, TRUCK])
    status = run_collector(
        device, model=str(model), sampling=sampling(0.0, thresholds=THRESHOLDS), follow_releases=False
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    yard = [line for line in lines if line["project"] == "yard"]
    dock_lines = [line for line in lines if line["project"] == "dock"]
    assert (status.frames, status.kept) == (40, 0)
    assert [line["frame"] for line in yard] == list(range(40)) == [line["frame"] for line in dock_lines]
    assert {len(line["detections"]) for line in yard} == {1}
    assert yard[0]["detections"][0]["class_name"] == "car"
    assert yard[0]["model_version"] == status.model_version
    assert {tuple(line["detections"]) for line in dock_lines} == {()}  # its stub sees nothing
    assert not any(reason.startswith("message") for reason in status.drops)


def test_a_consumer_that_stands_still_holds_up_no_frame(tmp_path, frames):
    """A named pipe that nobody reads, and room for three messages: all frames are decided, the rest is counted."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    device = a_device(tmp_path, frames, consumers=[{"type": "file", "path": str(path), "waiting_messages": 3}])
    began = time.monotonic()
    status = run_collector(device, sampling=sampling(0.0), follow_releases=False)
    assert (status.frames, status.frames_lost) == (40, 0)
    assert sum(count for reason, count in status.drops.items() if reason.startswith("message to file")) >= 37
    assert time.monotonic() - began < 20


# --- /infer ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """Runs a collector with a server until the test is over; gives a way to ask it, and its last status."""
    monkeypatch.setenv("EDGELOOP_INFER_KEY", KEY)
    stop, statuses, ended, threads = threading.Event(), [], [], []

    def serve(device, **given):
        def run():
            ended.append(run_collector(device, stop=stop, on_progress=statuses.append, **given))

        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()
        deadline = time.monotonic() + 30
        while not (port := port_in(statuses)):
            assert time.monotonic() < deadline, statuses
            time.sleep(0.05)
        return SimpleNamespace(port=port, statuses=statuses, end=end)

    def end() -> DeviceStatus:
        stop.set()
        threads[0].join(15)
        return ended[0]

    yield serve
    stop.set()
    for thread in threads:
        thread.join(15)


def port_in(statuses) -> int:
    state = statuses[-1].cameras.get("http", "") if statuses else ""
    return int(state.rpartition(":")[2]) if state.startswith("running on") else 0


@pytest.mark.slow
def test_frames_from_outside_are_detected_and_sampled_like_a_cameras(tmp_path, serving):
    """A device without a camera: ten pictures go in, detections come out, and all ten arrive in the bucket."""
    model = constant_detector(tmp_path / "m.onnx", [CAR, TRUCK])
    device = a_device(tmp_path, "unused", cameras=[], server={"port": 0})
    settings = sampling(1.0, thresholds=THRESHOLDS)
    server = serving(device, model=str(model), sampling=settings, follow_releases=False)
    for seed in range(10):
        status, answer, _ = ask(server, picture(seed=seed, suffix=".png"), Content_Type="image/png", X_Camera="phone")
        assert status == 200
        assert [d["class_name"] for d in answer["detections"]] == ["car"]
    last = server.end()
    samples = samples_of(Bucket(device.bucket, "yard"))
    assert (last.frames, last.kept, last.uploaded, last.frames_lost) == (10, 10, 10, 0)
    assert {s.camera for s in samples} == {"phone"}
    assert all(len(s.detections) == 2 for s in samples)  # a sample has them from the floor up
    expected = open_detector(str(model), project_classes=None).detect(
        cv2.imdecode(np.frombuffer(picture(), np.uint8), 1)
    )
    assert samples[0].detections[0].xyxy == pytest.approx(tuple(expected.xyxy[0]), abs=0.01)


@pytest.mark.slow
def test_frames_from_outside_go_on_when_recordings_have_ended(tmp_path, frames, serving):
    """Beside a camera: its frames are decided, and the server answers after the recording's end as before."""
    device = a_device(tmp_path, frames, server={"port": 0})
    server = serving(device, sampling=sampling(1.0), follow_releases=False)
    deadline = time.monotonic() + 20
    while server.statuses[-1].cameras.get("gate") != "ended" or server.statuses[-1].frames < 40:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(server, picture())[0] == 200
    last = server.end()
    assert last.frames == 41
    assert {s.camera for s in samples_of(Bucket(device.bucket, "yard"))} == {"gate", "http"}


@pytest.mark.slow
def test_a_model_that_fails_answers_with_an_error_and_is_counted(tmp_path, serving):
    """500 for the one who asked, `inference failed` in the status."""

    def failing(model, **options):
        detector = open_detector(model, **options)
        detector.settings = None
        return detector

    model = constant_detector(tmp_path / "m.onnx", [CAR])
    device = a_device(tmp_path, "unused", cameras=[], server={"port": 0})
    server = serving(device, model=str(model), follow_releases=False, open_detector=failing)
    assert ask(server, picture())[0] == 500
    assert server.end().drops["inference failed"] == 1


# --- privacy ---------------------------------------------------------------------------------------------------------


def striped(folder, count=6):
    """Pictures of fine stripes, of which nothing is left where they are hidden."""
    folder.mkdir()
    for index in range(count):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[:, ::2] = 255
        pixels[:8, :8] = 40 * index
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
    return folder


def spread(jpeg: bytes, rows: slice, columns: slice) -> float:
    return float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)[rows, columns].std())


@pytest.mark.parametrize("project_classes", [("car", "truck"), ("car",)])
def test_what_is_to_be_hidden_is_hidden_before_it_is_written(tmp_path, project_classes):
    """The truck is blurred in every picture that is kept, also where it is no class of the project and no sample says
    a word of it; the rest of the picture is as it was."""
    model = constant_detector(tmp_path / "m.onnx", [CAR, TRUCK])  # the truck: 22..42 x 27..37
    device = a_device(tmp_path, striped(tmp_path / "frames"), privacy={"classes": ["truck"], "margin": 0})
    status = run_collector(
        device, model=str(model), sampling=sampling(1.0), project_classes=project_classes, follow_releases=False
    )
    bucket = Bucket(device.bucket, "yard")
    samples = samples_of(bucket)
    assert status.kept == status.frames == len(samples) == 6
    for sample in samples:
        jpeg = bucket.get(layout.sample_image("edge-1", sample.captured_at, sample.sample_id))
        assert spread(jpeg, slice(28, 36), slice(24, 40)) < 20
        assert spread(jpeg, slice(45, 63), slice(0, 63)) > 60
        assert [d.class_name for d in sample.detections] == [n for n in ("car", "truck") if n in project_classes]


def test_a_model_that_cannot_see_what_is_to_be_hidden_keeps_no_picture(tmp_path, frames):
    """The stub sees nobody, so nobody could be hidden: every sample is dropped and counted, and an alert says why."""
    device = a_device(tmp_path, frames, privacy={"classes": ["person"]})
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False)
    assert status.frames == 40
    assert status.drops["sample dropped, cannot be made private"] == 40
    assert images_of(Bucket(device.bucket, "yard")) == []
    assert [alert.name for alert in status.alerts] == ["not private"]


@pytest.mark.slow
def test_a_release_whose_model_cannot_see_what_is_to_be_hidden_is_refused(tmp_path, frames):
    """The model before it stays in force, and the reason names the class."""
    device = a_device(tmp_path, frames, privacy={"classes": ["truck"]})
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, constant_detector(tmp_path / "1.onnx", [CAR, TRUCK]), sampling(1.0))
    blind = constant_detector(tmp_path / "2.onnx", [CAR], names=("car", "bus"))
    seen: list[DeviceStatus] = []
    source = Paced(
        at={
            3: lambda: a_release(bucket, blind, sampling(1.0)),
            5: lambda: until(lambda: any(status.refused_release for status in seen), 60),
        }
    )
    status = run_collector(device, open_source=source, on_progress=seen.append)
    assert (status.release_number, status.frames) == (1, 40)
    assert status.refused_release.startswith("2: ")
    assert "truck" in status.refused_release


# --- batches and providers -------------------------------------------------------------------------------------------


def test_cameras_that_wait_at_the_same_time_run_as_one_batch(tmp_path):
    """Four recordings, a batch of four: the model is run on several frames at once, and every sample has the
    detections that it has on a device without batches."""
    cameras = []
    for name in ("a", "b", "c", "d"):
        a_folder(tmp_path / name, 12)
        cameras.append({"name": name, "source": str(tmp_path / name)})
    model = convolving_model(tmp_path)
    found, sizes = {}, []
    for batch in (1, 4):
        (tmp_path / str(batch)).mkdir()
        device = a_device(tmp_path / str(batch), "", cameras=cameras, batch=batch)

        def counting(model, **options):
            detector = open_detector(model, **options)
            run = detector.run_batch
            detector.run_batch = lambda prepared: (sizes.append(len(prepared)), run(prepared))[1]
            return detector

        status = run_collector(
            device,
            model=str(model),
            sampling=sampling(1.0),
            project_classes=CLASSES,
            follow_releases=False,
            open_detector=counting,
        )
        assert (status.frames, status.frames_lost, status.alerts) == (48, 0, ())
        samples = samples_of(Bucket(device.bucket, "yard"))
        found[batch] = {s.sample_id: s.detections for s in samples}
    assert found[1] == found[4]
    assert sum(map(len, found[1].values())) > 0
    assert max(sizes) == 4


def test_what_the_device_asks_for_and_cannot_have_is_an_alert(tmp_path, frames):
    """A provider that is not there and a model that takes one frame at a time: it collects, and its status says so."""
    cameras = [{"name": name, "source": str(frames)} for name in ("gate", "dock")]
    model = constant_detector(tmp_path / "m.onnx", [CAR])
    device = a_device(tmp_path, frames, cameras=cameras, batch=8, providers=("coreml", "cpu"))
    status = run_collector(device, model=str(model), sampling=sampling(0.1), follow_releases=False)
    assert status.frames == 80
    assert status.versions.provider == "cpu"
    told = {alert.name: alert.message for alert in status.alerts}
    assert told["provider missing"] == "coreml is not in this onnxruntime; cpu computes instead"
    assert "takes one frame at a time" in told["no batches"]
