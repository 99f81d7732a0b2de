"""Records between versions: devices and central one version apart work together, both ways."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from tasks.core.entities import Detection, DeviceStatus, Record, Release, Sample, TrafficRecord, read_tolerantly
from tasks.core.settings import Probation, SamplingSettings

# As version 1 wrote them: what it wrote stays readable.
SAMPLE_1 = {
    "schema_version": 1,
    "sample_id": "0123456789abcdef0123",
    "sha256": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "device": "edge-1",
    "camera": "gate",
    "captured_at": "2026-05-01T12:00:00.000Z",
    "clock_suspect": False,
    "width": 64,
    "height": 48,
    "source": "",
    "detections": [
        {"class_name": "car", "confidence": 0.9, "xyxy": [10.0, 10.0, 30.0, 30.0]},
        {"class_name": "truck", "confidence": 0.3, "xyxy": [1.0, 2.0, 3.0, 4.0]},
    ],
    "strategy": "random",
    "matched": ["random"],
    "tags": [],
    "batch": "",
    "probability": 0.5,
    "random_slice": False,
    "model_version": "0123456789abcdef",
    "settings_version": "all/1",
}
TRAFFIC_1 = {
    "schema_version": 1,
    "camera": "gate",
    "captured_at": "2026-05-01T12:00:00.000Z",
    "rate": 0.01,
    "model_version": "0123456789abcdef",
    "class_names": ["car"],
    "confidences": [0.25],
}
STATUS_1 = {
    "schema_version": 1,
    "device": "edge-1",
    "group": "all",
    "reported_at": "2026-05-01T12:00:00.000Z",
    "started_at": "2026-05-01T11:00:00.000Z",
    "release_number": 3,
    "cameras": {"gate": "running"},
}
WRITTEN = [(Sample, SAMPLE_1), (TrafficRecord, TRAFFIC_1), (DeviceStatus, STATUS_1)]
of_devices = pytest.mark.parametrize(("model", "content"), WRITTEN, ids=lambda v: getattr(v, "__name__", ""))


RELEASE_1 = {
    "schema_version": 1,
    "group": "all",
    "number": 3,
    "created_at": "2026-05-01T12:00:00.000Z",
    "class_names": ["car"],
    "settings": {"sampling_strategies": [{"type": "random", "name": "some", "traffic_percentage": 0.01}]},
}


class SettingsOfNextVersion(SamplingSettings):
    patience: int = 3


class ReleaseOfNextVersion(Release):
    settings: SettingsOfNextVersion
    canary: bool = False


class DetectionOfNextVersion(Detection):
    angle: float = 0.0


class SampleOfNextVersion(Sample):
    """What a device of the next version might write."""

    schema_version: int = 2
    lens: str = Field("wide", description="new")
    detections: tuple[DetectionOfNextVersion, ...] = ()


@of_devices
def test_what_the_first_version_wrote_stays_readable(model, content):
    """An older device's record is a record; fields that it did not have take their defaults."""
    record, unknown = read_tolerantly(model, json.dumps(content))
    assert unknown == ()
    written = json.loads(record.model_dump_json())
    assert {name: written[name] for name in content} == content


@of_devices
def test_the_next_version_is_read_without_what_is_unknown_here(model, content):
    """The unknown fields are named; what is left is a record of this version."""
    newer = {**content, "schema_version": 2, "lens": {"kind": "wide", "schema_version": 7}, "zoom": [1, 2]}
    record, unknown = read_tolerantly(model, json.dumps(newer))
    assert unknown == ("lens", "zoom")
    assert record == read_tolerantly(model, json.dumps(content))[0]
    assert record.schema_version == 1


def test_unknown_fields_inside_of_a_record_are_left_out_too():
    """New columns of detections are named by where they were."""
    newer = SampleOfNextVersion(**{**SAMPLE_1, "schema_version": 2})
    record, unknown = read_tolerantly(Sample, newer.model_dump_json())
    assert unknown == ("detections.angle", "lens")
    assert record == Sample(**SAMPLE_1)


def test_the_next_version_reads_what_this_one_writes():
    """A device that was not updated yet is no problem for a central that was."""
    record, unknown = read_tolerantly(SampleOfNextVersion, Sample(**SAMPLE_1).model_dump_json())
    assert (record.lens, record.schema_version, unknown) == ("wide", 1, ())
    assert [d.angle for d in record.detections] == [0.0, 0.0]


@pytest.mark.parametrize("version", [None, 0, 1, 3, 99, "2", [2]])
def test_an_unknown_field_is_a_fault_in_every_other_version(version):
    """A typo of this version, and a device two versions ahead, are refused by name."""
    content = {**SAMPLE_1, "schema_version": version, "lens": "wide"}
    if version is None:
        del content["schema_version"]
    with pytest.raises(ValidationError, match=r"lens|schema_version"):
        read_tolerantly(Sample, json.dumps(content))


def test_a_fault_of_the_next_version_is_a_fault():
    """Unknown fields excuse nothing: a record that lacks what this version needs is refused."""
    content = {**SAMPLE_1, "schema_version": 2, "lens": "wide", "width": -3}
    with pytest.raises(ValidationError, match="width"):
        read_tolerantly(Sample, json.dumps(content))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "2", '{"schema_version": 2}', "[" * 100_000, '{"a":' * 100_000, "\xff"]
)
def test_what_is_no_record_is_refused_and_nothing_else_happens(text):
    """Also what is nested so deeply that a careless reader would fall over."""
    with pytest.raises(ValidationError):
        read_tolerantly(Sample, text)


class Plain(Record):
    known: int = 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=6), st.integers(-5, 5))
def test_whatever_the_next_version_adds_the_known_fields_are_kept(added, known):
    """Like taking the known fields out of the JSON by hand."""
    added = {name: value for name, value in added.items() if name not in Plain.model_fields}
    text = json.dumps({"known": known, **added, "schema_version": 2})
    record, unknown = read_tolerantly(Plain, text)
    assert record.known == known
    assert unknown == tuple(sorted(added))


def test_an_older_device_obeys_a_newer_release_that_asks_for_nothing_new():
    """What is at its default is not written, so settings that came later are met only by devices that are told them."""
    newer = ReleaseOfNextVersion.model_validate(RELEASE_1)
    assert Release.model_validate_json(newer.to_json()) == Release.model_validate(RELEASE_1)
    told = newer.model_copy(update={"settings": newer.settings.model_copy(update={"patience": 4})})
    with pytest.raises(ValidationError, match=r"settings\.patience"):
        Release.model_validate_json(told.to_json())


def test_a_release_is_read_as_it_was_written_in_full_or_without_defaults():
    """Both forms are the same release, and equal releases are the same bytes."""
    release = Release.model_validate(RELEASE_1 | {"probation": Probation(frames=7).model_dump(), "reason": "better"})
    assert Release.model_validate_json(release.to_json()) == release
    assert Release.model_validate_json(release.model_dump_json()) == release
    assert Release.model_validate_json(release.model_dump_json()).to_json() == release.to_json()
    assert json.loads(release.to_json())["schema_version"] == 1
