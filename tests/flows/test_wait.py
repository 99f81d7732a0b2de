"""Waiting for labels: looks at a real Prefect server that end, are killed, or come two at once, and lose nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from flows.wait import wait_for_labels
from flows.wait_cli import minutes_of
from tasks.adapters.labelling import FilesLabelling
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Turn
from tasks.core.errors import DataError, SettingsError
from tasks.label import Done, offer_batch, pull_batch
from tasks.wait import COMPLETED, REMINDER, Told
from tasks.waiting import FirstOffer, close, now
from tests.conftest import ROOT, edgeloop, plain_environment
from tests.tasks.stages import a_batch, a_project, box, label

offer, pull = offer_batch.fn, pull_batch.fn


def a_begun_project(tmp_path, name="yard", days_ago=0.0, **labelling):
    """A project of three images that people have, offered so many days ago, and its batch."""
    folder = {"folder": str(tmp_path / "labelling"), "max_images": 3, **labelling}
    project = a_project(tmp_path, project=name, labelling=folder)
    central, batch = Central(project), a_batch(project, range(3), batch_id=f"{name}-today")
    moment = now() - timedelta(days=days_ago)
    central.bucket.create_record(layout.batch_offered(batch.batch_id), FirstOffer(at=moment))
    offer(project, batch.batch_id, {})
    turn = Turn(number=1, started_at=moment, batches={batch.batch_id: 0}, open_batches=(batch.batch_id,))
    central.bucket.write_record(layout.turn(1), turn)
    return project, batch


def put_back(project, batch, images, **fields):
    labels = [label(s, box("car", 10, 10), labelled_at=now(), **fields) for s in batch.samples[:images]]
    FilesLabelling(Path(project.labelling.folder)).put_back(batch, labels)


def done_of(project, batch) -> Done:
    return Central(project).bucket.read_record(layout.batch_done(batch.batch_id), Done)


def events(name: str, batch, wanted: int = 1) -> list:
    """Those of a batch that the server has stored, once there are as many as are wanted or 12 s have passed."""
    from prefect.client.orchestration import get_client

    resource = f"edgeloop.batch.{batch.batch_id.removesuffix('-today')}.{batch.batch_id}"
    asked = {"filter": {"event": {"name": [name]}, "resource": {"id": [resource]}}}
    found: list = []
    for _ in range(60):
        with get_client(sync_client=True) as client:
            found = client._client.post("/events/filter", json=asked).json()["events"]
        if len(found) >= wanted:
            break
        time.sleep(0.2)
    return found


def is_told(project, batch) -> bool:
    return Central(project).bucket.exists(layout.batch_told(batch.batch_id, "completed"))


@pytest.mark.slow
def test_a_look_tells_how_far_people_are_and_once_that_they_are_done(prefect, tmp_path, monkeypatch):
    """Bar, table and page are on the server, unchanged ones once; done.json and its event once; no secret in any."""
    from prefect.artifacts import Artifact

    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    project, batch = a_begun_project(tmp_path, "tell")
    put_back(project, batch, 1, annotator="eve hunter2hunter2", lead_seconds=12.0)
    look = wait_for_labels(project)
    assert (look.open, look.events) == ((batch.batch_id,), ())
    bar, page = (Artifact.get(f"labels-{kind}{batch.batch_id}") for kind in ("progress-", ""))
    assert bar.data == pytest.approx(100 / 3)
    assert "1 of 3 images labelled" in page.data
    rows = json.loads(Artifact.get(f"labels-people-{batch.batch_id}").data)
    assert rows[0]["annotator"] == "eve ***"
    assert "hunter2" not in page.data
    assert json.loads(Artifact.get("labels-tell").data)[0]["labelled"] == 1
    wait_for_labels(project)
    assert Artifact.get(f"labels-progress-{batch.batch_id}").id == bar.id
    assert Artifact.get(f"labels-{batch.batch_id}").id == page.id

    put_back(project, batch, 3)
    look = wait_for_labels(project)
    assert look.ended == {batch.batch_id: "all of its 3 images are labelled or skipped"}
    assert look.events == (COMPLETED,)
    [event] = events(COMPLETED, batch)
    assert (event["payload"]["labelled"], event["payload"]["revision"]) == (3, 2)
    first = done_of(project, batch)
    assert wait_for_labels(project).is_over
    assert is_told(project, batch)
    assert wait_for_labels(project).events == ()
    assert done_of(project, batch) == first


@pytest.mark.slow
def test_how_good_the_labels_are_is_told_when_a_batch_ends(prefect, tmp_path, monkeypatch):
    """A row a person, without secrets, not before the end, not twice; where it fails the look goes on."""
    from prefect.artifacts import Artifact

    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    project, batch = a_begun_project(tmp_path, "worth", late_days=5)
    key = f"labels-quality-{batch.batch_id}"
    put_back(project, batch, 2)
    wait_for_labels(project)
    assert Artifact.get(key) is None
    put_back(project, batch, 3, annotator="eve hunter2hunter2")
    assert wait_for_labels(project).ended
    first = Artifact.get(key)
    rows = json.loads(first.data)
    assert {row["annotator"]: row["images"] for row in rows}["eve ***"] >= 1
    assert sum(row["images"] for row in rows) == 3
    wait_for_labels(project)
    assert Artifact.get(key).id == first.id

    def broken(*_):
        raise DataError("the bucket is odd today")

    monkeypatch.setattr("flows.wait.quality", broken)
    project, batch = a_begun_project(tmp_path / "second", "odd")
    put_back(project, batch, 3)
    assert wait_for_labels(project).events == (COMPLETED,)
    assert Artifact.get(f"labels-quality-{batch.batch_id}") is None


@pytest.mark.slow
@pytest.mark.parametrize("point", ["after the revision", "after done.json", "before it is written down"])
def test_a_look_that_is_killed_loses_nothing(prefect, tmp_path, point):
    """Killed with -9 at the point: the next look has every label, one done.json, and one event is on the server."""
    project, batch = a_begun_project(tmp_path, f"kill-{point.split()[-1].replace('.', '-')}")
    put_back(project, batch, 3)
    file = tmp_path / "project.json"
    file.write_text(project.model_dump_json())
    if point == "before it is written down":  # the look after the one that sends the event
        wait_for_labels(project)
        events(COMPLETED, batch)
    assert killed(file, point) == -signal.SIGKILL
    central = Central(project)
    assert set(central.labels(batch, 1)) == {s.sample_id for s in batch.samples}
    assert central.bucket.exists(layout.batch_done(batch.batch_id)) == (point != "after the revision")
    assert not is_told(project, batch)
    wait_for_labels(project)
    assert len(events(COMPLETED, batch)) == 1
    wait_for_labels(project)
    assert is_told(project, batch)
    assert done_of(project, batch).revision == 1
    assert central.bucket.latest_number(lambda n: layout.labels(batch.batch_id, n)) == 1


def killed(project: Path, point: str) -> int:
    from prefect.settings import get_current_settings

    command = [sys.executable, "-m", "tests.flows.waiting_victim", str(project), point]
    environment = plain_environment(PREFECT_API_URL=str(get_current_settings().api.url))
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=120, capture_output=True).returncode


@pytest.mark.slow
def test_two_looks_at_once_end_a_batch_once(prefect, tmp_path):
    """Both see it end: one done.json, one revision, one event on the server."""
    project, batch = a_begun_project(tmp_path, "two")
    put_back(project, batch, 3)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: wait_for_labels(project), range(2))
    assert one.ended == other.ended != {}
    assert len(Central(project).bucket.list(f"batches/{batch.batch_id}/labels/")) == 1
    assert len(events(COMPLETED, batch)) == 1


@pytest.mark.slow
def test_a_silence_and_a_deadline_are_told_once(prefect, tmp_path):
    """Four of five days are gone without a label: two reminders, not again with the next look; a day on, the end."""
    project, batch = a_begun_project(tmp_path, "remind", days_ago=4.5, deadline_days=5, remind_after_days=3)
    assert wait_for_labels(project).events == (REMINDER, REMINDER)
    told = events(REMINDER, batch, 2)
    assert sorted(event["payload"]["why"].split(":")[0][:12] for event in told) == ["no new label", "the deadline"]
    wait_for_labels(project)
    assert wait_for_labels(project).events == ()
    shorter = project.labelling.model_copy(update={"deadline_days": 4.4})
    late = wait_for_labels(project.model_copy(update={"labelling": shorter}))
    assert "has passed with 0 of 3 images answered" in late.ended[batch.batch_id]
    assert late.events == (COMPLETED,)


@pytest.mark.slow
def test_told_is_written_down_only_when_the_server_has_it(prefect, tmp_path):
    """The record holds the id under which the event is stored."""
    project, batch = a_begun_project(tmp_path, "seen")
    put_back(project, batch, 3)
    wait_for_labels(project)
    assert not is_told(project, batch)
    [event] = events(COMPLETED, batch)
    wait_for_labels(project)
    told = Central(project).bucket.read_record(layout.batch_told(batch.batch_id, "completed"), Told)
    assert (str(told.id), told.event) == (event["id"], COMPLETED)


def test_a_batch_that_ended_takes_later_labels_unless_closed_for_good(tmp_path):
    """Closed by hand: the next label is the next revision, done.json stays; closed for good: nothing more comes in."""
    project, batch = a_begun_project(tmp_path)
    put_back(project, batch, 1)
    assert pull(project, batch.batch_id, 0).ended == ""
    close(Central(project), batch.batch_id, "eve", "enough")
    ended = pull(project, batch.batch_id, 1)
    assert (ended.ended, ended.takes_later) == ("closed by eve: enough", True)
    put_back(project, batch, 2)
    assert pull(project, batch.batch_id, 1).revision == 2
    assert close(Central(project), batch.batch_id, "bob").by == "eve"
    close(Central(project), batch.batch_id, "bob", final=True)
    put_back(project, batch, 3)
    last = pull(project, batch.batch_id, 2)
    assert (last.revision, last.status.done, last.takes_later) == (2, 2, False)
    assert done_of(project, batch).revision == 1


def test_a_label_of_tomorrow_is_kept_as_of_now(tmp_path, monkeypatch):
    """Whatever a place says of its time: no stored label lies in the future, and the line says so."""
    project, batch = a_begun_project(tmp_path)
    ahead = [label(batch.samples[0], labelled_at=now() + timedelta(days=5))]
    monkeypatch.setattr(FilesLabelling, "pull", lambda *_: ahead)
    pulled = pull(project, batch.batch_id, 0)
    assert "made in the future, by up to 5 days" in pulled.problems[0]
    assert Central(project).labels(batch, 1)[batch.samples[0].sample_id].labelled_at <= now()


@pytest.mark.slow
def test_status_and_close_from_a_terminal(tmp_path):
    """One line a batch, an object for programs, the end by hand; an unknown batch and an empty name are one line."""
    project, batch = a_begun_project(tmp_path)
    put_back(project, batch, 1, annotator="eve")
    (tmp_path / "project.yaml").write_text(
        f"project: yard\nbucket: {tmp_path}/bucket\nwork: {tmp_path}/work\nclasses: [car, truck]\n"
        f"labelling: {{interface: files, folder: {tmp_path}/labelling}}\n"
    )

    def labels(*words: str):
        return edgeloop("labels", *words, "--config", "project.yaml", cwd=tmp_path)

    assert "yard-today: 0 of 3 images labelled (0%); expected end: nobody has begun" in labels("status").stdout
    assert labels("close", batch.batch_id, "--by", " ").returncode == 2
    closed = labels("close", batch.batch_id, "--by", "eve", "--note", "enough")
    assert closed.stdout == "yard-today: closed by eve: enough\n", closed.stderr
    [state] = json.loads(labels("status", batch.batch_id, "--json").stdout)
    assert (state["ended"], state["revision"], state["progress"]["done"]) == ("closed by eve: enough", 1, 1)
    unknown = labels("close", "nothing", "--by", "eve")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(("text", "minutes"), [("labels", None), ("30", 30), ("5 minutes", 5), ("0", 0)])
def test_until_is_labels_or_minutes(text, minutes):
    """A number with or without its unit."""
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "tomorrow", "-1", "nan"])
def test_until_anything_else_is_refused(text):
    """With the text, and how to write it."""
    with pytest.raises(SettingsError, match="write labels, or minutes"):
        minutes_of(text)
