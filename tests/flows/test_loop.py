"""Central turns: each does what its inputs allow, says what it waits for, and repeats nothing."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.import_dataset import import_dataset
from flows.loop import loop
from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import STUB, Release
from tasks.core.settings import ProjectSettings, RandomSampling, SamplingSettings
from tasks.suggest import approve
from tests.adapters.models import constant_detector

SIDE = 64
SEEN = (20.0, 20.0, 16.0, 16.0)  # centre and size of the box that the model sees in every image


def yolo_dataset(folder: Path, images: int = 60) -> Path:
    """Photographs with cars: where the model sees one in two of three, and one that it never sees in every fourth."""
    rng = np.random.default_rng(3)
    for split, share in (("train", range(0, images, 3)), ("val", range(1, images, 3)), ("test", range(2, images, 3))):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for n in share:
            cv2.imwrite(
                str(folder / "images" / split / f"{n:03d}.jpg"), rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
            )
            boxes = [SEEN] if n % 3 else []
            boxes += [(48.0, 48.0, 12.0, 12.0)] if n % 4 == 0 else []
            lines = [f"0 {cx / SIDE} {cy / SIDE} {w / SIDE} {h / SIDE}" for cx, cy, w, h in boxes]
            (folder / "labels" / split / f"{n:03d}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [car]\n"
    )
    return folder


@pytest.fixture
def project(tmp_path) -> ProjectSettings:
    model = constant_detector(tmp_path / "model.onnx", [(*SEEN, 0, 0.4)], ("car",))
    return ProjectSettings(
        project="cars",
        bucket=(tmp_path / "bucket").as_uri(),
        work=str(tmp_path / "work"),
        signing_keys=str(tmp_path / "keys"),
        classes=("car",),
        first_model=str(model),
        budget_images_a_day=50,
        frames_a_day=1000,
        minimum_labels=10_000,  # no training here: the demo's test trains
        sampling=SamplingSettings(
            sampling_strategies=(RandomSampling(name="random", type="random", traffic_percentage=0.05),)
        ),
        labelling={"interface": "files", "folder": str(tmp_path / "labelling")},
        review=False,
    )


def releases(project: ProjectSettings) -> list[Release]:
    bucket = Bucket(project.bucket, project.project)
    newest = bucket.latest_number(lambda n: layout.release(project.group, n))
    return [bucket.read_record(layout.release(project.group, n), Release) for n in range(1, newest + 1)]


@pytest.mark.slow
def test_the_first_turn_of_an_empty_bucket_releases_a_stub_and_waits(prefect, project):
    """Without a model and without samples there is one release, and the turn says that it waits for samples."""
    project = project.model_copy(update={"first_model": STUB})
    first, second = loop(project), loop(project)
    assert (first.number, second.number) == (1, 2)
    assert first.live_model == STUB
    assert "new samples" in first.waits_for[0]
    assert second.done == ()
    assert [r.number for r in releases(project)] == [1]
    assert releases(project)[0].settings.sampling_strategies == project.sampling.sampling_strategies


@pytest.mark.slow
def test_suggested_settings_go_out_when_a_person_approves_and_not_before(prefect, project, tmp_path):
    """Imported labels lead to an evaluation and a suggestion; it waits through turns, and is released once approved."""
    told = import_dataset(project, yolo_dataset(tmp_path / "cars-dataset"), None, {})
    assert "imported 60 images" in told[0]
    assert any("not random" in line for line in told)

    proposed = loop(project)
    assert proposed.live_model != STUB
    assert proposed.evaluation
    assert proposed.suggestion
    assert any("approval" in line for line in proposed.waits_for)
    again = loop(project)
    assert again.suggestion == proposed.suggestion
    assert again.done == ()
    assert len(releases(project)) == 1

    approve(project, proposed.suggestion, by="reviewer")
    released = loop(project)
    assert released.suggestion_release == 2
    assert not any("approval" in line for line in released.waits_for)
    first, second = releases(project)
    assert second.model_version == first.model_version == proposed.live_model
    assert second.thresholds["car"] == pytest.approx(0.4, abs=1e-6)
    assert second.settings.model_digest == proposed.live_model
    assert loop(project).done == ()
    assert len(releases(project)) == 2


@pytest.mark.slow
def test_importing_a_dataset_twice_changes_nothing(prefect, project, tmp_path):
    """The same images and labels are the same batches and the same dataset version."""
    dataset = yolo_dataset(tmp_path / "cars-dataset")
    import_dataset(project, dataset, None, {})
    bucket = Bucket(project.bucket, project.project)
    before = bucket.list("batches") + bucket.list("datasets")
    import_dataset(project, dataset, None, {})
    assert bucket.list("batches") + bucket.list("datasets") == before


@pytest.mark.slow
def test_an_interrupted_turn_goes_on_where_it_stopped(prefect, project, tmp_path, monkeypatch):
    """A turn that dies after the evaluation goes on under its number, and evaluates nothing twice."""
    import flows.loop as module

    import_dataset(project, yolo_dataset(tmp_path / "cars-dataset"), None, {})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "propose_what_to_collect", die)
    with pytest.raises(KeyboardInterrupt):
        loop(project)
    monkeypatch.undo()
    counted = []
    monkeypatch.setattr(module, "evaluate", lambda *a: counted.append(a))
    turn = loop(project)
    assert turn.number == 2
    assert counted == []
    assert turn.suggestion
