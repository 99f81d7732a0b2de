"""The outbox against a plain model: histories of put, deliver, restart, corruption and a disk that fails anywhere."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tasks.adapters.outbox import Outbox
from tasks.adapters.outbox.records import Value, value_of
from tasks.core.entities import Sample
from tasks.core.errors import DataError, OutboxFull, SettingsError
from tests.adapters.faulty_disk import Crash, FaultyDisk
from tests.adapters.samples import a_sample

CAPS = (12_000, 7_000)  # bytes
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
EVICTED = ("evicted, outbox at its cap", "evicted, disk full")
ANY = st.integers(0, 10**6)
FIELDS = st.fixed_dictionaries(
    {
        "random_slice": st.booleans(),
        "matched": st.sampled_from([("a",), ("a", "b")]),
        "probability": st.sampled_from([0.05, 1.0]),
        "probability_random": st.sampled_from([None, 0.05]),
        "chosen_by": st.sampled_from([0, 1, 2]),
    }
)
FAULTS = st.none() | st.builds(
    FaultyDisk, st.sampled_from(["full", "broken", "crash"]), st.integers(1, 14), st.sampled_from([1, 2, 99])
)


@dataclass
class Waiting:
    """What the model knows of a sample that the outbox has acknowledged."""

    sample: Sample
    jpeg: bytes
    size: int
    highest_gone: int = -1  # the highest id of its kind that went while it was there
    is_sure: bool = True  # of that: a fault may have cost the note of it
    is_corrupt: bool = False

    @property
    def value(self) -> Value:
        return value_of(self.sample)

    @property
    def rank(self) -> int:
        return int(self.sample.sample_id, 16)


class OutboxMachine(RuleBasedStateMachine):
    """What is acknowledged is handed out whole unless it is corrupt or went by value, and each loss is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-", dir=MEMORY))
        self.cap = CAPS[0]
        self.number = 0
        self.waiting: dict[str, Waiting] = {}  # in the order in which they came
        self.held: dict[str, float] = {}  # handed out, and the probability of delivery that was said
        self.delivered: list[Waiting] = []
        self.is_littered = False  # a disk that removes nothing leaves files behind, until the next start
        self.left_behind: dict[str, Waiting] = {}  # ... which then may find the sample whole, and goes on with it
        self.outbox = Outbox(self.folder, self.cap)

    def teardown(self) -> None:
        """In the end a healthy disk gives back all that is left."""
        self.restart(FaultyDisk(), 0)
        assert self.handed_out(10**6) == [i for i in self.waiting if not self.waiting[i].is_corrupt]
        shutil.rmtree(self.folder)

    # --- rules -------------------------------------------------------------------------------------------------------

    @rule(size=st.integers(100, 2500), fields=FIELDS, disk=FAULTS)
    def put(self, size: int, fields: dict, disk: FaultyDisk | None) -> None:
        self.number += 1
        sample, jpeg = a_sample(self.number, size, **fields)
        new = Waiting(sample, jpeg, size + len(sample.to_json()))
        expected, gone = self.expected(new, self.outbox.used_bytes)
        counted = self.evictions()
        try:
            with inserted(disk):
                outcome = self.outbox.put(sample, jpeg)
        except OutboxFull:
            outcome = "refused"
        except Crash:
            self.after_crash(new)
            return
        if failed(disk):
            gone = self.gone_by_value(new.value)
            self.is_littered = True
        assert outcome in ("stored", "refused") if failed(disk) else outcome == expected
        assert self.evictions() - counted == len(gone)
        self.lose(gone, also=[new] if outcome == "refused" else [], newcomer=new, is_sure=not failed(disk))
        if outcome == "stored":
            self.waiting[sample.sample_id] = new
        elif failed(disk):
            self.left_behind[sample.sample_id] = new

    @precondition(lambda self: self.waiting or self.delivered)
    @rule(which=ANY)
    def put_again(self, which: int) -> None:
        """Decided again after a crash, or another frame of the very same bytes."""
        known = [w for w in (*self.waiting.values(), *self.delivered) if not w.is_corrupt]
        if known:
            again = known[which % len(known)]
            other = again.sample.model_copy(update={"source": "clip.mp4#again"})
            assert self.outbox.put(again.sample, again.jpeg) == "repeated"
            assert self.outbox.put(other, again.jpeg) == "same image"

    @rule(limit=st.integers(1, 6))
    def hold(self, limit: int) -> None:
        self.handed_out(limit)

    @rule(limit=st.integers(1, 6), disk=FAULTS)
    def deliver(self, limit: int, disk: FaultyDisk | None) -> None:
        """As the uploader does: what can be read goes, and is remembered."""
        there: list[str] = []
        try:
            with inserted(disk):
                there = self.handed_out(limit, is_sure=not disk)
                self.outbox.delivered([self.waiting[i].sample for i in there])
        except Crash:
            self.after_crash(None)
            return
        self.is_littered |= failed(disk)
        for sample_id in there:
            sent = self.waiting.pop(sample_id)
            self.held.pop(sample_id, None)
            if failed(disk):
                self.left_behind[sample_id] = sent
            else:
                self.delivered.append(sent)

    @precondition(lambda self: self.waiting)
    @rule(
        which=ANY, part=st.sampled_from([".jpg", ".json"]), damage=st.sampled_from(["flip", "cut", "empty", "no image"])
    )
    def corrupt(self, which: int, part: str, damage: str) -> None:
        # Of what is held the record is in the memory.
        open_to_it = [i for i, w in self.waiting.items() if i not in self.held and not w.is_corrupt]
        if not open_to_it:
            return
        sample_id = open_to_it[which % len(open_to_it)]
        self.waiting[sample_id].is_corrupt = True
        self.waiting[sample_id].is_sure = False
        for path in (self.folder / "samples").glob(f"{sample_id}*"):
            if damage == "no image" and path.suffix == ".jpg":
                path.unlink()
            elif damage != "no image" and path.suffix == part:
                data = path.read_bytes()
                path.write_bytes({"flip": flipped(data, which), "cut": data[: len(data) // 2], "empty": b""}[damage])

    @rule(disk=FAULTS, cap=st.sampled_from([0, 0, 1]))
    def reopen(self, disk: FaultyDisk | None, cap: int) -> None:
        self.restart(disk or FaultyDisk(), cap)

    # --- what holds at any time --------------------------------------------------------------------------------------

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.outbox) == len(self.waiting)
        assert all(self.outbox.holds(sample_id) for sample_id in self.waiting)

    @invariant()
    def never_grows_over_its_cap(self) -> None:
        on_disk = sum(p.stat().st_size for name in ("samples", "quarantine") for p in (self.folder / name).iterdir())
        assert on_disk <= self.cap or self.is_littered
        assert self.outbox.used_bytes <= self.cap or self.is_littered

    @invariant()
    def leaves_no_debris(self) -> None:
        files = [p.name for p in (self.folder / "samples").iterdir()]
        lost = sum(w.is_corrupt for w in self.waiting.values())
        assert self.is_littered or 2 * len(self.waiting) - lost <= len(files) <= 2 * len(self.waiting)

    # --- the model ---------------------------------------------------------------------------------------------------

    def expected(self, new: Waiting, used: int) -> tuple[str, list[Waiting]]:
        """Slow and obvious: as long as there is no room, the least valuable that is not handed out goes."""
        gone: list[Waiting] = []
        while used + new.size > self.cap:
            left = [w for w in self.waiting.values() if w.sample.sample_id not in self.held and w not in gone]
            cheapest = min(left, key=lambda w: w.value, default=None)
            if cheapest is None or cheapest.value >= new.value:
                return "refused", gone
            gone.append(cheapest)
            used -= cheapest.size
        return "stored", gone

    def gone_by_value(self, limit: Value) -> list[Waiting]:
        """Who has left, all of them worth less than `limit` and than everybody who could have gone instead."""
        gone = [w for i, w in self.waiting.items() if not self.outbox.holds(i)]
        left = [w.value for i, w in self.waiting.items() if self.outbox.holds(i) and i not in self.held]
        assert all(w.value < limit for w in gone)
        assert all(w.sample.sample_id not in self.held for w in gone)
        assert max((w.value for w in gone), default=limit) <= min(left, default=limit) or not gone
        return gone

    def lose(
        self, gone: list[Waiting], *, is_sure: bool, also: Sequence[Waiting] = (), newcomer: Waiting | None = None
    ) -> None:
        for lost in gone:
            del self.waiting[lost.sample.sample_id]
        for there in (*self.waiting.values(), *([newcomer] if newcomer else [])):
            equals = [lost.rank for lost in (*gone, *also) if lost.value[:3] == there.value[:3] and lost is not there]
            there.highest_gone = max(there.highest_gone, *equals, -1)
            there.is_sure &= is_sure

    def handed_out(self, limit: int, *, is_sure: bool = True) -> list[str]:
        """Ids that come out whole, oldest first; what is corrupt goes to quarantine, and is counted."""
        counted = self.outbox.drops["quarantined, corrupt"]
        there, found = [], self.outbox.pending(limit)
        for item in found:
            known = self.waiting[item.sample.sample_id]
            try:
                jpeg = self.outbox.read_image(item.sample)
            except DataError:
                assert known.is_corrupt
                continue
            assert not known.is_corrupt
            assert jpeg == known.jpeg
            unthinned = {"probability_delivered": 1.0, "probability_delivered_otherwise": 1.0}
            assert item.sample.model_copy(update=unthinned) == known.sample
            there.append(known.sample.sample_id)
            said = self.held.get(known.sample.sample_id, probability(known))
            assert item.sample.probability_delivered == said or not known.is_sure or not is_sure
        self.held = {i.sample.sample_id: i.sample.probability_delivered for i in found}
        bad = [i for i, w in self.waiting.items() if w.is_corrupt and not self.outbox.holds(i)]
        assert self.outbox.drops["quarantined, corrupt"] - counted == len(bad)
        for sample_id in bad:
            self.left_behind[sample_id] = self.waiting.pop(sample_id)
            self.held.pop(sample_id, None)
        whole = [i for i, w in self.waiting.items() if not w.is_corrupt]
        assert there == whole[: len(there)]
        assert len(there) + len(bad) >= min(limit, len(self.waiting))
        return there

    def restart(self, disk: FaultyDisk, cap: int) -> None:
        """A process ends as it stands, and the next one opens the same folder."""
        self.cap = CAPS[cap]
        try:
            with inserted(disk):
                self.outbox = Outbox(self.folder, self.cap)
        except (Crash, SettingsError):
            assert disk.kind != "full"
            self.outbox = Outbox(self.folder, self.cap)
            disk.failed = 0
        self.reopened(is_sure=disk.at is None)
        self.is_littered = failed(disk)
        self.lose(self.gone_by_value((2, 0, 0.0, "")), is_sure=disk.at is None)

    def after_crash(self, new: Waiting | None) -> None:
        """What was going on has happened or not, whole in either case. new: what was being put."""
        handed_out = set(self.held)
        self.outbox = Outbox(self.folder, self.cap)
        if new is not None:
            self.left_behind[new.sample.sample_id] = new
        self.reopened(is_sure=False)
        self.is_littered = False
        gone = [w for i, w in self.waiting.items() if not self.outbox.holds(i)]
        if new is None:
            assert all(w.is_corrupt or w.sample.sample_id in handed_out for w in gone)
        else:
            assert all(w.value < new.value for w in gone)
        self.lose(gone, is_sure=False)

    def reopened(self, *, is_sure: bool) -> None:
        """What a start finds by looking at names alone: missing images, and what could not be removed before."""
        self.held = {}
        for sample_id in [i for i, w in self.left_behind.items() if self.outbox.holds(i)]:
            self.waiting[sample_id] = self.left_behind[sample_id]
            self.waiting[sample_id].is_sure = False
        self.left_behind = {}
        self.waiting = dict(sorted(self.waiting.items(), key=lambda item: item[1].sample.captured_at))
        for sample_id in [i for i, w in self.waiting.items() if w.is_corrupt and not self.outbox.holds(i)]:
            del self.waiting[sample_id]
        for known in self.waiting.values():
            files = (self.folder / "samples").glob(f"{known.sample.sample_id}*")
            known.size = sum(path.stat().st_size for path in files)
            known.is_sure &= is_sure

    def evictions(self) -> int:
        return sum(self.outbox.drops[reason] for reason in EVICTED)


def probability(known: Waiting) -> float:
    """Of delivery: the share of ids above the highest one of its kind that went."""
    return 1.0 if known.highest_gone < 0 else (2**80 - 1 - min(known.highest_gone, known.rank - 1)) / 2**80


def flipped(data: bytes, which: int) -> bytes:
    """One bit of `data` the other way round; what is empty stays so."""
    changed = bytearray(data)
    if changed:
        changed[which % len(changed)] ^= 1 << which % 8
    return bytes(changed)


def failed(disk: FaultyDisk | None) -> bool:
    return disk is not None and disk.failed > 0


def inserted(disk: FaultyDisk | None) -> AbstractContextManager[object]:
    return (disk or FaultyDisk()).inserted()
