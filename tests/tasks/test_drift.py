"""A look for drift at the traffic logs of a real bucket: what changed, what has no answer, and what cannot be used."""

from __future__ import annotations

import gzip
from datetime import timedelta

import cv2
import pytest

from tasks.adapters.numbered import MOST_OBJECTS, NumberedLog
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, Drift, Release, TrafficRecord
from tasks.core.errors import NotEnoughData, SettingsError
from tasks.drift import EVENT, draw, look_for_drift, tell_event
from tests.adapters.signing import publish
from tests.tasks.drifting import MADE, log, records, release_of, samples
from tests.tasks.stages import a_project, commit

look = look_for_drift.fn
OTHER = "fedcba9876543210"
SPAN = 1600 * 0.5  # s, of the traffic
NOW = 400 * 0.5 / 86_400  # days, of its last 400 frames


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


@pytest.fixture
def model(project, tmp_path):
    return release_of(project, tmp_path)


def answers(found) -> dict[str, str]:
    return {camera.name: camera.answer for camera in found.drift.cameras}


def test_the_camera_that_changed_is_named_with_its_figures(project, model):
    """Of two cameras one got worse: maximum confidence and detections, since when, stored under the next number."""
    log(project, records(model, 1600, worse_from=1200))
    log(project, records(model, 1600, camera="yard", seed=5), "edge-2")
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "changed", "edge-2/yard": "same"}
    gate = found.drift.cameras[0]
    changed = {figure.figure: figure for figure in gate.changed}
    assert {"maximum confidence", "detections"} <= set(changed)
    assert changed["maximum confidence"].now_mean < changed["maximum confidence"].reference_mean - 0.1
    assert changed["maximum confidence"].ks_p_value <= found.drift.corrected_alpha == pytest.approx(0.01 / 12)
    assert abs(changed["maximum confidence"].since - (MADE + timedelta(seconds=600))) < timedelta(seconds=30)
    assert found.drift.found
    assert Central(project).bucket.read_record(layout.drift(1), Drift) == found.drift
    assert look(project, days=NOW).drift.number == 2


def test_area_is_compared_where_random_samples_have_it(project, model):
    """The camera was moved: confidences as before, objects half as large in the samples of the random slice."""
    log(project, records(model, 1600))
    before, now = samples(project, model, 1200, side=60.0), samples(project, model, 1600, every=2, side=36.0)
    commit(project, 1, [*before, *(s for s in now if s.captured_at >= MADE + timedelta(seconds=600))])
    found = look(project, days=NOW)
    assert [figure.figure for figure in found.drift.cameras[0].changed] == ["area"]


@pytest.mark.slow
def test_the_picture_shows_figures_and_frames(project, model):
    """A PNG with a row a camera; frames and crops of the camera that changed make it higher."""
    log(project, records(model, 1600, worse_from=1200))
    without = cv2.imread(str(draw(project, look(project, days=NOW))))
    commit(project, 1, samples(project, model, 1600, worse_from=1200))
    shown = cv2.imread(str(draw(project, look(project, days=NOW))))
    assert shown.shape[0] > without.shape[0] + 200


# --- the event -------------------------------------------------------------------------------------------------------


def test_the_event_names_what_changed_and_is_only_for_drift(project, model, monkeypatch):
    """With a server, drift emits one event with cameras and figures; without a server or without drift, none."""
    log(project, records(model, 1600, worse_from=1200))
    found = look(project, days=NOW).drift
    told = []

    def emit(event, resource, payload):
        told.append((event, resource["prefect.resource.id"], payload))
        return event

    monkeypatch.setattr("tasks.drift.emit_event", emit)
    monkeypatch.setattr("tasks.drift.has_server", lambda: False)
    assert not tell_event(project, found)
    monkeypatch.setattr("tasks.drift.has_server", lambda: True)
    quiet = found.model_copy(update={"cameras": ()})
    assert not tell_event(project, quiet)
    assert tell_event(project, found)
    ((event, resource, payload),) = told
    assert (event, resource) == (EVENT, "edgeloop.project.yard")
    assert "maximum confidence" in payload["cameras"]["edge-1/gate"]


# --- no answer -------------------------------------------------------------------------------------------------------


def test_without_a_model_in_force_nothing_can_drift(project):
    """No release, and a release of the stub."""
    with pytest.raises(NotEnoughData, match="run no model yet"):
        look(project)
    orders = Release(
        group="all", number=1, created_at=MADE, class_names=("car",), model_version=STUB, settings=project.sampling
    )
    publish(Central(project).bucket, orders)
    with pytest.raises(NotEnoughData, match="run no model yet"):
        look(project)


def test_no_traffic_and_traffic_of_another_model_are_told_apart(project, model):
    """Nothing was logged; only a model that is no longer live logged."""
    with pytest.raises(NotEnoughData, match="newest logs are empty"):
        look(project)
    log(project, records(OTHER, 300))
    with pytest.raises(NotEnoughData, match=f"newest logs are of model {OTHER}"):
        look(project)


def test_too_few_frames_say_how_many_are_needed(project, model):
    """A camera with 40 frames of now has no answer, and a number; the one beside it has its answer."""
    log(project, records(model, 1600))
    log(project, records(model, 160, camera="yard", seed=5, seconds=5.0), "edge-2")
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "same", "edge-2/yard": "too few"}
    few = found.drift.cameras[1]
    assert "50 are needed" in few.reason
    assert {figure.needed_frames for figure in few.figures} == {50}
    assert not found.drift.found


def test_traffic_no_longer_than_the_last_window_has_no_reference(project, model):
    """Some minutes of traffic against the last day: an error that names --days."""
    log(project, records(model, 300))
    with pytest.raises(NotEnoughData, match="--days"):
        look(project)


def test_a_reference_that_reaches_into_now_is_refused(project, model):
    """And one with no frames in it leaves every camera without an answer."""
    log(project, records(model, 1600))
    with pytest.raises(NotEnoughData, match="end it earlier"):
        look(project, days=NOW, reference=(MADE, MADE + timedelta(seconds=SPAN)))
    found = look(project, days=NOW, reference=(MADE - timedelta(days=2), MADE - timedelta(days=1)))
    assert answers(found) == {"edge-1/gate": "too few"}


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan"), float("inf")])
def test_a_window_without_length_is_refused(project, days):
    """Zero, negative, and no number."""
    with pytest.raises(SettingsError, match="--days"):
        look(project, days=days)


def test_a_silent_camera_is_found(project, model):
    """One camera stopped logging before the last window: it is named and counts as found."""
    log(project, records(model, 1600))
    log(project, records(model, 1000, camera="yard", seed=5), "edge-2")
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "same", "edge-2/yard": "silent"}
    assert found.drift.found


# --- what cannot be used ---------------------------------------------------------------------------------------------


def test_frames_with_a_clock_that_jumped_are_left_out_and_counted(project, model):
    """A hundred frames dated back, a hundred of the next century: counted; the window's end does not follow them."""
    good = records(model, 1600)
    back = records(model, 100, seed=2, start=MADE - timedelta(days=900))
    ahead = records(model, 100, seed=3, start=MADE + timedelta(days=9000))
    log(project, [*good[:800], *back, *good[800:1000], *ahead, *good[1000:]])
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "same"}
    assert found.drift.cameras[0].left_out == {"clock suspect": 200}
    assert found.drift.now_to == good[-1].captured_at


def test_a_recording_with_a_time_of_its_own_is_compared_all_the_same(project, model):
    """All frames are of years ago, as those of a file: only their order counts."""
    log(project, records(model, 1600, start=MADE - timedelta(days=900), worse_from=1200))
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "changed"}
    assert found.drift.cameras[0].left_out == {}


def test_a_confidence_that_is_no_number_leaves_its_frame_out(project, model):
    """NaN in some records: they are counted, the rest is compared."""
    good = records(model, 1600)
    broken = [r.model_copy(update={"confidences": (float("nan"),), "class_names": ("car",)}) for r in good[:30]]
    lines = "".join(r.model_dump_json().replace("[null]", "[NaN]") + "\n" for r in [*broken, *good[30:]])
    Central(project).bucket.create(layout.traffic("edge-1", 1), gzip.compress(lines.encode()))
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "same"}
    assert found.drift.cameras[0].left_out == {"no number in it": 30}


def test_a_damaged_log_is_passed_over_and_named(project, model):
    """An object that is no gzip file is one line among the warnings."""
    log(project, records(model, 1600))
    Central(project).bucket.create(layout.traffic("edge-1", 9), b"not a log")
    found = look(project, days=NOW)
    assert answers(found) == {"edge-1/gate": "same"}
    assert "is not a whole gzip file" in found.drift.warnings[0]


# --- reading by windows ----------------------------------------------------------------------------------------------


def test_only_the_newest_stretch_of_the_model_is_read(project, model):
    """Before a rollback the model ran, too: that was another time, and another reference."""
    traffic = records(model, 2000)
    log(project, traffic[:400])
    log(project, [r.model_copy(update={"model_version": OTHER}) for r in traffic[400:1000]])
    log(project, traffic[1000:])
    reader = NumberedLog(Central(project).bucket, lambda n: layout.traffic("edge-1", n), TrafficRecord, model)
    assert (reader.first, reader.last) == (6, 10)
    assert reader.window() == traffic[1000:]


def test_a_window_of_a_long_log_costs_its_objects_and_few_more(project, model, monkeypatch):
    """Of 300 objects the 10 of a window are read, and some to find them."""
    traffic = records(model, 1500)
    log(project, traffic, size=5)
    reader = NumberedLog(Central(project).bucket, lambda n: layout.traffic("edge-1", n), TrafficRecord, model)
    asked = []
    read = reader._read_one
    monkeypatch.setattr(reader, "_read_one", lambda number: asked.append(number) or read(number))
    start, end = traffic[700].captured_at, traffic[750].captured_at
    assert reader.window(start, end) == traffic[700:750]
    assert len(asked) == len(set(asked)) < 50
    assert len(reader.window(most=30)) == 150
    assert reader.is_short() == (MOST_OBJECTS >= 300)
