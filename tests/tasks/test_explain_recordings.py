"""A replay on a desk and the collector of a device decide alike, and what cannot be replayed is said in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import pipeline, run_collector
from tasks.core.errors import ClassesDoNotOverlap, ModelError, SettingsError, SourceUnavailable
from tasks.core.sampling import Sampler
from tasks.core.settings import CameraSettings, DeviceSettings, SamplingSettings
from tasks.explain import Recording, draw_timeline, explain_detections, explain_recording, write_explanation
from tests.adapters.embedding_models import colour_embedder
from tests.adapters.models import CLASSES, constant_detector, nan_detector
from tests.tasks.collecting import CAR, a_device, a_folder, samples_of
from tests.tasks.recordings import START, a_video, light_detector

EVERYTHING = {
    "sampling_strategies": [
        {
            "name": "misses",
            "type": "expected_misses",
            "weights": {"car": [0.02, 0.05, 0.11, 0.23, 0.41, 0.6], "truck": [0.01, 0.04, 0.1, 0.2, 0.3, 0.5]},
            "minimum_expected_misses": 0.41,
            "tie_probability": 0.5,
            "images_a_day": 40000,
            "exploration": 0.3,
            "limits": [{"type": "minutely", "value": 9}],
        },
        {
            "name": "hard",
            "type": "close_to_threshold",
            "threshold": 0.4,
            "epsilon": 0.1,
            "probability": 0.4,
            "limits": [{"type": "minutely", "value": 6}],
        },
        {"name": "gap", "type": "track_gap", "gap_frames": 2, "minimum_iou": 0.3, "probability": 0.9},
        {"name": "rnd", "type": "random", "traffic_percentage": 0.1},
    ],
    "thresholds": {"car": 0.55, "truck": 0.5},
    "duplicates": {"enabled": True, "cooldown_seconds": 0.15, "samples_of_an_object": 5},
    "batching_strategy": {"recreation_interval": "daily"},
    "seed": 7,
}


def settings_of(**changes) -> SamplingSettings:
    return SamplingSettings.model_validate({**EVERYTHING, **changes})


def a_recording(source, settings, *, camera="gate", frame_rate=None, **more) -> Recording:
    looked_at = CameraSettings(name=camera, source=str(source), frame_rate=frame_rate)
    given = {"device": device_with(looked_at), "where": "S.json", "start": START, **more}
    return Recording(looked_at, settings, **given)


def device_with(camera: CameraSettings, **fields) -> DeviceSettings:
    return DeviceSettings(name="edge-1", project="yard", bucket="none", cameras=[camera], **fields)


def final(decision):
    """Without what it says of itself and others while it is open."""
    return replace(decision, is_open=False, settled=())


class Watched(Sampler):
    """A collector's sampler, and its last word on each frame."""

    decided: dict = {}

    def decide(self, observation):
        decision = super().decide(observation)
        self.decided[observation.frame] = (final(decision), decision.reason)
        self._note(decision.settled)
        return decision

    def settle(self, camera=None):
        settled = super().settle(camera)
        self._note(settled)
        return settled

    def _note(self, settled):
        self.decided.update({one.frame: (final(one.decision), one.decision.reason) for one in settled})

    def with_settings(self, settings):
        raise AssertionError("these settings stay in force")


def collected(tmp_path, monkeypatch, source, model, settings, frame_rate=None, device=None):
    """What the real collector decided of each frame, and the samples that arrived in the bucket."""
    monkeypatch.setattr(Watched, "decided", {})
    monkeypatch.setattr(pipeline, "Sampler", Watched)
    camera = {"name": "gate", "source": str(source), "frame_rate": frame_rate}
    device = device or a_device(tmp_path, source, cameras=[camera])
    status = run_collector(device, model=model, sampling=settings, follow_releases=False, start=START)
    assert (status.last_error, status.finished) == ("", True)
    return dict(Watched.decided), samples_of(Bucket(device.bucket, "yard"))


@pytest.mark.slow
@pytest.mark.parametrize("frame_rate", [None, 4.0])
def test_explain_decides_as_the_collector_does_frame_by_frame(tmp_path, monkeypatch, frame_rate):
    """Every frame of a video: kept or not, by whom, with which probability, and why; with a camera's frame rate too."""
    video, model = a_video(tmp_path / "clip.mp4"), light_detector(tmp_path / "model.onnx")
    decided, samples = collected(tmp_path, monkeypatch, video, str(model), settings_of(), frame_rate)
    with a_recording(video, settings_of(), model=str(model), frame_rate=frame_rate) as recording:
        explained = list(explain_recording(recording, settings_of()))
    assert [one.frame for one in explained] == list(decided)
    assert len(explained) == (120 if frame_rate is None else 48)
    for one in explained:
        assert (final(one.decision), one.decision.reason) == decided[one.frame], one.frame
    kept = {one.frame: one for one in explained if one.decision.kept}
    assert {sample.source for sample in samples} == set(kept)
    for sample in samples:
        decision = kept[sample.source].decision
        assert (sample.strategy, sample.matched, sample.probability) == (
            decision.strategy,
            decision.matched,
            decision.probability,
        )
        assert (sample.random_slice, sample.tags, sample.batch) == (
            decision.random_slice,
            decision.tags,
            decision.batch,
        )
        assert (sample.probability_random, sample.chosen_by) == (decision.probability_random, decision.chosen_by)
        assert sample.captured_at == kept[sample.source].captured_at
    if frame_rate is None:  # so many frames that everything happens
        outcomes = {one.decision.outcome for one in explained}
        assert {"kept", "cooldown", "near-duplicate", "no strategy matched", "no credit"} <= outcomes
        assert {one.decision.strategy for one in explained} == {None, "misses", "hard", "rnd"}


def test_a_folder_and_the_stub_are_replayed_as_they_are_collected(tmp_path, monkeypatch):
    """Images by name, one second apart, without a model: what `random` keeps is the same."""
    folder, settings = a_folder(tmp_path / "frames", 40), settings_of(thresholds={})
    decided, samples = collected(tmp_path, monkeypatch, folder, "stub", settings)
    with a_recording(folder, settings) as recording:
        explained = list(explain_recording(recording, settings))
    assert {one.frame: (one.decision, one.decision.reason) for one in explained} == decided
    assert {sample.source for sample in samples} == {one.frame for one in explained if one.decision.kept}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "video"])
def test_region_masks_rate_and_what_is_hidden_are_the_cameras(tmp_path, monkeypatch, kind):
    """A device that looks at a part of the picture, at fewer frames, and hides a class: explained as it is collected.

    The whole picture would have led to other decisions.
    """
    source = a_folder(tmp_path / "frames", 60) if kind == "folder" else a_video(tmp_path / "clip.mp4")
    camera = {
        "name": "gate",
        "source": str(source),
        "frame_rate": 0.5 if kind == "folder" else 7,
        "region": {"left": 0.1, "right": 0.93, "bottom": 0.8},
        "masks": [{"right": 0.35, "bottom": 0.6}, {"left": 0.7, "top": 0.5}],
    }
    device = a_device(tmp_path, source, cameras=[camera], privacy={"classes": ["truck"]})
    model, settings = light_detector(tmp_path / "model.onnx"), settings_of()
    decided, _ = collected(tmp_path, monkeypatch, source, str(model), settings, device=device)
    given = {"device": device, "where": "S.json", "start": START, "model": str(model)}
    with Recording(device.cameras[0], settings, **given) as recording:
        explained = list(explain_recording(recording, settings))
    assert {one.frame: (final(one.decision), one.decision.reason) for one in explained} == decided
    assert 3 < sum(one.decision.kept for one in explained) < len(explained)
    whole = CameraSettings(name="gate", source=str(source), frame_rate=camera["frame_rate"])
    with Recording(whole, settings, **given) as recording:
        assert [final(one.decision) for one in explain_recording(recording, settings)] != [
            final(one.decision) for one in explained
        ]


def test_what_of_a_device_is_not_to_be_had_here_is_warned_of(tmp_path):
    """A provider that this machine has not is replaced, and a class that no model can hide leaves nothing to keep."""
    folder, model = a_folder(tmp_path / "frames", 1), constant_detector(tmp_path / "model.onnx", [CAR])
    camera = CameraSettings(name="gate", source=str(folder))
    device = device_with(camera, providers=["coreml"], privacy={"classes": ["face"]})
    with Recording(camera, settings_of(), device=device, where="S.json", model=str(model)) as recording:
        hidden, computed = recording.warnings
    assert "cannot see face" in hidden
    assert computed.startswith("coreml is not in this onnxruntime: cpu computes here")


def test_a_frame_that_is_kept_for_a_later_one_is_explained_in_its_place(tmp_path, monkeypatch):
    """Where the light fails for a frame or two the car is lost: what is kept late, and all else, is the collector's."""
    folder, model = tmp_path / "frames", light_detector(tmp_path / "model.onnx")
    folder.mkdir()
    for index in range(60):
        pixels = np.full((48, 64, 3), 40 if index % 9 in (4, 7, 8) else 200, np.uint8)
        pixels[40:, 56:] = 4 * index  # equal pictures would be one sample
        cv2.imwrite(str(folder / f"{index:04d}.png"), pixels)
    settings = settings_of(duplicates={"enabled": False})
    decided, samples = collected(tmp_path, monkeypatch, folder, str(model), settings)
    with a_recording(folder, settings, model=str(model)) as recording:
        explained = list(explain_recording(recording, settings))
    assert {one.frame: (final(one.decision), one.decision.reason) for one in explained} == decided
    assert sum(one.is_late for one in explained) > 2
    kept = [one for one in explained if one.decision.kept]
    assert {(s.source, s.strategy, s.matched, s.probability, s.batch) for s in samples} == {
        (one.frame, one.decision.strategy, one.decision.matched, one.decision.probability, one.decision.batch)
        for one in kept
    }


def test_embeddings_are_the_collectors_and_are_saved_with_the_rest(tmp_path, monkeypatch):
    """What is new to an embedder beside the model: kept alike on the device, in a replay, and from the saved lines."""
    folder, model = a_folder(tmp_path / "frames", 40), light_detector(tmp_path / "model.onnx")
    colour_embedder(tmp_path / "colours.onnx")
    novelty = {"name": "new", "type": "novelty", "embedding": "colours.onnx", "output_name": "features"}
    settings = settings_of(sampling_strategies=[{**novelty, "minimum_distance": 0.0005, "probability": 0.7}])
    decided, _ = collected(tmp_path, monkeypatch, folder, str(model), settings)
    with a_recording(folder, settings, model=str(model)) as recording:
        explained = list(explain_recording(recording, settings, save=tmp_path / "D.jsonl"))
    assert {one.frame: (final(one.decision), one.decision.reason) for one in explained} == decided
    assert 2 < sum(one.decision.kept for one in explained) < 38
    replayed = explain_detections(tmp_path / "D.jsonl", settings, on_error=pytest.fail, warn=pytest.fail)
    assert [one.record() for one in replayed] == [one.record() for one in explained]


@pytest.mark.slow
def test_saved_detections_lead_to_the_same_answers_without_the_model(tmp_path):
    """Frame for frame, with the settings they were made with, which look for no duplicates, and with others that do."""
    video, model = a_video(tmp_path / "clip.mp4"), light_detector(tmp_path / "model.onnx")
    saved = tmp_path / "sub" / "D.jsonl"
    plain = settings_of(duplicates={"enabled": False})
    with a_recording(video, plain, model=str(model), for_other_settings=True) as recording:
        first = list(explain_recording(recording, plain, save=saved))
    with a_recording(video, settings_of(), model=str(model)) as recording:
        strict = list(explain_recording(recording, settings_of()))
    for settings, expected in ((plain, first), (settings_of(), strict)):
        replayed = list(explain_detections(saved, settings, on_error=pytest.fail, warn=pytest.fail))
        assert [one.record() for one in replayed] == [one.record() for one in expected]
    assert [one.record() for one in first] != [one.record() for one in strict]
    other = list(explain_detections(saved, plain, seed=8, on_error=pytest.fail, warn=pytest.fail))
    assert [one.decision.kept for one in other] != [one.decision.kept for one in first]


def test_settings_that_ask_for_less_confident_detections_than_were_saved_are_warned_of(tmp_path):
    """A file that was made from 0.3 up says nothing of 0.05; a file that says nothing of its floor is believed."""
    saved, told = tmp_path / "D.jsonl", []
    line = {"frame": "f", "captured_at": "2026-01-05T12:00:00Z", "detections": []}
    saved.write_text(json.dumps({**line, "confidence_floor": 0.3}) + "\n" + json.dumps(line) + "\n")
    assert len(list(explain_detections(saved, settings_of(), on_error=pytest.fail, warn=told.append))) == 2
    assert [("0.3 up" in one, "0.05" in one) for one in told] == [(True, True)]
    above = settings_of(confidence_floor=0.3)
    list(explain_detections(saved, above, on_error=pytest.fail, warn=pytest.fail))


def test_frames_that_cannot_be_shown_are_counted_and_the_others_answered(tmp_path):
    """A broken image of a folder, and one that is no image the camera reads."""
    folder = a_folder(tmp_path / "frames", 5)
    (folder / "0002.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "0009.webp").write_bytes(b"RIFF")
    with a_recording(folder, settings_of()) as recording:
        assert len(list(explain_recording(recording, settings_of()))) == 4
        assert recording.skipped == {"corrupt": 1, "unsupported": 1}
        assert "0009.webp" in recording.last_error


@pytest.mark.parametrize(
    ("source", "model", "error", "words"),
    [
        ("nothing.mp4", "stub", SourceUnavailable, "nothing.mp4"),
        ("text.mp4", "stub", SourceUnavailable, "no video that can be decoded"),
        ("empty", "stub", SourceUnavailable, "no image in the folder"),
        ("bad", "stub", SourceUnavailable, "not one frame could be explained (0000.jpg: "),
        ("0", "stub", SettingsError, "live camera"),
        ("rtsp://camera/stream", "stub", SettingsError, "live camera"),
        ("frames", "nothing.onnx", ModelError, "nothing.onnx"),
        ("frames", "text.mp4", ModelError, "text.mp4"),
        ("frames", "nan.onnx", ModelError, "NaN"),
        ("frames", "cats.onnx", ClassesDoNotOverlap, "S.json: names car, truck, and cats.onnx knows cat, dog"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(tmp_path, monkeypatch, source, model, error, words):
    """A video, a folder, a model that are none; a camera without an end; a model that sees none of the classes."""
    monkeypatch.chdir(tmp_path)
    a_folder(tmp_path / "frames", 2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0000.jpg").write_bytes(b"\xff\xd8\xff nothing")
    constant_detector(tmp_path / "cats.onnx", [CAR], ("cat", "dog"))
    nan_detector(tmp_path / "nan.onnx")
    with pytest.raises(error) as raised, a_recording(source, settings_of(), model=model) as recording:
        list(explain_recording(recording, settings_of()))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_settings_ask_for_and_a_model_cannot_see_is_warned_of(tmp_path):
    """A class of some strategy that the model lacks, and a model that the settings were not fitted to."""
    folder, model = a_folder(tmp_path / "frames", 1), constant_detector(tmp_path / "model.onnx", [CAR])
    strategy = {**EVERYTHING["sampling_strategies"][1], "selected_class_names": ["car", "van"]}
    settings = settings_of(sampling_strategies=[strategy], model_digest="0123456789abcdef")
    with a_recording(folder, settings, model=str(model)) as recording:
        first, second = recording.warnings
    assert "'hard' looks for van" in first
    assert "0123456789abcdef" in second
    with a_recording(folder, settings.model_copy(update={"portable": True}), model=str(model)) as recording:
        assert len(recording.warnings) == 1
    with a_recording(folder, settings) as recording:  # the stub knows nothing, and is no other model
        assert recording.warnings == []


def test_detections_of_other_classes_are_left_out_as_on_the_device(tmp_path):
    """With the project's classes, what the model sees beside them does not count."""
    folder = a_folder(tmp_path / "frames", 1)
    model = constant_detector(tmp_path / "model.onnx", [CAR, (32, 32, 20, 10, 1, 0.4)])
    with a_recording(folder, settings_of(), model=str(model), project_classes=("truck",)) as recording:
        ((_, observation),) = recording
    assert observation.detections.names == ["truck"]
    assert set(CLASSES) == {"car", "truck"}


@pytest.mark.slow
def test_answers_and_picture_are_written_and_their_figures_agree(tmp_path):
    """answers.jsonl has a record a frame, timeline.png can be opened, and the summary adds up."""
    video, model = a_video(tmp_path / "clip.mp4", 40), light_detector(tmp_path / "model.onnx")
    shown: list[str] = []
    with a_recording(video, settings_of(), model=str(model)) as recording:
        timeline = write_explanation(explain_recording(recording, settings_of()), tmp_path / "out", shown.append)
    assert draw_timeline(timeline, settings_of(), tmp_path / "out", "clip.mp4") == ""
    records = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    for line, record in zip(shown, records, strict=True):
        answer = json.loads(line)
        assert {key: record[key] for key in answer} == answer
        assert {"captured_at", "camera", "outcome", "random_slice", "batch", "expected_misses"} <= set(record)
    kept = [record for record in records if record["kept"]]
    assert timeline.summary().startswith(f"40 frames: {len(kept)} kept (")
    assert sum(timeline.kept_by().values()) + sum(timeline.left_for().values()) == 40
    picture = cv2.imread(str(tmp_path / "out" / "timeline.png"))
    assert picture.shape[1] > 1500
    assert np.unique(picture.reshape(-1, 3), axis=0).shape[0] > 20


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "out").write_text("taken")
    with pytest.raises(SettingsError, match=r"answers\.jsonl: cannot be written"):
        write_explanation(iter(()), tmp_path / "out", print)
