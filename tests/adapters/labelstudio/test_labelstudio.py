"""Batches in a real Label Studio server: out and back, again after an end anywhere, and what people break."""

import json
import socket
import time
from collections import Counter

import httpx
import pytest

from flows.wait_listen import hints
from tasks.adapters.bucket import Bucket
from tasks.adapters.labelling import labelstudio as module
from tasks.adapters.labelling import pre_annotations
from tasks.adapters.labelling.labelstudio_client import LabelStudioDown
from tasks.adapters.labelling.labelstudio_interface import REASON
from tasks.adapters.labels.labelstudio_json import regions_of
from tasks.core.errors import LabellingUnavailable
from tasks.label import labelling_of
from tests.adapters.labelstudio.server import CLASSES, ENVIRONMENT, SKIP_REASONS, submit, tasks_of
from tests.adapters.s3 import SECRET, fresh_s3_url
from tests.conftest import edgeloop
from tests.tasks.stages import a_project, box

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# --- out and back ----------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_and_what_people_say_comes_back(server, labelling, batch_of, image_of):
    """Seeds and images as they were given; labels with who, when, how long, and why not; odd ones told in lines."""
    batch = batch_of(7, unseeded=(batch_of(7).samples[2].sample_id,))
    seeds = pre_annotations(batch, {})
    assert labelling.pull(batch) == []
    assert "never made" in labelling.problems(batch)[0]
    labelling.push(batch, image_of, seeds)
    tasks = tasks_of(labelling, batch)
    assert labelling.offered(batch) == tuple(sample.sample_id for sample in batch.samples)
    assert labelling.seeds(batch) == seeds
    assert batch.samples[2].sample_id not in seeds
    assert labelling.pull(batch) == labelling.problems(batch) == []

    one, empty, unseen, unknown, turned, twice, _ = batch.samples
    ann, ben = server.colleague("ann"), server.colleague("ben")
    boxes = (box(CLASSES[2], 10.1234, 7), box("truck", 620, 458.5))
    submit(ann, tasks[one.sample_id], one, *boxes, lead_time=4.5)
    submit(ann, tasks[empty.sample_id], empty)
    reason = {"from_name": REASON, "to_name": "image", "type": "choices", "value": {"choices": [SKIP_REASONS[0]]}}
    ann.post(f"/api/tasks/{tasks[unseen.sample_id]}/annotations", {"result": [reason], "was_cancelled": True})
    submit(ann, tasks[unknown.sample_id], unknown, box("bus", 1, 1))
    rotated = regions_of((box("car", 50, 50),), turned)
    rotated[0]["value"]["rotation"] = 30
    ann.post(f"/api/tasks/{tasks[turned.sample_id]}/annotations", {"result": rotated})
    for person, found in ((ann, box("car", 5, 5)), (ben, box("car", 6, 6)), (ann, box("car", 7, 7))):
        submit(person, tasks[twice.sample_id], twice, found)

    found = {(label.sample_id, label.annotator): label for label in labelling.pull(batch)}
    assert len(found) == 5
    first = found[one.sample_id, "ann@yard.example"]
    assert (first.boxes, first.lead_seconds, first.status) == (boxes, 4.5, "done")
    assert abs(first.labelled_at.timestamp() - time.time()) < 120
    assert found[empty.sample_id, "ann@yard.example"].boxes == ()
    skipped = found[unseen.sample_id, "ann@yard.example"]
    assert (skipped.status, skipped.reason) == ("skipped", SKIP_REASONS[0])
    assert found[twice.sample_id, "ann@yard.example"].boxes == (box("car", 7, 7),)  # the newest of the same person
    assert found[twice.sample_id, "ben@yard.example"].boxes == (box("car", 6, 6),)
    lines = labelling.problems(batch)
    assert len(lines) == 2
    assert "'bus'" in lines[0]
    assert "draw it upright" in lines[1]


def test_the_images_are_the_ones_of_the_batch(server, labelling, batch_of, image_of):
    """Uploaded once, whole, and shown to those who are logged in alone."""
    batch = batch_of(3)
    labelling.push(batch, image_of, {})
    person = server.client()
    for sample in batch.samples:
        address = person.get(f"/api/tasks/{tasks_of(labelling, batch)[sample.sample_id]}")["data"]["image"]
        content = person._authorised("GET", address)
        assert content.content == image_of(sample).read_bytes()
        assert httpx.get(server.url + address, trust_env=False).status_code in (401, 403)


def test_offering_again_after_an_end_anywhere_leaves_one_task_an_image(labelling, batch_of, image_of, monkeypatch):
    """A push that dies at an image, after an upload, or whose answers are lost goes on: no task twice, none missing."""
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    batch = batch_of(6)
    seeds = pre_annotations(batch, {})

    def gone(sample):
        if sample in batch.samples[3:]:
            raise OSError("the disk is gone")
        return image_of(sample)

    with pytest.raises(OSError, match="the disk is gone"):
        labelling.push(batch, gone, seeds)
    assert len(tasks_of(labelling, batch)) == 2

    post = labelling._server.post

    def lost(path, body, **params):
        post(path, body, **params)
        raise LabelStudioDown("the answer is lost")

    monkeypatch.setattr(labelling._server, "post", lost)
    for expected in (4, 6):
        with pytest.raises(LabelStudioDown):
            labelling.push(batch, image_of, seeds)
        assert len(tasks_of(labelling, batch)) == expected
    monkeypatch.setattr(labelling._server, "post", post)
    labelling.push(batch, image_of, {})  # nothing is new: seeds stay as they were given
    assert set(tasks_of(labelling, batch)) == {sample.sample_id for sample in batch.samples}
    assert labelling.seeds(batch) == seeds
    files = labelling._server.get(f"/api/projects/{labelling._project(batch.batch_id)}/file-uploads", all="true")
    assert len(files) == 6


def test_a_second_task_of_an_image_goes_and_what_people_did_stays(server, labelling, batch_of, image_of):
    """What two machines at the same moment leave: the task nobody touched goes; where both were labelled both stay."""
    batch = batch_of(3)
    labelling.push(batch.model_copy(update={"samples": batch.samples[:2]}), image_of, {})
    project = labelling._project(batch.batch_id)
    first, second = batch.samples[:2]
    doubles = [module.new_task(sample, "/data/x.jpg", None) for sample in (first, second)]
    made = labelling._server.post(f"/api/projects/{project}/import", doubles, return_task_ids="true")["task_ids"]
    tasks = [task.task_id for task in labelling._tasks(project)]
    ann, ben = server.colleague("ann-of-doubles"), server.colleague("ben-of-doubles")
    submit(ann, made[0], first, box("car", 1, 1))
    submit(ann, tasks[1], second, box("car", 2, 2))
    submit(ben, made[1], second, box("car", 3, 3))
    labelling.push(batch, image_of, {})
    left = Counter(task.sample_id for task in labelling._tasks(project))
    assert left == {first.sample_id: 1, second.sample_id: 2, batch.samples[2].sample_id: 1}
    found = {label.boxes[0].xyxy[0]: label.annotator for label in labelling.pull(batch)}
    assert found == {
        1: "ann-of-doubles@yard.example",
        2: "ann-of-doubles@yard.example",
        3: "ben-of-doubles@yard.example",
    }


def test_a_project_that_was_deleted_or_renamed_is_one_line(labelling, batch_of, image_of):
    """Deleted by hand: a line, no label, and offering makes it anew. A stranger's project stays as it is."""
    batch = batch_of(2)
    labelling.push(batch, image_of, {})
    project = labelling._project(batch.batch_id)
    labelling._server.delete(f"/api/projects/{project}/")
    assert labelling.pull(batch) == []
    assert "it was deleted, or never made" in labelling.problems(batch)[0]
    stranger = labelling._server.post("/api/projects", {"title": batch.batch_id, "description": "mine"})["id"]
    with pytest.raises(LabellingUnavailable, match="not of this batch: rename it"):
        labelling.pull(batch)
    labelling._server.delete(f"/api/projects/{stranger}/")
    labelling.push(batch, image_of, {})
    assert len(tasks_of(labelling, batch)) == 2


def test_images_of_an_s3_bucket_are_signed_by_the_server_itself(server, batch_of, image_of, tmp_path, request):
    """The task holds the key, each look at it a fresh address that opens; no credential of ours goes to the server."""
    url = fresh_s3_url(request)
    project = a_project(
        tmp_path,
        url,
        classes=CLASSES,
        labelling={
            "interface": "labelstudio",
            "labelstudio_url": server.url,
            "labelstudio_token_file": str(server.folder / "token"),
        },
    )
    labelling = labelling_of(project)
    batch = batch_of(2)
    for sample in batch.samples:
        Bucket(url, "yard").put(module.image_key(sample), image_of(sample).read_bytes())
    for _ in range(2):
        labelling.push(batch, image_of, pre_annotations(batch, {}))
    storages = labelling._server.get("/api/storages/s3", project=labelling._project(batch.batch_id))
    assert len(storages) == 1
    assert SECRET not in json.dumps(storages)
    for sample_id, task in tasks_of(labelling, batch).items():
        raw = labelling._server.get(f"/api/tasks/{task}", resolve_uri="false")["data"]["image"]
        assert raw.startswith(f"{url}/yard/devices/")
        address = labelling._server.get(f"/api/tasks/{task}")["data"]["image"]
        bearer = {"Authorization": f"Bearer {labelling._server._bearer}"}
        signed = httpx.get(server.url + address, headers=bearer, trust_env=False)
        content = httpx.get(signed.headers["location"], trust_env=False).content
        assert content == image_of(next(s for s in batch.samples if s.sample_id == sample_id)).read_bytes()
        assert "location" not in httpx.get(server.url + address, trust_env=False).headers


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_keeps_its_secrets_and_its_folder_to_itself(server):
    """Owner-only files, no secret in any output or log, one server a folder, and no server is no error for `down`."""
    for name in ("account.json", "token"):
        assert (server.folder / name).stat().st_mode & 0o777 == 0o600
    assert server.folder.stat().st_mode & 0o777 == 0o700
    secrets = [(server.folder / "token").read_text(), server.account()["password"]]
    for log in (server.log, server.folder / "server.log"):
        assert not any(secret in log.read_text() for secret in secrets)
    again = edgeloop("labelstudio", "up", "--environment", ENVIRONMENT, cwd=server.home)
    assert again.returncode == 2
    assert "its server runs already" in again.stderr
    elsewhere = edgeloop("labelstudio", "up", "--environment", ENVIRONMENT, "--port", server.port,
                         "--folder", "other", cwd=server.home)  # fmt: skip
    assert elsewhere.returncode == 2
    assert f"port {server.port} of 127.0.0.1: cannot be used" in elsewhere.stderr
    none = edgeloop("labelstudio", "down", "--folder", "other", cwd=server.home)
    assert (none.returncode, none.stdout) == (0, "no server runs in other\n")


def test_a_project_calls_who_waits_when_somebody_has_labelled(server, labelling, batch_of, image_of, monkeypatch):
    """The webhook is made once, however often a batch is pushed; its call has the newest token, and is a hint."""
    monkeypatch.setenv("EDGELOOP_WEBHOOK_TOKEN", "a-token-of-yesterday")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    labelling._webhook_url = f"http://{address}/"
    batch = batch_of(1)
    labelling.push(batch, image_of, {})
    monkeypatch.setenv("EDGELOOP_WEBHOOK_TOKEN", "a-token-of-this-test")
    with hints(address) as heard:
        labelling.push(batch, image_of, {})
        labelling.push(batch, image_of, {})
        project = labelling._project(batch.batch_id)
        assert len(server.client().get("/api/webhooks/", project=project)) == 1
        assert not heard.is_set()
        submit(server.client(), tasks_of(labelling, batch)[batch.samples[0].sample_id], batch.samples[0])
        assert heard.wait(20)
