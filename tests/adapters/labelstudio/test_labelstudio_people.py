"""People in a real Label Studio server: ten at once, one in a browser, and kill -9 in the middle of their work."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.adapters.labelling import pre_annotations
from tasks.adapters.labelling.labelstudio_client import LabelStudioDown
from tasks.core.errors import LabellingUnavailable
from tests.adapters.labelstudio.server import CLASSES, SKIP_REASONS, WIDTH, submit, tasks_of
from tests.conftest import ROOT
from tests.tasks.stages import box

SHOTS = ROOT / "test-output" / "labelstudio"  # looked at after a run of CI
CHROMIUM = Path("/usr/bin/chromium")
WHERE_THE_IMAGE_IS = """() => {
    const image = [...Htx.annotationStore.selected.names.values()].find(tag => tag.type === "image");
    return {width: image.stageWidth, zoom: image.zoomScale};
}"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# --- many people, and kill -9 ----------------------------------------------------------------------------------------


def boxes_for(number):
    """Boxes of their own for every image."""
    return tuple(box(CLASSES[(number + n) % 3], 10 + 7 * n + number / 8, 20 + n) for n in range(1 + number % 5))


def test_of_ten_annotators_at_once_nothing_is_lost(server, labelling, batch_of, image_of):
    """Ten people send one image each at once, then share a queue, while the flow looks: all comes back, box for box.

    Label Studio gives some of those who ask at the same instant the same image, and tells others that nothing is left
    while somebody else still holds the rest; they ask again, as people do.
    """
    batch = batch_of(40)
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    project = labelling._project(batch.batch_id)
    numbers = {sample.sample_id: n for n, sample in enumerate(batch.samples)}
    names = [f"one-of-ten-{n}" for n in range(10)]
    with ThreadPoolExecutor(10) as pool:
        people = list(pool.map(server.colleague, names))
    tasks, sent, start = tasks_of(labelling, batch), {}, threading.Barrier(11)

    def send(place, person, task, sample_id):
        number = numbers[sample_id]
        boxes = boxes_for(10 * number + place)
        submit(person, task, batch.samples[number], *boxes)
        sent[sample_id, f"{names[place]}@yard.example"] = boxes

    def work(place, person):
        first = batch.samples[place].sample_id
        start.wait()
        send(place, person, tasks[first], first)
        while True:
            try:
                task = person.get(f"/api/projects/{project}/next")
            except LabellingUnavailable as error:
                if {sample_id for sample_id, _ in list(sent)} == set(numbers):
                    return str(error)
                time.sleep(0.1)
            else:
                send(place, person, task["id"], task["meta"]["sample_id"])

    looks = []
    with ThreadPoolExecutor(10) as pool:
        workers = [pool.submit(work, place, person) for place, person in enumerate(people)]
        start.wait()
        while not all(worker.done() for worker in workers):
            looks.append(len(labelling.pull(batch)))
            time.sleep(0.2)
        for worker in workers:
            assert "404" in worker.result()  # nothing is left to do
    labels = labelling.pull(batch)
    assert labelling.problems(batch) == []
    assert {(label.sample_id, label.annotator): label.boxes for label in labels} == sent
    assert len(labels) == len(sent)
    assert {sample_id for sample_id, _ in sent} == set(numbers)
    assert {person for _, person in sent} == {f"{name}@yard.example" for name in names}
    assert looks == sorted(looks)


def test_after_kill_9_of_the_server_every_answered_annotation_is_there(server, labelling, batch_of, image_of):
    """A pull meanwhile is one line that is tried again later; started again, nothing is lost and work goes on."""
    batch = batch_of(40)
    labelling.push(batch, image_of, {})
    tasks = tasks_of(labelling, batch)
    person, answered = server.client(), {}

    def work():
        for number, sample in enumerate(batch.samples):
            submit(person, tasks[sample.sample_id], sample, *boxes_for(number))
            answered[sample.sample_id] = boxes_for(number)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        while len(answered) < 10 and not working.done():
            time.sleep(0.01)
        server.kill()
        with pytest.raises(LabelStudioDown):
            working.result()
    assert 10 <= len(answered) < 40
    assert "Label Studio ended with -9" in server.log.read_text()
    with pytest.raises(LabelStudioDown, match="edgeloop labelstudio up"):
        labelling.pull(batch)
    server.start()
    found = {label.sample_id: label.boxes for label in labelling.pull(batch)}
    assert answered.items() <= found.items()
    assert len(found) <= len(answered) + 1  # one may have been stored without its answer
    for number, sample in enumerate(batch.samples):
        if sample.sample_id not in found:
            submit(person, tasks[sample.sample_id], sample, *boxes_for(number))
    everything = {sample.sample_id: boxes_for(number) for number, sample in enumerate(batch.samples)}
    assert {label.sample_id: label.boxes for label in labelling.pull(batch)} == everything


# --- a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(server):
    """A browser's page, and the addresses outside this machine that it asked for."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        opened = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened.set_default_timeout(60_000)
        outside = []
        opened.on(
            "request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else outside.append(r.url)
        )
        yield opened
        shot(opened, "last")
        browser.close()
    assert outside == []


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def test_a_person_labels_in_the_browser(server, labelling, batch_of, image_of, page):
    """Log in by the link, see what the model saw, draw, delete, submit, skip with a reason; pull has it all."""
    batch = batch_of(4, unseeded=())
    seeded, blank, corrected, skipped = batch.samples
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    page.goto(labelling.where(batch.batch_id))
    page.fill("input[name=email]", server.account()["user"])
    page.fill("input[name=password]", server.account()["password"])
    page.click("button[type=submit]")
    page.get_by_role("button", name="Label All Tasks").wait_for()
    shot(page, "1-project")
    page.get_by_role("button", name="Label All Tasks").click()

    def opened(number):
        number_ = tasks_of(labelling, batch)[batch.samples[number].sample_id]
        page.wait_for_function(
            f"parseInt(document.querySelector('.lsf-current-task__task-id')?.innerText) === {number_}"
        )
        page.wait_for_function("[...document.querySelectorAll('canvas')].some(c => c.width > 300)")
        page.wait_for_timeout(700)  # the image is laid out anew when its panels have their width

    def on_page(x, y):
        """Where a pixel of the image is; the whole image is shown, nothing of it is cut off."""
        image = page.evaluate(WHERE_THE_IMAGE_IS)
        assert image["zoom"] == 1
        area = page.locator(".konvajs-content").first.bounding_box()
        return area["x"] + x * image["width"] / WIDTH, area["y"] + y * image["width"] / WIDTH

    def drag(x1, y1, x2, y2):
        """From one pixel of the image to another."""
        page.mouse.move(*on_page(x1, y1))
        page.mouse.down()
        page.mouse.move(*on_page(x2, y2), steps=8)
        page.mouse.up()

    opened(0)  # what the model saw, and one more
    shot(page, "2-pre-annotation")
    page.keyboard.press("2")
    drag(400, 300, 500, 400)
    shot(page, "3-drawn")
    page.get_by_role("button", name="Submit").first.click()
    opened(1)  # blank: submitted as empty
    page.get_by_role("button", name="Submit").first.click()
    opened(2)  # what the model saw is none: deleted, and another one drawn
    page.mouse.click(*on_page(200, 150))
    page.keyboard.press("Backspace")
    page.keyboard.press("1")
    drag(20, 30, 120, 90)
    shot(page, "4-corrected")
    page.get_by_role("button", name="Submit").first.click()
    opened(3)
    page.get_by_text(SKIP_REASONS[0]).click()
    shot(page, "5-skipped")
    page.get_by_role("button", name="Skip").click()
    page.get_by_text("No More Tasks").or_(page.get_by_text("no more", exact=False)).first.wait_for()
    shot(page, "6-nothing-left")

    found = {label.sample_id: label for label in labelling.pull(batch)}
    assert labelling.problems(batch) == []
    assert found.keys() == {sample.sample_id for sample in batch.samples}
    untouched, drawn = sorted(found[seeded.sample_id].boxes, key=lambda b: b.class_name)
    assert untouched == labelling.seeds(batch)[seeded.sample_id].boxes[0]
    assert drawn.class_name == "truck"
    assert drawn.xyxy == pytest.approx((400, 300, 500, 400), abs=2)
    assert found[blank.sample_id].boxes == ()
    (other,) = found[corrected.sample_id].boxes
    assert (other.class_name, other.xyxy) == ("car", pytest.approx((20, 30, 120, 90), abs=2))
    assert (found[skipped.sample_id].status, found[skipped.sample_id].reason) == ("skipped", SKIP_REASONS[0])
    assert {label.annotator for label in found.values()} == {server.account()["user"]}
    assert all(label.lead_seconds > 0 for label in found.values() if label.status == "done")
