"""A frame is a near-duplicate only when picture and detections both say so."""

from datetime import datetime, timedelta, timezone
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.duplicates import (
    COOLDOWN,
    MAX_CAMERAS,
    NEAR_DUPLICATE,
    PLACE,
    RecentFrames,
    difference_hash,
    hamming,
    signature,
    signatures_agree,
)
from tasks.core.entities import Detections
from tasks.core.settings import DuplicateRules

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
NAMES = ("car", "person")


def seen(*rows):
    """Detections of (class id, x1, y1, x2, y2, confidence)."""
    columns = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        columns[:, 1:5].astype(np.float32), columns[:, 5].astype(np.float32), columns[:, 0].astype(np.int64), NAMES
    )


def a_hash(*flipped):
    """A hash of zeros but for the bits that are flipped."""
    bits = np.zeros(256, np.uint8)
    bits[list(flipped)] = 1
    return np.packbits(bits)


TRUCK = (0, 100, 100, 300, 200, 0.9)
BIRD = (1, 500, 40, 510, 48, 0.06)


@pytest.fixture
def recent():
    return RecentFrames(DuplicateRules(enabled=True, cooldown_seconds=10, remembered_frames=3), confidence_floor=0.05)


def later(seconds):
    return NOON + timedelta(seconds=seconds)


@given(st.binary(min_size=272, max_size=272))
def test_the_hash_is_one_bit_for_each_pixel_and_its_left_neighbour(raw):
    """Against two plain loops: bit 16 * row + column says whether the right one is brighter."""
    gray = np.frombuffer(raw, np.uint8).reshape(16, 17)
    bits = [int(gray[row][column + 1] > gray[row][column]) for row in range(16) for column in range(16)]
    hashed = difference_hash(gray)
    assert (hashed.shape, hashed.dtype) == ((32,), np.uint8)
    assert np.unpackbits(hashed).tolist() == bits


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_hamming_counts_the_bits_that_differ(first, second):
    """Against comparing bit by bit."""
    a, b = np.frombuffer(first, np.uint8), np.frombuffer(second, np.uint8)
    assert hamming(a, b) == sum(x != y for x, y in zip(np.unpackbits(a), np.unpackbits(b)))


def test_a_picture_of_another_shape_has_no_hash():
    """A picture that nobody shrank is refused rather than hashed to something."""
    with pytest.raises(ValueError, match=r"\(16, 17\)"):
        difference_hash(np.zeros((17, 16), np.uint8))


def test_a_signature_holds_class_and_cell_from_the_floor_up():
    """Rows are sorted by class, column and row; what lies below the floor is left out, what lies on it is not."""
    detections = seen((1, 0, 0, 10, 10, 0.5), TRUCK, (0, 64, 0, 64, 0, 0.05), (0, 0, 0, 9, 9, 0.0499))
    assert signature(detections, 0.05).tolist() == [[0, 2, 0], [0, 200 // PLACE, 150 // PLACE], [1, 0, 0]]
    assert signature(Detections.empty(), 0.05).shape == (0, 3)


SIGHT = [TRUCK, BIRD, (0, 5, 5, 50, 50, 0.4), (0, 5, 5, 50, 50, 0.3)]


@given(st.permutations(SIGHT))
def test_a_signature_does_not_depend_on_the_order_of_detections(rows):
    """Two models, or two runs, that list the same boxes differently agree."""
    assert np.array_equal(signature(seen(*rows)), signature(seen(*SIGHT)))


cells = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 3)), max_size=5)


@given(cells, cells)
def test_signatures_agree_as_plain_loops_say(first, second):
    """Against trying every pairing: each object with one of its class in the same or a neighbouring cell."""

    def near(a, b):
        return a[0] == b[0] and abs(a[1] - b[1]) < 2 and abs(a[2] - b[2]) < 2

    expected = len(first) == len(second) and any(
        all(near(a, b) for a, b in zip(first, order)) for order in permutations(second)
    )
    as_array = [np.array(sorted(rows), np.int64).reshape(-1, 3) for rows in (first, second)]
    assert signatures_agree(*as_array) == expected


def test_a_small_new_object_is_never_a_duplicate(recent):
    """An identical hash does not hide a bird of 10 x 8 pixels at a confidence just above the floor."""
    recent.remember("gate", "f0", NOON, a_hash(), seen(TRUCK))
    assert recent.repeat("gate", later(60), a_hash(), seen(TRUCK)).kind == NEAR_DUPLICATE
    assert recent.repeat("gate", later(60), a_hash(), seen(TRUCK, BIRD)) is None


def test_an_object_that_comes_while_another_goes_is_no_duplicate(recent):
    """Two birds here and one there are not one here and two there, although every bird has one near it."""
    here, there = (1, 32, 32, 42, 42, 0.3), (1, 320, 320, 330, 330, 0.3)
    recent.remember("gate", "f0", NOON, a_hash(), seen(here, here, there))
    assert recent.repeat("gate", later(60), a_hash(), seen(here, here, there)).kind == NEAR_DUPLICATE
    assert recent.repeat("gate", later(60), a_hash(), seen(here, there, there)) is None


def test_a_changed_picture_is_no_duplicate_although_the_detections_are(recent):
    """11 of 256 bits are one more than the rule allows; 10 are not."""
    recent.remember("gate", "f0", NOON, a_hash(), seen(TRUCK))
    assert recent.repeat("gate", later(60), a_hash(*range(11)), seen(TRUCK)) is None
    repeat = recent.repeat("gate", later(60), a_hash(*range(10)), seen(TRUCK))
    assert "'f0', 10 of 256 bits" in repeat.detail


def test_a_box_that_jitters_is_no_new_object(recent):
    """A centre that crosses the border of a cell by a pixel, and a confidence that wavers, leave a duplicate."""
    recent.remember("gate", "f0", NOON, a_hash(), seen((0, 100, 100, 156, 156, 0.9)))
    assert recent.repeat("gate", later(60), a_hash(), seen((0, 99, 99, 155, 155, 0.7)))
    assert not recent.repeat("gate", later(60), a_hash(), seen((0, 200, 100, 256, 156, 0.9)))
    assert not recent.repeat("gate", later(60), a_hash(), seen((1, 100, 100, 156, 156, 0.9)))


def test_without_a_hash_only_the_cooldown_speaks(recent):
    """Two empty sights of different pictures must not be taken for the same."""
    recent.remember("gate", "f0", NOON, None, seen())
    assert recent.repeat("gate", later(60), None, seen()) is None
    assert recent.repeat("gate", later(60), a_hash(), seen()) is None
    assert recent.repeat("gate", later(9.999), None, seen(TRUCK)).kind == COOLDOWN


def test_the_cooldown_counts_from_the_last_kept_frame_of_the_camera(recent):
    """Below 10 s it holds, at 10 s it is over, another camera has its own, and a clock set back lifts it."""
    recent.remember("gate", "f0", NOON, a_hash(), seen(TRUCK))
    assert recent.repeat("gate", later(9.999), a_hash(*range(99)), seen(BIRD)).kind == COOLDOWN
    assert "'f0'" in recent.repeat("gate", later(0), None, seen()).detail
    assert recent.repeat("gate", later(10), a_hash(*range(99)), seen(BIRD)) is None
    assert recent.repeat("yard", later(1), a_hash(), seen(TRUCK)) is None
    assert recent.repeat("gate", later(-3600), a_hash(*range(99)), seen(BIRD)) is None


def test_only_the_last_kept_frames_are_remembered(recent):
    """The fourth frame pushes the first one out of a memory of three, and cameras are bounded too."""
    for number in range(4):
        recent.remember("gate", f"f{number}", NOON, a_hash(*range(50 * number, 50 * number + 50)), seen())
    assert recent.repeat("gate", later(60), a_hash(*range(50)), seen()) is None
    assert "'f1'" in recent.repeat("gate", later(60), a_hash(*range(50, 100)), seen()).detail
    for number in range(2 * MAX_CAMERAS):
        recent.remember(f"camera-{number}", "f", NOON, a_hash(), seen())
    assert len(recent.state()) == MAX_CAMERAS


def test_what_is_remembered_does_not_follow_the_callers_buffer(recent):
    """A capture loop may write every frame's hash into the same array."""
    buffer = a_hash()
    recent.remember("gate", "f0", NOON, buffer, seen(TRUCK))
    buffer[:] = 255
    assert recent.repeat("gate", later(60), a_hash(), seen(TRUCK))


def test_nothing_is_a_duplicate_unless_asked_for():
    """With the rules switched off even the same frame is new, and nothing is remembered."""
    recent = RecentFrames(DuplicateRules(enabled=False, cooldown_seconds=10), 0.05)
    recent.remember("gate", "f0", NOON, a_hash(), seen(TRUCK))
    assert recent.repeat("gate", NOON, a_hash(), seen(TRUCK)) is None
    assert recent.state() == {}
