"""What of a camera is looked at: its region, its masks, its frame rate."""

import math
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.camera import open_source
from tasks.adapters.camera.pace import Pace
from tasks.adapters.camera.view import View
from tasks.core.settings import CameraSettings
from tasks.core.settings.device import Region

START = datetime(2026, 3, 1, 8, 0, tzinfo=timezone.utc)

fractions = st.floats(0, 1, allow_nan=False)


@st.composite
def regions(draw):
    left, right = sorted(draw(st.tuples(fractions, fractions).filter(lambda pair: pair[0] != pair[1])))
    top, bottom = sorted(draw(st.tuples(fractions, fractions).filter(lambda pair: pair[0] != pair[1])))
    return Region(left=left, top=top, right=right, bottom=bottom)


def touched(region, height, width, by=1e-9):
    """Slow and obvious: which pixels overlap the region by more than rounding error? A negative `by`: are that near?"""
    hit = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            wide = min(x + 1, region.right * width) - max(x, region.left * width)
            high = min(y + 1, region.bottom * height) - max(y, region.top * height)
            hit[y, x] = wide > by and high > by
    return hit


@given(st.lists(regions(), max_size=3), st.integers(1, 9), st.integers(1, 9))
def test_masks_hide_every_pixel_that_they_touch(masks, height, width):
    """Whatever lies within a mask, even in part, is black; pixels more than one away from all of them are as before."""
    seen = View(None, masks)(np.full((height, width, 3), 200, np.uint8))
    far = np.ones((height, width), bool)
    for mask in masks:
        assert not seen[touched(mask, height, width)].any()
        far &= ~touched(mask, height, width, by=-1.0)
    assert (seen[far] == 200).all()


@given(regions(), st.integers(1, 9), st.integers(1, 9))
def test_a_region_is_the_part_that_it_touches(region, height, width):
    """Pixels of the region, at most one more at each edge, never none, in memory of their own."""
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    seen = View(region)(pixels)
    hit = touched(region, height, width)
    assert seen.shape[0] >= max(1, hit.any(axis=1).sum())
    assert seen.shape[1] >= max(1, hit.any(axis=0).sum())
    assert seen.shape[0] <= math.ceil((region.bottom - region.top) * height) + 1
    assert seen.shape[1] <= math.ceil((region.right - region.left) * width) + 1
    assert seen.base is None
    assert set(map(tuple, pixels[hit])) <= set(map(tuple, seen.reshape(-1, 3)))


def test_masks_are_parts_of_the_whole_picture_and_not_of_the_region():
    """The left half is hidden, the middle half is looked at: its left half is black."""
    view = View(Region(left=0.25, right=0.75), [Region(right=0.5)])
    seen = view(np.full((10, 40, 3), 7, np.uint8))
    assert seen.shape == (10, 20, 3)
    assert not seen[:, :10].any()
    assert (seen[:, 10:] == 7).all()


# --- frame rate ------------------------------------------------------------------------------------------------------


@given(
    st.floats(0.01, 100),
    st.lists(st.one_of(st.floats(0, 0.2), st.floats(0, 500)), min_size=1, max_size=80),
)
def test_no_span_of_time_holds_more_frames_than_its_rate(rate, gaps):
    """However frames come: the first is taken, and in every span of T seconds fewer than T x rate + 2 are."""
    pace, times = Pace(rate), np.cumsum(gaps)
    taken = [t for t in times if pace.is_due(t)]
    assert taken[0] == times[0]
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 < (taken[last] - taken[first]) * rate + 2 + 1e-6


@given(st.floats(0.5, 60), st.floats(0.1, 1.0), st.integers(20, 200))
def test_an_even_stream_gives_the_whole_of_its_rate(fps, share, count):
    """Of even frames the share that was asked for is taken, within two frames."""
    pace = Pace(fps * share)
    taken = sum(pace.is_due(i / fps) for i in range(count))
    assert abs(taken - count * share) <= 2


@given(st.lists(st.floats(-0.12, 0.12), min_size=2, max_size=100))
def test_a_camera_that_is_a_little_uneven_loses_nothing_at_its_own_rate(jitter):
    """Up to an eighth of a step early or late: all frames of a camera at the limit are taken."""
    pace = Pace(10)
    assert all(pace.is_due((i + early) / 10) for i, early in enumerate(jitter))


def test_without_a_limit_every_frame_is_taken():
    """Even two of the same time."""
    pace = Pace(None)
    assert all(pace.is_due(t) for t in (0.0, 0.0, 1.0))


@pytest.fixture
def clip(tmp_path):
    """50 frames at 25 a second, frame i of grey 4 * i + 20."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for i in range(50):
        writer.write(np.full((48, 64, 3), 4 * i + 20, np.uint8))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(50):
        cv2.imwrite(str(images / f"{i:02d}.png"), np.full((48, 64, 3), 4 * i + 20, np.uint8))
    return images


@pytest.mark.parametrize("kind", ["clip", "folder"])
def test_a_recording_is_limited_by_its_capture_times(request, kind):
    """2 s at 25 a second with a limit of 10 are 20 frames with their own places, times and pixels; 30 are counted."""
    path = str(request.getfixturevalue(kind))
    settings = CameraSettings(name="gate", source=path, frame_rate=10)
    source = open_source(path, "gate", start=START, fps=25, settings=settings)
    frames = list(source)
    assert len(frames) == 20
    assert source.skipped == {"above_frame_rate": 30}
    assert source.last_error == ""
    for frame in frames:
        assert frame.captured_at == START + timedelta(milliseconds=40 * frame.index)
        assert abs(float(frame.pixels.mean()) - (4 * frame.index + 20)) < 4
    again = list(open_source(path, "gate", start=START, fps=25, settings=settings))
    assert [frame.index for frame in again] == [frame.index for frame in frames]
    slow = CameraSettings(name="gate", source=path, frame_rate=0.05)
    stretched = open_source(path, "gate", start=START, fps=25, time_scale=60, settings=slow)
    assert len(list(stretched)) == 7  # in 2 minutes of capture time: one at once, then one in 20 s


@pytest.mark.parametrize("kind", ["clip", "folder"])
def test_a_recording_shows_what_its_camera_may_show(request, kind):
    """Region and masks in every frame of a video and of a folder."""
    path = str(request.getfixturevalue(kind))
    settings = CameraSettings(name="gate", source=path, region={"left": 0.5}, masks=[{"bottom": 0.5}])
    for frame in open_source(path, "gate", settings=settings):
        assert frame.pixels.shape == (48, 32, 3)
        assert not frame.pixels[:24].any()
        assert frame.pixels[24:].all()


def test_a_simulated_camera_obeys_the_settings_too():
    """Its frame rate by its own times, its region and its masks; without any it is itself."""
    address = "yard://?seed=3&camera=0&day_frames=200&days=0.1"
    plain = list(open_source(address, "gate"))
    gap = (plain[1].captured_at - plain[0].captured_at).total_seconds()
    settings = CameraSettings(
        name="gate", source=address, frame_rate=0.5 / gap, region={"left": 0.5}, masks=[{"top": 0.5}]
    )
    source = open_source(address, "gate", settings=settings)
    narrowed = list(source)
    assert len(plain) == 20
    assert [frame.index for frame in narrowed] == [frame.index for frame in plain[::2]]
    assert source.skipped == {"above_frame_rate": 10}
    height, width = plain[0].pixels.shape[:2]
    for frame in narrowed:
        assert frame.pixels.shape == (height, width // 2, 3)
        assert not frame.pixels[height // 2 :].any()
        np.testing.assert_array_equal(
            frame.pixels[: height // 2], plain[frame.index].pixels[: height // 2, width // 2 :]
        )
    whole = open_source(address, "gate", settings=CameraSettings(name="gate", source=address))
    assert type(whole) is type(open_source(address, "gate"))
    source.close()
    assert list(source) == []
