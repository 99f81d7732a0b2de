"""Suggest: what goes into a suggestion, and who may let it out."""

import gzip
import json
from datetime import timedelta

import pytest

from tasks.adapters.bucket import Bucket
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, DeviceStatus, Release, Suggestion, TrafficRecord
from tasks.core.errors import EdgeloopError, ObjectMissing, RecordInvalid, SettingsError
from tasks.core.settings.project import DEFAULT_STRATEGY
from tasks.evaluate import evaluate_files, evaluate_split
from tasks.suggest import (
    approve,
    approved_suggestion,
    devices_of_group,
    make_suggestion,
    read_traffic,
    settings_in_force,
    suggest_from_files,
    traffic_from_file,
)
from tests.adapters.signing import publish
from tests.tasks.stages import MODEL, NOON, a_labelled_month, a_model, a_project
from tests.tasks.test_evaluate import coco_files
from tests.tasks.test_suggest_scores import a_suggestion

suggest = make_suggestion.fn
OLDER = "fedcba9876543210"


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


# --- traffic ---------------------------------------------------------------------------------------------------------


def a_record(number: int, model: str = MODEL) -> TrafficRecord:
    return TrafficRecord(camera="gate", captured_at=NOON + timedelta(seconds=number), rate=0.1, model_version=model,
                         class_names=("car",), confidences=(0.25,))  # fmt: skip


def log(project, number: int, *records: TrafficRecord, device: str = "edge-1") -> None:
    Central(project).bucket.create_lines(layout.traffic(device, number), records)


def test_traffic_is_that_of_the_live_model_and_older_logs_are_not_read(project, monkeypatch):
    """From the newest log back to where the model came in, of every device; what another model saw is left out."""
    for number in range(1, 9):
        log(project, number, a_record(number, OLDER))
    log(project, 9, a_record(10, OLDER), a_record(11))
    log(project, 10)
    log(project, 11, a_record(12))
    log(project, 1, a_record(20), device="edge-2")
    log(project, 1, a_record(30, OLDER), device="edge-3")
    read = []
    get = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda bucket, key: read.append(key) or get(bucket, key))
    found = read_traffic(Central(project), MODEL)
    assert sorted(r.captured_at.second for r in found) == [11, 12, 20]
    assert [key for key in read if "edge-1" in key] == [layout.traffic("edge-1", n) for n in (11, 10, 9, 8)]
    assert read_traffic(Central(project), "0" * 16) == []


def test_damaged_logs_and_lines_are_passed_over(project):
    """One device's rotten log neither stops the suggestion nor hides what lies before it."""
    bucket = Central(project).bucket
    log(project, 1, a_record(1))
    bucket.put(layout.traffic("edge-1", 2), b"rotten")
    lines = [a_record(3).model_dump_json(), "nonsense", json.dumps({"camera": "gate"})]
    bucket.put(layout.traffic("edge-1", 3), gzip.compress("\n".join(lines).encode()))
    assert [r.captured_at.second for r in read_traffic(Central(project), MODEL)] == [3, 1]


def test_enough_traffic_is_enough(project, monkeypatch):
    """A device's logs are not read beyond what a suggestion uses."""
    monkeypatch.setattr("tasks.suggest.MAX_TRAFFIC_RECORDS", 3)
    for number in range(1, 6):
        log(project, number, a_record(2 * number), a_record(2 * number + 1))
    assert [r.captured_at.second for r in read_traffic(Central(project), MODEL)] == [10, 11, 8, 9]


def test_a_traffic_file_names_its_bad_line(tmp_path):
    """Blank lines are nothing; any other that is no record is named with its number and field."""
    good = a_record(1).model_dump_json()
    path = tmp_path / "traffic.jsonl"
    path.write_text(f"{good}\n\n{good}\n  \n")
    assert traffic_from_file(path, "m") == [a_record(1)] * 2
    odd = json.loads(good) | {"camera": "a\u2028b"}
    path.write_text(json.dumps(odd, ensure_ascii=False), encoding="utf-8")
    assert traffic_from_file(path, "m")[0].camera == "a\u2028b"
    for bad, words in (
        (b"nonsense", "Invalid JSON"),
        (json.dumps(json.loads(good) | {"rate": 0}).encode(), "rate"),
        (json.dumps(json.loads(good) | {"captured_at": "0001-01-01T00:00:00+09:00"}).encode(), "captured_at"),
        (b'{"camera": "\xff"}', "line 3"),
    ):
        path.write_bytes(good.encode() + b"\n\n" + bad)
        with pytest.raises(RecordInvalid, match=r"traffic\.jsonl line 3") as caught:
            traffic_from_file(path, "m")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        traffic_from_file(tmp_path / "absent.jsonl", "m")


# --- a suggestion ----------------------------------------------------------------------------------------------------


def report(project, device: str, group: str = "all") -> None:
    status = DeviceStatus(device=device, group=group, reported_at=NOON, started_at=NOON)
    Central(project).bucket.write_record(layout.device_status(device), status)


def test_devices_are_those_that_obey_the_projects_releases(project):
    """By their own word: not an imported dataset, another group, a damaged status, nor a stray file."""
    for device, group in (("edge-1", "all"), ("edge-2", "all"), ("lab", "test")):
        report(project, device, group)
    bucket = Central(project).bucket
    ahead = DeviceStatus(device="edge-3", group="all", reported_at=NOON, started_at=NOON).model_dump(mode="json")
    ahead |= {"schema_version": ahead["schema_version"] + 1, "mood": "sunny"}  # of a device one version ahead
    bucket.put(layout.device_status("edge-3"), json.dumps(ahead).encode())
    bucket.put(layout.device_status("broken"), b"{")
    bucket.put(layout.sample_image("import-photos", NOON, "0" * 20), b"x")
    bucket.put("devices/README.txt", b"x")
    assert devices_of_group(Central(project)) == ["edge-1", "edge-2", "edge-3"]


def test_the_settings_in_force_are_those_of_the_newest_release(project):
    """Before the first release, the project's own."""
    assert settings_in_force(Central(project)) == project.sampling
    released = project.sampling.model_copy(update={"seed": 7})
    publish(
        Central(project).bucket,
        Release(group="all", number=1, created_at=NOON, class_names=("car",), model_version=STUB, settings=released),
    )
    assert settings_in_force(Central(project)) == released


def test_a_suggestion_is_stored_with_what_it_was_made_from(project, tmp_path):
    """Thresholds and digest of the evaluated model; random images stand in while the traffic log is short."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "calibration")
    report(project, "edge-1")
    made = suggest(project, model, evaluation.evaluation)
    assert Central(project).bucket.read_record(layout.suggestion(made.suggestion), Suggestion) == made
    assert (made.model_version, made.evaluation) == (model, evaluation.evaluation)
    assert made.settings.model_digest == model
    assert made.settings.thresholds == evaluation.thresholds
    assert not any("traffic" in line for line in made.warnings)
    assert made.forecast.misses_blind.value == 1
    assert suggest(project, model, evaluation.evaluation).suggestion == made.suggestion


@pytest.mark.slow
def test_a_project_says_how_suggestions_choose(project, tmp_path):
    """By expected misses, shared by the group's devices, where the project says so; the other ways stand beside it."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "calibration")
    for device in ("edge-1", "edge-2"):
        report(project, device)
    made = {
        way: suggest(project.model_copy(update={"suggested_strategy": way}), model, evaluation.evaluation)
        for way in ("expected_misses", "rules", "random")
    }
    for way, suggestion in made.items():
        assert suggestion.strategy in (way, "random")
        assert Central(project).bucket.read_record(layout.suggestion(suggestion.suggestion), Suggestion) == suggestion
        misses = suggestion.settings.expected_misses
        assert misses is None or misses.images_a_day == project.budget_images_a_day / 2
    assert made["random"].settings.expected_misses is None
    assert suggest(project, model, evaluation.evaluation).suggestion == made[DEFAULT_STRATEGY].suggestion


def test_a_way_to_choose_that_there_is_not_is_refused(tmp_path):
    """With the ones that there are."""
    out = tmp_path / "out"
    evaluate_files(*coco_files(tmp_path), out)
    with pytest.raises(SettingsError, match="expected_misses, rules, random"):
        suggest_from_files(out, 10, 100, None, strategy="entropy")
    assert suggest_from_files(out, 10, 100, None, strategy="random").strategy == "random"


@pytest.mark.parametrize("damage", ["nothing", "no folder", "text", "empty", "parquet", "another"])
def test_a_folder_that_is_no_evaluation_says_how_to_make_one(tmp_path, damage):
    """Missing, damaged, or put together of two evaluations: one line with the reason."""
    out = tmp_path / "out"
    evaluate_files(*coco_files(tmp_path), out)
    if damage == "nothing":
        assert suggest_from_files(out, 10, 100, None).budget_images_a_day == 10
        return
    if damage == "no folder":
        out = tmp_path / "absent"
    elif damage == "text":
        (out / "evaluation.json").write_bytes(b"\xff\xfe")
    elif damage == "empty":
        (out / "evaluation.json").write_text("{}")
    elif damage == "parquet":
        (out / "matches.parquet").write_bytes(b"PAR1 no more")
    else:
        record = json.loads((out / "evaluation.json").read_text())
        (out / "evaluation.json").write_text(json.dumps(record | {"images": 7}))
    with pytest.raises(SettingsError, match="edgeloop evaluate") as caught:
        suggest_from_files(out, 10, 100, None)
    assert "\n" not in str(caught.value)
    words = {"no folder": "No such file", "empty": "evaluation.json: evaluation", "parquet": "matches.parquet",
             "another": "different evaluations", "text": "evaluation.json"}  # fmt: skip
    assert words[damage] in str(caught.value)


@pytest.mark.parametrize(("budget", "frames"), [(0, 100), (-1, 100), (float("nan"), 100), (10, 0), (10, float("inf"))])
def test_a_budget_that_cannot_be_meant_is_refused(tmp_path, budget, frames):
    """Nothing, less than nothing, no number, no frames."""
    out = tmp_path / "out"
    evaluate_files(*coco_files(tmp_path), out)
    with pytest.raises(EdgeloopError, match="suggestion: "):
        suggest_from_files(out, budget, frames, None)


# --- approval --------------------------------------------------------------------------------------------------------


def test_a_suggestion_goes_out_when_a_person_lets_it(project):
    """Manual projects wait for a word; automatic ones do not; an unknown suggestion cannot be approved."""
    made = a_suggestion(project)
    automatic = project.model_copy(update={"approval": "automatic"})
    assert approved_suggestion(project, made.suggestion) is None
    assert approved_suggestion(automatic, made.suggestion) == made
    assert approve(project, made.suggestion, by="kim").approved_by == "kim"
    assert approved_suggestion(project, made.suggestion) == made
    assert approved_suggestion(project, "") is None
    with pytest.raises(ObjectMissing):
        approve(project, "0" * 16, by="kim")
    with pytest.raises(SettingsError):
        approve(project, "../../etc", by="kim")


def test_frames_that_explain_reads_are_traffic_too(tmp_path):
    """A file of frames with detections serves as the traffic log of the evaluated model, each frame logged."""
    frame = {"frame": "f1", "captured_at": "2026-01-01T00:00:00Z", "detections": []}
    box = {"class": "car", "confidence": 0.4, "xyxy": [1, 2, 3, 4]}
    path = tmp_path / "frames.jsonl"
    path.write_text(json.dumps(frame) + "\n" + json.dumps(frame | {"detections": [box]}) + "\n")
    first, second = traffic_from_file(path, "0123456789abcdef")
    assert (first.class_names, first.rate) == ((), 1.0)
    assert (second.class_names, second.confidences) == (("car",), (0.4,))
    assert second.model_version == "0123456789abcdef"
    path.write_text(json.dumps(frame | {"detections": [box | {"confidence": 7}]}) + "\n")
    with pytest.raises(RecordInvalid, match="line 1"):
        traffic_from_file(path, "m")
