"""Sources against real files, good and damaged, and against cameras that are not there."""

import os
import struct
import sys
import zlib
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.camera import ImageFolder, Timeline, open_source, read_image
from tasks.adapters.camera.images import ImageRefused, decode_image
from tasks.core.errors import ImageUnreadable, SettingsError, SourceUnavailable
from tasks.core.settings import CameraSettings

START = datetime(2026, 3, 1, 8, 0, tzinfo=timezone.utc)


def picture(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def encoded(pixels, suffix=".jpg"):
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """20 frames at 10 a second, each of another grey: frame i is 10 * i + 20."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for i in range(20):
        writer.write(picture(10 * i + 20))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path):
    """Three images with room between their names."""
    images = tmp_path / "images"
    images.mkdir()
    for name, value in (("b.png", 20), ("d.jpg", 120), ("f.bmp", 220)):
        (images / name).write_bytes(encoded(picture(value), name[-4:]))
    return images


# --- video files -----------------------------------------------------------------------------------------------------


def test_a_video_gives_every_frame_in_order_and_ends(clip):
    """Pixels, positions and names of all 20 frames; nothing was skipped."""
    with open_source(str(clip), "gate") as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.source for frame in frames] == [f"clip.mp4#{i}" for i in range(20)]
    assert {frame.camera for frame in frames} == {"gate"}
    np.testing.assert_allclose([frame.pixels.mean() for frame in frames], [10 * i + 20 for i in range(20)], atol=4.9)
    assert frames[0].pixels.shape == (48, 64, 3)
    assert frames[0].pixels.dtype == np.uint8
    assert (source.is_live, source.skipped, source.last_error) == (False, {}, "")


def test_frames_keep_their_pixels_while_the_video_goes_on(clip):
    """Every frame has memory of its own, so that one may wait in a queue."""
    first, *_, last = list(open_source(str(clip), "gate"))
    assert first.pixels.mean() < 40 < 180 < last.pixels.mean()


def test_the_frames_of_a_video_have_its_own_times(clip):
    """start + index / fps * time_scale in UTC and milliseconds; the rate can be overruled."""
    scaled = list(open_source(str(clip), "gate", start=START, time_scale=60))
    assert [frame.captured_at for frame in scaled[:3]] == [START + timedelta(seconds=6 * i) for i in range(3)]
    slow = list(open_source(str(clip), "gate", start=START, fps=3))
    assert slow[1].captured_at == START + timedelta(milliseconds=333)


def test_without_a_start_the_file_says_when_it_was_made(clip):
    """The modification time: the same in every run."""
    os.utime(clip, (START.timestamp(), START.timestamp()))
    for _ in range(2):
        assert next(iter(open_source(str(clip), "gate"))).captured_at == START


def test_a_start_in_another_zone_or_without_one_becomes_utc(clip):
    """A zone is converted; none is taken for UTC."""
    east = START.astimezone(timezone(timedelta(hours=2)))
    for start in (east, START.replace(tzinfo=None)):
        frame = next(iter(open_source(str(clip), "gate", start=start)))
        assert (frame.captured_at, frame.captured_at.tzinfo) == (START, timezone.utc)


def test_a_source_can_be_read_twice(clip):
    """A second iteration starts at the beginning."""
    source = open_source(str(clip), "gate")
    assert [len(list(source)), len(list(source))] == [20, 20]


def damaged(clip, folder):
    """The clip with its index at the front and the second half of its pictures cut off."""
    content = clip.read_bytes()
    boxes, at = {}, 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        boxes[kind] = content[at : at + size]
        at += size
    moov, mdat = bytearray(boxes[b"moov"]), boxes[b"mdat"]
    head = boxes[b"ftyp"] + bytes(moov)
    shift = len(head) - (content.find(b"mdat") - 4)
    table = moov.find(b"stco")
    (count,) = struct.unpack_from(">I", moov, table + 8)
    for i in range(count):
        (offset,) = struct.unpack_from(">I", moov, table + 12 + 4 * i)
        struct.pack_into(">I", moov, table + 12 + 4 * i, offset + shift)
    path = folder / "cut.mp4"
    path.write_bytes((boxes[b"ftyp"] + bytes(moov) + mdat)[: len(head) + len(mdat) // 2])
    return path


def test_a_cut_video_gives_what_it_holds_and_says_what_is_missing(clip, tmp_path):
    """The frames before the damage come, then the iteration ends with a count and a reason."""
    source = open_source(str(damaged(clip, tmp_path)), "gate")
    frames = list(source)
    assert 0 < len(frames) < 20
    assert source.skipped == {"missing_frames": 20 - len(frames)}
    assert source.last_error == f"cut.mp4: {len(frames)} of 20 frames could be read; the file is cut or damaged"


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 5000])
def test_a_file_that_is_no_video_is_refused_in_one_line(tmp_path, content):
    """Empty, text, zeros: the message names the camera and the file."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceUnavailable) as error:
        open_source(str(path), "gate")
    assert "gate" in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_resolution_that_changes_amid_a_video_is_resampled_to_the_first(tmp_path):
    """Pictures of 64 x 48, 128 x 96 and 32 x 24 in one stream: all frames come, of the first size, nothing shifted."""
    content = b""
    for index, (width, height) in enumerate([(64, 48), (128, 96), (32, 24)]):
        pixels = picture(0, height, width)
        pixels[height // 4 : height // 2, width // 2 :] = 255
        part = tmp_path / f"{index}.mjpeg"
        writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, height))
        for _ in range(3):
            writer.write(pixels)
        writer.release()
        content += part.read_bytes()
    (tmp_path / "clip.mjpeg").write_bytes(content)
    frames = list(open_source(str(tmp_path / "clip.mjpeg"), "gate"))
    assert len(frames) == 9
    for frame in frames:
        assert frame.pixels.shape == (48, 64, 3)
        rows, columns = np.nonzero(frame.pixels[..., 0] > 127)
        assert np.allclose((rows.min(), rows.max(), columns.min(), columns.max()), (12, 23, 32, 63), atol=1)


def test_a_pipe_is_no_video(tmp_path):
    """A name that would be waited for without a limit is refused at once."""
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(SourceUnavailable, match="neither a file nor a folder"):
        open_source(str(tmp_path / "clip.mp4"), "gate")


@pytest.mark.parametrize("source", ["missing.mp4", "missing/folder", "ftp://host/clip.mp4", "frame_%03d.png", ""])
def test_what_is_not_there_is_refused(tmp_path, monkeypatch, source):
    """A missing path, an unknown scheme and a pattern are no sources; an empty name is not the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").write_bytes(encoded(picture(1), ".png"))
    with pytest.raises(SourceUnavailable, match="camera gate: "):
        open_source(source, "gate")


# --- folders of images -----------------------------------------------------------------------------------------------


def test_a_folder_gives_its_images_by_name(folder):
    """Sorted, one a second, each with its file name."""
    frames = list(open_source(str(folder), "gate", start=START))
    assert [frame.source for frame in frames] == ["b.png", "d.jpg", "f.bmp"]
    np.testing.assert_allclose([frame.pixels.mean() for frame in frames], [20, 120, 220], atol=2)
    assert [frame.captured_at for frame in frames] == [START + timedelta(seconds=i) for i in range(3)]
    assert all(frame.pixels.shape == (48, 64, 3) for frame in frames)


def test_the_time_of_a_folder_is_that_of_its_first_image(folder):
    """Without a start, images that come later do not move the times of the earlier ones."""
    os.utime(folder / "b.png", (START.timestamp(), START.timestamp()))
    source = ImageFolder(folder, "gate", Timeline(fps=2))
    assert [frame.captured_at for frame in source][1] == START + timedelta(seconds=0.5)


def test_images_of_many_sizes_keep_theirs(tmp_path):
    """A folder may mix sizes; the region is the same part of each."""
    for name, (width, height) in {"a.png": (64, 48), "b.png": (640, 480), "c.png": (10, 90)}.items():
        (tmp_path / name).write_bytes(encoded(picture(9, height, width), ".png"))
    given = CameraSettings(name="gate", source=str(tmp_path), region={"left": 0.5, "bottom": 0.5})
    assert [f.pixels.shape for f in open_source(str(tmp_path), "gate")] == [(48, 64, 3), (480, 640, 3), (90, 10, 3)]
    narrowed = open_source(str(tmp_path), "gate", settings=given)
    assert [f.pixels.shape for f in narrowed] == [(24, 32, 3), (240, 320, 3), (45, 5, 3)]


def png_header(width, height):
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def jpeg_of_size(width, height):
    """A small JPEG whose header says that it is large."""
    content = bytearray(encoded(picture(50)))
    at = content.find(b"\xff\xc0")
    struct.pack_into(">HH", content, at + 5, height, width)
    return bytes(content)


def bad_images():
    whole = encoded(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8))
    whole_png = encoded(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8), ".png")
    return {
        "a.jpg": (b"", "empty"),
        "c.jpg": (b"no image", "corrupt"),
        "c2.jpg": (whole[: len(whole) // 2], "corrupt"),
        "c3.png": (whole_png[: len(whole_png) // 2], "corrupt"),
        "c4.jpg": (whole[:10], "corrupt"),
        "e.png": (png_header(60_000, 60_000), "oversized"),
        "e1.png": (png_header(20_000, 20_000), "oversized"),
        "e2.jpg": (jpeg_of_size(65_000, 65_000), "oversized"),
        "e3.bmp": (b"BM" + struct.pack("<IIIIii", 26, 0, 26, 40, 30_000, -30_000), "oversized"),
        "c5.png": (png_header(0, 0), "corrupt"),
        "c6.jpg": (jpeg_of_size(0, 0), "corrupt"),
        "c7.bmp": (b"BM" + struct.pack("<IIIIii", 26, 0, 26, 40, 0, 0), "corrupt"),
        "g.webp": (encoded(picture(1), ".webp"), "unsupported"),
    }


def test_bad_images_are_skipped_counted_and_named(folder):
    """Every kind of bad image among good ones: the good ones come, with the places they have by name."""
    for name, (content, _) in bad_images().items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("no image, and none by its name")
    source = open_source(str(folder), "gate", start=START)
    frames = list(source)
    assert [frame.source for frame in frames] == ["b.png", "d.jpg", "f.bmp"]
    assert source.skipped == {"empty": 1, "corrupt": 7, "oversized": 4, "unsupported": 1}
    assert source.last_error.startswith("g.webp: ")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name != "notes.txt")
    assert [frame.index for frame in frames] == [names.index(frame.source) for frame in frames]
    assert all(frame.captured_at == START + timedelta(seconds=frame.index) for frame in frames)


@pytest.mark.parametrize(
    ("name", "content", "reason"), [(n, c, r) for n, (c, r) in bad_images().items() if r != "unsupported"]
)
def test_every_bad_image_has_its_reason_in_one_line(tmp_path, name, content, reason):
    """The error is an ImageUnreadable that starts with the file's name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageUnreadable) as error:
        read_image(tmp_path / name)
    assert error.value.reason == reason
    assert str(error.value).startswith(f"{name}: ")
    assert "\n" not in str(error.value)


def test_an_oversized_image_is_never_decoded(tmp_path, monkeypatch):
    """The header decides before the decoder sees a byte."""
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder was called"))
    with pytest.raises(ImageRefused, match="60000 x 60000"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((10, 20), 77, np.uint8),
        np.dstack([picture(77, 10, 20), np.full((10, 20), 9, np.uint8)]),
        np.full((10, 20, 3), 77 * 257, np.uint16),
    ],
    ids=["grey", "alpha", "16 bit"],
)
def test_grey_alpha_and_deep_images_become_bgr(pixels):
    """All are (height, width, 3) uint8 with the same values."""
    decoded = decode_image(encoded(pixels, ".png"), "image.png")
    np.testing.assert_array_equal(decoded, picture(77, 10, 20))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_image_is_pixels_or_an_image_error(data):
    """Whatever bytes are changed or cut: an image of the announced size, or ImageUnreadable, nothing else."""
    suffix = data.draw(st.sampled_from([".jpg", ".png", ".bmp"]))
    content = bytearray(encoded(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3), suffix))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 700)))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(bytes(content[: data.draw(st.integers(0, len(content)))]), "image")
    except ImageUnreadable:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def test_a_folder_without_images_is_refused(tmp_path):
    """Nothing to read is a mistake in the settings, not the end of a recording."""
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SourceUnavailable, match="no image in the folder"):
        open_source(str(tmp_path), "gate")


# --- closing ---------------------------------------------------------------------------------------------------------


def test_a_closed_source_ends_at_the_next_frame(clip, folder):
    """`close` may come from anywhere, and twice."""
    for where in (clip, folder):
        source = open_source(str(where), "gate")
        frames = iter(source)
        next(frames)
        source.close()
        source.close()
        assert list(frames) == []


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"fps": float("nan")}, {"time_scale": 0}, {"time_scale": -1}])
def test_times_that_make_no_sense_are_refused(clip, wrong):
    """The message names the field."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        open_source(str(clip), "gate", **wrong)


def test_simulated_cameras_are_opened_by_the_simulation(monkeypatch):
    """yard:// and replay:// go there with everything they were given; nothing is imported before."""
    seen = []
    simulation = type("simulation", (), {"open_source": staticmethod(lambda *a, **k: seen.append((a, k)) or "source")})
    monkeypatch.setitem(sys.modules, "tasks.adapters.simulation", simulation)
    monkeypatch.setattr("tasks.adapters.simulation", simulation, raising=False)
    for address in ("yard://1?frames=10", "replay://folder"):
        assert open_source(address, "gate", start=START, time_scale=3.0) == "source"
        assert seen.pop() == ((address, "gate"), {"start": START, "time_scale": 3.0})
