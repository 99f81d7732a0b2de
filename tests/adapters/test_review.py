"""The review database and FiftyOne's App: a real mongod, a real server, a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters import review
from tasks.adapters.review import mongod
from tasks.core.errors import ReviewUnavailable
from tasks.core.matching import match
from tests.adapters.review_yard import CLASSES, THRESHOLDS, yard

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


@pytest.mark.slow
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


@pytest.mark.slow
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
    command, variables = review.launch_command(tmp_path, port)
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


def test_a_configured_database_that_does_not_answer_is_one_clear_line(monkeypatch):
    """The error names the variable, not its address, which may hold a password."""
    monkeypatch.setenv(mongod.URI_VARIABLE, "mongodb://me:secret@127.0.0.1:9/")
    monkeypatch.setattr(mongod, "SELECTION_MILLISECONDS", 200)
    with pytest.raises(ReviewUnavailable, match=mongod.URI_VARIABLE) as caught:
        review.check_that_it_answers(os.environ[mongod.URI_VARIABLE])
    assert "secret" not in str(caught.value)
