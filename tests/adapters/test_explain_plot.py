"""The picture of an explanation: all frames are in it, and what is written can be read, for few and for many."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest

from tasks.adapters.report import explain_plot
from tasks.core.explain import Explained, Timeline
from tasks.core.sampling import Decision
from tasks.core.settings import SamplingSettings
from tests.adapters.written import assert_nothing_collides, assert_nothing_is_cut, texts_of

START = datetime(2026, 1, 5, 12, 0, tzinfo=timezone.utc)
LONG = "an extraordinarily long name of a strategy that nobody can read in a row"
SETTINGS = SamplingSettings.model_validate(
    {
        "sampling_strategies": [
            {"name": "misses", "type": "expected_misses", "weights": {"car": [0.1] * 6}, "images_a_day": 100},
            {"name": "$hard$", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 0.3},
            {"name": LONG, "type": "random", "traffic_percentage": 0.02},
        ]
    }
)
REASONS = ("no strategy matched", "near-duplicate", "cooldown", "draw lost", "no credit", "batch full")


def a_timeline(frames, *, step=0.08, budget=True, minimum=1.0, kept=0.05, cameras=("gate",)):
    """Frames with m(x) up to 2; the reasons follow each other, strategies take turns."""
    rng, timeline, strategies = np.random.default_rng(frames), Timeline(), ("misses", "$hard$", LONG)
    for number in range(frames):
        is_kept = rng.random() < kept
        expected = float(2 * rng.random()) if budget else None
        decision = Decision(
            kept=bool(is_kept),
            strategy=strategies[number % 3] if is_kept else None,
            matched=(),
            tags=(),
            batch="",
            probability=0.1,
            random_slice=bool(is_kept and number % 2),
            outcome="kept" if is_kept else REASONS[number * 31 // frames % len(REASONS)],
            why=str,
            expected_misses=expected,
            minimum_expected_misses=minimum if budget and not 0.3 < number / frames < 0.4 else None,
        )
        at = START + timedelta(seconds=step * number)
        timeline.add(Explained(f"f{number}", cameras[number % len(cameras)], at, decision, expected, number % 4))
    return timeline


WORLDS = {
    "one": {"frames": 1},
    "few": {"frames": 3, "kept": 1.0},
    "a clip": {"frames": 200},
    "a day": {"frames": 20_000, "step": 4.3, "cameras": ("gate", "door")},
    "a month": {"frames": 3_000, "step": 900.0},
    "all kept": {"frames": 5_000, "kept": 1.0},
    "none kept": {"frames": 300, "kept": 0.0},
    "no budget": {"frames": 300, "budget": False},
    "a stub": {"frames": 300, "budget": False, "minimum": None},
    "one moment": {"frames": 300, "step": 0.0},
    "a minimum far above": {"frames": 300, "minimum": 70.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_nothing_that_is_written_collides_or_is_cut(tmp_path, drawn, world):
    """Whatever the number of frames, the time between them and the length of names, every text has its own place."""
    timeline = a_timeline(**WORLDS[world])
    explain_plot.explain_plot(timeline, SETTINGS, tmp_path / "out" / "timeline.png", "clip.mp4, yolox_nano.onnx")
    texts = texts_of(drawn[-1])
    assert_nothing_is_cut(drawn[-1], texts)
    assert_nothing_collides(texts)
    assert cv2.imread(str(tmp_path / "out" / "timeline.png")).shape[1] > 1500


@pytest.mark.parametrize("frames", [200, 20_000])
def test_every_frame_is_in_exactly_one_row(tmp_path, drawn, frames):
    """The numbers beside the rows add up to all frames, and the title says how many of them are kept."""
    timeline = a_timeline(frames)
    explain_plot.explain_plot(timeline, SETTINGS, tmp_path / "timeline.png")
    _, below = drawn[-1].axes
    numbers = [int(text.get_text().replace(",", "")) for text in below.texts]
    names = [label.get_text() for label in below.get_yticklabels()]
    assert len(names) == len(numbers) == 3 + len(REASONS)
    assert names[:2] == ["kept by misses", "kept by $hard$"]
    assert names[2].endswith("…")
    assert sum(numbers) == frames
    kept = sum(numbers[:3])
    assert drawn[-1].axes[0].get_title(loc="left") == f"{kept:,} of {frames:,} frames kept"


def test_a_clips_frames_have_a_column_each_and_a_days_share_them(tmp_path, drawn):
    """Of 200 frames each can be told apart; of 20,000 a column shows the highest m(x), as fine as the eye sees."""
    for frames in (200, 20_000):
        timeline = a_timeline(frames, kept=1.0 if frames == 200 else 0.02)
        explain_plot.explain_plot(timeline, SETTINGS, tmp_path / "timeline.png")
        above = drawn[-1].axes[0]
        highest, edges = above.patches[1].get_data().values, above.patches[1].get_data().edges
        assert len(highest) == min(frames, explain_plot.MOST_COLUMNS)
        assert np.nanmax(highest) == timeline.expected_misses.max()
        marks = sum(int(np.isfinite(np.ma.filled(dots.get_offsets()[:, 1], np.nan)).sum()) for dots in above.collections
                    if hasattr(dots, "get_sizes") and len(dots.get_sizes()))  # fmt: skip
        kept = sum(timeline.kept_by().values())
        assert marks == kept if frames == 200 else 0.8 * kept < marks <= kept
        assert (np.diff(edges) > 0).all()


def test_the_same_frames_give_the_same_picture(tmp_path):
    """To the byte, so that pictures can be compared."""
    for name in ("a.png", "b.png"):
        explain_plot.explain_plot(a_timeline(100), SETTINGS, tmp_path / name, "clip.mp4")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
