"""The outbox at its limits: what the cap costs is known, and nothing grows with time or with a backlog."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.outbox import Outbox, delivered, spool, thinning
from tasks.core.errors import OutboxFull
from tests.adapters.faulty_disk import FaultyDisk
from tests.adapters.samples import a_sample

MEGABYTE = 2**20


def ids_in(outbox):
    return [item.sample.sample_id for item in outbox.pending(10**6)]


def bytes_on_disk(folder):
    return sum(p.stat().st_size for sub in ("samples", "quarantine") for p in (folder / sub).iterdir())


def kept_under_a_cap(folder, arrivals, chance):
    """What comes out of a small outbox that is drained now and then: (random slice?, p_delivered) of each."""
    outbox, out = Outbox(folder, 36_000), []

    def drain(count):
        items = outbox.pending(count)
        out.extend((i.sample.random_slice, i.sample.probability_delivered) for i in items)
        outbox.delivered([i.sample for i in items])

    for number in range(arrivals):
        seed, size = int(chance.integers(10**9)), int(chance.integers(500, 4000))
        sample, jpeg = a_sample(seed, size, random_slice=bool(number % 2))
        with suppress(OutboxFull):
            outbox.put(sample, jpeg)
        if chance.random() < 0.1:
            drain(int(chance.integers(1, 8)))
        if chance.random() < 0.03:
            outbox = Outbox(folder, 36_000)
    drain(10**6)
    return out


def test_weights_make_up_for_what_the_cap_cost(tmp_path, monkeypatch):
    """Sixty outages: of 30 samples of the random slice some arrive; the sum of 1 / p_delivered is 30 on average."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    chance, totals, arrived = np.random.default_rng(7), [], 0
    for world in range(60):
        out = kept_under_a_cap(tmp_path / str(world), 60, chance)
        totals.append(sum(1 / p for is_random, p in out if is_random))
        arrived += sum(is_random for is_random, _ in out)
    error = np.std(totals) / np.sqrt(len(totals))
    assert arrived < 0.9 * 60 * 30
    assert abs(np.mean(totals) - 30) < 3.5 * error
    assert error < 2


def test_without_an_eviction_every_sample_was_sure_to_be_delivered(tmp_path):
    """What never met the cap says 1, and so does what came after the samples had gone."""
    outbox = Outbox(tmp_path, 20_000)
    for number in range(10):
        with suppress(OutboxFull):
            outbox.put(*a_sample(number, random_slice=True))
    thinned = [item.sample for item in outbox.pending(100)]
    assert all(0 < sample.probability_delivered < 1 for sample in thinned)
    assert [i.sample for i in Outbox(tmp_path, 20_000).pending(100)] == thinned
    outbox.delivered(thinned)
    outbox.put(*a_sample(11, random_slice=True))
    assert [item.sample.probability_delivered for item in outbox.pending(1)] == [1.0]


def test_the_random_slice_knows_of_kinds_that_went_as_a_whole(tmp_path):
    """Two chosen kinds go for the slice: 0 for the way of the lesser one, for the other what its ids say.

    The same after a restart. A sample that strategies did not choose, or that does not say, has no other way: 1.
    """
    outbox = Outbox(tmp_path, 20_000)
    known = {"probability_random": 0.1, "probability": 0.73}
    chosen = [
        a_sample(n, **known, matched=names, chosen_by=len(names)) for n, names in enumerate([("a",), ("a", "b")] * 2)
    ]
    for one in chosen:
        outbox.put(*one)
    for number, by in enumerate([1, 0, 2, 3, None], start=10):
        outbox.put(*a_sample(number, random_slice=True, **known, chosen_by=by))
    assert outbox.drops == {"evicted, outbox at its cap": 4}
    left = [item.sample for item in outbox.pending(9)]
    highest = max(int(sample.sample_id, 16) for sample, _ in chosen if sample.chosen_by == 2)
    ways = {1: 0.0, 0: 1.0, 2: 1 - (highest + 1) / 2**80, 3: 1.0, None: 1.0}
    assert {s.chosen_by: s.probability_delivered_otherwise for s in left} == pytest.approx(ways)
    assert {s.probability_delivered for s in left} == {1.0}
    assert [i.sample for i in Outbox(tmp_path, 20_000).pending(9)] == left


def test_a_lower_cap_is_kept_from_the_start(tmp_path):
    """An outbox that opens with less room than it takes evicts the least valuable first."""
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(10):
        outbox.put(*a_sample(number, random_slice=number >= 7))
    smaller = Outbox(tmp_path, 12_000)
    assert smaller.used_bytes == bytes_on_disk(tmp_path) <= 12_000
    assert [item.sample.random_slice for item in smaller.pending(9)] == [True] * 3
    assert smaller.drops == {"evicted, outbox at its cap": 7}


# --- a year ----------------------------------------------------------------------------------------------------------


def test_what_is_remembered_does_not_grow_with_time(tmp_path, monkeypatch):
    """After many deliveries and evictions the notes on the disk and the heap in memory are as long as at first."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(delivered, "_REMEMBERED", 50)
    monkeypatch.setattr(spool, "_STALE", 50)
    monkeypatch.setattr(thinning, "_LINES", 50)
    outbox = Outbox(tmp_path, 20_000)
    for number in range(700):
        with suppress(OutboxFull):
            outbox.put(*a_sample(number, 2000, random_slice=number % 3 == 0))
        if number % 7 == 0:
            outbox.delivered([item.sample for item in outbox.pending(2)])
    assert len((tmp_path / "delivered.txt").read_bytes().splitlines()) <= 102
    assert len((tmp_path / "thinned.txt").read_bytes().splitlines()) <= 60
    assert len(outbox._cheapest) <= 2 * len(outbox) + 50
    assert bytes_on_disk(tmp_path) == outbox.used_bytes


def test_a_start_reads_no_record_and_a_look_reads_as_many_as_it_hands_out(tmp_path, monkeypatch):
    """The names say what the index needs, so that neither a start nor `pending` is slower with a long backlog."""
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(30):
        outbox.put(*a_sample(number))
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or read(path))
    again = Outbox(tmp_path, MEGABYTE)
    assert not [name for name in opened if name.endswith((".json", ".jpg"))]
    opened.clear()
    assert len(again.pending(3)) == 3
    assert len(opened) == 3


def test_samples_leave_in_the_order_in_which_they_came_whatever_the_clock_says(tmp_path):
    """After a restart, too, and with times of the files that run backwards."""
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(5):
        sample, jpeg = a_sample(number)
        outbox.put(sample, jpeg)
        for path in (tmp_path / "samples").glob(f"{sample.sample_id}*"):
            os.utime(path, (10**9 - number, 10**9 - number))
    assert ids_in(Outbox(tmp_path, MEGABYTE)) == [a_sample(n)[0].sample_id for n in range(5)]


@pytest.mark.parametrize("kind", ["full", "broken"])
def test_an_outbox_opens_on_a_disk_that_takes_nothing(tmp_path, kind):
    """A full disk, or one that fails every write: what waits can still be read and delivered."""
    outbox = Outbox(tmp_path, MEGABYTE)
    for number in range(3):
        outbox.put(*a_sample(number))
    with FaultyDisk(kind, at=1, times=10**6).inserted():
        again = Outbox(tmp_path, MEGABYTE)
        samples = [item.sample for item in again.pending(9)]
        assert [again.read_image(sample) for sample in samples] == [a_sample(n)[1] for n in range(3)]
        again.delivered(samples)
        assert len(again) == 0
        with pytest.raises(OutboxFull):
            again.put(*a_sample(4))


def test_what_is_no_sample_is_put_aside(tmp_path):
    """A file that nobody of ours has written goes to quarantine with its image, and is counted."""
    outbox = Outbox(tmp_path, MEGABYTE)
    outbox.put(*a_sample(1))
    (tmp_path / "samples" / "holiday.json").write_text("{}")
    (tmp_path / "samples" / "holiday.jpg").write_bytes(b"beach")
    again = Outbox(tmp_path, MEGABYTE)
    assert len(again) == 1
    assert again.drops == {"quarantined, corrupt": 1}
    assert {path.name for path in (tmp_path / "quarantine").iterdir()} == {"holiday.json", "holiday.jpg"}


def test_how_long_the_oldest_has_waited_is_known(tmp_path):
    """Nothing waits: 0; else the seconds since the first of those that wait was put, also after a restart."""
    outbox = Outbox(tmp_path, MEGABYTE)
    assert outbox.oldest_seconds == 0
    outbox.put(*a_sample(1))
    assert 0 < outbox.oldest_seconds < 60
    assert 0 <= Outbox(tmp_path, MEGABYTE).oldest_seconds < 60
