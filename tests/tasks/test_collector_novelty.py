"""The odd one out is kept, by the features of the detector's own model or by those of a file beside it."""

import threading

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.onnx_embedding import add_embedding_output
from tasks.collector import run_collector
from tasks.core.errors import EdgeloopError
from tasks.core.settings import SamplingSettings
from tests.adapters.embedding_models import colour_embedder, detector_with_a_neck
from tests.tasks.collecting import a_device, a_release, samples_of, sampling, until

ODD = {"name": "odd", "type": "novelty", "minimum_distance": 0.02, "probability": 1.0}
GREY, RED, BLUE = (90, 90, 90), (20, 20, 220), (220, 20, 20)


@pytest.fixture
def film(tmp_path):
    return a_film(tmp_path / "film", seed=0)


def a_film(folder, seed):
    """Ten pictures of grey noise, but for a red and a blue one."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(10):
        colour = {4: RED, 7: BLUE}.get(number, GREY)
        pixels = np.clip(np.array(colour) + rng.normal(0, 4, (64, 64, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:04d}.png"), pixels)
    return folder


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "models" / "model.onnx"
    add_embedding_output(detector_with_a_neck(tmp_path / "plain.onnx"), path)
    return path


def settings_of(**fields):
    return SamplingSettings(sampling_strategies=[{**ODD, **fields}])


def collected(device, model, settings):
    status = run_collector(
        device, model=str(model), sampling=settings, project_classes=("car", "truck"), follow_releases=False
    )
    return sorted(sample.source for sample in samples_of(Bucket(device.bucket, "yard"))), status


def test_the_odd_one_out_is_kept_by_the_models_own_features(tmp_path, film, model):
    """The first picture, and those unlike all that were kept."""
    kept, status = collected(a_device(tmp_path, film), model, settings_of())
    assert kept == ["0000.png", "0004.png", "0007.png"]
    assert status.kept_by_strategy == {"odd": 3}
    assert status.last_error == ""


def test_a_file_beside_the_model_can_embed_too(tmp_path, film, model):
    """A path that is not absolute lies beside the model."""
    colour_embedder(model.parent / "colour.onnx")
    settings = settings_of(embedding="colour.onnx", output_name="features")
    kept, _ = collected(a_device(tmp_path, film), tmp_path / "models" / "model.onnx", settings)
    assert kept == ["0000.png", "0004.png", "0007.png"]


def test_several_cameras_are_embedded_frame_by_frame(tmp_path, film):
    """A model that takes batches, on a device that wants them: each camera's frames have their own embedding."""
    model = tmp_path / "batches.onnx"
    add_embedding_output(detector_with_a_neck(tmp_path / "plain.onnx", batch="n"), model)
    films = {"a": film, "b": a_film(tmp_path / "other", seed=1)}
    cameras = [{"name": name, "source": str(folder)} for name, folder in films.items()]
    kept, status = collected(a_device(tmp_path, film, cameras=cameras, batch=2), model, settings_of())
    assert not status.alerts
    assert kept == sorted(["0000.png", "0004.png", "0007.png"] * 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "novelty asks for its output 'embedding', and it has only output0"),
        ({"embedding": "none.onnx"}, "none.onnx: there is no such model file"),
        ({"embedding": "plain.onnx"}, r"the output 'output0' is \(1, 6, 84\), not \(1, d\)"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_anything_is_read(tmp_path, film, fields, message):
    """One line with the reason, when the settings are loaded for the model."""
    model = detector_with_a_neck(tmp_path / "plain.onnx")
    with pytest.raises(EdgeloopError, match=message) as refused:
        collected(a_device(tmp_path, film), model, settings_of(**fields))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_release_whose_model_has_no_embedding_is_refused(tmp_path, film):
    """The device says why in its status, and goes on as before."""
    device = a_device(tmp_path, film)
    bucket = Bucket(device.bucket, "yard")
    plain = detector_with_a_neck(tmp_path / "plain.onnx")
    a_release(bucket, plain, settings_of())
    stop = threading.Event()
    collecting = threading.Thread(
        target=run_collector, args=(device,), kwargs={"follow": True, "stop": stop, "sampling": sampling()}
    )
    collecting.start()
    try:
        status = until(device, lambda seen: seen.refused_release)()
    finally:
        stop.set()
        collecting.join()
    assert "novelty asks for its output 'embedding'" in status.refused_release
    assert status.release_number == 0
