"""Consumers are told what the model sees as JSON lines, and never hold up who tells them."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.collector.consumers import Consumers, Message, at_or_above
from tasks.collector.consumers.message import Seen
from tasks.collector.consumers.waiting import Waiting
from tasks.core.entities import Detections
from tasks.core.errors import SettingsError
from tasks.core.settings import DeviceSettings, validated
from tests.conftest import ROOT
from tests.tasks.seeing import START, Drops, a_frame, device_with, some_detections, until

THRESHOLDS = {"car": 0.6}  # a truck's is 0.5


def file_consumer(path: Path, **fields) -> dict:
    return {"type": "file", "path": str(path), **fields}


def lines_of(path: Path) -> list[dict]:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def tell(consumers: Consumers, count: int = 1, first: int = 0, rows=((0, 0.9),)) -> None:
    for index in range(first, first + count):
        consumers.tell(a_frame(index), some_detections(*rows), THRESHOLDS, "ab" * 8)


def test_a_line_says_what_the_model_sees(tmp_path):
    """Detections at or above their class's threshold leave with camera, time, project, model and frame."""
    path = tmp_path / "seen.jsonl"
    consumers = Consumers(device_with(file_consumer(path)), Drops())
    consumers.start()
    seen = some_detections((0, 0.91), (0, 0.6), (0, 0.59), (1, 0.5), (1, 0.49))
    consumers.tell(a_frame(12, source="clip.mp4#12"), seen, THRESHOLDS, "ab" * 8)
    consumers.tell(a_frame(13), some_detections(), THRESHOLDS, "ab" * 8, project="harbour")
    assert consumers.stop(5)
    first, second = lines_of(path)
    assert first == {
        "schema_version": 1,
        "device": "gate-1",
        "project": "yard",
        "camera": "gate",
        "captured_at": "2026-05-01T12:00:01.240Z",
        "frame": 12,
        "frame_id": "clip.mp4#12",
        "width": 64,
        "height": 48,
        "model_version": "ab" * 8,
        "detections": [
            {"class_name": "car", "confidence": 0.91, "xyxy": [0.0, 0.0, 10.0, 20.0]},
            {"class_name": "car", "confidence": 0.6, "xyxy": [1.0, 1.0, 11.0, 21.0]},
            {"class_name": "truck", "confidence": 0.5, "xyxy": [3.0, 3.0, 13.0, 23.0]},
        ],
    }
    assert second["detections"] == []
    assert (second["project"], second["frame_id"]) == ("harbour", "2026-05-01T12:00:01.340Z#13")
    assert Message.model_validate(first).frame == 12


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), max_size=20),
    st.dictionaries(st.sampled_from(["car", "truck", "bus"]), st.floats(0, 1, width=32)),
)
def test_what_reaches_its_threshold_is_told(rows, thresholds):
    """Against a loop over the rows: a detection is told when its confidence is not below its class's threshold."""
    seen = some_detections(*rows)
    names = ("car", "truck")
    expected = [
        (class_id, score) for class_id, score in rows if np.float32(score) >= thresholds.get(names[class_id], 0.5)
    ]
    told = at_or_above(seen, thresholds)
    assert list(zip(told.class_id.tolist(), told.confidence.tolist())) == expected


def test_a_confidence_equal_to_its_threshold_reaches_it():
    """0.7 as a float32 lies below 0.7 as written in settings, and is told all the same."""
    assert len(at_or_above(some_detections((0, 0.7)), {"car": 0.7})) == 1


def test_frames_without_detections_are_told_unless_they_are_not_wanted(tmp_path):
    """Every frame is told, so that silence means trouble; `only_with_detections` leaves the empty ones out."""
    all_of_them, some_of_them = tmp_path / "all.jsonl", tmp_path / "some.jsonl"
    device = device_with(file_consumer(all_of_them), file_consumer(some_of_them, only_with_detections=True))
    consumers = Consumers(device, drops := Drops())
    consumers.start()
    tell(consumers, rows=((0, 0.9),))
    tell(consumers, first=1, rows=((0, 0.59),))
    tell(consumers, first=2, rows=())
    assert consumers.stop(5)
    assert [line["frame"] for line in lines_of(all_of_them)] == [0, 1, 2]
    assert [line["frame"] for line in lines_of(some_of_them)] == [0]
    assert drops == {}
    assert consumers.sent() == {"file": 3, "file 2": 1}


def test_a_full_file_is_put_aside(tmp_path):
    """A file at its size moves to .1, older ones move up, the oldest goes; what is left is whole and in order."""
    path = tmp_path / "seen.jsonl"
    consumers = Consumers(device_with(file_consumer(path, megabytes=1, files=2, waiting_messages=100_000)), Drops())
    consumers.start()
    tell(consumers, 4000, rows=((0, 0.9),) * 10)
    assert consumers.stop(60)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["seen.jsonl", "seen.jsonl.1", "seen.jsonl.2"]
    assert all(file.stat().st_size <= 1_000_000 for file in tmp_path.iterdir())
    frames = [
        line["frame"] for name in ("seen.jsonl.2", "seen.jsonl.1", "seen.jsonl") for line in lines_of(tmp_path / name)
    ]
    assert frames == list(range(frames[0], 4000))
    assert frames[0] > 0


def test_a_line_that_a_crash_cut_is_taken_away(tmp_path):
    """What stands after the last newline of a file is no line; new ones begin where it began."""
    path = tmp_path / "seen.jsonl"
    path.write_bytes(b'{"frame": 1}\n{"frame": 2, "camer')
    consumers = Consumers(device_with(file_consumer(path)), Drops())
    consumers.start()
    tell(consumers, first=3)
    assert consumers.stop(5)
    assert [line["frame"] for line in lines_of(path)] == [1, 3]


def test_a_file_that_is_moved_or_deleted_is_begun_anew(tmp_path):
    """Another program's rotation is followed: lines go to the name, not to the file that once had it."""
    path = tmp_path / "logs" / "seen.jsonl"
    consumers = Consumers(device_with(file_consumer(path)), Drops())
    consumers.start()
    tell(consumers)
    until(lambda: consumers.sent()["file"] == 1)
    path.rename(tmp_path / "moved.jsonl")
    tell(consumers, first=1)
    until(lambda: consumers.sent()["file"] == 2)
    path.unlink()
    path.parent.rmdir()
    tell(consumers, first=2)
    assert consumers.stop(5)
    assert [line["frame"] for line in lines_of(tmp_path / "moved.jsonl")] == [0]
    assert [line["frame"] for line in lines_of(path)] == [2]


def test_two_writers_do_not_share_a_file(tmp_path):
    """A file that another consumer writes to is left to it; the second one says so and counts what it loses."""
    path = tmp_path / "seen.jsonl"
    device = device_with(file_consumer(path), file_consumer(path))
    consumers = Consumers(device, drops := Drops())
    consumers.start()
    tell(consumers, 5)
    until(lambda: any("another one writes to it" in state for state in consumers.states().values()))
    until(lambda: max(consumers.sent().values()) == 5)
    other = next(label for label, sent in consumers.sent().items() if not sent)
    consumers.stop(1)
    assert [line["frame"] for line in lines_of(path)] == [0, 1, 2, 3, 4]
    assert drops == {f"message to {other} dropped, not sent when stopped": 5}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_waited_for(small_disk):
    """On a full disk no half line stays, what has to make room is counted, and lines go on when there is room."""
    path, filler = small_disk / "seen.jsonl", small_disk / "filler"
    errors: list[str] = []
    consumers = Consumers(device_with(file_consumer(path, waiting_messages=50)), drops := Drops(), errors.append)
    consumers.start()
    tell(consumers, 3)
    until(lambda: consumers.sent()["file"] == 3)
    filler.write_bytes(b"x" * 1000)
    with filler.open("ab", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                break
    for index in range(3, 403):
        tell(consumers, first=index)
        time.sleep(0.002)
    until(lambda: "disk full" in consumers.states()["file"])
    assert all(line["camera"] == "gate" for line in lines_of(path))
    filler.unlink()
    until(lambda: consumers.states()["file"] == "running")
    assert consumers.stop(5)
    frames = [line["frame"] for line in lines_of(path)]
    assert frames == sorted(set(frames))
    assert frames[-50:] == list(range(353, 403))  # the newest ones
    assert len(frames) + sum(drops.values()) == 400 + 3
    assert set(drops) == {"message to file dropped, disk full"}
    assert len(errors) == 1
    assert "disk full" in errors[0]


@pytest.mark.parametrize("kind", ["folder", "named pipe"])
def test_what_is_no_file_is_reported_and_ends_nothing(tmp_path, kind):
    """A path that leads to a folder or a pipe is tried again and reported, and stopping does not wait for it."""
    path = tmp_path / "seen.jsonl"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    consumers = Consumers(device_with(file_consumer(path)), drops := Drops())
    consumers.start()
    tell(consumers, 2)
    until(lambda: "trying again" in consumers.states()["file"])
    began = time.monotonic()
    consumers.stop(5)
    assert time.monotonic() - began < 3
    assert drops == {"message to file dropped, not sent when stopped": 2}


# --- standard output -------------------------------------------------------------------------------------------------


def test_lines_go_to_standard_output():
    """A process with `type: stdout` writes whole lines there, and nothing else."""
    code = """
from tasks.collector.consumers import Consumers
from tests.tasks.seeing import a_frame, device_with, some_detections
consumers = Consumers(device_with({"type": "stdout"}), print)
consumers.start()
for index in range(300):
    consumers.tell(a_frame(index), some_detections(*[(0, 0.9)] * 100), {}, "stub")
consumers.stop(30)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=120)
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == list(range(300))


def test_a_reader_that_stands_still_holds_up_nobody():
    """With nobody reading, telling takes no longer; the oldest messages make room, and stopping keeps its time."""
    reading, writing = os.pipe()
    consumers = Consumers(device_with({"type": "stdout", "waiting_messages": 10}), drops := Drops(), stdout=writing)
    consumers.start()
    longest = 0.0
    for index in range(3000):
        before = time.monotonic()
        tell(consumers, first=index, rows=((0, 0.9),) * 20)
        longest = max(longest, time.monotonic() - before)
    assert longest < 1.0
    until(lambda: drops["message to stdout dropped, reader behind"] > 1000)
    told = 3000

    def is_full() -> bool:  # the pipe has no room either; a writer that hardly had a turn may need more to fill it
        nonlocal told
        if not select.select([], [writing], [], 0)[1]:
            return True
        tell(consumers, first=told, rows=((0, 0.9),) * 20)
        told += 1
        return False

    until(is_full)
    began = time.monotonic()
    assert not consumers.stop(0.5)
    assert time.monotonic() - began < 2.5
    os.close(writing)
    with os.fdopen(reading, "rb") as reader:
        whole = [line for line in reader.read().splitlines(keepends=True) if line.endswith(b"\n")]
    frames = [json.loads(line)["frame"] for line in whole]
    assert frames == sorted(frames)
    lost = drops["message to stdout dropped, reader behind"] + drops["message to stdout dropped, not sent when stopped"]
    assert len(frames) == consumers.sent()["stdout"]
    assert len(frames) + lost == told


def test_a_reader_that_went_away_is_no_end():
    """A closed pipe is reported as a reader that is gone; nothing is raised, and what is lost is counted."""
    reading, writing = os.pipe()
    errors: list[str] = []
    device = device_with({"type": "stdout", "waiting_messages": 5})
    consumers = Consumers(device, drops := Drops(), errors.append, stdout=writing)
    consumers.start()
    os.close(reading)
    tell(consumers)
    until(lambda: "reader gone" in consumers.states()["stdout"])
    tell(consumers, 20, first=1)
    consumers.stop(1)
    os.close(writing)
    assert drops["message to stdout dropped, reader gone"] == 16
    assert drops["message to stdout dropped, not sent when stopped"] == 5
    assert len(errors) == 1


# --- the queue -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.lists(st.sampled_from(["put", "take", "put back"]), max_size=60))
def test_the_oldest_makes_room(limit, steps):
    """Against a plain list: what waits is the newest, in order, and everything else was taken or counted."""
    dropped: list[None] = []
    waiting = Waiting(limit, lambda: dropped.append(None))
    reference: list[int] = []
    lost, taken, number = 0, None, 0
    for step in steps:
        if step == "put":
            waiting.put(numbered(number))
            reference.append(number)
            number += 1
        elif step == "take":
            got = waiting.take(0)
            taken = got.index if got is not None else None
            assert taken == (reference.pop(0) if reference else None)
        elif taken is not None:
            waiting.put_back(numbered(taken))
            reference.insert(0, taken)
            taken = None
        lost += max(0, len(reference) - limit)
        del reference[: max(0, len(reference) - limit)]
        assert (len(waiting), len(dropped)) == (len(reference), lost)
    assert waiting.close() == len(reference)
    waiting.put(numbered(number))
    assert (len(waiting), len(dropped)) == (0, lost + 1)


def numbered(index: int) -> Seen:
    return Seen("gate-1", "yard", "gate", START, index, "", (48, 64), some_detections(), {}, "stub")


def test_no_pixels_wait():
    """What waits for a consumer holds no reference to its frame's pixels."""
    import gc
    import weakref

    reading, writing = os.pipe()
    consumers = Consumers(device_with({"type": "stdout"}), Drops(), stdout=writing)  # not started: all of it waits
    frame = a_frame()
    pixels = weakref.ref(frame.pixels)
    consumers.tell(frame, some_detections((0, 0.9)), THRESHOLDS, "stub")
    del frame
    gc.collect()
    assert pixels() is None
    os.close(reading)
    os.close(writing)


def test_what_is_no_valid_message_holds_up_no_other(tmp_path):
    """A detection that no record can hold is counted, and the next message follows."""
    path = tmp_path / "seen.jsonl"
    consumers = Consumers(device_with(file_consumer(path)), drops := Drops())
    consumers.start()
    bad = Detections(np.zeros((1, 4), np.float32), np.array([1.5], np.float32), np.zeros(1, np.int64), ("car",))
    consumers.tell(a_frame(0), bad, {}, "stub")
    tell(consumers, first=1)
    assert consumers.stop(5)
    assert [line["frame"] for line in lines_of(path)] == [1]
    assert drops == {"message to file dropped, not a valid message": 1}


def test_many_threads_may_tell(tmp_path):
    """Frames that several threads tell at once all arrive, each once."""
    path = tmp_path / "seen.jsonl"
    consumers = Consumers(device_with(file_consumer(path, waiting_messages=10_000)), drops := Drops())
    consumers.start()
    tellers = [threading.Thread(target=tell, args=(consumers, 200, 1000 * n)) for n in range(5)]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        teller.join()
    assert consumers.stop(30)
    assert sorted(line["frame"] for line in lines_of(path)) == [1000 * n + i for n in range(5) for i in range(200)]
    assert drops == {}


def test_a_device_without_consumers_does_nothing():
    """Nothing starts, telling is free, and stopping is done at once."""
    consumers = Consumers(device_with(), Drops())
    consumers.start()
    tell(consumers, 10)
    assert consumers.stop(0)
    assert consumers.states() == {}


@pytest.mark.parametrize(
    ("consumer", "says"),
    [
        ({"type": "file"}, "path: a file needs one"),
        ({"type": "stdout", "path": "x"}, "standard output has none"),
        ({"type": "kafka"}, "consumers.*type: unknown type"),
        ({"type": "mqtt"}, "host: Field required"),
        ({"type": "mqtt", "host": "broker", "topic": "yard/#"}, "no wildcard"),
        ({"type": "mqtt", "host": "broker", "topic": "yard/{frame}"}, "topic: takes"),
        ({"type": "mqtt", "host": "broker", "topic": "$SYS/yard"}, "does not begin with"),
        ({"type": "mqtt", "host": "broker", "port": 0}, "port"),
        ({"type": "mqtt", "host": "broker", "qos": 2}, "qos"),
        ({"type": "mqtt", "host": "broker", "password": "secret"}, "password: Extra inputs"),
        ({"type": "stdout", "waiting_messages": 0}, "waiting_messages"),
    ],
)
def test_settings_that_cannot_be_obeyed_are_refused(consumer, says):
    """One line names the field and what is wrong with it."""
    data = {"name": "gate-1", "project": "yard", "bucket": "b", "consumers": [consumer]}
    with pytest.raises(SettingsError, match=r"^device\.yaml: ") as caught:
        validated(DeviceSettings, data, "device.yaml")
    assert re.search(says, str(caught.value))
    assert "\n" not in str(caught.value)
