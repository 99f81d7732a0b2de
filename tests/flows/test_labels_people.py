"""The commands by which people are asked, trusted and believed, and turns that wait for a trial and for twins."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.loop import loop
from tasks.adapters.labelling import FilesLabelling
from tasks.central import Central
from tasks.core.entities import Batch
from tasks.core.errors import EdgeloopError, SettingsError
from tests.conftest import edgeloop
from tests.tasks.stages import NOON, SEEN_BOX, a_batch, a_project, a_sample, box, commit, label, put_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(folder: Path, **labelling):
    known = {"interface": "files", "folder": str(folder / "labelling"), "max_images": 100}
    project = a_project(folder, labelling={**known, **labelling}, review=False)
    Path("project.yaml").write_text(json.dumps(project.model_dump(mode="json", exclude_unset=True)))
    return project


def run(*arguments: object) -> str:
    words = ["labels", *map(str, arguments), "--config", "project.yaml"]
    return CliRunner().invoke(app, words, catch_exceptions=False).output


def put_back(project, batch: Batch, *boxes) -> None:
    FilesLabelling(Path(project.labelling.folder)).put_back(batch, [label(s, *boxes) for s in batch.samples])


def random_days(days: int):
    return [a_sample(n, captured_at=NOON + timedelta(days=n), random_slice=True) for n in range(days)]


def test_gold_labels_and_assignment_are_told_as_they_are_kept(folder):
    """Who vouched for what, the list for people and for programs, and who is asked."""
    project = configured(folder)
    one, two = a_batch(project, range(2)).samples
    Central(project).store_labels(Central(project).batch("today"), [label(one, SEEN_BOX), label(two)])
    said = run("gold", "add", "today", one.sample_id, two.sample_id, "--by", "lead")
    assert said == "gold 1: 2 images of batch today with 1 boxes, by lead\n"
    assert run("gold", "list").endswith("2 gold images\n")
    rows = json.loads(run("gold", "list", "--json"))
    assert {row["sample"]: row["boxes"] for row in rows} == {one.sample_id: 1, two.sample_id: 0}
    assert run("assign", "today", "--to", "ann", "--by", "lead") == "batch today: ann is asked to label it, says lead\n"
    assert "whoever comes" in run("assign", "today", "--to", "", "--by", "lead")


def test_a_mistake_is_one_line(folder):
    """A batch that is not there, a sample of another one, a batch that is no trial, predictions nobody measured."""
    a_batch(configured(folder), range(1))
    for words, told in [
        (("gold", "add", "nowhere", "0" * 20), "no batch 'nowhere'"),
        (("gold", "add", "today", "0" * 20), "has no sample"),
        (("accept", "today"), "no trial batch"),
        (("reject", "today"), "no trial batch"),
        (("accept-predictions", "today", "--above", "0.9"), "no model has been evaluated"),
    ]:
        with pytest.raises(EdgeloopError, match=told):
            run(*words)
    with pytest.raises(SettingsError, match="a-z"):
        run("assign", "../x", "--to", "ann")


@pytest.mark.slow
def test_the_command_itself_exits_with_2(folder):
    """One line on stderr, no traceback."""
    configured(folder)
    told = edgeloop("labels", "accept", "nowhere", "--config", "project.yaml", cwd=folder)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "no batch 'nowhere'" in told.stderr
    assert (
        "no image is labelled both ways" in edgeloop("labels", "seeding", "--config", "project.yaml", cwd=folder).stderr
    )


@pytest.mark.slow
def test_turns_offer_the_trial_first_and_the_rest_when_it_is_accepted(folder, prefect):
    """A turn draws the trial and says what it waits for; accepted by a person, the next turn offers the rest."""
    project = configured(folder, trial_images=2, near_duplicates=False)
    samples = [a_sample(n) for n in range(4)]
    put_images(project, samples, range(4))
    commit(project, 1, samples)
    turn = loop(project)
    (behind,) = turn.held_batches
    assert turn.open_batches == ("trial-000001",)
    assert any("trial-000001, which must be labelled and accepted" in line for line in turn.waits_for)
    assert not (folder / "labelling" / behind).exists()
    put_back(project, Central(project).batch("trial-000001"), SEEN_BOX)
    turn = loop(project)
    turn = loop(project)
    assert any("edgeloop labels accept trial-000001" in line for line in turn.waits_for)
    assert turn.dataset_version == "" or not Central(project).entries(turn.dataset_version)
    assert "accepted by lead" in run("accept", "trial-000001", "--by", "lead", "--note", "tight boxes")
    turn = loop(project)
    assert (turn.open_batches, turn.held_batches) == ((behind,), ())
    assert (folder / "labelling" / behind / "images").is_dir()


@pytest.mark.slow
def test_turns_offer_twins_after_their_images_and_tell_what_seeds_change(folder, prefect):
    """Blank labels first; then the twin; then a sentence, a table for programs, and a dataset that does not change."""
    project = configured(folder, twice_share=1.0)
    samples = random_days(40)
    put_images(project, samples, range(40))
    commit(project, 1, samples)
    turn = loop(project)
    (first,), (twin,) = turn.open_batches, turn.held_batches
    put_back(project, Central(project).batch(first), SEEN_BOX, box("car", 0, 28))
    turn = loop(project)
    assert turn.open_batches == ()
    dataset = turn.dataset_version
    turn = loop(project)
    assert turn.open_batches == (twin,)
    assert json.loads((folder / "labelling" / twin / "pre_annotations.json").read_bytes())["annotations"]
    put_back(project, Central(project).batch(twin), SEEN_BOX)
    turn = loop(project)
    assert "overlooked 100% more of what it had missed" in turn.seeding
    assert turn.seeding in turn.done
    assert turn.dataset_version == dataset
    assert run("seeding").strip().endswith(turn.seeding)
    assert json.loads(run("seeding", "--json"))[0]["recall_seeded"] == 1.0
