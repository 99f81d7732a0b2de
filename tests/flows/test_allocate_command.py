"""`edgeloop allocate` as a person types it, and turns that draw the labels of a week."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Allocation
from tasks.core.settings import ProjectSettings
from tests.conftest import edgeloop
from tests.tasks.stages import a_project, a_sample, commit, put_images

NOW = datetime.now(timezone.utc)


def configured(tmp_path: Path, **fields: object) -> ProjectSettings:
    project = a_project(tmp_path, **fields)
    (tmp_path / "project.yaml").write_text(json.dumps(project.model_dump(mode="json", exclude_unset=True)))
    return project


def allocate(tmp_path: Path, *options: object):
    return edgeloop("allocate", "--config", "project.yaml", *options, cwd=tmp_path)


@pytest.mark.slow
def test_a_plan_is_printed_with_its_reasons_and_stored(tmp_path):
    """A table for people, the record for programs, a picture for the report; each call is the next number."""
    project = configured(tmp_path, labels_a_week=12)
    samples = [a_sample(n, strategy="rule-1", captured_at=NOW - timedelta(hours=n)) for n in range(20)]
    commit(project, 1, [*samples, a_sample(50, captured_at=NOW, random_slice=True)])
    told = allocate(tmp_path)
    assert told.returncode == 0, told.stderr
    assert "edge-1/gate, rule-1, 0.3 to 0.5: no labels yet; an equal share" in told.stdout
    assert "12 of 12 labels, allocation 1" in told.stdout

    told = allocate(tmp_path, "--labels", 5, "--weeks-back", 2, "--json", "--plot", "plan.png")
    assert told.returncode == 0, told.stderr
    made = Allocation.model_validate_json(told.stdout)
    assert (made.number, made.labels, made.weeks_back) == (2, 5, 2)
    assert made == Central(project).bucket.read_record(layout.allocation(2), Allocation)
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "how many labels a week? Give --labels, or set labels_a_week"),
        (("--labels", 0), "0 labels cannot be shared out: give at least 1"),
    ],
)
def test_what_cannot_be_shared_out_is_one_line(tmp_path, options, told):
    """Exit code 2, no traceback, what to do."""
    configured(tmp_path)
    done = allocate(tmp_path, *options)
    assert done.returncode == 2
    assert done.stderr.startswith("edgeloop: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_turns_draw_what_is_offered_where_there_is_a_weekly_number(prefect, tmp_path):
    """People find what was drawn alone, what comes later waits; without a weekly number all of it is offered."""
    from flows.loop import loop

    project = a_project(tmp_path, labels_a_week=4, review=False)
    numbers = range(10)
    samples = [a_sample(n, strategy="rule-1", random_slice=n == 0) for n in numbers]
    put_images(project, samples, numbers)
    commit(project, 1, samples)
    turn = loop(project)
    assert turn.waiting_batches == ()
    assert any(line.startswith("drew 4 of the samples that waited, allocation 1") for line in turn.done)
    offered = {path.stem for path in (tmp_path / "labelling").glob("*/images/*.jpg")}
    assert len(offered) == 4
    assert samples[0].sample_id in offered
    batches = [Central(project).batch(batch_id) for batch_id in turn.open_batches]
    assert {sample.sample_id for batch in batches for sample in batch.samples} == offered
    assert sorted(p for batch in batches for p in batch.probability_offered.values()) == [pytest.approx(1 / 3)] * 3

    more = [a_sample(n, strategy="rule-1", captured_at=NOW) for n in (20, 21)]
    put_images(project, more, (20, 21))
    commit(project, 2, more)
    waits = loop(project)
    assert len(waits.waiting_batches) == 1
    assert any("the labels of this one have been drawn" in line for line in waits.waits_for)

    unlimited = loop(project.model_copy(update={"labels_a_week": None}))
    assert unlimited.waiting_batches == ()
    assert set(unlimited.open_batches) == {*waits.open_batches, *waits.waiting_batches}
    assert len(list((tmp_path / "labelling").glob("*/images/*.jpg"))) == 6
