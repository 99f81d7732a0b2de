"""A real model is given its own features as a second output, and goes on seeing what it saw."""

from tasks.adapters.detector import open_detector, probe_frame
from tasks.adapters.onnx_embedding import add_embedding_output
from tests.real.shared_data import YOLOX_NANO, needs

pytestmark = needs(YOLOX_NANO)


def test_yolox_gives_the_same_bytes_and_an_embedding(tmp_path):
    """The coarsest map of its backbone, averaged: 128 numbers; the raw output of three frames is equal bit by bit."""
    out = tmp_path / "model.onnx"
    add_embedding_output(YOLOX_NANO, out)
    options = {"project_classes": None, "model_classes": "coco80", "threads": 1}
    before, after = open_detector(YOLOX_NANO, **options), open_detector(out, embedding="embedding", **options)
    for height, width in [(480, 640), (416, 416), (700, 300)]:
        pixels = probe_frame(height, width)
        assert before.raw_output(pixels).tobytes() == after.raw_output(pixels).tobytes()
        prepared = after.prepare(pixels)
        after.detect_prepared(prepared)
        assert prepared.embedding.shape == (128,)
