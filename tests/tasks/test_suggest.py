"""Suggest: what goes into a suggestion, who may let it out, and what its forecast has come to, counted by hand."""

import gzip
import json
from datetime import timedelta

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.manifest import manifest_bytes
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import (
    STUB,
    DatasetEntry,
    DatasetVersion,
    DeviceStatus,
    Estimate,
    Forecast,
    Release,
    Suggestion,
    TrafficRecord,
)
from tasks.core.errors import EdgeloopError, ObjectMissing, RecordInvalid, SettingsError
from tasks.core.settings import CloseToThreshold, RandomSampling, SamplingSettings
from tasks.evaluate import evaluate_files, evaluate_split
from tasks.suggest import (
    approve,
    approved_suggestion,
    days_of,
    devices_of_group,
    make_suggestion,
    miss_figures,
    read_traffic,
    score_forecast,
    settings_in_force,
    suggest_from_files,
    traffic_from_file,
)
from tests.adapters.signing import publish
from tests.tasks.stages import MODEL, NOON, a_batch, a_labelled_month, a_model, a_project, a_sample, box, label, seen
from tests.tasks.test_evaluate import coco_files

suggest, score = make_suggestion.fn, score_forecast.fn
OLDER = "fedcba9876543210"


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


# --- what came true --------------------------------------------------------------------------------------------------


def an_entry(sample, *boxes, **fields) -> DatasetEntry:
    known = {"batch_id": "today", "revision": 1, "split": "train", "cluster": "c", "image_key": "k"}
    return DatasetEntry(**{**known, **fields}, sample=sample, label=label(sample, *boxes))


HIT, LOW, MISSED = box("car", 10, 10), box("car", 36, 20), box("truck", 0, 28)
SEES_HIT = (seen("car", 0.9, HIT.xyxy),)
SEES_BOTH = (*SEES_HIT, seen("car", 0.3, LOW.xyxy))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        # One car below the threshold; a car and a truck never seen; a false alarm in an empty image.
        ([(SEES_BOTH, [HIT, LOW]), ((), [HIT, MISSED]), (SEES_HIT, [])], (2 / 3, 3 / 3, 3 / 4)),
        ([(SEES_HIT, [HIT])], (0, 0, 0)),
        ([((seen("car", 0.5, HIT.xyxy),), [HIT])], (0, 0, 0)),  # at the threshold is found
        ([((seen("car", 0.499, HIT.xyxy),), [HIT])], (1, 1, 1)),
        ([((seen("truck", 0.39, MISSED.xyxy),), [MISSED])], (1, 1, 1)),  # the truck's own threshold is 0.4
        ([((seen("truck", 0.41, MISSED.xyxy),), [MISSED])], (0, 0, 0)),
        ([((seen("truck", 0.9, HIT.xyxy),), [HIT])], (1, 1, 1)),  # another class finds nothing
        ([((seen("car", 0.9, (20, 10, 40, 30)),), [HIT])], (1, 1, 1)),  # IoU 1/3 is no hit
        ([(SEES_BOTH, [HIT, HIT])], (1, 1, 1 / 2)),  # one detection finds one object
        ([((), [])], (0, 0, 0)),
        ([((), [HIT.model_copy(update={"crowd": True})])], (0, 0, 0)),
        ([((), [HIT.model_copy(update={"class_name": "bus"})])], (0, 0, 0)),  # the project no longer has it
    ],
)
def test_misses_are_counted_as_by_hand(images, expected):
    """Share of images with a miss, misses an image, misses a box, at the thresholds that devices obeyed."""
    entries = [an_entry(a_sample(n, detections=d), *boxes) for n, (d, boxes) in enumerate(images)]
    figures = miss_figures(entries, {"car": 0.5, "truck": 0.4}, ("car", "truck"))
    assert tuple(figures.values()) == pytest.approx(expected)
    assert list(figures) == ["share_with_miss", "misses_an_image", "misses_a_box"]


def test_images_that_cannot_be_matched_are_left_out():
    """A coordinate that is no number, a label without area: the other images count, and no image gives no figure."""
    nan = a_sample(0, detections=(seen("car", 0.9, (float("nan"), 1, 5, 5)),))
    flat = an_entry(a_sample(1), HIT.model_copy(update={"xyxy": (1.0, 1.0, 1.0, 5.0)}))
    good = an_entry(a_sample(2, detections=()), HIT)
    assert miss_figures([an_entry(nan, HIT), flat, good], {}, ("car",))["misses_an_image"] == 1
    assert miss_figures([an_entry(nan, HIT), flat], {}, ("car",)) == {}
    assert miss_figures([], {}, ("car",)) == {}


def at(day: float, number: int = 0, **fields):
    return a_sample(number, captured_at=NOON + timedelta(days=day), **fields)


@pytest.mark.parametrize(
    ("samples", "days"),
    [
        ([], 0),
        ([at(3)], 0),
        ([at(3), at(3)], 0),
        ([at(0), at(1)], 2),  # one a day
        ([at(0), at(1), at(2)], 3),
        ([at(2), at(0), at(0.5)], 3),  # three in two days and a gap
        ([at(0), at(1), at(-9000, clock_suspect=True)], 3),  # its clock says nothing, but it was collected
        ([at(0), at(-9000, clock_suspect=True)], 0),
    ],
)
def test_the_time_that_samples_took_includes_a_gap_for_each(samples, days):
    """n samples stand for n mean gaps, so that a steady rate is told as it is however few they are."""
    assert days_of(samples) == pytest.approx(days)


def estimates(value=1.0) -> Forecast:
    return Forecast(
        **dict.fromkeys(Forecast.model_fields.keys() - {"schema_version"}, Estimate(value=value, low=0, high=2))
    )


def a_suggestion(project, **fields) -> Suggestion:
    """A suggestion of one rule and exploration, in the bucket."""
    rule = CloseToThreshold(name="rule-1", type="close_to_threshold", threshold=0.3, epsilon=0.1, probability=0.5)
    explore = RandomSampling(name="exploration", type="random", traffic_percentage=0.01)
    settings = SamplingSettings(
        sampling_strategies=(explore, rule), thresholds={"car": 0.5, "truck": 0.4}, model_digest=MODEL, **fields
    )
    made = Suggestion(
        suggestion="5" * 16, created_at=NOON, model_version=MODEL, evaluation="e" * 16, budget_images_a_day=10,
        frames_a_day=100, probability=0.5, rules=(), settings=settings, forecast=estimates(),
    )  # fmt: skip
    Central(project).bucket.write_record(layout.suggestion(made.suggestion), made)
    return made


def a_collected_dataset(project) -> str:
    """Release 2 collected eight samples in four days, two of which nobody has labelled; release 1 another one.

    By the rule: 2 with a miss and 1 without. At random: 1 with two misses, 2 without, one of them by the rule too.
    """
    kinds = [
        (("rule-1",), False, SEES_BOTH, [HIT, LOW]),
        (("rule-1",), False, (), [HIT]),
        (("exploration",), True, (), [HIT, MISSED]),
        (("exploration",), True, SEES_HIT, [HIT]),
        (("exploration", "rule-1"), True, SEES_HIT, [HIT]),
        (("other",), False, (), [HIT]),
        (("rule-1",), False, (), None),
        (("exploration",), True, (), None),
    ]
    samples = [
        a_sample(n, captured_at=NOON + timedelta(hours=12 * n), matched=matched, strategy=matched[0],
                 random_slice=random, detections=detections, settings_version="all/2")
        for n, (matched, random, detections, _) in enumerate(kinds)
    ]  # fmt: skip
    before = a_sample(99, settings_version="all/1", matched=("rule-1",), captured_at=NOON - timedelta(days=30))
    batch = a_batch(project, (), samples=(before, *samples))
    entries = [an_entry(s, *kind[3]) for s, kind in zip(samples, kinds) if kind[3] is not None]
    entries.append(an_entry(before, HIT))
    version = "d" * 16
    bucket = Central(project).bucket
    bucket.put(layout.manifest(version), manifest_bytes(entries))
    record = DatasetVersion(dataset_version=version, created_at=NOON, class_names=project.classes, fingerprint="f",
                            counts={}, boxes={}, batches={batch.batch_id: 1})  # fmt: skip
    bucket.write_record(layout.dataset(version), record)
    return version


def test_a_forecast_is_scored_by_its_own_names(project):
    """Rates from all that was collected, misses from what was labelled, under that release alone, by hand."""
    made = a_suggestion(project)
    found = score(project, made.suggestion, 2, a_collected_dataset(project))
    assert found == pytest.approx(
        {
            "images_a_day": 8 / 4,
            "images_a_day_random": 4 / 4,
            "share_with_miss": 2 / 3,
            "misses_an_image": 2 / 3,
            "misses_a_box": 2 / 4,
            "share_with_miss_random": 1 / 3,
            "misses_an_image_random": 2 / 3,
            "misses_a_box_random": 2 / 4,
        }
    )
    shared = set(found) & set(Forecast.model_fields)
    assert shared == {"images_a_day", "images_a_day_random", "share_with_miss", "share_with_miss_random",
                      "misses_an_image", "misses_a_box"}  # fmt: skip


def test_without_predictions_only_rates_are_scored(project):
    """Without detections there is nothing to count misses in; a release that collected nothing has no score."""
    made = a_suggestion(project, persist_predictions=False)
    version = a_collected_dataset(project)
    assert set(score(project, made.suggestion, 2, version)) == {"images_a_day", "images_a_day_random"}
    assert score(project, made.suggestion, 7, version) == {}


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
    bucket.put(layout.device_status("broken"), b"{")
    bucket.put(layout.sample_image("import-photos", NOON, "0" * 20), b"x")
    bucket.put("devices/README.txt", b"x")
    assert devices_of_group(Central(project)) == ["edge-1", "edge-2"]


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
