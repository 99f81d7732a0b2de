"""The outbox: what it acknowledges stays, what is corrupt never leaves, and it never outgrows its cap."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.adapters.outbox import (
    DeviceLock,
    Outbox,
    encode_jpeg,
    holder_of,
    read_checked,
    spool,
    write_checked,
)
from tasks.adapters.outbox.records import origin_of, value_of
from tasks.core.errors import AlreadyRunning, DataError, ImageUnreadable, OutboxFull, SettingsError
from tests.adapters.samples import a_sample

ROOT = Path(__file__).parents[2]
MEGABYTE = 2**20


def ids_in(outbox):
    return [item.sample.sample_id for item in outbox.pending(10**6)]


def bytes_on_disk(folder):
    return sum(p.stat().st_size for sub in ("samples", "quarantine") for p in (folder / sub).iterdir())


def test_a_sample_comes_out_as_it_went_in(tmp_path):
    """Record and image are read back equal, oldest first, and a new process finds the same."""
    outbox = Outbox(tmp_path, MEGABYTE)
    stored = [a_sample(n) for n in (3, 1, 2)]
    for sample, jpeg in stored:
        assert outbox.put(sample, jpeg) == "stored"
    for opened in (outbox, Outbox(tmp_path, MEGABYTE)):
        items = opened.pending(2)
        assert [i.sample for i in items] == [s for s, _ in stored[:2]]
        assert [opened.read_image(s) for s, _ in stored] == [j for _, j in stored]
        assert len(opened) == 3
        assert opened.used_bytes == bytes_on_disk(tmp_path)


@pytest.mark.slow
def test_a_killed_writer_loses_no_acknowledged_sample(tmp_path):
    """After SIGKILL at twenty random instants every sample that `put` acknowledged is there and whole."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("outbox_victim.py")), str(tmp_path), "20", str(512 * MEGABYTE)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    acknowledged = [line for line in done.stdout.splitlines() if len(line) == 20]
    outbox = Outbox(tmp_path, 512 * MEGABYTE)
    assert len(acknowledged) > 20
    assert set(acknowledged) <= set(ids_in(outbox))
    for item in outbox.pending(10**6):
        outbox.read_image(item.sample)
    assert outbox.drops == {}
    assert not [p for p in (tmp_path / "samples").iterdir() if p.name.endswith(".tmp")]
    assert len(list((tmp_path / "samples").iterdir())) == 2 * len(outbox)


def test_the_files_are_synced_before_they_are_acknowledged(tmp_path, monkeypatch):
    """A power cut takes what was not synced: image, record and the folder are synced, in this order, within `put`."""
    outbox = Outbox(tmp_path, MEGABYTE)
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    sample, jpeg = a_sample(1)
    outbox.put(sample, jpeg)
    assert synced[0] == f".{sample.sample_id}.jpg.tmp"
    assert synced[1].startswith(f".{sample.sample_id}.")
    assert synced[1].endswith(".json.tmp")
    assert synced[2] == "samples"


def test_the_same_frame_again_is_told_from_the_same_image_of_another_frame(tmp_path):
    """A frame decided again is "repeated", another frame of equal bytes is "same image"; neither is stored."""
    outbox = Outbox(tmp_path, MEGABYTE)
    sample, jpeg = a_sample(1)
    other = sample.model_copy(update={"source": "clip.mp4#77"})
    assert outbox.put(sample, jpeg) == "stored"
    assert outbox.put(sample, jpeg) == "repeated"
    assert outbox.put(other, jpeg) == "same image"
    outbox.delivered([sample])
    for opened in (outbox, Outbox(tmp_path, MEGABYTE)):
        assert opened.put(sample, jpeg) == "repeated"
        assert opened.put(other, jpeg) == "same image"
        assert len(opened) == 0
        assert opened.used_bytes == 0 == bytes_on_disk(tmp_path)


def test_a_delivery_noted_before_a_crash_is_not_delivered_again(tmp_path):
    """When the process dies between the note and the removal of the files, the next one removes them."""
    outbox = Outbox(tmp_path, MEGABYTE)
    sample, jpeg = a_sample(1)
    outbox.put(sample, jpeg)
    outbox._delivered.add([(sample.sample_id, origin_of(sample))])
    again = Outbox(tmp_path, MEGABYTE)
    assert ids_in(again) == []
    assert list((tmp_path / "samples").iterdir()) == []


def test_a_cut_line_of_the_delivery_note_is_ignored(tmp_path):
    """A crash in the middle of a line leaves the whole lines in force."""
    outbox = Outbox(tmp_path, MEGABYTE)
    first, second = a_sample(1), a_sample(2)
    for sample, jpeg in (first, second):
        outbox.put(sample, jpeg)
        outbox.delivered([sample])
    path = tmp_path / "delivered.txt"
    path.write_bytes(path.read_bytes()[:-5])
    again = Outbox(tmp_path, MEGABYTE)
    assert again.put(*first) == "repeated"
    assert again.put(*second) == "stored"


@pytest.mark.parametrize("part", ["jpg", "json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_every_corrupt_file_is_quarantined_and_counted(tmp_path, part, damage):
    """Seventeen files with a flipped byte, a cut or nothing left: seventeen quarantined, none ever handed out."""
    rng = np.random.default_rng(5)
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(20):
        outbox.put(*a_sample(number))
    for path in sorted((tmp_path / "samples").glob(f"*.{part}"))[:17]:
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes({"flip": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}[damage])
    delivered = []
    for item in outbox.pending(100):
        try:
            outbox.read_image(item.sample)
        except DataError:
            continue
        delivered.append(item.sample)
    assert len(delivered) == 3 == len(outbox)
    assert outbox.drops == {"quarantined, corrupt": 17}
    assert len(list((tmp_path / "quarantine").iterdir())) == 34
    assert outbox.used_bytes == bytes_on_disk(tmp_path)


def test_corrupt_records_are_found_at_the_start_too(tmp_path):
    """A record without its image goes to quarantine when the outbox opens, one that is not its digest at its turn."""
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(3):
        outbox.put(*a_sample(number))
    records = sorted((tmp_path / "samples").glob("*.json"))
    records[0].write_bytes(b"{}")
    (tmp_path / "samples" / f"{records[1].name[:20]}.jpg").unlink()
    again = Outbox(tmp_path, MEGABYTE)
    assert len(again) == 2
    assert len(again.pending(3)) == 1 == len(again)
    assert again.drops == {"quarantined, corrupt": 2}


def test_the_quarantine_is_bounded_and_what_leaves_it_is_counted(tmp_path):
    """Quarantined files take a tenth of the cap at most; older ones are removed and counted."""
    outbox = Outbox(tmp_path, 200_000)
    for number in range(20):
        outbox.put(*a_sample(number))
    for path in (tmp_path / "samples").glob("*.json"):
        path.write_bytes(b"{}")
    assert outbox.pending(100) == []
    assert bytes_on_disk(tmp_path) <= 20_000
    assert outbox.used_bytes == bytes_on_disk(tmp_path)
    assert outbox.drops["quarantined, corrupt"] == 20
    assert outbox.drops["removed from quarantine, no room"] > 0


FIELDS = st.fixed_dictionaries(
    {
        "random_slice": st.booleans(),
        "matched": st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]),
        "probability": st.sampled_from([0.01, 0.5, 1.0]),
    }
)


@given(st.lists(st.tuples(FIELDS, st.integers(100, 2500)), max_size=40))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_under_a_cap_the_most_valuable_samples_stay(tmp_path_factory, arrivals):
    """Against a slow reference: never over the cap, every loss counted, and always the least valuable one goes."""
    folder = tmp_path_factory.mktemp("outbox")
    outbox = Outbox(folder, 12_000)
    reference, refused, evicted = {}, 0, 0
    for number, (fields, size) in enumerate(arrivals):
        sample, jpeg = a_sample(number, size, **fields)
        need = size + len(sample.to_json())
        while sum(n for n, _ in reference.values()) + need > 12_000:
            victim = min(reference, key=lambda i: reference[i][1], default=None)
            if victim is None or reference[victim][1] >= value_of(sample):
                break
            del reference[victim]
            evicted += 1
        if sum(n for n, _ in reference.values()) + need <= 12_000:
            reference[sample.sample_id] = (need, value_of(sample))
            assert outbox.put(sample, jpeg) == "stored"
        else:
            refused += 1
            with pytest.raises(OutboxFull):
                outbox.put(sample, jpeg)
        assert bytes_on_disk(folder) == outbox.used_bytes <= 12_000
    assert set(ids_in(outbox)) == set(reference)
    assert outbox.drops["evicted, outbox at its cap"] == evicted
    assert outbox.drops["refused, outbox at its cap"] == refused


def test_the_random_slice_goes_last_and_stays_uniform(tmp_path):
    """A rare sample never displaces one of the random slice, and what is left of the slice does not depend on time."""
    outbox = Outbox(tmp_path, 60_000)
    for number in range(60):
        sample, jpeg = a_sample(number, 2000, random_slice=True)
        try:
            outbox.put(sample, jpeg)
        except OutboxFull:
            continue
    everyone = sorted((a_sample(n, 2000)[0].sample_id for n in range(60)), reverse=True)
    kept = set(ids_in(outbox))
    assert kept == set(everyone[: len(kept)])
    with pytest.raises(OutboxFull, match="nothing of lesser value"):
        outbox.put(*a_sample(99, 2000, matched=("a", "b", "c"), probability=0.001))


def test_samples_being_uploaded_are_not_evicted(tmp_path):
    """What `pending` has handed out stays until the next call, however full the outbox gets."""
    outbox = Outbox(tmp_path, 20_000)
    cheap = [a_sample(n, 2000) for n in range(3)]
    for sample, jpeg in cheap:
        outbox.put(sample, jpeg)
    held = [item.sample.sample_id for item in outbox.pending(3)]
    for number in range(10, 30):
        outbox.put(*a_sample(number, 2000, random_slice=True)) if len(outbox) < 6 else None
    for number in range(30, 40):
        try:
            outbox.put(*a_sample(number, 2000, random_slice=True))
        except OutboxFull:
            break
    assert set(held) <= set(ids_in(outbox))


def test_a_full_disk_evicts_and_then_refuses_and_leaves_no_debris(tmp_path, monkeypatch):
    """ENOSPC costs the least valuable samples, then the new one; nothing half written stays; it goes on afterwards."""
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(2):
        outbox.put(*a_sample(number))
    full = {"left": 1}
    real = spool.write_durably

    def write(path, data):
        if full["left"]:
            full["left"] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(spool, "write_durably", write)
    assert outbox.put(*a_sample(2, random_slice=True)) == "stored"
    assert outbox.drops == {"evicted, disk full": 1}
    full["left"] = 99
    with pytest.raises(OutboxFull, match="No space left"):
        outbox.put(*a_sample(3, random_slice=True))
    full["left"] = 0
    assert outbox.put(*a_sample(4)) == "stored"
    assert outbox.used_bytes == bytes_on_disk(tmp_path)
    assert len(list((tmp_path / "samples").iterdir())) == 2 * len(outbox)


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    """An outbox below a file is a SettingsError in one line."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="cannot be used as an outbox"):
        Outbox(tmp_path / "file" / "outbox", MEGABYTE)


def test_checked_files_are_whole_or_none(tmp_path):
    """A state file that was cut or changed reads as None, like one that is missing."""
    path = tmp_path / "state.json"
    assert read_checked(path) is None
    write_checked(path, b'{"a": 1}\n')
    assert read_checked(path) == b'{"a": 1}\n'
    path.write_bytes(path.read_bytes()[:-2])
    assert read_checked(path) is None


def test_one_collector_holds_a_folder_and_is_named(tmp_path):
    """The second holder is refused with the first one's process id; after the first has gone it gets the folder."""
    assert holder_of(tmp_path) is None
    with DeviceLock(tmp_path):
        assert holder_of(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            DeviceLock(tmp_path)
    assert holder_of(tmp_path) is None
    DeviceLock(tmp_path).close()


def test_who_only_asks_for_the_holder_keeps_nobody_out(tmp_path):
    """A collector that starts while others keep asking who holds its folder gets it, every time."""
    DeviceLock(tmp_path).close()
    asking, done = [], threading.Event()
    for _ in range(2):
        asking.append(threading.Thread(target=lambda: [holder_of(tmp_path) for _ in iter(done.is_set, True)]))
        asking[-1].start()
    try:
        for _ in range(200):
            DeviceLock(tmp_path).close()
    finally:
        done.set()
        for thread in asking:
            thread.join()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    """SIGKILL frees the folder: the lock is the kernel's, not a file's existence."""
    code = (
        "import sys, time, pathlib; from tasks.adapters.outbox import DeviceLock; "
        "held = DeviceLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout.readline() == b"held\n"
    assert holder_of(tmp_path) == child.pid
    child.kill()
    child.wait()
    child.stdout.close()
    assert holder_of(tmp_path) is None


def test_an_image_is_shrunk_into_its_size_and_never_enlarged():
    """(height, width) bounds both sides, the aspect stays, a smaller image is left as it is."""
    pixels = np.full((480, 640, 3), (10, 200, 30), np.uint8)
    for limit, size in [
        (None, (640, 480)),
        ((240, 640), (320, 240)),
        ((480, 100), (100, 75)),
        ((999, 999), (640, 480)),
    ]:
        data, width, height = encode_jpeg(pixels, 95, limit)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert (width, height) == size == (decoded.shape[1], decoded.shape[0])
        assert np.abs(decoded.astype(int) - (10, 200, 30)).max() < 6


def test_pixels_that_are_no_image_are_unreadable():
    """An empty frame cannot be encoded and says its shape."""
    with pytest.raises(ImageUnreadable, match="shape"):
        encode_jpeg(np.zeros((0, 10, 3), np.uint8), 95)
