"""The state of the loop between turns."""

from tasks.core.entities import Turn
from tasks.turn import open_turn, read_turns, recorded_batches, save_turn
from tests.tasks.stages import NOON, a_project

reopen, save = open_turn.fn, save_turn.fn


def test_turns_follow_each_other_with_what_the_last_one_knew(tmp_path):
    """The first is number 1; the next one keeps batches, dataset and models, and starts with nothing done."""
    project = a_project(tmp_path)
    first = reopen(project)
    assert (first.number, recorded_batches(project), read_turns(project)) == (1, frozenset(), [])
    known = {"batches": {"a": 2, "b": 0}, "open_batches": ("b",), "dataset_version": "d" * 16, "live_model": "0" * 16}
    ended = {"done": ("it",), "waits_for": ("labels",), "ingested": {"edge-1": 3}, "finished_at": NOON}
    first = save(project, first.model_copy(update=known | ended))
    second = reopen(project)
    assert second.number == 2
    assert {name: getattr(second, name) for name in known} == known
    assert (second.done, second.waits_for, second.ingested, second.finished_at) == ((), (), {}, None)
    save(project, second)
    assert [turn.number for turn in read_turns(project)] == [1, 2]
    assert recorded_batches(project) == {"a", "b"}


def test_a_turn_that_was_cut_off_goes_on_under_its_number(tmp_path):
    """What it had done stays; what it waited for is asked anew."""
    project = a_project(tmp_path)
    cut = Turn(number=1, started_at=NOON, done=("took in samples",), waits_for=("approval",), batches={"a": 0})
    save(project, cut)
    assert reopen(project) == cut.model_copy(update={"waits_for": ()})
