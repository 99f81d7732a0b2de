"""Labelling in FiftyOne's App: what people do there becomes labels to the pixel, or a line that says why not."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from tasks.adapters import review
from tasks.adapters.bucket import Bucket
from tasks.adapters.labelling import Labelling
from tasks.adapters.labelling.fiftyone import FiftyOneLabelling
from tasks.adapters.labelling.fiftyone_boxes import (
    DONE,
    SKIPPED,
    fraction_of,
)
from tasks.adapters.labels import revision_bytes
from tasks.adapters.review import mongod
from tasks.core import layout
from tasks.core.entities import STUB, Batch, Label, Release
from tasks.core.errors import LabellingUnavailable
from tasks.core.settings import CloseToThreshold, SamplingSettings
from tests.adapters.test_review import wait_for
from tests.tasks.stages import NOON, a_picture, a_sample, box, label, seen

CLASSES = ("car", "truck")
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)

# --- datasets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path, database, request):
    """Labelling in a database, with pictures, in a project of the test's own name."""
    import fiftyone as fo

    name = "app-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-40:].strip("-")
    made: Labelling = FiftyOneLabelling(
        Bucket(f"file://{tmp_path}/bucket", name), tmp_path / "database", skip_reasons=("dark",)
    )
    yield made
    for dataset in fo.list_datasets(f"{name}*"):
        fo.delete_dataset(dataset)


@pytest.fixture
def image_of(tmp_path):
    (tmp_path / "cache").mkdir()
    for number in range(20):
        (tmp_path / "cache" / f"{a_sample(number).sample_id}.jpg").write_bytes(a_picture(number))
    return lambda sample: tmp_path / "cache" / f"{sample.sample_id}.jpg"


def a_batch(count=3, **fields) -> Batch:
    samples = tuple(a_sample(n, detections=(seen("car", 0.9), seen("truck", 0.2))) for n in range(count))
    return Batch(**{"batch_id": "today", "created_at": NOON, "class_names": CLASSES, "samples": samples, **fields})


def seeds_of(batch) -> dict[str, Label]:
    return {one.sample_id: label(one, box("car", 10, 10), annotator="model") for one in batch.samples}


def dataset_of(app):
    import fiftyone as fo

    found = fo.load_dataset(app.dataset_name("today"))
    found.reload()
    return found


def say(app, sample_id, state=DONE, **fields):
    """What a person does to one image, by FiftyOne's own means."""
    import fiftyone as fo

    sample = dataset_of(app).match(fo.ViewField("sample_id") == sample_id).first()
    sample["review_status"] = state
    for name, value in fields.items():
        sample[name] = value
    sample.save()


@pytest.mark.slow
def test_offering_again_changes_nothing_that_people_have_done(app, image_of):
    """Seeds are what was given first; a second push leaves work alone; new images of the batch come in."""
    batch = a_batch(3)
    two = batch.model_copy(update={"samples": batch.samples[:2]})
    app.push(two, image_of, seeds_of(two))
    assert app.offered(two) == tuple(one.sample_id for one in two.samples)
    first, second, third = (one.sample_id for one in batch.samples)
    say(app, first)
    say(app, second, SKIPPED, skip_reason="dark")
    app.push(batch, image_of, {})
    assert app.seeds(batch) == seeds_of(two)
    labels = {one.sample_id: one for one in app.pull(batch)}
    assert labels[first].boxes == (box("car", 10, 10),)
    assert (labels[second].status, labels[second].reason) == ("skipped", "dark")
    assert dataset_of(app).values("sample_id") == [first, second, third]
    assert app.problems(batch) == []
    say(app, third)  # it came blank, and has no objects
    assert [one.boxes for one in app.pull(batch) if one.sample_id == third] == [()]


@pytest.mark.slow
def test_a_lost_database_comes_back_with_all_that_was_pulled(app, image_of):
    """The dataset is deleted: pulling says how to bring it back, pushing does, with labels, skips and seeds."""
    import fiftyone as fo

    batch = a_batch(3)
    app.push(batch, image_of, seeds_of(batch))
    first, second, third = (one.sample_id for one in batch.samples)
    app.opened_by("today", "eve")
    say(app, first, human=fo.Detections(detections=[fo.Detection(label="truck", bounding_box=[0, 0, 0.5, 0.5])]))
    say(app, second, SKIPPED)
    labels = app.pull(batch)
    assert {one.annotator for one in labels} == {"eve"}
    app._bucket.put(
        layout.labels("today", 1), revision_bytes(labels, {one.sample_id: one for one in batch.samples}, CLASSES)
    )
    fo.delete_dataset(app.dataset_name("today"))
    assert app.pull(batch) == []
    assert "edgeloop review today brings it back" in app.problems(batch)[0]
    with pytest.raises(LabellingUnavailable, match="open it with edgeloop review today"):
        app.submit(batch)
    app.push(batch, image_of, {})
    assert dataset_of(app).values("review_status") == [DONE, SKIPPED, "todo"]
    again = {one.sample_id: one for one in app.pull(batch)}
    assert set(again) == {first, second}
    assert [(one.class_name, one.xyxy) for one in again[first].boxes] == [("truck", (0, 0, 32, 24))]
    said = {one.sample_id: one for one in labels}
    assert {key: one.labelled_at for key, one in again.items()} == {key: one.labelled_at for key, one in said.items()}
    assert dataset_of(app).match({"sample_id": third}).first().human.detections[0].label == "car"


@pytest.mark.slow
def test_the_check_names_what_it_refuses_and_takes_the_rest(app, image_of):
    """A class that the server let through, lost boxes, and somebody's own image: each has a line, none stops others."""
    import fiftyone as fo

    batch = a_batch(3)
    app.push(batch, image_of, seeds_of(batch))
    first, second, third = (one.sample_id for one in batch.samples)
    say(app, first)
    say(app, second, human=fo.Detections(detections=[fo.Detection(label="Bogus", bounding_box=[0, 0, 0.5, 0.5])]))
    say(app, third, human=fo.Detections())
    dataset_of(app).add_sample(fo.Sample(filepath=str(image_of(a_sample(9))), sample_id="somebodys own"))
    found = app.submit(batch)
    assert [one.sample_id for one in found.labels] == [first]
    assert "class 'Bogus'" in found.refused[second]
    assert "all 1 boxes that were there at first are gone" in found.refused[third]
    assert "is no image of this batch" in found.refused["somebodys own"]
    assert (found.status.offered, found.status.done) == (3, 1)
    refused = dataset_of(app).load_saved_view("Refused")
    assert set(refused.values("sample_id")) == set(found.refused)
    say(app, third, human=fo.Detections(), confirm=True)
    assert set(app.submit(batch).refused) == {second, "somebodys own"}
    assert set(dataset_of(app).load_saved_view("Refused").values("sample_id")) == {second, "somebodys own"}
    assert len(app.problems(batch)) == 2


@pytest.mark.slow
def test_what_measures_comes_blank_and_shows_no_candidates(app, image_of):
    """An image without a seed shows nothing of what a model saw."""
    batch = a_batch(2)
    sample = batch.samples[0].model_copy(update={"model_version": STUB})
    batch = batch.model_copy(update={"samples": (sample, batch.samples[1])})
    app.push(batch, image_of, {})
    for document in dataset_of(app):
        assert (document.human.detections, document.candidates.detections) == ([], [])


@pytest.mark.slow
def test_a_clock_that_is_ahead_and_the_same_image_twice(app, image_of):
    """A label of tomorrow counts as of now; an image of the batch cannot come in a second time."""
    import fiftyone as fo

    batch = a_batch(1)
    app.push(batch, image_of, seeds_of(batch))
    dataset = dataset_of(app)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    collection = dataset._sample_collection
    collection.update_one({}, {"$set": {"review_status": DONE, "last_modified_at": tomorrow}})
    (found,) = app.pull(batch)
    assert timedelta(0) <= datetime.now(timezone.utc) - found.labelled_at < timedelta(minutes=1)
    with pytest.raises(Exception, match="duplicate key"):
        dataset.add_sample(fo.Sample(filepath="/another.jpg", sample_id=batch.samples[0].sample_id))
    assert dataset.count() == 1


@pytest.mark.slow
def test_a_dataset_of_somebody_else_is_not_touched(app, image_of):
    """One of the same name is refused with its name, and stays as it is."""
    import fiftyone as fo

    theirs = fo.Dataset(app.dataset_name("today"), persistent=True)
    theirs.add_sample(fo.Sample(filepath=str(image_of(a_sample(0)))))
    with pytest.raises(LabellingUnavailable, match="is there and not of this batch: rename it or delete it"):
        app.push(a_batch(), image_of, {})
    assert theirs.count() == 1


@pytest.mark.slow
def test_candidates_are_what_the_model_doubts_and_no_boxes_of_the_seed(app, image_of):
    """Close to the threshold and not among the boxes: shown beside them, never as a label; blank images show none."""
    close = CloseToThreshold(name="close", type="close_to_threshold", threshold=0.3, epsilon=0.1, probability=1.0)
    orders = Release(
        group="all",
        number=1,
        created_at=NOON,
        class_names=CLASSES,
        settings=SamplingSettings(sampling_strategies=(close,)),
    )
    app._bucket.write_record(layout.release("all", 1), orders)
    places = ((10.0, 10.0, 30.0, 30.0), (34.0, 10.0, 60.0, 30.0), (2.0, 2.0, 9.0, 9.0))
    found = tuple(seen(*one) for one in zip(("car", "truck", "car"), (0.25, 0.35, 0.05), places))
    batch = a_batch(2)
    batch = batch.model_copy(
        update={"samples": tuple(one.model_copy(update={"detections": found}) for one in batch.samples)}
    )
    seeded, blank = batch.samples
    app.push(batch, image_of, {seeded.sample_id: seeds_of(batch)[seeded.sample_id]})  # the first of the three
    shown = {one.sample_id: one.candidates.detections for one in dataset_of(app)}
    assert [(one.label, one.confidence) for one in shown[seeded.sample_id]] == [("truck", 0.35)]
    assert shown[blank.sample_id] == []
    say(app, seeded.sample_id)
    assert [one.boxes for one in app.pull(batch)] == [(box("car", 10, 10),)]


def test_without_a_database_one_line_says_where_else_to_label(tmp_path, monkeypatch):
    """Nothing listens where the database should be: offering, pulling and checking say so, and the ways out."""
    monkeypatch.delenv(mongod.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(mongod.URI_VARIABLE, f"mongodb://127.0.0.1:{mongod.free_port(0)}/?serverSelectionTimeoutMS=200")
    away = FiftyOneLabelling(Bucket(f"file://{tmp_path}/bucket", "yard"), tmp_path / "database")
    batch = a_batch(1)
    for ask in (
        lambda: away.push(batch, lambda sample: tmp_path, {}),
        lambda: away.pull(batch),
        lambda: away.submit(batch),
    ):
        with pytest.raises(LabellingUnavailable, match=r"labelling\.interface files or labelstudio") as refused:
            ask()
        assert "\n" not in str(refused.value)


# --- many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_people_and_a_flow_write_at_once_and_nothing_is_lost(app, image_of, tmp_path):
    """Ten draw through the App's own server while the flow offers, pulls and checks: every box is as it was sent."""
    import fiftyone as fo

    batch = a_batch(20)
    app.push(batch, image_of, seeds_of(batch))
    dataset = dataset_of(app)
    ids = dict(zip(dataset.values("sample_id"), dataset.values("id")))
    port = mongod.free_port(0)
    command, variables = review.launch_command(tmp_path, port)
    with (tmp_path / "app.log").open("w") as log:
        server = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/dataset/{dataset._doc.id}/sample"
    drawn = {
        one.sample_id: [("truck", (n % 5 * 8.0, n % 3 * 8.0, 40.0, 30.0)), ("car", (2.0 + n, 3.0, 40.0, 40.0))]
        for n, one in enumerate(batch.samples)
    }

    def person(mine) -> None:
        with httpx.Client(timeout=60, trust_env=False) as http:
            for sample_id in mine:
                for place, (name, xyxy) in enumerate(drawn[sample_id], start=1):
                    value = {"_cls": "Detection", "_id": {"$oid": str(fo.core.labels.ObjectId())}, "label": name,
                             "bounding_box": fraction_of(xyxy, 64, 48)}  # fmt: skip
                    change(http, sample_id, {"op": "add", "path": f"/human/detections/{place}", "value": value})
                change(http, sample_id, {"op": "replace", "path": "/review_status", "value": DONE})

    def change(http, sample_id, operation) -> None:
        """As the page does: with the version that it has, and again with the newer one when it is told so."""
        url = f"{address}/{ids[sample_id]}"
        version = (datetime.now(timezone.utc) - timedelta(days=9)).isoformat()
        for _ in range(20):
            headers = {"If-Match": f'"{version}"', "Content-Type": "application/json-patch+json"}
            answer = http.patch(url, json=[operation], headers=headers)
            if answer.status_code == 412:
                version = answer.headers["ETag"].strip('W/"')
                continue
            assert answer.status_code == 200, answer.text
            return
        raise AssertionError(f"{sample_id}: refused again and again")

    everybody = threading.Event()

    def flow() -> int:
        looks = 0
        while not everybody.is_set():
            app.push(batch, image_of, seeds_of(batch))
            app.pull(batch)
            app.submit(batch)
            looks += 1
            time.sleep(0.02)
        return looks

    try:
        wait_for(port, server, tmp_path / "app.log")
        shares = [[one.sample_id for one in batch.samples[n::10]] for n in range(10)]
        with ThreadPoolExecutor(11) as pool:
            looks = pool.submit(flow)
            list(pool.map(person, shares))
            everybody.set()
            assert looks.result() > 0
    finally:
        server.terminate()
        server.wait(30)
    labels = {one.sample_id: one for one in app.pull(batch)}
    assert set(labels) == set(drawn)
    for sample_id, boxes in drawn.items():
        found = [(one.class_name, one.xyxy) for one in labels[sample_id].boxes]
        assert found == [("car", (10.0, 10.0, 30.0, 30.0)), *boxes]
