"""Settings files: what is right loads, and what is wrong is one line that names file and place."""

import pytest
import yaml

from tasks.adapters.config import bucket_url, read_device, read_mapping, read_project, read_sampling
from tasks.adapters.project_file import project_for_import
from tasks.core.errors import LabelsInvalid, SettingsError
from tests.adapters.label_files import yolo_folder

RANDOM = {"sampling_strategies": [{"name": "r", "type": "random", "traffic_percentage": 0.5}]}


def test_yaml_and_json_say_the_same(tmp_path):
    """The suffix decides; a byte order mark, as Windows editors write it, is no part of the text."""
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"seed": 3}')
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert read_mapping(tmp_path / "a.json") == read_mapping(tmp_path / "a.yaml") == {"seed": 3}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'{"a": 1,\n "b"}', "line 2"),
        ("a.json", b"[" * 100_000, "cannot be understood"),
        ("a.json", b'{"a": ' + b"9" * 5000 + b"}", "cannot be understood"),
        ("a.yaml", b"a: 1\nb: [1, 2\n", "line 3"),
        ("a.yaml", b"a: 2026-99-99\n", "cannot be understood"),
        ("a.yaml", b"a: !!timestamp x\n", "cannot be understood"),
        ("a.yaml", b"a: !!python/object:os.system x\n", "line 1"),
        ("a.yaml", b"{[a]: 1}\n", "line 1"),
        ("a.yaml", b"a: \x00\n", "cannot be understood"),
        ("a.yaml", "name: Grüße".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_file_that_is_neither_is_one_line_with_its_place(tmp_path, name, content, words):
    """Broken syntax, hostile nesting, impossible values, other encodings: SettingsError, whatever the parser raised."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_mapping(tmp_path / name)
    assert name in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_no_file_and_no_text_are_named(tmp_path):
    """A missing file, a folder, and an empty file."""
    with pytest.raises(SettingsError, match="no such file"):
        read_mapping(tmp_path / "a.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_mapping(tmp_path)
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(SettingsError, match="expected a mapping"):
        read_project(tmp_path / "a.yaml")


def test_projects_devices_and_sampling_settings_load(tmp_path):
    """Buckets become URLs; warnings of sampling settings come along."""
    (tmp_path / "project.yaml").write_text("project: yard\nbucket: some/folder\nclasses: [car]\n")
    (tmp_path / "device.yaml").write_text("name: pi\nproject: yard\nbucket: s3://fleet/edge\n")
    duplicates = {"duplicates": {"enabled": False, "cooldown_seconds": 3}}
    (tmp_path / "sampling.yaml").write_text(yaml.safe_dump(RANDOM | duplicates))
    assert read_project(tmp_path / "project.yaml").bucket.startswith("file:///")
    assert read_device(tmp_path / "device.yaml").bucket == "s3://fleet/edge"
    settings, warnings = read_sampling(tmp_path / "sampling.yaml")
    assert settings.sampling_strategies[0].name == "r"
    assert "cooldown_seconds" in warnings[0]


def test_a_field_that_is_wrong_is_named_with_its_file(tmp_path):
    """An unknown key, a name that cannot be a key, no classes: the field stands in the line."""
    for text, words in (
        ("project: yard\nbucket: b\nclasses: [car]\nexplorationn: 1\n", "explorationn"),
        ("project: My Yard\nbucket: b\nclasses: [car]\n", "project"),
        ("project: yard\nbucket: b\nclasses: []\n", "classes"),
    ):
        (tmp_path / "project.yaml").write_text(text)
        with pytest.raises(SettingsError, match=r"project\.yaml") as caught:
            read_project(tmp_path / "project.yaml")
        assert words in str(caught.value)


def test_a_bucket_is_a_url_or_a_folder(tmp_path, monkeypatch):
    """A plain folder is relative to where the command runs, ~ is home, odd characters stay, half a URL is refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert bucket_url("bucket") == f"file://{tmp_path}/bucket"
    assert bucket_url("~/bucket") == f"file://{tmp_path}/home/bucket"
    assert bucket_url("/a b/ü#?") == "file:///a%20b/%C3%BC%23%3F"
    assert bucket_url("s3://fleet/edge") == "s3://fleet/edge"
    for half in ("s3:/fleet", "file:/folder", "s3:fleet"):
        with pytest.raises(SettingsError, match="s3://bucket/prefix"):
            bucket_url(half)


def test_a_project_made_of_a_dataset_loads(tmp_path):
    """Its classes, renamed and merged, a name that a key can hold, and the model with the names of its classes."""
    names = ("car", "Auto", "yes", "véhicule long", "1")
    dataset = yolo_folder(tmp_path / "Été 2024 -- no. 1!", {"a": "0 .5 .5 .2 .2\n"}, names=names)
    path = tmp_path / "configs" / "project.yaml"
    project_for_import(path, dataset, {"Auto": "car"}, tmp_path / "model.onnx", "coco80")
    project = read_project(path)
    assert project.classes == ("car", "yes", "véhicule long", "1")
    assert project.project == "t-2024-no-1"
    assert (project.first_model, project.model_classes) == (str(tmp_path / "model.onnx"), "coco80")
    project_for_import(path, dataset, {}, None, ("a", "b"))
    assert read_project(path).model_classes == ("a", "b")
    assert read_project(path).first_model == "stub"


def test_a_project_that_cannot_be_made_leaves_nothing(tmp_path):
    """A folder that is no dataset writes no file; a place that cannot be written is named."""
    with pytest.raises(LabelsInvalid, match="no such folder"):
        project_for_import(tmp_path / "project.yaml", tmp_path / "nothing", {}, None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "taken").write_text("a file")
    dataset = yolo_folder(tmp_path / "photos", {"a": ""})
    with pytest.raises(SettingsError, match="--config"):
        project_for_import(tmp_path / "taken" / "project.yaml", dataset, {}, None)
