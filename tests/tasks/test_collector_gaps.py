"""Frames that wait: a gap in a track, kept with its own pixels once the object is seen again."""

import time
from types import SimpleNamespace

import cv2
import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.adapters.detector import open_detector
from tasks.collector import run_collector
from tasks.collector.ahead import Captured
from tasks.collector.clock import ClockWatch
from tasks.collector.pipeline import Pipeline
from tasks.collector.runner import Runner
from tasks.collector.tally import Tally
from tasks.core.entities import Detections
from tasks.core.settings import SamplingSettings
from tests.adapters.models import constant_detector
from tests.tasks.collecting import CAR, a_device, samples_of
from tests.tasks.seeing import a_frame, some_detections

NAMES = ("car", "truck")
GAP = {"name": "gap", "type": "track_gap", "gap_frames": 2, "minimum_iou": 0.5, "probability": 1.0}


class Blinking:
    """A detector that overlooks its car in the dark: its own model is asked, and its answer taken only in daylight."""

    def __init__(self, detector):
        self._detector = detector
        self._dark = {}

    def __getattr__(self, name):
        return getattr(self._detector, name)

    def detect(self, pixels):
        return self._detector.detect(pixels) if pixels.mean() > 60 else Detections.empty(NAMES)

    def prepare(self, pixels):
        prepared = self._detector.prepare(pixels)
        self._dark[id(prepared)] = pixels.mean() <= 60
        return prepared

    def detect_prepared(self, prepared):
        detections = self._detector.detect_prepared(prepared)
        return Detections.empty(NAMES) if self._dark.pop(id(prepared)) else detections


def blinking(*args, **kwargs):
    return Blinking(open_detector(*args, **kwargs))


def a_film(folder, brightness):
    """Pictures of these brightnesses; each has its number as a stripe."""
    folder.mkdir()
    for number, bright in enumerate(brightness):
        pixels = np.full((64, 64, 3), bright, np.uint8)
        pixels[:, : number + 1] += 10
        cv2.imwrite(str(folder / f"{number:04d}.png"), pixels)
    return folder


def collected(tmp_path, brightness, *strategies, device=None, **config):
    """The samples of a run, by their source, and its last status."""
    model = constant_detector(tmp_path / "model.onnx", [CAR])
    device = device or a_device(tmp_path, a_film(tmp_path / "film", brightness))
    status = run_collector(
        device,
        model=str(model),
        sampling=SamplingSettings(sampling_strategies=strategies),
        project_classes=NAMES,
        follow_releases=False,
        open_detector=blinking,
        **config,
    )
    return {sample.source: sample for sample in samples_of(Bucket(device.bucket, "yard"))}, status


def test_a_gap_is_kept_with_its_own_pixels(tmp_path):
    """Of a film in which the car is overlooked twice, the first picture of each gap is kept, and counted once."""
    film = [200, 20, 200, 200, 30, 40, 200, 200]
    samples, status = collected(tmp_path, film, GAP)
    assert sorted(samples) == ["0001.png", "0004.png"]
    first = samples["0004.png"]
    assert (first.strategy, first.matched, first.probability, first.detections) == ("gap", ("gap",), 1.0, ())
    assert samples["0001.png"].captured_at < first.captured_at
    for name, sample in samples.items():
        bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
        (key,) = [key for key in bucket.list("devices/edge-1/samples/") if sample.sample_id in key]
        pixels = cv2.imdecode(np.frombuffer(bucket.get(key), np.uint8), cv2.IMREAD_COLOR)
        assert abs(float(pixels[:, 40:].mean()) - film[int(name[:4])]) < 3
    assert (status.frames, status.kept, status.kept_by_strategy) == (8, 2, {"gap": 2})
    assert sum(status.drops.values()) == 6


def test_what_is_kept_anyway_waits_for_its_probability(tmp_path):
    """A picture that exploration keeps is handed over once: with both probabilities, or, at the end, with its own."""
    everything = {"name": "all", "type": "random", "traffic_percentage": 1.0, "tags": ["all"]}
    half = {**GAP, "probability": 0.5}
    samples, status = collected(tmp_path, [200, 20, 200, 20], everything, half)
    assert sorted(samples) == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert {sample.strategy for sample in samples.values()} == {"all"}
    assert (status.kept, status.kept_by_strategy, sum(status.drops.values())) == (4, {"all": 4}, 0)


class Seeing:
    """A detector that sees a car in some frames, one after another; of one frame it fails."""

    model_version, class_names, missing_classes, provider, passed_over = "m", NAMES, (), "cpu", ()
    is_stub, batch, interruptible = False, 1, False

    def __init__(self, *sights):
        self._sights = iter(sights)

    def detect(self, pixels):
        seen = next(self._sights)
        if seen is None:
            raise RuntimeError("out of memory")
        return some_detections(*[(0, 0.9)] * seen)


def a_pipeline(tmp_path, *sights):
    """A pipeline with 100% at random beside the gaps, its tally, and what it hands over."""
    handed_over, device = [], a_device(tmp_path, "rtsp://camera")
    everything = {"name": "all", "type": "random", "traffic_percentage": 1.0}
    runner = Runner(Seeing(*sights), SamplingSettings(sampling_strategies=[everything, GAP]))
    tally = Tally(device, None)
    pipeline = Pipeline(
        device,
        runner,
        tally,
        SimpleNamespace(keep=lambda kept, wait: handed_over.append(kept)),
        sampler_state={},
        positions={},
        went_bad=lambda *_: runner,
        passed=lambda _: None,
        clock=ClockWatch(last_known=None),
    )
    return pipeline, tally, handed_over


def decide(pipeline, *indices):
    for index in indices:
        pipeline.decide(Captured(a_frame(index), is_live=True))


def told(handed_over):
    return [(kept.frame.index, "gap" in kept.decision.matched) for kept in handed_over]


def test_what_waits_is_handed_over_when_the_object_is_seen_again(tmp_path):
    """Not before: only then its probability is known."""
    pipeline, tally, handed_over = a_pipeline(tmp_path, 1, 0, 1)
    decide(pipeline, 0, 1)
    assert told(handed_over) == [(0, False)]
    decide(pipeline, 2)
    assert told(handed_over) == [(0, False), (1, True), (2, False)]
    assert tally.kept == 3


def test_orders_that_come_between_end_what_waits(tmp_path):
    """What was kept at its own time is handed over, and no object is followed across."""
    pipeline, tally, handed_over = a_pipeline(tmp_path, 1, 0, 1)
    decide(pipeline, 0, 1)
    pipeline.swap(pipeline.runner)
    assert told(handed_over) == [(0, False), (1, False)]
    decide(pipeline, 2)
    assert told(handed_over) == [(0, False), (1, False), (2, False)]
    assert tally.kept == 3


def test_a_frame_that_is_lost_or_fails_ends_what_waits(tmp_path):
    """A live frame that a newer one replaced, and one on which the model fails, may have shown the object."""
    pipeline, tally, handed_over = a_pipeline(tmp_path, 1, 0, 1, 0, None, 1)
    decide(pipeline, 0, 1, 3)
    assert told(handed_over) == [(0, False), (1, False), (3, False)]
    decide(pipeline, 4, 5)
    assert told(handed_over)[3:] == [(4, False)]
    decide(pipeline, 6)
    assert told(handed_over)[4:] == [(6, False)]
    assert (tally.kept, tally.status().drops["inference failed"]) == (5, 1)


def test_a_camera_that_falls_silent_holds_nothing_for_long(tmp_path, monkeypatch):
    """After a minute without a frame what waits is handed over."""
    pipeline, _, handed_over = a_pipeline(tmp_path, 1, 0)
    decide(pipeline, 0, 1)
    pipeline.settle(only_silent=True)
    assert told(handed_over) == [(0, False)]
    later = time.monotonic() + 61
    monkeypatch.setattr("tasks.collector.held.time", SimpleNamespace(monotonic=lambda: later))
    pipeline.settle(only_silent=True)
    assert told(handed_over) == [(0, False), (1, False)]
