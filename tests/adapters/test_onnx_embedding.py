"""A model's own features as a second output: the detections stay what they were, and the embedding is there."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tasks.adapters.detector import OnnxEmbedder, open_detector, probe_frame
from tasks.adapters.onnx_embedding import add_embedding_output
from tasks.core.errors import ImageUnreadable, ModelError
from tests.adapters.embedding_models import colour_embedder, detector_with_a_neck
from tests.adapters.models import CLASSES, constant_detector


@pytest.fixture
def model(tmp_path):
    return detector_with_a_neck(tmp_path / "model.onnx")


@pytest.fixture
def embedding_model(model, tmp_path):
    out = tmp_path / "with.onnx"
    assert add_embedding_output(model, out) == "map"
    return out


def opened(path, **more):
    return open_detector(path, project_classes=None, threads=1, **more)


def frames():
    rng = np.random.default_rng(1)
    return [probe_frame(), *(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(5))]


def detected(detector, pixels):
    prepared = detector.prepare(pixels)
    return detector.detect_prepared(prepared), prepared.embedding


@pytest.mark.parametrize("asks", ["", "embedding"])
def test_detections_stay_equal_bit_by_bit(model, embedding_model, asks):
    """With the output added, asked for or not, a frame gives the same bytes; the digest is another one."""
    before, after = opened(model), opened(embedding_model, embedding=asks)
    for pixels in frames():
        assert before.raw_output(pixels).tobytes() == after.raw_output(pixels).tobytes()
        ours, (theirs, embedding) = before.detect(pixels), detected(after, pixels)
        for column in ("xyxy", "confidence", "class_id"):
            assert getattr(ours, column).tobytes() == getattr(theirs, column).tobytes()
        assert (embedding is None) == (not asks)
    assert (before.format, before.class_names) == (after.format, after.class_names)
    assert before.model_version != after.model_version
    assert list(onnx.load(str(model)).metadata_props) == list(onnx.load(str(embedding_model)).metadata_props)


def test_the_embedding_is_the_mean_of_the_feature_map(embedding_model, tmp_path):
    """(d,) as float32, one number a channel, and the frame's own: a later frame does not change it."""
    detector = opened(embedding_model, embedding="embedding")
    one, other = frames()[:2]
    first, second = detected(detector, one)[1], detected(detector, other)[1]
    assert (first.shape, first.dtype) == ((5,), np.float32)
    assert not np.array_equal(first, second)
    assert np.array_equal(detected(detector, one)[1], first)

    mapped = onnx.load(str(embedding_model))
    mapped.graph.output.append(onnx.helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(mapped.SerializeToString(), providers=["CPUExecutionProvider"])
    tensor = np.random.default_rng(2).random((1, 3, 64, 64)).astype(np.float32)
    embedding, feature_map = session.run(["embedding", "map"], {"images": tensor})
    assert embedding[0] == pytest.approx(feature_map[0].mean(axis=(1, 2)), abs=1e-6)


def test_a_tensor_and_a_name_can_be_chosen(model, tmp_path):
    """The map that is named is averaged, under the name that is given, and asked for by it."""
    out = tmp_path / "out.onnx"
    assert add_embedding_output(model, out, tensor="large", name="features") == "large"
    assert detected(opened(out, embedding="features"), probe_frame())[1].shape == (5,)


def test_half_precision_gives_an_embedding_too(tmp_path):
    """A float16 model has a float16 output, read as float32."""
    out = tmp_path / "out.onnx"
    add_embedding_output(detector_with_a_neck(tmp_path / "half.onnx", kind=np.float16), out)
    assert detected(opened(out, embedding="embedding"), probe_frame())[1].dtype == np.float32


def test_what_cannot_be_given_an_embedding_is_refused(model, embedding_model, tmp_path):
    """No model, no neck, no such tensor, no feature map, an output that is there already: one line each."""
    out = tmp_path / "out.onnx"
    (tmp_path / "broken.onnx").write_bytes(b"\xff\xfe not a model")
    flat = constant_detector(tmp_path / "flat.onnx", [])
    for path, more, message in [
        (tmp_path / "none.onnx", {}, "there is no such model file"),
        (tmp_path / "broken.onnx", {}, "not an ONNX file"),
        (flat, {}, "no neck that enlarges"),
        (model, {"tensor": "nothing"}, "'nothing' is no feature map"),
        (model, {"tensor": "mean3"}, "'mean3' is no feature map"),
        (embedding_model, {}, "has an output 'embedding' already"),
    ]:
        with pytest.raises(ModelError, match=message) as refused:
            add_embedding_output(path, out, **more)
        assert "\n" not in str(refused.value)
    assert not out.exists()


def test_a_model_without_the_output_is_refused_when_it_is_asked_for(model, embedding_model, tmp_path):
    """One line that names the output and what the model has."""
    with pytest.raises(ModelError, match=r"novelty asks for its output 'embedding', and it has only output0"):
        opened(model, embedding="embedding")
    wide = onnx.load(str(model))
    wide.graph.node.append(onnx.helper.make_node("Identity", ["map"], ["embedding"]))
    wide.graph.output.append(onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, [1, 5, 4, 4]))
    (tmp_path / "wide.onnx").write_bytes(wide.SerializeToString())
    with pytest.raises(ModelError, match=r"the output 'embedding' is \(1, 5, 4, 4\), not \(1, d\)"):
        opened(tmp_path / "wide.onnx", embedding="embedding")
    assert opened(tmp_path / "wide.onnx").class_names == CLASSES  # not asked for, it does not matter


# --- an embedder of its own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_an_onnx_file_of_its_own_embeds_frames(tmp_path, shape):
    """It is given the whole frame, in RGB from 0 to 1."""
    embedder = OnnxEmbedder(colour_embedder(tmp_path / "colour.onnx", shape))
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[:] = (51, 102, 255)  # blue, green, red
    assert embedder.embed(pixels) == pytest.approx([1.0, 0.4, 0.2], abs=1e-6)
    assert (embedder.size, len(embedder.name)) == (3, 16)
    with pytest.raises(ImageUnreadable):
        embedder.embed(pixels[:, :, 0])


def test_a_file_that_is_no_embedder_is_refused(tmp_path, model):
    """A detector gives no vector; a file that is not there is named."""
    with pytest.raises(ModelError, match=r"the output 'output0' is \(1, 6, 84\), not \(1, d\)"):
        OnnxEmbedder(model)
    with pytest.raises(ModelError, match="there is no such model file"):
        OnnxEmbedder(tmp_path / "none.onnx")


def test_frames_that_are_run_together_have_their_own_embeddings(tmp_path):
    """As when they are run one by one."""
    out = tmp_path / "out.onnx"
    add_embedding_output(detector_with_a_neck(tmp_path / "any.onnx", batch="n"), out)
    alone, together = opened(out, embedding="embedding"), opened(out, embedding="embedding", batch=4)
    assert together.batch == 4
    prepared = [together.prepare(pixels) for pixels in frames()]
    together.run_batch(prepared)
    for pixels, one in zip(frames(), prepared):
        together.detect_prepared(one)
        assert one.embedding == pytest.approx(detected(alone, pixels)[1], abs=1e-6)
