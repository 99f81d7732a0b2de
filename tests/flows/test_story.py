"""The demo's page tells of each round what happened in it."""

from types import SimpleNamespace

import pytest

from flows.demo.state import DemoArguments, DemoState
from flows.demo.story import NO_NEW_MODEL, in_the_field, round_story
from tasks.central import Central
from tasks.core.entities import Turn, Verdict
from tasks.evaluate import evaluate_split
from tests.tasks.stages import NOON, a_labelled_month, a_model, a_project
from tests.tasks.test_field_recall import KINDS, a_labelled_batch, a_release, a_turn

TRAINED = "c" * 16


def test_what_is_known_of_the_field_is_told_or_why_nothing_is(tmp_path):
    """By hand a hit of weight 10 and a miss of 3/2: recall 10 / 11.5. Before any label the reason, in one line."""
    world = SimpleNamespace(project=a_project(tmp_path))
    found, missing = in_the_field(world)
    assert found == []
    assert "no image of project" in missing
    a_release(world.project)
    a_turn(world.project, today=a_labelled_batch(world.project, KINDS))
    (one,), missing = in_the_field(world)
    assert missing == ""
    assert one.figures.recall.value == pytest.approx(10 / 11.5)


@pytest.fixture
def told(tmp_path):
    """The story of a round that ended with the given fields of its turn, on a dataset with a measured live model."""
    project = a_project(tmp_path)
    dataset, live = a_labelled_month(project, days=12).dataset_version, a_model(project, tmp_path)
    test = evaluate_split.fn(project, live, dataset, "test", {"car": 0.5})
    world = SimpleNamespace(round_notes=("as played",), frames_a_day=100)
    state = DemoState(arguments=DemoArguments())

    def tell(**fields):
        known = {
            "dataset_version": dataset,
            "live_model": live,
            "candidate": TRAINED,
            "test_evaluation": test.evaluation,
        }
        turn = Turn(number=5, started_at=NOON, finished_at=NOON, **{**known, **fields})
        return round_story(world, state, Central(project), 0, turn, set(), []), dataset, live, test

    return tell


def verdict(dataset: str, live: str) -> Verdict:
    return Verdict(
        verdict="rejected", mode="improve", candidate=TRAINED, live=live, dataset_version=dataset, reasons=("worse",),
        numbers={"live.ap50": 0.7, "candidate.ap50": 0.6, "live.recall": 0.5, "candidate.recall": 0.4}, decided_at=NOON,
    )  # fmt: skip


def test_a_round_without_a_new_model_shows_no_verdict_of_an_older_one(told):
    """A turn goes on knowing the newest candidate and its verdict; the round shows the live model's figures instead."""
    story, _, live, test = told(trained_on="e" * 16, verdict=verdict("e" * 16, "0" * 16), candidate_test_evaluation="")
    assert story.verdict is None
    assert (story.model_before, story.model_after) == (live, live)
    assert (story.ap50_before, story.ap50_after, story.recall_after) == (test.coco["AP50"], None, None)
    assert story.recall_before.value == test.recall
    assert NO_NEW_MODEL in story.note
    assert "ejected" not in story.note


def test_a_round_with_a_new_model_shows_its_own_verdict(told):
    """Both models' figures are those that the gate compared."""
    _, dataset, live, _ = told()
    story, *_ = told(trained_on=dataset, verdict=verdict(dataset, live))
    assert story.verdict == verdict(dataset, live)
    assert (story.model_before, story.model_after) == (live, TRAINED)
    assert (story.ap50_before, story.ap50_after) == (0.7, 0.6)
    assert (story.recall_before, story.recall_after) == (0.5, 0.4)
    assert "Rejected" in story.note
    assert NO_NEW_MODEL not in story.note
