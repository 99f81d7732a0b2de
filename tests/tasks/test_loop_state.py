"""The loop in one look: every batch says where it is, and the suggestion what becomes of it."""

import pytest

from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Approval, Turn
from tasks.core.errors import SettingsError
from tasks.loop_state import loop_state
from tasks.suggest import approve
from tasks.turn import save_turn
from tasks.waiting import close
from tests.tasks.stages import MODEL, NOON, a_batch, a_project, label
from tests.tasks.test_suggest_scores import a_suggestion


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def a_turn(project, **fields):
    save_turn.fn(project, Turn(number=1, started_at=NOON, finished_at=NOON, **fields))


def test_before_the_first_turn_there_is_nothing(project):
    """An empty bucket is a state like any other."""
    state = loop_state(project)
    assert (state.turn, state.batches) == (None, ())
    assert state.suggestion_state == "There is no suggestion yet."


def test_every_batch_says_where_it_is(project):
    """With people, in the draw, held back, closed by hand, and one that cannot be read; the newest first."""
    names = ("open", "drawn", "held", "closed", "damaged")
    batches = {
        name: a_batch(project, range(3 * n, 3 * n + 3), batch_id=name, after="t" if name == "held" else "")
        for n, name in enumerate(names)
    }
    one, two, _ = batches["open"].samples
    Central(project).store_labels(batches["open"], [label(one), label(two, status="skipped")])
    close(Central(project), "closed", "kim", "enough")
    Central(project).bucket.put(layout.batch("damaged"), b"{")
    a_turn(
        project,
        batches=dict.fromkeys(names, 0),
        open_batches=("open", "closed"),
        waiting_batches=("drawn",),
        held_batches=("held",),
    )
    found = {state.batch_id: state for state in loop_state(project).batches}
    assert list(found) == list(reversed(names))
    assert (found["open"].state, found["open"].done, found["open"].skipped, found["open"].images) == (
        "with people", 1, 1, 3,
    )  # fmt: skip
    assert found["drawn"].state == "waits for the week's draw"
    assert found["held"].state == "waits until trial t is accepted"
    assert found["closed"].state == "closed by kim: enough"
    assert found["damaged"].state == "cannot be read"
    assert layout.batch("damaged") in found["damaged"].problem


def test_the_suggestion_says_what_becomes_of_it(project):
    """It waits, is accepted by a person, goes out with a release; another live model makes it void."""
    made = a_suggestion(project)
    a_turn(project, suggestion=made.suggestion, live_model=MODEL)
    assert loop_state(project).suggestion_state == "It waits for somebody to accept it."
    approve(project, made.suggestion, by="kim")
    assert loop_state(project).suggestion_state.startswith("Accepted by kim, ")
    a_turn(project, suggestion=made.suggestion, live_model="f" * 16)
    assert f"It was made for model {MODEL}, and {'f' * 16} is live now" in loop_state(project).suggestion_state
    a_turn(project, suggestion=made.suggestion, live_model="f" * 16, suggestion_release=4)
    assert loop_state(project).suggestion_state == "It went out with release 4."


def test_a_suggestion_is_approved_once_and_only_while_it_fits(project):
    """A second word, a model that changed since, and a suggestion that is not the newest are refused in a line."""
    made = a_suggestion(project)
    a_turn(project, suggestion=made.suggestion, live_model="f" * 16)
    with pytest.raises(SettingsError, match=f"was made for model {MODEL}, and {'f' * 16} is live now"):
        approve(project, made.suggestion, by="kim")
    a_turn(project, suggestion="6" * 16, live_model=MODEL)
    with pytest.raises(SettingsError, match="is not the newest one: look at 6666"):
        approve(project, made.suggestion, by="kim")
    a_turn(project, suggestion=made.suggestion, live_model=MODEL)
    approve(project, made.suggestion, by="kim")
    with pytest.raises(SettingsError, match="was approved by kim already"):
        approve(project, made.suggestion, by="ben")
    kept = Central(project).bucket.read_record(layout.approval(made.suggestion), Approval)
    assert kept.approved_by == "kim"
