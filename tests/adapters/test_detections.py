"""The detection cache: a model looks at an image once, and whatever happens to the folder, no result changes."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters import detections as module
from tasks.adapters.detections import IMAGES_A_FILE, DetectionCache, key_of
from tasks.adapters.detector import open_detector
from tasks.core.entities import STUB, Detections
from tests.adapters.models import constant_detector

NAMES = ("car", "truck")


def image(number: int) -> str:
    return f"{number:064x}"


def seen(number: int, rows: int = 3) -> Detections:
    rng = np.random.default_rng(number)
    return Detections(rng.random((rows, 4), np.float32), rng.random(rows, np.float32), rng.integers(0, 2, rows), NAMES)


def same(a: Detections | None, b: Detections) -> bool:
    return (
        a is not None
        and a.class_names == b.class_names
        and all(
            x.dtype == y.dtype and np.array_equal(x, y)
            for x, y in ((a.xyxy, b.xyxy), (a.confidence, b.confidence), (a.class_id, b.class_id))
        )
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return open_detector(
        constant_detector(tmp_path_factory.mktemp("model") / "model.onnx", [(20, 20, 9, 9, 0, 0.9)]),
        project_classes=NAMES,
    )


def remember(cache: DetectionCache, detector, numbers, rows: int = 3) -> None:
    with cache.of(detector, NAMES, ()) as known:
        for number in numbers:
            known.add(image(number), seen(number, rows))


def recalled(cache: DetectionCache, detector, numbers) -> dict[int, Detections]:
    with cache.of(detector, NAMES, {image(number) for number in numbers}) as known:
        return {n: found for n in numbers if (found := known.get(image(n))) is not None}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@settings(deadline=None, max_examples=30)
@given(passes=st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6), max_size=4))
def test_what_was_added_in_any_passes_is_recalled_to_the_bit(tmp_path_factory, detector, passes):
    """Like a dictionary: every image of every pass, with or without detections, and nothing else."""
    cache, reference = DetectionCache(tmp_path_factory.mktemp("cache")), {}
    for one in passes:
        with cache.of(detector, NAMES, ()) as known:
            for number, rows in one:
                reference.setdefault(number, seen(number, rows))  # a model sees the same again
                known.add(image(number), reference[number])
    found = recalled(cache, detector, range(12))
    assert found.keys() == reference.keys()
    assert all(same(found[number], reference[number]) for number in reference)


def test_images_that_are_not_asked_for_stay_on_the_disk(tmp_path, detector):
    """A pass over a split does not hold what the model saw in the others."""
    cache = DetectionCache(tmp_path)
    remember(cache, detector, range(8))
    with cache.of(detector, NAMES, {image(3)}) as known:
        assert same(known.get(image(3)), seen(3))
        assert known.get(image(4)) is None


def test_a_pass_that_fails_keeps_what_it_has_done(tmp_path, detector):
    """An error or Ctrl-C in the middle costs the one image."""
    cache = DetectionCache(tmp_path)

    def stopped() -> None:
        with cache.of(detector, NAMES, ()) as known:
            known.add(image(1), seen(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert recalled(cache, detector, [1, 2]).keys() == {1}


def test_a_long_pass_is_kept_in_parts(tmp_path, detector):
    """A kill in the middle costs one file's worth of images at most."""
    with DetectionCache(tmp_path).of(detector, NAMES, ()) as known:
        for number in range(IMAGES_A_FILE + 1):
            known.add(image(number), seen(number, 1))
        assert len(files(tmp_path)) == 1
    assert len(files(tmp_path)) == 2
    assert len(recalled(DetectionCache(tmp_path), detector, range(IMAGES_A_FILE + 1))) == IMAGES_A_FILE + 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "nonsense"])
def test_a_damaged_file_is_no_answer_and_goes(tmp_path, detector, damage):
    """At any byte: the other files still answer, and what was in this one is asked anew."""
    cache = DetectionCache(tmp_path)
    remember(cache, detector, [1, 2])
    (first,) = files(tmp_path)
    remember(cache, detector, [3])
    content = first.read_bytes()
    for position in range(0, len(content), 97) if damage == "flipped" else [len(content) // 2]:
        flipped = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        first.write_bytes(
            {"flipped": flipped, "cut": content[:position], "empty": b"", "nonsense": b"PK nonsense" * 9}[damage]
        )
        assert recalled(cache, detector, [1, 2, 3]).keys() == {3}
        assert not first.exists()
    remember(cache, detector, [1])
    assert recalled(cache, detector, [1, 2, 3]).keys() == {1, 3}


def test_the_folder_may_be_deleted_while_a_pass_runs(tmp_path, detector):
    """It costs what was remembered, no result and no error."""
    folder = tmp_path / "cache"
    cache = DetectionCache(folder)
    remember(cache, detector, [1])
    with cache.of(detector, NAMES, {image(1)}) as known:
        for path in files(folder):
            path.unlink()
        for path in (*folder.iterdir(), folder):
            path.rmdir()
        assert same(known.get(image(1)), seen(1))
        known.add(image(2), seen(2))
    assert recalled(cache, detector, [1, 2]).keys() == {2}


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path, detector, caplog):
    """A full or foreign disk is told in the log; the pass goes on."""
    (tmp_path / "cache").write_text("a file in its place")
    cache = DetectionCache(tmp_path / "cache")
    remember(cache, detector, [1])
    assert "not kept" in caplog.text
    assert recalled(cache, detector, [1]) == {}


def test_what_was_not_used_for_longest_goes_first(tmp_path, detector):
    """The folder never stays above its limit, and what a pass has used counts as new."""
    big = DetectionCache(tmp_path)
    for number in range(4):
        remember(big, detector, [number], rows=100)
    size = sum(path.stat().st_size for path in files(tmp_path)) // 4
    left = tmp_path / "aborted" / ".part"
    left.parent.mkdir()
    left.write_bytes(bytes(size))
    for age, path in enumerate([left, *sorted(files(tmp_path / key_of(detector, NAMES)))]):
        os.utime(path, (1000 + age, 1000 + age))
    oldest = next(n for n in range(4) if holds(sorted(files(tmp_path / key_of(detector, NAMES)))[0], n, detector))
    assert recalled(big, detector, [oldest]).keys() == {oldest}  # used: now it is the newest
    small = DetectionCache(tmp_path, largest=3 * size + size // 2)
    remember(small, detector, [9], rows=100)
    found = recalled(small, detector, range(10))
    assert {oldest, 9} < found.keys()
    assert len(found) == 3
    assert not left.parent.exists()
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 3 * size + size // 2


def holds(path: Path, number: int, detector) -> bool:
    return image(number).encode() in path.read_bytes()


def test_another_model_floor_class_list_or_program_is_another_answer(tmp_path, detector, monkeypatch):
    """The key holds everything that detections follow from."""
    other = constant_detector(tmp_path / "other.onnx", [(20, 20, 9, 9, 0, 0.8)])
    mine = constant_detector(tmp_path / "mine.onnx", [(20, 20, 9, 9, 0, 0.9)])
    opened = [
        open_detector(other, project_classes=NAMES),
        open_detector(mine, project_classes=NAMES, confidence_floor=0.001),
        open_detector(mine, project_classes=NAMES, nms_iou=0.5),
        open_detector(mine, project_classes=(*NAMES, "bus")),
        open_detector(STUB, project_classes=NAMES),
    ]
    keys = [key_of(detector, NAMES), key_of(detector, NAMES[::-1]), *(key_of(d, NAMES) for d in opened)]
    assert len(set(keys)) == len(keys)
    assert key_of(open_detector(mine, project_classes=NAMES), NAMES) == keys[0]
    monkeypatch.setattr(module.onnxruntime, "__version__", "0.0.1")
    module._program.cache_clear()
    assert key_of(detector, NAMES) != keys[0]
    module._program.cache_clear()
