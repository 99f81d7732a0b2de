"""Models that do more than find boxes: segmentation, keypoints, classification; with outputs that are known."""

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.adapters.detector import open_detector
from tasks.adapters.detector.formats import ClassifyFormat
from tasks.adapters.detector.preprocessing import InputBuffer
from tasks.core.boxes import Letterbox
from tasks.core.errors import ModelError
from tests.adapters.models import LOCATIONS, SIDE, constant_model, saved

NAMES = ("car", "dog")
FRAME = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)  # boxes and points come out twice as large


def boxed(rows, beside):
    """(1, 4 + 2 + beside, locations) from `(cx, cy, w, h, class, confidence, *beside)`."""
    output = np.zeros((1, 6 + beside, LOCATIONS), np.float32)
    for column, (*box, class_id, confidence, more) in enumerate(rows):
        output[0, :4, column] = box
        output[0, 4 + class_id, column] = confidence
        output[0, 6:, column] = more
    return output


def pose_model(folder, output, shape=(2, 3), **metadata):
    written = {"task": "pose", "kpt_shape": list(shape), **metadata}
    return saved(constant_model(output, names=NAMES, metadata=written), folder)


def segment_model(folder, output, prototypes, **metadata):
    """A model with the two outputs of ultralytics' segmentation."""
    model = constant_model(output, names=NAMES, metadata={"task": "segment", **metadata})
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["mean", "nought"], ["none"]),
            helper.make_node("Add", ["shapes", "none"], ["output1"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(prototypes, "shapes"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nought"))
    model.graph.output.append(helper.make_tensor_value_info("output1", TensorProto.FLOAT, prototypes.shape))
    return saved(model, folder)


# --- keypoints -------------------------------------------------------------------------------------------------------


def test_keypoints_are_in_pixels_of_the_frame(tmp_path):
    """Places go back through the letterbox and are clipped to the frame, confidences stay."""
    first, second = [10, 20, 0.9, 70, -5, 0.2], [1, 2, 0.3, 4, 5, 0.6]
    rows = [(32, 32, 20, 20, 0, 0.6, second), (32, 32, 20, 20, 0, 0.8, first), (10, 10, 8, 8, 1, 0.4, second)]
    detector = open_detector(pose_model(tmp_path, boxed(rows, 6)), project_classes=["dog", "car"])
    found = detector.detect(FRAME)
    assert detector.task == found.task == "keypoint-detection"
    assert found.names == ["car", "dog"]
    expected = [[[20, 40, 0.9], [128, 0, 0.2]], [[2, 4, 0.3], [8, 10, 0.6]]]
    np.testing.assert_allclose(found.keypoints, expected, rtol=1e-6)
    np.testing.assert_allclose(found[[1]].keypoints, expected[1:], rtol=1e-6)
    assert found.masks is None


def test_keypoints_without_confidence_have_one(tmp_path):
    """A model whose keypoints are x and y alone says of each that it is there."""
    path = pose_model(tmp_path, boxed([(32, 32, 20, 20, 0, 0.8, [10, 20, 30, 40])], 4), shape=(2, 2))
    found = open_detector(path, project_classes=None).detect(FRAME)
    np.testing.assert_array_equal(found.keypoints, [[[20, 40, 1], [60, 80, 1]]])


def test_a_head_without_nms_has_the_same_columns(tmp_path):
    """(1, k, 6 + columns): rows that overlap are kept, each with its keypoints."""
    output = np.zeros((1, 3, 12), np.float32)
    output[0, 0] = [10, 10, 30, 30, 0.9, 1, 1, 2, 0.5, 3, 4, 0.6]
    output[0, 1] = [10, 10, 30, 31, 0.7, 1, 5, 6, 0.7, 7, 8, 0.8]
    detector = open_detector(pose_model(tmp_path, output, end2end=True), project_classes=None)
    found = detector.detect(FRAME)
    assert detector.format == "ultralytics-nms-free"
    np.testing.assert_allclose(found.keypoints[:, :, 0], [[2, 6], [10, 14]])
    assert found.confidence.tolist() == [np.float32(0.9), np.float32(0.7)]


@pytest.mark.parametrize("shape", ["nonsense", (0, 3), (2, 4), (2,), (2.0, 3)])
def test_keypoints_of_unknown_shape_are_refused(tmp_path, shape):
    """The line names what the metadata say."""
    path = saved(constant_model(boxed([], 6), names=NAMES, metadata={"task": "pose", "kpt_shape": shape}), tmp_path)
    with pytest.raises(ModelError, match="kpt_shape") as error:
        open_detector(path, project_classes=None)
    assert "\n" not in str(error.value)


def test_columns_that_are_missing_are_named(tmp_path):
    """A pose model whose output has no room for its keypoints is of no known format."""
    with pytest.raises(ModelError, match=r"expected \(1, 4 \+ classes \+ 51, n\)"):
        open_detector(pose_model(tmp_path, boxed([], 6), shape=(17, 3)), project_classes=None)


# --- masks -----------------------------------------------------------------------------------------------------------


def prototypes_of(left, right):
    """(1, 2, 16, 16): one that is above 0 in the left half, one in the lower half."""
    prototypes = np.full((1, 2, 16, 16), -1, np.float32)
    prototypes[0, 0, :, :8] = left
    prototypes[0, 1, 8:] = right
    return prototypes


def test_masks_are_sums_of_prototypes_above_nought_within_the_box(tmp_path):
    """The left half of the box for the first prototype, the lower half for the second, in pixels of the frame."""
    rows = [(32, 32, 32, 32, 0, 0.9, [1, 0]), (32, 32, 16, 48, 1, 0.8, [0, 1])]
    path = segment_model(tmp_path, boxed(rows, 2), prototypes_of(1, 1))
    detector = open_detector(path, project_classes=None, masks=True)
    found = detector.detect(FRAME)
    assert detector.task == found.task == "instance-segmentation"
    left, lower = np.zeros((2, 128, 128), bool)
    left[32:96, 32:64] = True
    lower[64:112, 48:80] = True
    np.testing.assert_array_equal(found.masks[0].pixels(), left)
    np.testing.assert_array_equal(found.masks[1].pixels(), lower)
    assert len(found[:1].masks) == 1


def test_masks_lie_right_in_frames_with_padding(tmp_path):
    """A wide frame is padded above and below; its mask still covers the left half of the box."""
    rows = [(32, 32, 32, 16, 0, 0.9, [1, 0])]
    detector = open_detector(
        segment_model(tmp_path, boxed(rows, 2), prototypes_of(1, 1)), project_classes=None, masks=True
    )
    found = detector.detect(np.zeros((64, 256, 3), np.uint8))
    np.testing.assert_allclose(found.xyxy, [[64, 0, 192, 64]])
    assert found.masks[0].xyxy == (64, 0, 128, 64)
    assert found.masks[0].area == 64 * 64


def test_masks_are_made_only_when_asked_for(tmp_path):
    """Without the flag the boxes are the same, and frames may be run together; with it they are run one by one."""
    rows = [(32, 32, 32, 32, 0, 0.9, [1, 0])]
    path = segment_model(tmp_path, boxed(rows, 2), prototypes_of(1, 1))
    plain, full = (open_detector(path, project_classes=None, masks=masks, batch=2) for masks in (False, True))
    assert plain.detect(FRAME).masks is None
    np.testing.assert_array_equal(plain.detect(FRAME).xyxy, full.detect(FRAME).xyxy)
    assert full.batch == 1
    assert [m.area for m in full.detect(FRAME).masks] == [m.area for m in full.detect(FRAME).masks] == [64 * 32]


def test_a_segmentation_without_prototypes_is_refused(tmp_path):
    """The metadata say segment, and there is one output."""
    path = saved(constant_model(boxed([], 2), names=NAMES, metadata={"task": "segment"}), tmp_path)
    with pytest.raises(ModelError, match="without prototypes"):
        open_detector(path, project_classes=None)


def test_prototypes_of_another_shape_are_refused(tmp_path):
    """The second output is no stack of pictures."""
    with pytest.raises(ModelError, match="'output1' is"):
        open_detector(segment_model(tmp_path, boxed([], 2), np.zeros((1, 2, 16), np.float32)), project_classes=None)


# --- classes ---------------------------------------------------------------------------------------------------------


def class_model(folder, probabilities, names=("cat", "dog", "owl"), **metadata):
    output = np.array([probabilities], np.float32)
    return saved(constant_model(output, names=names, metadata={"task": "classify", **metadata}), folder)


def test_a_classification_has_a_row_a_class_from_the_floor_up(tmp_path):
    """In descending probability, the whole frame as the box, the first one on top; below the floor nothing is told."""
    detector = open_detector(class_model(tmp_path, [0.3, 0.66, 0.04]), project_classes=None)
    found = detector.detect(FRAME[:100])
    assert (detector.format, detector.task) == ("ultralytics-classify", "classification")
    assert found.task == "classification"
    assert found.names == ["dog", "cat"]
    assert found.top_classes == ("dog",)
    np.testing.assert_allclose(found.confidence, [0.66, 0.3])
    np.testing.assert_array_equal(found.xyxy, [[0, 0, 128, 100]] * 2)


def test_classes_that_the_project_lacks_are_no_answer(tmp_path):
    """The top class is the project's most probable one; with none from the floor up there is none, of the same task."""
    found = open_detector(class_model(tmp_path, [0.3, 0.66, 0.04]), project_classes=["owl", "cat"]).detect(FRAME)
    assert (found.names, found.top_classes, found.class_id.tolist()) == (["cat"], ("cat",), [1])
    nothing = open_detector(class_model(tmp_path, [0.3, 0.66, 0.04]), project_classes=["owl"]).detect(FRAME)
    assert (len(nothing), nothing.top_classes, nothing.task) == (0, (), "classification")


def test_equally_probable_classes_go_in_the_order_of_the_list(tmp_path):
    """As argmax has it."""
    found = open_detector(class_model(tmp_path, [0.1, 0.45, 0.45]), project_classes=None).detect(FRAME)
    assert found.names == ["dog", "owl", "cat"]


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [([0.2, np.nan, 0.1], "NaN"), ([0.2, 3.0, 0.1], "confidence of 3, above 1")],
)
def test_what_is_no_probability_is_refused(tmp_path, probabilities, message):
    """Scores before the softmax, and no numbers at all, stop the frame with a line."""
    detector = open_detector(class_model(tmp_path, probabilities), project_classes=None)
    with pytest.raises(ModelError, match=message):
        detector.detect(FRAME)


def test_a_classifier_of_another_shape_is_refused(tmp_path):
    """Its output has boxes in it, or its names are too few."""
    path = saved(constant_model(boxed([], 0), names=NAMES, metadata={"task": "classify"}), tmp_path)
    with pytest.raises(ModelError, match="none of a classifier"):
        open_detector(path, project_classes=None)
    with pytest.raises(ModelError, match="3 classes, but 2 names"):
        open_detector(class_model(tmp_path, [0.1, 0.2, 0.7], names=("cat", "dog")), project_classes=None)


def test_the_input_of_a_classifier_is_the_middle_of_the_frame():
    """The shorter side fills the input, of the longer one both ends are cut off, as torchvision rounds them."""
    wide = Letterbox.middle((120, 301), (64, 64))
    assert (wide.resized, wide.pad) == ((64, 160), (-48, 0))
    high = Letterbox.middle((301, 120), (64, 64))
    assert (high.resized, high.pad) == ((160, 64), (0, -48))
    assert Letterbox.middle((50, 70), (64, 96)).resized == (64, 96)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 160, 3), np.uint8)
    buffer = InputBuffer(ClassifyFormat(), (64, 64), np.float32)
    buffer.write(pixels)
    expected = pixels[:, 48:112, ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(buffer.tensor[0], expected)


@pytest.mark.parametrize("size", [(70, 90), (160, 211), (480, 640), (1080, 1920), (64, 300), (40, 50)])
def test_the_input_of_a_classifier_is_nearly_that_of_pillow(size):
    """Shrunk as Pillow shrinks, within 1.5 grey values in the mean, where plain bilinear sampling is further off."""
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (size[0] // 6 + 1, size[1] // 6 + 1, 3), np.uint8)
    pixels = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    letterbox = Letterbox.middle(size, (64, 64))
    reference = image_module.fromarray(pixels[:, :, ::-1]).resize(letterbox.resized[::-1], image_module.BILINEAR)
    left, top = (-side for side in letterbox.pad)
    expected = np.asarray(reference)[top : top + 64, left : left + 64].transpose(2, 0, 1)
    buffers = [
        InputBuffer(ClassifyFormat(antialiases=antialiases), (64, 64), np.float32) for antialiases in (True, False)
    ]
    for buffer in buffers:
        buffer.write(pixels)
    ours, plain = (np.abs(buffer.tensor[0] * 255 - expected).mean() for buffer in buffers)
    assert ours < 1.5
    assert ours <= plain + 1e-6


def test_a_model_of_half_floats_classifies_too(tmp_path):
    """float16 in and out, as exports with half=True have it."""
    names = {"names": dict(enumerate(("cat", "dog"))), "task": "classify", "stride": 1}
    model = constant_model(np.array([[0.25, 0.75]], np.float16), metadata=names, input_type=TensorProto.FLOAT16)
    assert open_detector(saved(model, tmp_path), project_classes=None).detect(FRAME).names == ["dog", "cat"]
