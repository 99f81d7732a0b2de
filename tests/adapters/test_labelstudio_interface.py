"""What goes to Label Studio and comes back, and what its client makes of servers that misbehave; without a real one."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.labelling.labelstudio import (
    TOKEN_VARIABLE,
    GivenTask,
    access_token,
    label_of,
    new_task,
    seed_in,
    title_of,
)
from tasks.adapters.labelling.labelstudio_client import LabelStudio, LabelStudioDown, checked_url
from tasks.adapters.labelling.labelstudio_interface import (
    REASON,
    colour,
    labelling_interface,
    reason_in,
)
from tasks.adapters.labels.labelstudio_json import regions_of
from tasks.core.entities import LabelBox
from tasks.core.errors import LabellingUnavailable, SettingsError
from tests.tasks.stages import NOON, a_sample, box, label

CLASSES = ("car", "truck")
SKIP_REASONS = ("too dark", 'a "b" & <c>')
PEOPLE = {3: "ann@yard.example"}


def annotation_of(result, **fields):
    """As the API gives one."""
    known = {
        "id": 9,
        "result": result,
        "completed_by": 3,
        "was_cancelled": False,
        "created_at": "2026-05-01T11:00:00Z",
        "updated_at": "2026-05-01T12:00:00.000000Z",
        "lead_time": 4.5,
    }
    return {**known, **fields}


def taken(sample, annotation, class_names=CLASSES):
    """The label of one annotation, and the lines about it."""
    lines = []
    task = GivenTask(7, sample.sample_id, None, (annotation,))
    return label_of(task, annotation, {sample.sample_id: sample}, class_names, PEOPLE, lines), lines


# --- boxes -----------------------------------------------------------------------------------------------------------

sides = st.integers(1, 5000)


@st.composite
def boxes_in_an_image(draw):
    """An image of any size, odd ones too, and boxes in it: whole pixels, or any ten-thousandth of one."""
    width, height = draw(sides), draw(sides)
    grid = draw(st.sampled_from([1, 10_000]))

    def two(side):
        low, high = sorted(draw(st.lists(st.integers(0, side * grid), min_size=2, max_size=2, unique=True)))
        return low / grid, high / grid

    found = []
    for _ in range(draw(st.integers(0, 5))):
        (x1, x2), (y1, y2) = two(width), two(height)
        found.append(LabelBox(class_name=draw(st.sampled_from(CLASSES)), xyxy=(x1, y1, x2, y2)))
    return width, height, tuple(found)


@given(boxes_in_an_image())
def test_boxes_survive_the_way_out_and_back_to_the_ten_thousandth_of_a_pixel(image):
    """Pixels to percent, through JSON, back to pixels: the same numbers, in images of any size."""
    width, height, boxes = image
    sample = a_sample(0, width=width, height=height)
    seed = label(sample, *boxes)
    task = json.loads(json.dumps(new_task(sample, "/data/x.jpg", seed)))
    assert seed_in(task["meta"]) == seed
    found, lines = taken(sample, annotation_of(task["predictions"][0]["result"]))
    assert (found.boxes, lines) == (boxes, [])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
shaped_regions = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["rectanglelabels", "choices", "brushlabels"]) | json_values,
            "from_name": st.sampled_from(["label", REASON]) | json_values,
            "original_width": st.just(64) | json_values,
            "value": json_values
            | st.fixed_dictionaries(
                {},
                optional={
                    **{side: st.floats(-200, 200) | json_values for side in ("x", "y", "width", "height", "rotation")},
                    "rectanglelabels": st.lists(st.sampled_from(CLASSES), max_size=2) | json_values,
                    "choices": st.lists(st.sampled_from(SKIP_REASONS), max_size=2) | json_values,
                },
            ),
        },
    )
    | json_values,
    max_size=4,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "result": shaped_regions | json_values,
            "completed_by": st.integers(0, 5) | json_values,
            "was_cancelled": st.booleans() | json_values,
            "updated_at": st.just("2026-05-01T12:00:00Z") | json_values,
            "lead_time": st.floats(0, 1e6) | json_values,
        },
    )
)
def test_whatever_an_annotation_holds_is_a_label_or_a_line(annotation):
    """Never an unhandled exception, never a silent drop; and a label's boxes lie inside their image."""
    sample = a_sample(0)
    found, lines = taken(sample, annotation)
    assert found is not None or lines
    for drawn in found.boxes if found else ():
        x1, y1, x2, y2 = drawn.xyxy
        assert 0 <= x1 < x2 <= sample.width
        assert 0 <= y1 < y2 <= sample.height


def test_a_label_says_who_when_and_how_long():
    """The annotator's e-mail, the moment of the last change, the seconds of work; somebody unknown keeps a number."""
    sample = a_sample(0)
    found, _ = taken(sample, annotation_of(regions_of((box("car", 3, 4),), sample)))
    assert (found.annotator, found.labelled_at, found.lead_seconds) == ("ann@yard.example", NOON, 4.5)
    assert taken(sample, annotation_of([], completed_by=8))[0].annotator == "8"


def test_no_box_is_a_label_and_a_skip_has_its_reason():
    """Submitted without a box: reviewed and empty. Skipped: with the reason that was chosen, or with none."""
    sample = a_sample(0)
    reason = {"from_name": REASON, "to_name": "image", "type": "choices", "value": {"choices": [SKIP_REASONS[1]]}}
    drawn = regions_of((box("car", 3, 4),), sample)
    empty, _ = taken(sample, annotation_of([]))
    assert (empty.status, empty.boxes) == ("done", ())
    for result, cancelled, wanted in [
        ([reason, *drawn], True, SKIP_REASONS[1]),
        (drawn, True, ""),
        ([reason], False, SKIP_REASONS[1]),
    ]:
        skipped, lines = taken(sample, annotation_of(result, was_cancelled=cancelled))
        assert (skipped.status, skipped.boxes, skipped.reason, lines) == ("skipped", (), wanted, [])
    both, lines = taken(sample, annotation_of([reason, *drawn]))
    assert both is None
    assert "task 7, ann@yard.example: chose 'a \"b\" & <c>' and drew boxes: press Skip" in lines[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rectanglelabels": ["bus"]}, "class that is not in the list: 'bus'"),
        ({"rotation": 12.5}, "turned by 12.5 degrees: draw it upright"),
        ({"x": 80.0}, "box outside its image"),
        ({"width": "wide"}, "not a number"),
        ({"rectanglelabels": []}, "of one class"),
    ],
)
def test_an_image_with_a_box_that_cannot_be_used_is_left_out_with_a_line(change, words):
    """An unknown class, a turned box, one outside, one that is no number: who, where and what, and no label."""
    sample = a_sample(0)
    regions = regions_of((box("car", 3, 4), box("truck", 9, 9)), sample)
    regions[1]["value"] |= change
    found, lines = taken(sample, annotation_of(regions))
    assert found is None
    assert len(lines) == 1
    assert lines[0].startswith("task 7, ann@yard.example")
    assert words in lines[0]


def test_a_box_that_leans_out_is_clipped_and_one_without_area_is_dropped_alone():
    """A pixel outside is the hand's; a click without a drag is told and leaves the other boxes."""
    sample = a_sample(0)
    regions = regions_of((box("car", -0.5, 4), box("truck", 9, 9)), sample)
    regions[1]["value"]["width"] = 0
    found, lines = taken(sample, annotation_of(regions))
    assert [b.xyxy for b in found.boxes] == [(0.0, 4.0, 19.5, 24.0)]
    assert "box without area" in lines[0]


# --- the page that people see ----------------------------------------------------------------------------------------


def test_the_interface_names_every_class_in_a_colour_and_with_a_key_of_its_own():
    """As many labels as classes, in their order, no colour or key twice; names with any characters stay as they are."""
    names = ('a "b" <c> & d', "größe", *(f"class {n}" for n in range(60)))
    view = ElementTree.fromstring(labelling_interface(names, SKIP_REASONS))
    labels = view.findall("./RectangleLabels/Label")
    assert tuple(found.get("value") for found in labels) == names
    assert len({found.get("background") for found in labels}) == len(names)
    keys = [found.get("hotkey") for found in labels if found.get("hotkey")]
    assert keys[:3] == ["1", "2", "3"]
    assert len(set(keys)) == len(keys)
    assert view.find("RectangleLabels").get("canRotate") == "false"
    assert [choice.get("value") for choice in view.findall("./Choices/Choice")] == list(SKIP_REASONS)
    assert all(len(colour(n)) == 7 for n in range(1000))


@pytest.mark.parametrize("name", ["$image", " car", "two  spaces"])
def test_a_class_name_that_would_not_come_back_is_refused(name):
    """Label Studio reads a dollar as a variable and trims spaces: better a line now than labels of no class later."""
    with pytest.raises(SettingsError, match="Label Studio does not keep it as it is"):
        labelling_interface(["car", name], ())


def test_a_reason_that_is_none_is_no_reason():
    """Other programs write anything."""
    assert reason_in([None, 3, {"from_name": REASON}, {"from_name": REASON, "value": {"choices": "text"}}]) == ""


def test_titles_fit_and_stay_apart():
    """Label Studio allows 50 characters; long batch ids differ at their end and at their beginning."""
    long = "a" * 46 + "-" + "0123456789abcdef"
    assert title_of("today") == "today"
    assert len(title_of(long)) == 50
    assert title_of(long).endswith("-0123456789abcdef")
    assert title_of(long) != title_of(long[:-1] + "0")


# --- the token -------------------------------------------------------------------------------------------------------


def test_the_token_comes_from_the_environment_or_from_a_file_of_ones_own(tmp_path, monkeypatch):
    """The environment first; a file that others may read is refused, and a missing one says what to do."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    file = tmp_path / "token"
    with pytest.raises(SettingsError, match=f"{TOKEN_VARIABLE}.*edgeloop labelstudio up"):
        access_token(file)
    file.write_text("secret\n")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        access_token(file)
    file.chmod(0o600)
    assert access_token(file) == "secret"
    monkeypatch.setenv(TOKEN_VARIABLE, "other")
    assert access_token(file) == "other"


@pytest.mark.parametrize("url", ["", "labelstudio.example", "ftp://x", "http://me:secret@x", "https://x?y=1"])
def test_an_address_that_is_none_is_refused_without_repeating_it(url):
    """A password in it must not reach a log."""
    with pytest.raises(SettingsError, match="labelstudio_url") as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)


# --- servers that misbehave ------------------------------------------------------------------------------------------

GOOD = {
    "/api/version": (200, {"release": "1.23.2"}),
    "/api/token/refresh/": (200, {"access": "bearer-1"}),
    "/api/things": (200, {"count": 0, "results": []}),
}


@contextmanager
def a_server(**answers):
    """An HTTP server on loopback that gives these answers, `path -> [(status, JSON), ...]`, the last one for ever."""
    script = {path: [answer] for path, answer in GOOD.items()}
    script |= {path.replace("_", "/"): list(given_) for path, given_ in answers.items()}
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            asked.append((self.command, path, self.headers.get("Authorization")))
            given_ = script[path]
            status, content = given_.pop(0) if len(given_) > 1 else given_[0]
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = LabelStudio(f"http://127.0.0.1:{server.server_port}", "the-token", timeout=5)
    try:
        with stamina.set_testing(True, attempts=4):
            yield client, asked
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def calls(asked, path):
    return [(method, bearer) for method, asked_path, bearer in asked if asked_path == path]


def test_a_bearer_that_has_run_out_is_bought_again():
    """401 on a call that worked before: one refresh, and the call is made again with the new bearer."""
    refreshes = [(200, {"access": "bearer-1"}), (200, {"access": "bearer-2"})]
    answers = [(200, {"n": 1}), (401, {"detail": "expired"}), (200, {"n": 2})]
    with a_server(**{"/api/token/refresh/": refreshes, "/api/things": answers}) as (client, asked):
        assert [client.get("/api/things")["n"], client.get("/api/things")["n"]] == [1, 2]
    bearers = [bearer for _, bearer in calls(asked, "/api/things")]
    assert bearers == ["Bearer bearer-1", "Bearer bearer-1", "Bearer bearer-2"]


def test_an_outage_of_a_moment_is_waited_out_for_a_look_and_never_for_a_change():
    """GET is repeated after a 503; a POST is made once, for it may have done its work."""
    busy = [(503, {"detail": "busy"}), (503, {"detail": "busy"}), (200, {"n": 1})]
    with a_server(**{"/api/things": busy}) as (client, asked):
        assert client.get("/api/things") == {"n": 1}
        assert len(calls(asked, "/api/things")) == 3
    with a_server(**{"/api/things": busy}) as (client, asked):
        with pytest.raises(LabelStudioDown, match="503: busy"):
            client.post("/api/things", {})
        assert len(calls(asked, "/api/things")) == 1


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"/api/token/refresh/": [(401, {"detail": "Token is invalid"})]},
            "refuses the access token.*LABELSTUDIO_TOKEN",
        ),
        ({"/api/version": [(200, {"release": "1.8.0"})]}, r"is Label Studio 1\.8\.0, and this needs 1\.23 or newer"),
        ({"/api/version": [(200, {"release": "2.0.1"})]}, r"is Label Studio 2\.0\.1"),
        ({"/api/version": [(404, b"<html>")]}, "is no Label Studio.*labelstudio_url"),
        ({"/api/things": [(200, b"<html>")]}, "something that is no JSON"),
        ({"/api/things": [(403, {"detail": "You do not\nhave permission"})]}, "403: You do not have permission"),
    ],
)
def test_whatever_is_wrong_with_a_server_is_one_line_without_the_token(answers, words):
    """A refused token, another version, another server, a refusal: what, where, and what to do."""
    with a_server(**answers) as (client, _), pytest.raises(LabellingUnavailable, match=words) as caught:
        client.get("/api/things")
    assert not isinstance(caught.value, ConnectionError)
    assert "\n" not in str(caught.value)
    assert "the-token" not in str(caught.value)


def test_a_server_that_is_down_is_an_outage_and_says_how_to_start_it():
    """Nothing listens there: the error is one that tasks try again, and names the command and the setting."""
    with stamina.set_testing(True, attempts=2):
        client = LabelStudio("http://127.0.0.1:9", "the-token")
        with pytest.raises(ConnectionError, match=r"edgeloop labelstudio up.*labelling\.labelstudio_url"):
            client.get("/api/things")
        client.close()


def test_all_pages_are_read():
    """Until as many have been seen as the server says there are."""
    pages = [(200, {"count": 3, "results": [{"n": 1}, {"n": 2}]}), (200, {"count": 3, "results": [{"n": 3}]})]
    with a_server(**{"/api/things": pages}) as (client, asked):
        assert [item["n"] for item in client.pages("/api/things", "results")] == [1, 2, 3]
        assert len(calls(asked, "/api/things")) == 2
