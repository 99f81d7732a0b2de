"""The trial of a model: in a limited process, compared with what it gave where it was published."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import Limits, TrustedReleases, install, installed_release, smoke_test, try_model
from tasks.adapters.releases.probe import DETECTIONS, difference
from tasks.core.entities import Detection, Probe, ProbeFrame, Release, Tolerance
from tasks.core.errors import ReleaseRefused
from tests.adapters.models import constant_detector, endless_detector, greedy_detector, nan_detector
from tests.adapters.released import BOX, a_release, upload
from tests.adapters.signing import publish, trusted

NAMES = ("car", "truck")


@pytest.fixture
def bucket(tmp_path):
    return Bucket(f"file://{tmp_path}/bucket", "yard")


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """What a well-behaved model gives."""
    model = constant_detector(tmp_path_factory.mktemp("model") / "m.onnx", [BOX])
    return try_model(model, class_names=NAMES)


def newest(bucket: Bucket, folder: Path) -> tuple[TrustedReleases, Release]:
    releases = trusted(bucket, folder)
    return releases, releases.release("all", releases.newest("all"))


def sixty_six_bytes(path: Path) -> Path:
    """66 bytes of ONNX whose one node makes 160 GB of zeros when it runs, out of a number that it is given."""
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["n"], ["o"])],
        "",
        [helper.make_tensor_value_info("n", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    model.ClearField("producer_name")
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size <= 66
    return path


def truncated(path: Path) -> Path:
    whole = constant_detector(path, [BOX]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nan_detector, "NaN or infinity"),
        (greedy_detector, "does not run|memory"),
        (endless_detector, "did not give an output within 6 s"),
        (sixty_six_bytes, "a detector takes float images"),
        (truncated, "not an ONNX file"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_it_runs_here(bucket, tmp_path, make, reason):
    """NaN, 160 GB, no end, 66 bytes, half a file: the subprocess finds out, this process and the old release go on."""
    folder = tmp_path / "installed"
    publish(bucket, a_release())
    old = install(*newest(bucket, folder), folder)
    publish(bucket, a_release(upload(bucket, make(tmp_path / "m.onnx"))))
    with pytest.raises(ReleaseRefused, match=reason):
        install(*newest(bucket, folder), folder, limits=Limits(seconds=6.0 if make is endless_detector else 60.0))
    assert installed_release(folder) == old


@pytest.mark.slow
def test_sixty_six_bytes_can_ask_for_160_gigabytes(tmp_path):
    """The file that the trial refuses is no harmless one: ONNX Runtime opens it, and running it asks for 160 GB."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(sixty_six_bytes(tmp_path / "m.onnx")), providers=["CPUExecutionProvider"])
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, before[1]))
    try:
        with pytest.raises(Exception, match=r"(?i)alloc"):
            session.run(None, {"n": np.array([40_000_000_000], np.int64)})
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def a_stand_in(tmp_path: Path, monkeypatch, script: str) -> Path:
    """A model file, and in the place of the process that would try it one that does what `script` says."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    return constant_detector(tmp_path / "m.onnx", [BOX])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"kill -{signal.SIGSEGV.value} $$", "exit status -11"),
        ("echo 'model.onnx: broken' >&2; exit 3", "exit status 3: model.onnx: broken"),
        ("exec sleep 60", "did not give an output within 1 s"),
        ("echo '{\"model_version\": 1}'", "exit status 0"),
    ],
)
def test_a_trial_that_does_not_answer_is_a_refusal(tmp_path, monkeypatch, script, reason):
    """A child that is killed by a signal, fails, hangs or talks nonsense is a refusal that says so, in time."""
    model = a_stand_in(tmp_path, monkeypatch, script)
    began = time.monotonic()
    with pytest.raises(ReleaseRefused, match=reason):
        try_model(model, class_names=NAMES, limits=Limits(seconds=1.0))
    assert time.monotonic() - began < 5


def test_memory_is_limited_where_address_space_cannot_be(tmp_path, monkeypatch):
    """With a provider that maps far more than it uses, what the child really holds is watched instead."""
    python = os.path.realpath(sys.executable)
    hold = "import time; held = bytearray(b'x') * (400 * 2**20); time.sleep(60)"
    model = a_stand_in(tmp_path, monkeypatch, f'exec {python} -S -c "{hold}"')
    with pytest.raises(ReleaseRefused, match=r"more than 0\.2 GiB of memory"):
        try_model(model, class_names=NAMES, limits=Limits(address_space=None, resident=200 * 2**20, seconds=30.0))


def test_the_trial_sees_no_secret(tmp_path, monkeypatch):
    """The child that runs a freshly fetched file gets no credentials in its environment."""
    seen = tmp_path / "environment"
    model = a_stand_in(tmp_path, monkeypatch, f"env > {seen}; exit 1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with pytest.raises(ReleaseRefused):
        try_model(model, class_names=NAMES)
    assert "PATH=" in seen.read_text()
    assert "canary" not in seen.read_text()


def test_an_answer_holds_what_the_model_is_and_sees(answer):
    """Version, format, provider, and for both probe frames values of the output and the detections."""
    assert (answer.format, answer.provider) == ("ultralytics", "cpu")
    assert [(f.height, f.width) for f in answer.probe.frames] == [(480, 640), (720, 405)]
    for frame in answer.probe.frames:
        assert len(frame.values) == 256
        assert frame.size == 84 * 6
        assert [d.class_name for d in frame.detections] == ["truck"]


def test_a_model_whose_outputs_are_those_of_the_release_is_taken(tmp_path, answer):
    """The same file on the same provider agrees with itself."""
    model = constant_detector(tmp_path / "m.onnx", [BOX])
    release = a_release(model, class_names=NAMES, probe=answer.probe)
    assert smoke_test(model, release).probe == answer.probe


def test_a_model_that_gives_other_outputs_than_where_it_was_published_is_refused(tmp_path, answer):
    """The release says what the model saw; a device on which it sees something else does not take it."""
    model = constant_detector(tmp_path / "m.onnx", [(*BOX[:5], 0.2)])
    with pytest.raises(ReleaseRefused, match="gives other outputs here than where it was published"):
        smoke_test(model, a_release(model, class_names=NAMES, probe=answer.probe))


# --- comparing -------------------------------------------------------------------------------------------------------

LOOSE = Tolerance(absolute=0.5, relative=0.0, share=0.9, confidence=0.1, iou=0.5)


def a_probe(values, detections=(), **fields) -> Probe:
    frame = ProbeFrame(height=8, width=8, values=tuple(values), size=len(values), detections=tuple(detections))
    return Probe(frames=(frame,), **{"tolerances": {"cpu": LOOSE}, **fields})


def seen(name: str, confidence: float, left: float = 0.0) -> Detection:
    return Detection(class_name=name, confidence=confidence, xyxy=(left, 0, left + 10, 10))


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-2, 2)), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.floats(0, 1),
)
def test_values_agree_when_enough_of_them_lie_within_the_tolerance(pairs, absolute, relative, share):
    """Against counting one by one: as many of the values as the share says differ by no more than is allowed."""
    tolerance = Tolerance(absolute=absolute, relative=relative, share=share, confidence=0, iou=0)
    stored = a_probe([value for value, _ in pairs], tolerances={"cpu": tolerance})
    found = a_probe([value + shift for value, shift in pairs])
    within = sum(abs((v + s) - v) <= absolute + relative * abs(v) for v, s in pairs)
    assert (difference(stored, found, "cpu", 0.05) is None) == (within / len(pairs) >= share)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([seen("car", 0.85), seen("truck", 0.55, left=1)], None),
        ([seen("car", 0.85)], "a detection of truck with confidence 0.60 is missing"),
        ([seen("car", 0.85), seen("car", 0.6)], "truck with confidence 0.60 is missing"),
        ([seen("car", 0.85), seen("truck", 0.6, left=8)], "truck with confidence 0.60 is missing"),
        ([seen("car", 0.7), seen("truck", 0.6)], "car with confidence 0.90 is missing"),
        ([seen("car", 0.9), seen("truck", 0.6), seen("bus", 0.4)], "a detection of bus with confidence 0.40 is new"),
        ([seen("car", 0.9), seen("truck", 0.6), seen("bus", 0.12)], None),
    ],
)
def test_detections_agree_by_class_place_and_confidence(found, said):
    """Each needs a counterpart of its class, near it, about as confident; those at the floor may be on either side."""
    stored = a_probe([1.0], [seen("car", 0.9), seen("truck", 0.6)])
    told = difference(stored, a_probe([1.0], found), "cpu", 0.05)
    assert (told is None) if said is None else said in told


def test_detections_beyond_the_number_that_is_stored_need_no_counterpart():
    """Of a frame with more detections than are stored, the least confident ones may be others."""
    many = [seen("car", round(0.9 - n * 0.001, 3), left=20.0 * n) for n in range(DETECTIONS + 1)]
    stored, found = many[:-1], [*many[:-2], many[-1]]
    assert difference(a_probe([1.0], stored), a_probe([1.0], found), "cpu", 0.05) is None
    assert "is missing" in difference(a_probe([1.0], stored), a_probe([1.0], many[3:]), "cpu", 0.05)


def test_another_output_or_number_of_frames_is_a_difference():
    """A model with another output shape, or a device with other probe frames, is told apart before its values are."""
    assert "has 2 values" in difference(a_probe([1.0]), a_probe([1.0, 1.0]), "cpu", 0.05)
    two = Probe(frames=a_probe([1.0]).frames * 2)
    assert "2 probe frames" in difference(a_probe([1.0]), two, "cpu", 0.05)


def test_each_provider_has_a_tolerance_of_its_own():
    """Half precision may differ by more than a CPU; a provider that the release does not know, by the most."""
    stored = Probe(frames=a_probe([1.0] * 10).frames)
    found = a_probe([1.15] * 10)
    assert difference(stored, found, "cpu", 0.05) is not None
    assert difference(stored, found, "tensorrt", 0.05) is None
    assert difference(stored, found, "unheard-of", 0.05) is None
