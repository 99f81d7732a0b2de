"""`edgeloop drift`: the answer, its exit code, the record for programs, and errors of one line."""

from __future__ import annotations

import json

import pytest

from flows.drift import figure_line, headline, period_of, story
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Drift
from tasks.core.errors import SettingsError
from tests.conftest import edgeloop
from tests.tasks.drifting import log, records, release_of
from tests.tasks.stages import a_project

NOW = 400 * 0.5 / 86_400


@pytest.fixture
def project(tmp_path):
    made = a_project(tmp_path, classes=("car",))
    (tmp_path / "project.yaml").write_text(
        f"project: yard\nbucket: {tmp_path}/bucket\nwork: {tmp_path}/work\nclasses: [car]\n"
    )
    return made


def drift_of(tmp_path, *options: str):
    return edgeloop("drift", "--config", "project.yaml", *options, cwd=tmp_path)


@pytest.mark.slow
def test_drift_is_exit_code_1_with_what_changed(tmp_path, project):
    """A line a camera, one for each figure with size, time and p-value, and a plot; --json is the stored record."""
    model = release_of(project, tmp_path)
    log(project, records(model, 1600, worse_from=1200))
    done = drift_of(tmp_path, "--days", str(NOW))
    assert done.returncode == 1, done.stderr
    head, camera, figure, *_ = done.stdout.splitlines()
    assert head.startswith(f"Look 1: model {model}")
    assert camera.startswith("edge-1/gate: CHANGED, maximum confidence")
    for words in ("mean 0.", "of frames, now", "since about", "p = 0.00", "alarm at 0.0017"):
        assert words in figure
    assert (tmp_path / "work" / "drift" / "000001.png").stat().st_size > 10_000
    told = drift_of(tmp_path, "--days", str(NOW), "--json", "--no-plot")
    assert told.returncode == 1
    stored = Central(project).bucket.read_record(layout.drift(2), Drift)
    assert Drift.model_validate(json.loads(told.stdout)) == stored


@pytest.mark.slow
def test_no_drift_is_exit_code_0_and_no_traffic_is_2(tmp_path, project):
    """One line on stderr for what cannot be looked at; a camera without drift says in how many frames."""
    model = release_of(project, tmp_path)
    done = drift_of(tmp_path, "--days", str(NOW))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no device has logged traffic of the live model" in done.stderr
    log(project, records(model, 1600))
    done = drift_of(tmp_path, "--days", str(NOW), "--no-plot")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "edge-1/gate: no drift in 401 frames" in done.stdout
    assert not (tmp_path / "work" / "drift").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "write two times"),
        ("2026-05-01", "write two times"),
        ("2026-05-02..2026-05-01", "its end is not after"),
        ("2026-05-02..2026-05-02", "its end is not after"),
    ],
)
def test_a_reference_that_is_no_period_is_refused(text, words):
    """With the text, and how to write it."""
    with pytest.raises(SettingsError, match=words) as error:
        period_of(text)
    assert repr(text) in str(error.value)


def a_drift(*cameras: dict) -> Drift:
    names = ("created_at", "reference_from", "reference_to", "now_from", "now_to")
    moments = dict.fromkeys(names, "2026-05-01T00:00:00Z")
    known = {"number": 3, "model_version": "0123456789abcdef", "release_number": 2, **moments}
    figures = {"alpha": 0.01, "corrected_alpha": 0.001, "minimum_change": 0.1}
    return Drift.model_validate({**known, **figures, "cameras": cameras})


def test_a_turn_says_it_in_one_line_or_not_at_all():
    """Cameras that changed with their figures, silent ones as such; nothing where nothing needs anybody."""
    figure = {"figure": "detections", "answer": "changed", "reference_frames": 900, "now_frames": 300}
    found = a_drift(
        {"device": "e", "camera": "gate", "answer": "changed", "figures": [figure]},
        {"device": "e", "camera": "yard", "answer": "silent"},
        {"device": "e", "camera": "hall", "answer": "same"},
    )
    assert headline(found) == "drift (look 3): e/gate detections; e/yard silent; edgeloop drift shows it"
    assert headline(a_drift()) == ""


def test_a_figure_without_an_answer_is_not_told_as_no_drift():
    """The figures that did not drift are named, and why the other one has no answer."""
    known = {"reference_frames": 1200, "now_frames": 400}
    reason = "too few to tell: 4 blocks of 60 s against 11, needs 6"
    figures = [
        {"figure": "maximum confidence", "answer": "too few", "reason": reason, **known},
        {"figure": "detections", "answer": "same", **known},
    ]
    found = a_drift({"device": "e", "camera": "gate", "answer": "same", "figures": figures})
    assert (
        story(found)[1] == f"e/gate: no drift of detections in 400 frames; no answer for maximum confidence, {reason}"
    )


def test_the_stronger_of_the_two_tests_is_quoted():
    """PSI where its p-value is the smaller one; what was left out is told below its camera."""
    figure = {"figure": "detections", "answer": "changed", "reference_frames": 900, "now_frames": 300, "at": 1.0}
    figure |= {"reference_mean": 2.0, "now_mean": 1.0, "reference_share": 0.2, "now_share": 0.6}
    figure |= {"ks_p_value": 0.0008, "psi_p_value": 0.0002, "since": "2026-05-01T10:30:00Z"}
    camera = {"device": "e", "camera": "gate", "answer": "changed", "figures": [figure], "left_out": {"clock": 12}}
    found = a_drift(camera)
    line = figure_line(found.cameras[0].figures[0], found.corrected_alpha)
    assert line.endswith("since about 2026-05-01 10:30 UTC; PSI p = 0.0002 (alarm at 0.001)")
    assert "up to 1 were 20% of frames, now 60%" in line
    assert story(found)[-1] == "  left out: 12 records, clock"


@pytest.mark.slow
def test_the_flow_looks_stores_and_tells(prefect, tmp_path, project):
    """None before there is traffic; then the record, and a page with the picture in Prefect."""
    from prefect.artifacts import Artifact

    from flows.find_drift import find_drift

    assert find_drift(project) is None
    model = release_of(project, tmp_path)
    log(project, records(model, 1600, worse_from=1200))
    found = find_drift(project, days=NOW)
    assert found == Central(project).bucket.read_record(layout.drift(1), Drift)
    page = Artifact.get("drift-yard")
    assert page is not None
    assert "edge-1/gate: CHANGED" in page.data
    assert "data:image/png;base64," in page.data
    assert events_of("edgeloop.drift.detected") == [["maximum confidence", "detections", "mass below the threshold"]]


def events_of(name: str) -> list[list[str]]:
    """Figures of the gate that the server was told of, one list an event."""
    import time

    from prefect.client.orchestration import get_client

    for _ in range(100):
        with get_client(sync_client=True) as client:
            answer = client._client.post("/events/filter", json={"filter": {"event": {"name": [name]}}})
        if found := answer.json()["events"]:
            return [event["payload"]["cameras"]["edge-1/gate"] for event in found]
        time.sleep(0.1)
    return []
