"""A real video and a real model: what the collector keeps of it, `explain` says before."""

from __future__ import annotations

import cv2
import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import run_collector
from tasks.core.settings import CameraSettings, SamplingSettings
from tasks.explain import Recording, draw_timeline, explain_recording, write_explanation
from tests.real.shared_data import VIDEO, YOLOX_NANO, needs
from tests.tasks.collecting import a_device, samples_of
from tests.tasks.recordings import START

SETTINGS = SamplingSettings.model_validate(
    {
        "sampling_strategies": [
            {
                "name": "misses",
                "type": "expected_misses",
                "weights": {
                    "car": [0.02, 0.05, 0.11, 0.23, 0.41, 0.6],
                    "person": [0.01, 0.03, 0.08, 0.15, 0.3, 0.5],
                },
                "minimum_expected_misses": 0.3,
                "images_a_day": 40000,
                "exploration": 0.1,
            },
            {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 0.3},
            {"name": "random", "type": "random", "traffic_percentage": 0.02},
        ],
        "duplicates": {"enabled": True, "cooldown_seconds": 0.25},
    }
)
FRAMES = 150


@needs(VIDEO, YOLOX_NANO)
@pytest.mark.slow
def test_a_real_video_is_explained_as_it_is_collected(tmp_path):
    """The same frames, strategies and probabilities, and a picture of all of it."""
    device = a_device(tmp_path, VIDEO)
    run_collector(
        device,
        model=str(YOLOX_NANO),
        model_classes="coco80",
        sampling=SETTINGS,
        follow_releases=False,
        start=START,
        max_frames=FRAMES,
    )
    samples = samples_of(Bucket(device.bucket, "yard"))
    camera = CameraSettings(name="gate", source=str(VIDEO))
    given = {"device": device, "where": "S.json", "model": str(YOLOX_NANO), "model_classes": "coco80", "start": START}
    with Recording(camera, SETTINGS, **given) as recording:
        answers = explain_recording(recording, SETTINGS)
        explained = [next(answers) for _ in range(FRAMES)]
    kept = [one for one in explained if one.decision.kept]
    assert {(s.source, s.strategy, s.matched, s.probability, s.random_slice) for s in samples} == {
        (
            one.frame,
            one.decision.strategy,
            one.decision.matched,
            one.decision.probability,
            one.decision.random_slice,
        )
        for one in kept
    }
    assert {"kept", "cooldown", "no strategy matched"} <= {one.decision.outcome for one in explained}
    timeline = write_explanation(iter(explained), tmp_path / "out", lambda line: None)
    assert draw_timeline(timeline, SETTINGS, tmp_path / "out", VIDEO.name) == ""
    assert cv2.imread(str(tmp_path / "out" / "timeline.png")).shape[1] > 1500
