"""What training exports has an embedding of its own: nothing else of the model changes, and `novelty` needs no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.camera import read_image
from tasks.adapters.detector import open_detector, probe_frame
from tasks.adapters.releases import smoke_test, try_model
from tasks.adapters.trainer import check_parity, export_onnx
from tasks.collector import run_collector
from tests.adapters.released import a_release
from tests.tasks.collecting import ROOT, a_device, samples_of
from tests.tasks.test_collector_novelty import a_film, settings_of

pytestmark = pytest.mark.slow  # real exports

CHECKPOINT = ROOT / "flows" / "assets" / "yard_base.pt"
FAR = 0.05  # cosine distance; the reference below says what it keeps


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> tuple[Path, Path]:
    """A trained checkpoint without an embedding, as it was before, and with one, as it is by default."""
    folder = tmp_path_factory.mktemp("exports")
    plain = export_onnx(CHECKPOINT, folder / "plain" / "model.onnx", 128, embedding=False)
    return plain, export_onnx(CHECKPOINT, folder / "embedding" / "model.onnx", 128)


def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [
        probe_frame(),
        probe_frame(480, 640),
        *(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8) for _ in range(2)),
    ]


def embedded(detector, pixels) -> np.ndarray:
    prepared = detector.prepare(pixels)
    detector.detect_prepared(prepared)
    return prepared.embedding


def test_detections_are_those_of_a_model_without_it(exports):
    """Equal bytes, whether the embedding is asked for or not; the metadata and the first output stay as they are."""
    plain, with_it = (onnx.load(path) for path in exports)
    assert [output.name for output in with_it.graph.output] == [plain.graph.output[0].name, "embedding"]
    assert with_it.graph.output[0] == plain.graph.output[0]
    assert list(with_it.metadata_props) == list(plain.metadata_props)
    options = {"project_classes": None, "threads": 1, "confidence_floor": 0.001}
    before, after = (open_detector(path, **options) for path in exports)
    asked = open_detector(exports[1], embedding="embedding", **options)
    found = 0
    for pixels in frames():
        ours = before.detect(pixels)
        found += len(ours)
        assert before.raw_output(pixels).tobytes() == after.raw_output(pixels).tobytes()
        for theirs in (after.detect(pixels), asked.detect(pixels)):
            for column in ("xyxy", "confidence", "class_id"):
                assert getattr(ours, column).tobytes() == getattr(theirs, column).tobytes()
        embedding = embedded(asked, pixels)
        assert (embedding.shape, np.isfinite(embedding).all()) == ((128,), True)
        assert embedding.std() > 0
    assert found > 0


def test_parity_and_the_trial_of_releases_see_no_difference(exports):
    """Equal differences from the checkpoint, equal outputs on the probe frames, and the same bytes once again."""
    before, after = (check_parity(CHECKPOINT, path, frames()) for path in exports)
    assert before == after
    assert after["box_pixels"] < 0.05
    assert after["confidence"] < 1e-4
    names = open_detector(exports[0], project_classes=None).class_names
    tried = [try_model(path, class_names=names) for path in exports]
    assert tried[0].probe == tried[1].probe
    novel = {"sampling_strategies": [{"name": "new", "type": "novelty", "minimum_distance": FAR, "probability": 1}]}
    release = a_release(exports[1], sampling=novel, class_names=names, probe=tried[0].probe)
    assert smoke_test(exports[1], release).probe == tried[0].probe
    again = export_onnx(CHECKPOINT, exports[1].parent / "again.onnx", 128)
    assert again.read_bytes() == exports[1].read_bytes()


def test_a_device_finds_the_odd_ones_out_with_the_model_alone(tmp_path, exports):
    """No other file: it keeps the pictures that lie far from all that it kept, as a slow reference has them."""
    film = a_film(tmp_path / "film", seed=0)
    detector = open_detector(exports[1], project_classes=None, embedding="embedding", threads=1)
    kept: dict[str, np.ndarray] = {}
    for path in sorted(film.iterdir()):
        embedding = embedded(detector, read_image(path)).astype(float)
        unit = embedding / np.linalg.norm(embedding)
        if all(1 - unit @ other > FAR for other in kept.values()):
            kept[path.name] = unit
    assert {"0000.png", "0004.png", "0007.png"} <= set(kept)
    assert len(kept) < 10
    device = a_device(tmp_path, film)
    settings = settings_of(minimum_distance=FAR)
    status = run_collector(device, model=str(exports[1]), sampling=settings, follow_releases=False)
    assert (status.last_error, sorted(status.kept_by_strategy)) == ("", ["odd"])
    assert {sample.source for sample in samples_of(Bucket(device.bucket, "yard"))} == set(kept)
