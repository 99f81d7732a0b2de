"""`edgeloop review`: a person opens the printed link in a real browser, labels, and every box is what was drawn."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tasks.adapters import review
from tasks.adapters.config import read_project
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, Turn
from tests.conftest import plain_environment
from tests.flows.app_person import Person, browser_page
from tests.tasks.stages import NOON, a_sample, seen

WIDTH, HEIGHT = 640, 480
PLACES = ((60, 60), (300, 80), (420, 300))  # of what is to be seen in each picture, 120 x 90 pixels
START_SECONDS = 120


def a_picture(number: int) -> bytes:
    pixels = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for place, (x, y) in enumerate(PLACES):
        colour = tuple(int(c) for c in np.random.default_rng((number, place)).integers(0, 255, 3))
        cv2.rectangle(pixels, (x, y), (x + 120, y + 90), colour, -1)
    cv2.putText(pixels, str(number), (20, 440), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 3)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture
def project(tmp_path):
    """A project in a folder, with a batch of four images that people have; the last one comes blank."""
    settings = {
        "project": "yard",
        "bucket": f"file://{tmp_path}/bucket",
        "work": str(tmp_path / "work"),
        "classes": ["car", "truck"],
        "labelling": {"interface": "fiftyone", "near_duplicates": False},
    }
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(settings))
    made = read_project(tmp_path / "project.yaml")
    central = Central(made)
    boxes = [(x, y, x + 120, y + 90) for x, y in PLACES]
    detections = (seen("car", 0.9, boxes[0]), seen("truck", 0.8, boxes[1]), seen("car", 0.7, boxes[2]))
    samples = []
    for number in range(4):
        picture = a_picture(number)
        sample = a_sample(number, picture, width=WIDTH, height=HEIGHT, detections=detections)
        central.bucket.put(layout.sample_image(sample.device, sample.captured_at, sample.sample_id), picture)
        samples.append(sample)
    central.store_batch(
        Batch(
            batch_id="today",
            created_at=NOON,
            class_names=made.classes,
            samples=tuple(samples),
            unseeded=(samples[-1].sample_id,),
        )
    )
    central.bucket.write_record(layout.turn(1), Turn(number=1, started_at=NOON, finished_at=NOON, batches={"today": 0}))
    yield made
    review.stop_database(Path(made.work) / "fiftyone")


@contextmanager
def reviewing(folder: Path, *options: str):
    """`edgeloop review today` as a person starts it, with the link that it prints."""
    log = folder / f"review-{time.monotonic_ns()}.log"
    command = [sys.executable, "-u", "-m", "flows.cli", "review", "today", "--no-browser", "--config", "project.yaml"]
    with log.open("w") as output:
        running = subprocess.Popen(
            [*command, *options], cwd=folder, env=plain_environment(), stdout=output, stderr=output
        )
    try:
        yield link_in(log, running), running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0, log.read_text()


def link_in(log: Path, running: subprocess.Popen) -> str:
    deadline = time.monotonic() + START_SECONDS
    while not (found := re.search(r"http://\S+", log.read_text())):
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return found.group()


@pytest.mark.slow
def test_a_person_labels_in_the_app_and_every_box_is_as_drawn(project, tmp_path):
    """Move, delete, add, relabel, done, skip, a blank image, and a kill of database and App: all boxes are as drawn."""
    batch = Central(project).batch("today")
    first, second, third, blank = (sample.sample_id for sample in batch.samples)
    with browser_page() as page:
        person = Person(page, WIDTH, HEIGHT)
        with reviewing(tmp_path, "--as", "ann") as (link, running):
            assert link.startswith("http://127.0.0.1:")
            person.open(link)
            person.shot("1-to-do")
            person.annotate(0)
            person.pick(120, 105)
            person.drag((120, 105), (150, 125))  # 30 to the right, 20 down
            person.back()
            person.delete(360, 125)
            person.settle()
            person.draw((200, 340), (270, 410), "truck")
            person.pick(480, 345)
            person.choose("truck")
            person.back()
            person.shot("2-annotated")
            person.field("review_status", "done")
            person.shot("3-done")
            kill_database(project)
            kill_app(running)
        with reviewing(tmp_path, "--as", "ann") as (link, running):
            person.open(link)
            assert page.locator("[data-cy=looker]").count() == 3  # the first is done
            person.annotate(0)
            person.field("skip_reason", "too dark or blurred")
            person.field("review_status", "skip")
            person.close()
            person.open(link)
            person.annotate(0)
            for x, y in PLACES:
                person.delete(x + 60, y + 45)
                person.back()
            person.field("review_status", "done")
            person.close()
            person.open(link)
            person.annotate(0)
            person.draw((300, 80), (420, 170), "truck")
            person.field("review_status", "done")
            person.close()
            person.operate("Submit labels", "1 not taken", "4-submitted")
            labels = Central(project).labels(batch, 1)
            assert set(labels) == {first, second, blank}
            person.open(link.replace("view=to-do", "view=refused"))
            person.annotate(0)
            person.switch_on("confirm")
            person.close()
            person.operate("Submit labels", "label revision 2", "5-submitted-again")
    labels = Central(project).labels(batch, 2)
    drawn = {
        first: {("car", (90, 80, 210, 170)), ("truck", (420, 300, 540, 390)), ("truck", (200, 340, 270, 410))},
        second: set(),
        third: set(),
        blank: {("truck", (300, 80, 420, 170))},
    }
    for sample_id, expected in drawn.items():
        found = {(box.class_name, tuple(round(side) for side in box.xyxy)) for box in labels[sample_id].boxes}
        assert found == expected
    assert [labels[sample_id].status for sample_id in drawn] == ["done", "skipped", "done", "done"]
    assert labels[second].reason == "too dark or blurred"
    assert {one.annotator for one in labels.values()} == {"ann"}
    assert [labels[sample_id].seeded for sample_id in drawn] == [True, True, True, False]


def kill_database(project) -> None:
    """As a power cut does; nothing is flushed."""
    lock = Path(project.work) / "fiftyone" / "mongo" / "mongod.lock"
    os.kill(int(lock.read_text()), signal.SIGKILL)


def kill_app(running: subprocess.Popen) -> None:
    """The server of the App, not the command that watches it: that one says so and ends."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert running.wait(60) == 2
