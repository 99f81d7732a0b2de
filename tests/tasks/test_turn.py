"""The state of the loop between turns."""

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.bucket.folder import FolderStore
from tasks.core.entities import Turn
from tasks.core.errors import BucketError
from tasks.turn import check_bucket, newest_turn, open_turn, read_turns, recorded_batches, save_turn
from tests.tasks.stages import NOON, a_project

reopen, save, check = open_turn.fn, save_turn.fn, check_bucket.fn


def test_turns_follow_each_other_with_what_the_last_one_knew(tmp_path):
    """The first is number 1; the next one keeps batches, dataset and models, and starts with nothing done."""
    project = a_project(tmp_path)
    first = reopen(project)
    assert (first.number, recorded_batches(project), read_turns(project)) == (1, frozenset(), [])
    assert newest_turn(project) is None
    known = {"batches": {"a": 2, "b": 0}, "open_batches": ("b",), "dataset_version": "d" * 16, "live_model": "0" * 16}
    ended = {"done": ("it",), "waits_for": ("labels",), "ingested": {"edge-1": 3}, "finished_at": NOON}
    first = save(project, first.model_copy(update=known | ended))
    second = reopen(project)
    assert second.number == 2
    assert {name: getattr(second, name) for name in known} == known
    assert (second.done, second.waits_for, second.ingested, second.finished_at) == ((), (), {}, None)
    save(project, second)
    assert [turn.number for turn in read_turns(project)] == [1, 2]
    assert newest_turn(project).model_dump(exclude={"started_at"}) == second.model_dump(exclude={"started_at"})
    assert recorded_batches(project) == {"a", "b"}


def test_a_turn_that_was_cut_off_goes_on_under_its_number(tmp_path):
    """What it had done stays; what it waited for is asked anew."""
    project = a_project(tmp_path)
    cut = Turn(number=1, started_at=NOON, done=("took in samples",), waits_for=("approval",), batches={"a": 0})
    save(project, cut)
    assert reopen(project) == cut.model_copy(update={"waits_for": ()})


def test_the_newest_of_many_turns_is_found_without_the_others(tmp_path, monkeypatch):
    """One turn is read of a hundred, and the requests for it grow with their logarithm."""
    project = a_project(tmp_path)
    for number in range(1, 101):
        save(project, Turn(number=number, started_at=NOON, finished_at=NOON))
    calls = []
    for verb in ("get", "exists"):
        real = getattr(Bucket, verb)
        monkeypatch.setattr(Bucket, verb, lambda b, key, verb=verb, real=real: (calls.append(verb), real(b, key))[1])
    for act, number in ((newest_turn, 100), (reopen, 101)):
        calls.clear()
        assert act(project).number == number
        assert calls.count("get") == 1
        assert calls.count("exists") <= 14


def test_a_bucket_on_which_two_writers_would_both_win_is_refused(tmp_path, monkeypatch):
    """One that is safe is tried once, and later turns do not try it again."""
    project = a_project(tmp_path)
    tried = []

    def overwrite(store: FolderStore, path: str, data: bytes) -> bool:  # as servers that ignore If-None-Match
        tried.append(path)
        store.write(path, data)
        return True

    safe = FolderStore.create
    monkeypatch.setattr(FolderStore, "create", overwrite)
    with pytest.raises(BucketError, match="ignores conditional writes"):
        check(project)
    assert tried
    monkeypatch.setattr(FolderStore, "create", safe)
    check(project)
    tried.clear()
    monkeypatch.setattr(FolderStore, "create", overwrite)
    check(project)
    assert tried == []
