"""The picture of a look for drift: rows, marks, frames and crops; what is missing is left out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tasks.adapters.report.drift_plot import MOST_CAMERAS, Shown, bin_edges, crop_of, crops_of, drift_plot
from tasks.core.drift import Series
from tasks.core.entities import Detection, Drift
from tests.tasks.stages import a_sample

CHANGED = {
    "answer": "changed",
    "ks_p_value": 1e-4,
    "psi_p_value": 1e-4,
    "at": 0.5,
    "reference_share": 0.2,
    "now_share": 0.7,
    "reference_mean": 0.7,
    "now_mean": 0.4,
    "since": "2026-05-01T10:30:00Z",
}


def a_look(answers: list[str], figure: str = "maximum confidence") -> Drift:
    times = ("created_at", "reference_from", "reference_to", "now_from", "now_to")
    cameras = []
    for number, answer in enumerate(answers):
        of_figure = {"figure": figure, "answer": "same", "reference_frames": 900, "now_frames": 300}
        of_figure |= CHANGED if answer == "changed" else {"answer": "too few"} if answer == "too few" else {}
        cameras.append({"device": "edge", "camera": f"c{number}", "answer": answer, "figures": [of_figure]})
    known = {"number": 1, "model_version": "0123456789abcdef", "release_number": 2, "cameras": cameras}
    known |= {"alpha": 0.01, "corrected_alpha": 0.001, "minimum_change": 0.1}
    return Drift.model_validate({**known, **dict.fromkeys(times, "2026-05-01T00:00:00Z")})


def some_series(look: Drift, figure: str = "maximum confidence", values=None):
    random = np.random.default_rng(0)

    def one(frames: int) -> Series:
        column = random.random(frames) if values is None else np.full(frames, values)
        return Series(np.arange(frames, dtype=float), column, np.ones(frames))

    return {camera.name: {figure: (one(900), one(300))} for camera in look.cameras}


def some_frames(number: int) -> list[Shown]:
    car = Detection(class_name="car", confidence=0.8, xyxy=(2.0, 2.0, 40.0, 30.0))
    pixels = np.full((48, 64, 3), 120, np.uint8)
    return [Shown(a_sample(n, detections=(car,)), pixels) for n in range(number)]


def test_a_camera_that_changed_comes_with_its_frames(tmp_path):
    """Frames and crops make its row higher; those of cameras that did not change are not drawn."""
    look = a_look(["same", "changed"])
    frames = {"edge/c0": (some_frames(3), some_frames(3))}
    plain = cv2.imread(str(drift_plot(look, some_series(look), frames, tmp_path / "plain.png")))
    frames["edge/c1"] = (some_frames(3), [])
    shown = cv2.imread(str(drift_plot(look, some_series(look), frames, tmp_path / "shown.png")))
    assert shown.shape[0] > plain.shape[0] + 300
    assert shown.shape[1] == plain.shape[1]


@pytest.mark.slow
def test_every_answer_and_empty_series_can_be_drawn(tmp_path):
    """Silent cameras, too few frames, no series at all, one single value, and more cameras than are drawn."""
    look = a_look(["silent", "too few", "changed", *["same"] * MOST_CAMERAS], figure="area")
    series = some_series(look, "area", values=0.25)
    empty = Series(np.array([]), np.array([]), np.array([]))
    series["edge/c0"] = {"area": (series["edge/c0"]["area"][0], empty)}
    del series["edge/c1"]
    picture = cv2.imread(str(drift_plot(look, series, {}, tmp_path / "all.png")))
    only = cv2.imread(str(drift_plot(a_look(["same"] * MOST_CAMERAS), {}, {}, tmp_path / "eight.png")))
    assert picture.shape == only.shape


def test_whole_numbers_have_a_bar_each():
    """Counts from 0 to 3: edges half way between; other values: even bars up to the far end."""
    assert bin_edges(np.array([0.0, 3.0, 1.0])).tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    edges = bin_edges(np.linspace(0, 1, 1000))
    assert np.allclose(np.diff(edges), np.diff(edges)[0])
    assert bin_edges(np.array([])).tolist() == [0.0, 1.0]
    assert bin_edges(np.array([0.3, 0.3])).tolist() == [-0.2, 0.8]


def test_crops_take_turns_between_frames_and_stay_inside():
    """The surest detection of each frame first; a box at the edge is cut there, in RGB."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 0] = 200  # blue in BGR
    boxes = [
        Detection(class_name="car", confidence=c, xyxy=xyxy)
        for c, xyxy in ((0.5, (50.0, 30.0, 64.0, 48.0)), (0.9, (0.0, 0.0, 10.0, 10.0)))
    ]
    frames = [Shown(a_sample(n, detections=tuple(boxes)), pixels) for n in range(2)]
    assert [confidence for _, confidence in crops_of(frames)] == [0.9, 0.9, 0.5, 0.5]
    crop = crop_of(pixels, boxes[1])
    assert crop.shape == (13, 13, 3)
    assert crop[0, 0].tolist() == [0, 0, 200]
