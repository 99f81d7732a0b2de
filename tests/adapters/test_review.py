"""The review dataset, against a real mongod and a real FiftyOne."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters import review
from tasks.adapters.review import ReviewItem, mongod
from tasks.core.entities import Detections, Label, LabelBox, Rule, Sample, detection_records, detections_from_records
from tasks.core.errors import NotEnoughData, RecordInvalid, ReviewUnavailable
from tasks.core.matching import GroundTruths, ImageResult, match

CLASSES = ("car", "truck", "bus")
THRESHOLDS = {"car": 0.5, "truck": 0.4, "bus": 0.6}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def environment(monkeypatch):
    """No database in the environment, and the environment as it was afterwards."""
    before = dict(os.environ)
    for name in (mongod.URI_VARIABLE, mongod.FOLDER_VARIABLE, "EDGELOOP_MONGOD"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A review database for the tests of this file; FiftyOne serves one a process."""
    started = mongod.operators_own_uri() is None and mongod.FOLDER_VARIABLE not in os.environ
    folder = Path(os.environ.get(mongod.FOLDER_VARIABLE) or tmp_path_factory.mktemp("review"))
    yield review.ensure_database(folder)
    if started:
        review.stop_database(folder)


# --- the database ----------------------------------------------------------------------------------------------------


def in_another_process(folder, home, code):
    """Run `code` in a process of its own, with a home directory of its own and `folder` as its review folder."""
    script = f"from pathlib import Path\nfrom tasks.adapters import review\nfolder = Path({str(folder)!r})\n{code}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FIFTYONE_", "EDGELOOP_", "MPL"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**clean, "HOME": str(home), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_processes_share_one_server_and_a_restart_keeps_port_and_data(tmp_path, environment):
    """A second process reuses the running server; stopped and started again it has its port and what was written."""
    from pymongo import MongoClient

    folder, home = tmp_path / "review", tmp_path / "home"
    home.mkdir()
    uri = in_another_process(folder, home, "print(review.ensure_database(folder))")
    try:
        assert uri.startswith("mongodb://127.0.0.1:")
        assert review.ensure_database(folder) == uri
        with MongoClient(uri) as client:
            client.test.things.insert_one({"_id": 1})
        assert review.stop_database(folder)
        assert not review.stop_database(folder)
        assert review.ensure_database(folder) == uri
        with MongoClient(uri) as client:
            assert client.test.things.find_one() == {"_id": 1}
    finally:
        review.stop_database(folder)


def test_a_port_that_serves_other_data_is_not_taken_for_ours(tmp_path, environment):
    """When another folder's server has taken our last port, a server of our own is started on another one."""
    other, ours = tmp_path / "other", tmp_path / "ours"
    try:
        taken = review.ensure_database(other)
        ours.mkdir()
        mongod.port_file(ours).write_text(mongod.port_file(other).read_text())
        assert not review.stop_database(ours)
        assert review.ensure_database(ours) != taken
        assert mongod.running_port(other) is not None
    finally:
        review.stop_database(ours)
        review.stop_database(other)


def test_a_configured_database_is_used_as_it_is(tmp_path, environment):
    """With FIFTYONE_DATABASE_URI in the environment nothing is started, and tracking is off."""
    environment.setenv(mongod.URI_VARIABLE, "mongodb://database.example:27017")
    assert review.ensure_database(tmp_path / "review") == "mongodb://database.example:27017"
    assert os.environ["FIFTYONE_DO_NOT_TRACK"] == "true"
    assert not (tmp_path / "review").exists()


def test_without_a_mongod_the_error_says_what_to_do(tmp_path, environment):
    """No runnable mongod anywhere is one line that names the extra and the variables; a broken one is passed over."""
    broken = tmp_path / "mongod"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    environment.setenv("EDGELOOP_MONGOD", str(broken))
    environment.setenv("PATH", str(tmp_path))
    environment.setattr(mongod.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReviewUnavailable, match=r"'mongod' extra.*EDGELOOP_MONGOD.*FIFTYONE_DATABASE_URI") as raised:
        review.ensure_database(tmp_path / "review")
    assert "\n" not in str(raised.value)


def test_a_mongod_that_dies_at_its_start_names_its_log(tmp_path, environment):
    """A data folder that mongod cannot read is one line with the path of the log."""
    broken = tmp_path / "review" / "mongo"
    broken.mkdir(parents=True)
    (broken / "storage.bson").write_text("not a database")
    with pytest.raises(ReviewUnavailable, match=r"ended with \d+: read .*mongod\.log"):
        review.ensure_database(tmp_path / "review")


def test_a_dataset_without_a_database_is_refused(environment):
    """Syncing before a database is open says which call is missing, and does not start FiftyOne's own."""
    with pytest.raises(ReviewUnavailable, match="ensure_database"):
        review.sync_dataset("yard", [], CLASSES)


# --- the dataset -----------------------------------------------------------------------------------------------------


def yard(folder: Path, count: int, seed: int = 0) -> tuple[list[ReviewItem], list[str], list[ImageResult]]:
    """Review items with their matching's input: every fifth is not labelled. Images are only named, never decoded."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    items, labelled, results = [], [], []
    for i in range(count):
        data = b"image %d" % i
        path = folder / f"{i}.jpg"
        path.write_bytes(data)
        boxes = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 250, (boxes, 2)), rng.uniform(25, 110, (boxes, 2))
        truth, classes = np.hstack([corner, corner + size]).round(2), rng.integers(0, 3, boxes)
        copies = np.repeat(np.flatnonzero(rng.random(boxes) < 0.85), 2)
        found = truth[copies] + rng.normal(0, 0.12, (len(copies), 4)) * np.tile(size[copies], 2)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
        found_classes = np.where(rng.random(len(copies)) < 0.8, classes[copies], rng.integers(0, 3, len(copies)))
        confidence = np.append(np.sort(rng.uniform(0.006, 0.99, len(copies)))[::-1], 0.003)  # the last: below the floor
        found, found_classes = np.vstack([found, [[0, 0, 20, 20]]]), np.append(found_classes, 0)
        detections = Detections(found.astype(np.float32), confidence.astype(np.float32), found_classes, CLASSES)
        detections = detections_from_records(detection_records(detections), CLASSES)  # as they are written
        moment = datetime(2026, 3, 1, 8, tzinfo=timezone.utc) + timedelta(minutes=i)
        sha256 = hashlib.sha256(data).hexdigest()
        sample = Sample(
            sample_id=sha256[:20],
            sha256=sha256,
            device="yard-device",
            camera=f"gate-{i % 3}",
            captured_at=moment,
            width=400,
            height=400,
            strategy="random",
            matched=("random", "car low"),
            probability=0.02,
            random_slice=i % 2 == 0,
            model_version="stub",
            settings_version="all/1",
        )
        label = None
        if i % 5 != 4:
            label = Label(
                sample_id=sample.sample_id,
                boxes=tuple(LabelBox(class_name=CLASSES[c], xyxy=tuple(b)) for b, c in zip(truth.tolist(), classes)),
                annotator="ann",
                labelled_at=moment,
            )
            labelled.append(sample.sample_id)
            results.append(ImageResult(detections, GroundTruths(truth, classes, np.zeros(boxes, np.bool_))))
        items.append(ReviewItem(path, sample, detections, label, "train", f"batch-{i // 10}", "0123456789abcdef"))
    return items, labelled, results


def contents(name):
    """What the dataset holds, without FiftyOne's own ids and times of samples."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    dataset.reload()
    own = {"_id", "_rand", "_dataset_id", "created_at", "last_modified_at"}
    samples = [sample.to_dict() for sample in dataset.sort_by("sample_id")]
    return [{field: value for field, value in sample.items() if field not in own} for sample in samples]


@pytest.mark.slow
def test_syncing_is_idempotent_and_rebuilds_a_lost_database(tmp_path, database):
    """The same items again change nothing; after a loss they bring back the same content and evaluation."""
    import fiftyone as fo

    items, labelled, results = yard(tmp_path, 30)
    matches = match(results)

    def build():
        counts = review.sync_dataset("idempotent", items, CLASSES)
        review.write_evaluation("idempotent", "newest", labelled, matches, CLASSES, THRESHOLDS)
        return counts

    assert build() == review.SyncCounts(added=30)
    before = contents("idempotent")
    assert review.sync_dataset("idempotent", iter(items), CLASSES) == review.SyncCounts(unchanged=30)
    assert contents("idempotent") == before
    fo.delete_dataset("idempotent")
    assert build() == review.SyncCounts(added=30)
    assert contents("idempotent") == before
    sample = fo.load_dataset("idempotent").match(fo.ViewField("sample_id") == items[1].sample.sample_id).first()
    assert sample.filepath == str(items[1].image_path)
    assert (sample.strategy, sample.matched, sample.camera) == ("random", ["random", "car low"], "gate-1")
    assert (sample.split, sample.batch, sample.model_version) == ("train", "batch-0", "0123456789abcdef")
    assert sample.captured_at.replace(tzinfo=timezone.utc) == items[1].sample.captured_at
    assert len(sample.predictions.detections) == len(items[1].predictions) - 1  # without the one below the floor
    box = items[1].label.boxes[0].xyxy
    assert sample.ground_truth.detections[0].bounding_box == pytest.approx(
        [box[0] / 400, box[1] / 400, (box[2] - box[0]) / 400, (box[3] - box[1]) / 400]
    )


@pytest.mark.slow
def test_only_what_changed_is_rewritten_and_reviewers_fields_stay(tmp_path, database):
    """A sample whose label came is updated; a reviewer's field, and samples that were not given, stay."""
    import fiftyone as fo

    items, _, _ = yard(tmp_path, 12)
    review.sync_dataset("changes", items[:10], CLASSES)
    dataset = fo.load_dataset("changes")
    dataset.set_values("human", ["looks odd"] * 10)
    labelled = Label(sample_id=items[4].sample.sample_id, annotator="ben", labelled_at=items[4].sample.captured_at)
    missing = replace(items[11], image_path=tmp_path / "gone.jpg")
    counts = review.sync_dataset(
        "changes", [*items[1:4], replace(items[4], label=labelled), items[10], missing], CLASSES
    )
    assert counts == review.SyncCounts(added=1, updated=1, unchanged=3, skipped=1)
    dataset.reload()
    sample = dataset.match(fo.ViewField("sample_id") == items[4].sample.sample_id).first()
    assert (sample.label_status, sample.annotator, sample.human) == ("done", "ben", "looks odd")
    assert sample.ground_truth.detections == []  # reviewed and found empty is a label
    assert len(dataset) == 11
    assert review.remove_samples("changes", [items[0].sample.sample_id, "0" * 20]) == 1
    assert len(dataset) == 10


@pytest.mark.slow
def test_two_samples_in_one_file_are_refused(tmp_path, database):
    """Two samples that name one image file are an error with both ids, for FiftyOne would show one of them twice."""
    items, _, _ = yard(tmp_path, 2)
    with pytest.raises(RecordInvalid, match=rf"{items[0].sample.sample_id} and {items[1].sample.sample_id}.*0\.jpg"):
        review.sync_dataset("twice", [items[0], replace(items[1], image_path=items[0].image_path)], CLASSES)


# --- evaluations and views -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_evaluation_equals_fiftyones_own(tmp_path, database):
    """Every box's outcome, the counts, the metrics and the patches equal those of `evaluate_detections`."""
    import fiftyone as fo

    items, labelled, results = yard(tmp_path, 40)
    review.sync_dataset("equal", items, CLASSES)
    assert (
        review.write_evaluation("equal", "ours", labelled, match(results), CLASSES, THRESHOLDS) == len(labelled) == 32
    )
    dataset = fo.load_dataset("equal")
    view = dataset.match(fo.ViewField("label_status") == "done")
    native = view.evaluate_detections("predictions", "ground_truth", eval_key="native", classes=list(CLASSES), iou=0.5)
    for field in ("ground_truth", "predictions"):
        for suffix in ("", "_id"):
            mine, theirs = view.values([f"{field}.detections.ours{suffix}", f"{field}.detections.native{suffix}"])
            assert mine == theirs
        mine, theirs = view.values([f"{field}.detections.ours_iou", f"{field}.detections.native_iou"], unwind=True)
        assert [iou is None for iou in mine] == [iou is None for iou in theirs]
        both = [(a, b) for a, b in zip(mine, theirs) if a is not None]
        assert len(both) > 20
        assert [a for a, _ in both] == pytest.approx([b for _, b in both], abs=1e-4)
    for count in ("tp", "fp", "fn"):
        assert view.values(f"ours_{count}") == view.values(f"native_{count}")
    run = dataset.load_evaluation_results("ours")
    assert run.metrics() == pytest.approx(native.metrics())
    assert run.report() == native.report()
    patches = dataset.to_evaluation_patches("ours").count_values("type")
    assert patches == dataset.to_evaluation_patches("native").count_values("type")
    assert min(patches.values()) > 5  # there are hits, misses and false alarms to compare


@pytest.mark.slow
def test_saved_views_hold_what_their_names_say(tmp_path, database):
    """The views' counts equal the matching's: misses in the rules' bands, blind ones, false alarms, to review."""
    items, labelled, results = yard(tmp_path, 40, seed=1)
    matches = match(results)
    review.sync_dataset("views", items, CLASSES)
    review.write_evaluation("views", "newest", labelled, matches, CLASSES, THRESHOLDS)
    none = {"images": 0, "images_with_miss": 0, "new_images": 0, "new_images_with_miss": 0}
    rules = [
        Rule(class_name="car", low=0.1, high=0.54, **none),  # reaches above its threshold, where nothing is missed
        Rule(class_name="bus", low=0.05, high=0.3, **none),
    ]
    for _ in range(2):  # saving again replaces
        views = review.save_views(
            "views", eval_key="newest", thresholds=THRESHOLDS, rules=rules, newest_batch="batch-3"
        )
    truths = matches.truths
    in_band = ((truths.class_id == 0) & (truths.confidence >= 0.1) & (truths.confidence < 0.5)) | (
        (truths.class_id == 2) & (truths.confidence >= 0.05) & (truths.confidence < 0.3)
    )
    found = matches.detections
    threshold = np.array([THRESHOLDS[name] for name in CLASSES])
    blind = truths.detection < 0
    assert {view.slug: view.count for view in views} == {
        "to-review": 8,
        "newest-batch": 10,
        "misses-in-the-suggested-band": len(np.unique(truths.image[in_band])),
        "misses-in-the-suggested-band-patches": in_band.sum(),
        "blind-misses": len(np.unique(truths.image[blind])),
        "blind-misses-patches": blind.sum(),
        "false-alarms": (~found.is_true & (found.confidence >= threshold[found.class_id])).sum(),
    }
    assert in_band.sum() > 5
    assert blind.sum() > 0

    import fiftyone as fo

    dataset = fo.load_dataset("views")
    missed = blind | (truths.confidence < threshold[truths.class_id])
    by_image = np.bincount(truths.image[missed], minlength=len(labelled))
    assert dict(zip(*dataset.values(["sample_id", "misses"]))) == {
        item.sample.sample_id: dict(zip(labelled, by_image.tolist())).get(item.sample.sample_id) for item in items
    }
    kinds = dataset.count_values("ground_truth.detections.newest_blind")
    assert {k: v for k, v in kinds.items() if k} == dict(zip(*np.unique(truths.blind[blind], return_counts=True)))
    assert dataset.load_saved_view("Blind misses, patches").count() == blind.sum()


@pytest.mark.slow
def test_an_evaluation_of_other_images_is_refused(tmp_path, database):
    """An evaluation none of whose images is in the dataset is an error that names both, not an empty run."""
    review.sync_dataset("strangers", yard(tmp_path, 3)[0], CLASSES)
    with pytest.raises(NotEnoughData, match=r"'newest'.*'strangers'"):
        review.write_evaluation("strangers", "newest", ["f" * 20], match([]), CLASSES, THRESHOLDS)


@pytest.mark.slow
def test_nothing_is_written_into_the_home_directory(tmp_path, environment):
    """A process that starts the database and syncs a dataset leaves its home directory empty."""
    folder, home = tmp_path / "review", tmp_path / "home"
    home.mkdir()
    code = (
        "review.ensure_database(folder)\n"
        "print(review.sync_dataset('empty', [], ['car']))\n"
        "print(review.save_views('empty')[0].count)\n"
        "review.stop_database(folder)\n"
    )
    assert in_another_process(folder, home, code).endswith("0")
    assert list(home.iterdir()) == []


# --- the App ---------------------------------------------------------------------------------------------------------


def test_links_name_the_dataset_and_the_view():
    """A link is on loopback and spells the dataset and the slug so that a browser understands them."""
    assert review.app_url() == "http://127.0.0.1:5151/"
    assert review.app_url("yard 1", "blind-misses", 5160) == "http://127.0.0.1:5160/datasets/yard%201?view=blind-misses"


@pytest.mark.slow
def test_a_saved_view_opens_in_a_browser(tmp_path, database):
    """The launched App shows the images of a saved view that is opened by its link, and listens on loopback only."""
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip(f"needs a browser at {chromium}")
    import cv2
    from playwright.sync_api import sync_playwright

    items, labelled, results = yard(tmp_path, 10)
    for item in items:
        cv2.imwrite(str(item.image_path), np.full((400, 400, 3), 180, np.uint8))
    review.sync_dataset("browser", items, CLASSES)
    review.write_evaluation("browser", "newest", labelled, match(results), CLASSES, THRESHOLDS)
    view = next(v for v in review.save_views("browser", eval_key="newest") if v.slug == "to-review")
    port = mongod.free_port(0)
    command, variables = review.launch_command(Path(os.environ.get(mongod.FOLDER_VARIABLE, tmp_path)), port)
    assert command[-2:] == ["--address", "127.0.0.1"]
    with (tmp_path / "app.log").open("w") as log:
        app = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(port, app, tmp_path / "app.log")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=str(chromium),
                args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page = browser.new_page()
            page.goto(review.app_url("browser", view.slug, port))
            page.get_by_text(f"{view.count} samples").first.wait_for(timeout=60_000)
            assert page.url.endswith("?view=to-review")
            browser.close()
    finally:
        app.terminate()
        app.wait(30)


def wait_for(port, app, log, seconds=90):
    """Until the App accepts connections; its log when it ends before."""
    import socket
    import time

    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert app.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.25)
