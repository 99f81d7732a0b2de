"""What the collector does of a frame in advance: letterbox and model run in other threads than the decision."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone

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
from tests.tasks.collecting import CAR, TRUCK, a_device, a_release, samples_of, sampling
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
            step(captured, sees_both)
        assert (captured.ahead is not None) == bool(steps)
        detections = ahead.detect(captured, sees_both)
        np.testing.assert_array_equal(detections.xyxy, expected.xyxy)
        np.testing.assert_array_equal(detections.confidence, expected.confidence)
        assert len(detections) == 2


def test_what_was_done_for_another_model_is_not_used(sees_car, sees_both):
    """A frame prepared, or run, before an exchange of models is detected in anew by the model in force."""
    prepared, run = a_frame(), a_frame()
    ahead.prepare(prepared, sees_car)
    ahead.run(run, sees_car)
    assert [len(ahead.detect(captured, sees_both)) for captured in (prepared, run)] == [2, 2]
    ahead.run(prepared, sees_both)
    assert prepared.ahead.detector is sees_both
    assert len(ahead.detect(prepared, sees_both)) == 2


def test_the_model_runs_once_on_a_frame(sees_car):
    """What the inference thread ran, the main loop only decodes."""
    runs = []
    session = sees_car._model.file.session

    class Counting:
        def run_with_iobinding(self, binding):
            runs.append(binding)
            session.run_with_iobinding(binding)

    sees_car._model.file = type("File", (), {"session": Counting(), "where": "model.onnx"})
    captured = Captured(a_frame().frame, False, None)
    captured.ahead = ahead.Ahead(sees_car, sees_car._model and prepared_by_hand(sees_car, session))
    ahead.run(captured, sees_car)
    ahead.run(captured, sees_car)
    assert len(ahead.detect(captured, sees_car)) == 1
    assert len(runs) == 1
