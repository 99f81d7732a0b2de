"""The image cache: fetched once, and nothing unchecked is ever decoded or kept."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tasks.adapters.bucket import Bucket
from tasks.adapters.images import ImageCache, as_jpeg
from tasks.core import layout
from tasks.core.errors import BucketError, ImageUnreadable, ObjectMissing
from tests.tasks.stages import HEIGHT, WIDTH, a_picture, a_sample


@pytest.fixture
def bucket(tmp_path):
    return Bucket(f"file://{tmp_path}/bucket", "yard")


@pytest.fixture
def cache(bucket, tmp_path):
    return ImageCache(bucket, tmp_path / "cache")


def stored(bucket, jpeg: bytes, **fields):
    """A sample that describes `jpeg` truthfully but for `fields`, with `jpeg` in its place."""
    sample = a_sample(0, jpeg=jpeg, **fields)
    bucket.put(layout.sample_image(sample.device, sample.captured_at, sample.sample_id), jpeg)
    return sample


def files_of(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_image_is_fetched_once(bucket, cache):
    """The second call reads the local file; the pixels are those of the bucket's JPEG."""
    jpeg = a_picture(7)
    sample = stored(bucket, jpeg)
    path = cache.path_of(sample)
    assert path.read_bytes() == jpeg
    bucket.remove(layout.sample_image(sample.device, sample.captured_at, sample.sample_id))
    assert cache.path_of(sample) == path
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cache.pixels_of(sample), decoded)


def a_bomb() -> bytes:
    """A JPEG of a few kilobytes that says it has 65,000 x 65,000 pixels."""
    jpeg = bytearray(a_picture(0))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = (65_000).to_bytes(2, "big") * 2
    return bytes(jpeg)


@pytest.mark.parametrize(
    ("jpeg", "fields", "words"),
    [
        (b"<html>no image</html>", {}, "not a JPEG"),
        (a_picture(0, suffix=".png"), {}, "not a JPEG"),
        (a_picture(0)[: len(a_picture(0)) // 2], {}, "cannot be decoded"),
        (b"\xff\xd8\xff nothing more", {}, "cannot be decoded"),
        (a_bomb(), {"width": 65_000, "height": 65_000}, "cannot be decoded"),
        (a_picture(0), {"width": WIDTH * 2}, f"{WIDTH} x {HEIGHT} pixels, not {WIDTH * 2} x {HEIGHT}"),
        (a_picture(0), {"sha256": "0" * 64}, "sha256"),
    ],
    ids=["text", "png", "half", "empty", "bomb", "other size", "other content"],
)
def test_an_image_that_is_not_what_its_sample_says_is_never_kept(bucket, cache, tmp_path, jpeg, fields, words):
    """It is named with its place in the bucket, and nothing of it stays in the cache."""
    sample = stored(bucket, jpeg, **fields)
    for _ in range(2):
        with pytest.raises(ImageUnreadable, match=r"file://.*devices/edge-1/samples") as caught:
            cache.path_of(sample)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files_of(tmp_path) == []


def test_an_image_too_large_for_any_camera_is_not_read(bucket, cache, tmp_path, monkeypatch):
    """Beyond the cap no byte is decoded."""
    monkeypatch.setattr("tasks.adapters.images.MAX_IMAGE_BYTES", 100)
    with pytest.raises(ImageUnreadable, match="sensible size"):
        cache.path_of(stored(bucket, a_picture(0)))
    assert files_of(tmp_path) == []


def test_a_missing_object_is_another_error_than_a_bad_one(cache, tmp_path):
    """ObjectMissing for what the bucket does not have: it may come later."""
    with pytest.raises(ObjectMissing):
        cache.path_of(a_sample(0))
    assert files_of(tmp_path) == []


def test_a_fetch_that_is_cut_off_leaves_nothing_under_the_name(bucket, cache, tmp_path, monkeypatch):
    """After a failed download the next call fetches again."""
    sample = stored(bucket, a_picture(3))
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "download", lambda *_: (_ for _ in ()).throw(BucketError("cut off")))
        with pytest.raises(BucketError, match="cut off"):
            cache.path_of(sample)
    assert files_of(tmp_path) == []
    assert cache.path_of(sample).read_bytes() == a_picture(3)


def test_an_upright_photograph_keeps_its_orientation(bucket, cache):
    """Width and height are as shown: a JPEG that EXIF turns by a quarter is read as it is seen."""
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(out, "JPEG", exif=exif)
    sample = stored(bucket, out.getvalue(), width=HEIGHT, height=WIDTH)
    assert cache.pixels_of(sample).shape == (WIDTH, HEIGHT, 3)


def test_a_jpeg_is_taken_as_it_is_and_others_are_encoded(tmp_path):
    """The bytes of a JPEG stay; the pixels of PNG, with 16 bits or transparent too, survive within JPEG's loss."""
    (tmp_path / "a.jpg").write_bytes(a_picture(1))
    assert as_jpeg(tmp_path / "a.jpg", WIDTH, HEIGHT) == a_picture(1)
    pixels = cv2.imdecode(np.frombuffer(a_picture(1), np.uint8), cv2.IMREAD_COLOR)
    opaque = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    for name, content in {
        "b.png": pixels,
        "c.png": pixels.astype(np.uint16) * 257,
        "d.png": np.dstack([pixels, opaque]),
    }.items():
        cv2.imwrite(str(tmp_path / name), content)
        jpeg = as_jpeg(tmp_path / name, WIDTH, HEIGHT)
        assert jpeg.startswith(b"\xff\xd8\xff")
        assert jpeg == as_jpeg(tmp_path / name, WIDTH, HEIGHT)
        back = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(back.astype(int) - pixels).mean() < 3


def test_what_is_no_image_of_that_size_is_named(tmp_path):
    """Garbage, another size and a file that is not there: ImageUnreadable with the path."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG garbage")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((5, 6, 3), np.uint8))
    for name, words in {"a.png": "decoded", "b.png": "6 x 5 pixels, not 5 x 6", "c.png": "cannot be read"}.items():
        with pytest.raises(ImageUnreadable, match=name) as caught:
            as_jpeg(tmp_path / name, 5, 6)
        assert words in str(caught.value)
