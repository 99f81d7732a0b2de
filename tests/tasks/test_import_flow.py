"""The import as a run: what it tells, and how the loop goes on from it."""

import pytest

from flows.import_dataset import import_dataset
from tasks.central import Central
from tasks.core.entities import Turn
from tasks.core.errors import ModelError
from tasks.turn import read_turns, save_turn
from tests.adapters.models import constant_detector
from tests.tasks.stages import NOON, a_picture, a_project

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

CAR = "0 0.3125 0.416667 0.3125 0.416667\n"  # 10, 10, 30, 30
A_SURE_CAR = (20, 28, 20, 20, 0, 0.9)  # the same box in the 64 x 64 that a 64 x 48 picture is letterboxed into


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def a_dataset(root, *splits):
    """Two pictures a split, of a car each."""
    for number, split in enumerate([*splits, *splits], start=1):
        for part, content, end in (("images", a_picture(number), "jpg"), ("labels", CAR.encode(), "txt")):
            path = root / part / split / f"p{number}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (root / "data.yaml").write_text("names: [car]\n" + "".join(f"{s}: images/{s}\n" for s in splits))
    return root


def test_a_model_is_evaluated_on_what_was_imported(project, tmp_path):
    """Figures of the test split at the thresholds of the validation split, and that they do not speak for the field."""
    model = constant_detector(tmp_path / "model.onnx", [A_SURE_CAR])
    told = import_dataset(project, a_dataset(tmp_path / "photos", "train", "val", "test"), model, {})
    assert "imported 6 images with 6 boxes (2 calibration, 2 test, 2 train)" in told
    assert any("legacy" in line for line in told)
    (figures,) = [line for line in told if line.startswith("model ")]
    assert "on 2 test images: AP50 1.000, recall 1.000, precision 1.000" in figures
    assert "car: 0 of 2 missed on calibration at threshold 0.90; 0 blind" in told
    assert len(Central(project).bucket.children("evaluations")) == 2


def test_a_dataset_without_held_out_splits_says_what_it_lacks(project, tmp_path):
    """It is imported all the same."""
    model = constant_detector(tmp_path / "model.onnx", [A_SURE_CAR])
    told = import_dataset(project, a_dataset(tmp_path / "photos", "train"), model, {})
    (line,) = [line for line in told if "not evaluated" in line]
    assert "calibration and test" in line
    assert "validation and test splits" in line
    assert read_turns(project)[-1].dataset_version


def test_a_file_that_is_no_model_is_named_before_anything_is_imported(project, tmp_path):
    """The bucket stays empty, so that nobody waits for an import in vain."""
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        import_dataset(project, a_dataset(tmp_path / "photos", "train"), tmp_path / "absent.onnx", {})
    assert Central(project).bucket.list() == []


def test_the_loop_goes_on_from_an_import(project, tmp_path):
    """Figures of the dataset before are stale, a turn that was cut off keeps what it did, its batches stay known.

    Importing the same again is a turn that changes no figure.
    """
    cut = Turn(number=1, started_at=NOON, done=("took in samples",), batches={"theirs": 0}, open_batches=("theirs",),
               live_model="0" * 16, evaluation="e" * 16, test_evaluation="f" * 16)  # fmt: skip
    save_turn.fn(project, cut)
    photos = a_dataset(tmp_path / "photos", "train", "val", "test")
    import_dataset(project, photos, None, {})
    (turn,) = read_turns(project)
    assert turn.done == ("took in samples", "imported photos: 6 images")
    assert turn.finished_at is not None
    assert turn.batches["theirs"] == 0
    assert sorted(turn.batches.values()) == [0, 1, 1]
    assert turn.open_batches == ("theirs",)
    assert (turn.evaluation, turn.test_evaluation, turn.live_model) == ("", "", "0" * 16)
    save_turn.fn(project, turn.model_copy(update={"evaluation": "a" * 16}))
    import_dataset(project, photos, None, {})
    again = read_turns(project)[-1]
    assert (again.number, again.evaluation, again.dataset_version) == (2, "a" * 16, turn.dataset_version)
    assert again.batches == turn.batches
