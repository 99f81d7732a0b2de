"""Pre-annotators: what people begin with when it is not the device's own model."""

import pickle

import numpy as np
import pytest

from tasks.adapters.labelling import FilesLabelling, with_corrections
from tasks.adapters.labelling.seeds import OTHER
from tasks.adapters.labels import labels_from_coco, revision_bytes
from tasks.adapters.preannotate import open_vocabulary, seeds_of
from tasks.central import Central
from tasks.core.entities import STUB
from tasks.core.errors import ModelError, SettingsError
from tasks.label import offer_batch, pull_batch
from tasks.quality import quality
from tests.adapters.models import constant_detector
from tests.tasks.stages import MODEL, NOON, a_batch, a_project, a_sample, box, label, put_images

A_TRUCK = (46, 38, 20, 20, 1, 0.8)  # of the second class, as ultralytics writes boxes, in the letterboxed image
UNSURE = (20, 28, 20, 20, 0, 0.3)


@pytest.fixture
def onnx(tmp_path):
    return constant_detector(tmp_path / "other.onnx", (A_TRUCK, UNSURE))


def project_with(tmp_path, path, **labelling):
    known = {"folder": str(tmp_path / "labelling"), "pre_annotator": str(path)}
    return a_project(tmp_path, labelling={**known, **labelling})


def seeds(project, batch, **known):
    return seeds_of(project, batch, {"car": 0.5}, Central(project).images.pixels_of, **known)


def test_the_devices_model_is_the_default(tmp_path):
    """What it saw at its thresholds, signed with its version; a device without a model gives none."""
    project = a_project(tmp_path)
    blind = a_sample(2, model_version=STUB)
    batch = a_batch(project, (), samples=(a_sample(1), blind))
    (seed,) = seeds(project, batch).values()
    assert (seed.annotator, [one.class_name for one in seed.boxes]) == (MODEL, ["car"])


def test_another_model_sees_for_itself_where_it_may_be_seen(tmp_path, onnx):
    """At its own confidence and under its own name, also without a model on the device; never in what measures."""
    project = project_with(tmp_path, onnx)
    samples = (a_sample(1), a_sample(2, model_version=STUB), a_sample(3))
    batch = a_batch(project, (), samples=samples, unseeded=(samples[2].sample_id,))
    put_images(project, samples, (1, 2, 3))
    found = seeds(project, batch)
    assert set(found) == {samples[0].sample_id, samples[1].sample_id}
    seed = found[samples[1].sample_id]
    assert [one.class_name for one in seed.boxes] == ["truck"]
    assert seed.boxes[0].xyxy == pytest.approx((36, 20, 56, 40), abs=0.5)
    assert seed.annotator.startswith(f"{OTHER}other.onnx@")
    assert seeds(project, batch.model_copy(update={"origin": "import"})) == {}
    lower = project_with(tmp_path, onnx, pre_annotator_confidence=0.2)
    assert len(seeds(lower, batch)[samples[0].sample_id].boxes) == 2


def test_twins_measure_the_devices_model(tmp_path, onnx):
    """Their seeds are its own whatever the setting is: the comparison is with what it saw."""
    project = project_with(tmp_path, onnx)
    batch = a_batch(project, (1,), purpose="seeded-twin")
    assert [seed.annotator for seed in seeds(project, batch).values()] == [MODEL]


def test_what_people_were_given_stays_and_an_image_that_is_gone_comes_blank(tmp_path, onnx):
    """The model is not asked again; a seed of an image that measures by now is not shown."""
    project = project_with(tmp_path, onnx)
    samples = (a_sample(1), a_sample(2), a_sample(3))
    batch = a_batch(project, (), samples=samples, unseeded=(samples[2].sample_id,))
    put_images(project, samples[:1], (1,))
    before = {samples[n].sample_id: label(samples[n], box("car", 1, 1), annotator="old") for n in (0, 2)}
    assert seeds(project, batch, known=lambda: before) == {samples[0].sample_id: before[samples[0].sample_id]}
    assert set(seeds(project, batch)) == {samples[0].sample_id}


def test_corrections_of_other_boxes_are_not_those_of_the_devices_model(tmp_path, onnx):
    """From the offer to the revision: `seeded_by` says whose boxes they were, and no correction is counted."""
    project = project_with(tmp_path, onnx)
    batch = a_batch(project, (1, 2))
    offer_batch.fn(project, "today", {})
    files = FilesLabelling(tmp_path / "labelling")
    given = files.seeds(batch)
    files.put_back(batch, [label(sample, box("car", 0, 0)) for sample in batch.samples])
    pulled = pull_batch.fn(project, "today", 0)
    kept = Central(project).labels(batch, pulled.revision)
    assert {one.seeded_by for one in kept.values()} == {given[batch.samples[0].sample_id].annotator}
    assert all(one.seeded for one in kept.values())
    assert (pulled.corrections, {one.corrections for one in kept.values()}) == (0, {0})
    told = quality(project, files, ("today",))
    assert (told.by_strategy, told.annotators[0].corrections.shown) == ({}, 2)
    sample = batch.samples[0]
    of_device = with_corrections(label(sample, box("car", 0, 0)), label(sample, annotator=MODEL))
    assert (of_device.corrections, of_device.seeded_by) == (1, "")
    forged = with_corrections(label(sample, seeded_by=f"{OTHER}x"), None)
    assert (forged.seeded, forged.seeded_by) == (False, "")


def test_who_seeded_a_label_comes_back_from_a_revision(tmp_path):
    """Written where there is something to say, as the other extras."""
    sample = a_sample(1)
    said = label(sample, seeded=True, seeded_by=f"{OTHER}world.pt@{'0' * 16}", labelled_at=NOON)
    data = revision_bytes([said], {sample.sample_id: sample}, ("car",))
    (found,), _ = labels_from_coco(data, {sample.sample_id: sample}, ("car",), "here")
    assert found == said


# --- files that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "error", "told"),
    [
        ("model.h5", b"", SettingsError, "write production"),
        ("gone.pt", None, SettingsError, "there is no such file, and none is downloaded"),
        ("bad.onnx", b"no model", ModelError, "bad.onnx"),
        ("bad.pt", b"no model", ModelError, "cannot be loaded"),
        ("evil.pt", pickle.dumps(print), ModelError, "cannot be loaded"),
    ],
)
def test_what_is_no_pre_annotator_is_named(tmp_path, name, content, error, told):
    """One line, before anybody is offered anything."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    project = project_with(tmp_path, tmp_path / name)
    batch = a_batch(project, (1,))
    with pytest.raises(error, match=told):
        seeds(project, batch)


# --- open vocabulary -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """YOLO-World and YOLOE with random weights: the first was saved with its classes and sees something everywhere."""
    from tasks.adapters.trainer.library import ultralytics

    ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel, WorldModel, YOLOEModel

    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for name, kind, cfg in (
        ("world", WorldModel, "yolov8n-worldv2.yaml"),
        ("yoloe", YOLOEModel, "yoloe-11n.yaml"),
        ("plain", DetectionModel, "yolo11n.yaml"),
    ):
        network = kind(cfg, nc=3, verbose=False)
        network.names = {0: "bus", 1: "car", 2: "truck"}
        if name == "world":
            for head in network.model[-1].cv4:
                torch.nn.init.zeros_(head.bias)
        torch.save({"model": network, "epoch": -1, "train_args": {}}, folder / f"{name}.pt")
    return folder


@pytest.mark.slow
def test_a_checkpoint_that_knows_the_classes_needs_no_text_encoder(checkpoints):
    """Class ids are the project's, boxes lie in the image, and classes that the project lacks are not reported."""
    detect = open_vocabulary(checkpoints / "world.pt", ("truck", "car"), 0.01)
    found = detect(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    assert len(found) > 0
    assert set(found.names) <= {"truck", "car"}
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= np.array([120, 90, 120, 90])).all()
    assert (found.confidence >= 0.01).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "told"),
    [
        (
            "world",
            ("car", "tram"),
            r"YOLO-World was not saved with the classes car, tram: .*ViT-B-32\.pt.*nothing is down",
        ),
        ("yoloe", ("car", "truck"), r"YOLOE was not saved with the classes car, truck: .*mobileclip_blt\.ts"),
        ("plain", ("car",), "is no YOLOE or YOLO-World: export it to ONNX"),
    ],
)
def test_a_text_encoder_that_is_not_there_is_named_with_its_place(checkpoints, name, classes, told):
    """Which file to put where; nothing is fetched."""
    with pytest.raises(ModelError, match=told) as raised:
        open_vocabulary(checkpoints / f"{name}.pt", classes, 0.5)
    assert name == "plain" or str(checkpoints) in str(raised.value)
