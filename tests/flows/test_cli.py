"""The command line as a stranger meets it: fixed forms, and one clear line for everything that is wrong."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from pydantic import BaseModel

from tasks.adapters.config import read_device, read_project
from tasks.core.settings import CameraSettings, DeviceSettings, ProjectSettings, SamplingSettings
from tests.conftest import edgeloop

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

SETTINGS = {
    "sampling_strategies": [
        {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 1.0},
        {"name": "rnd", "type": "random", "traffic_percentage": 0.5},
    ]
}
FRAME = {
    "frame": "f1",
    "task": "object-detection",
    "width": 640,
    "height": 480,
    "captured_at": "2026-01-01T00:00:00Z",
    "detections": [{"class": "car", "confidence": 0.41, "xyxy": [1, 2, 30, 40]}],
}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def one_line_error(done) -> str:
    """The error of a command that must end with exit code 2 and one line, without a traceback."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("edgeloop: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def images(folder: Path, number: int = 6) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(number):
        cv2.imwrite(str(folder / f"{n:03d}.jpg"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    return folder


def coco_pair(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    truth: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]}
    seen = []
    for image in range(1, 81):
        truth["images"].append({"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 480})
        for _ in range(rng.integers(0, 4)):
            box = [*rng.integers(0, 400, 2).tolist(), *rng.integers(20, 120, 2).tolist()]
            category = int(rng.integers(1, 3))
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
            if rng.random() < 0.85:
                score = round(float(rng.beta(2, 1.5)), 4)
                seen.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    return write(folder / "G.json", truth), write(folder / "P.json", seen)


@pytest.mark.slow
def test_explain_answers_one_json_line_a_frame(tmp_path):
    """`edgeloop explain` prints exactly the published keys, and the same files give the same answer."""
    settings = write(tmp_path / "S.json", SETTINGS)
    detections = write(tmp_path / "D.jsonl", json.dumps(FRAME) + "\n" + json.dumps(FRAME | {"frame": "f2"}) + "\n")
    first, second = (
        edgeloop("explain", "--settings", settings, "--detections", detections, cwd=tmp_path) for _ in "ab"
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    answers = [json.loads(line) for line in first.stdout.splitlines()]
    assert [a["frame"] for a in answers] == ["f1", "f2"]
    assert set(answers[0]) == {"frame", "kept", "strategy", "matched", "reason", "probability"}
    assert answers[0]["kept"] is True
    assert answers[0]["strategy"] == "hard"
    assert answers[0]["probability"] == 1.0


def test_a_bad_line_does_not_stop_the_rest(tmp_path):
    """A line that is no JSON is named on stderr with its number; the others are answered; the exit code is 2."""
    settings = write(tmp_path / "S.json", SETTINGS)
    detections = write(tmp_path / "D.jsonl", "nonsense\n" + json.dumps(FRAME) + "\n")
    done = edgeloop("explain", "--settings", settings, "--detections", detections, cwd=tmp_path)
    assert done.returncode == 2
    assert "line 1" in done.stderr
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == ["f1"]


@pytest.mark.slow
def test_evaluate_and_suggest_lead_from_coco_files_to_settings_that_explain_obeys(tmp_path):
    """COCO files become an evaluation with bands, the evaluation becomes settings, and the settings load again."""
    truth, seen = coco_pair(tmp_path)
    out = tmp_path / "evaluation"
    done = edgeloop("evaluate", "--ground-truth", truth, "--predictions", seen, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert {"AP", "AP50"} <= set(evaluation["coco"])
    for figures in evaluation["classes"].values():
        assert figures["blind"] + sum(band["misses"] for band in figures["bands"]) == figures["misses"]
        kinds = figures["blind_localisation"] + figures["blind_classification"] + figures["blind_unseen"]
        assert kinds == figures["blind"]
        assert set(figures["bands"][0]) >= {"low", "high", "misses", "recall_lost", "interval"}
    assert {"matches.parquet", "report.html", "bands.png"} <= {path.name for path in out.iterdir()}

    suggested = tmp_path / "T.json"
    done = edgeloop("suggest", "--evaluation", out, "--budget", 100, "--frames", 5000, "--out", suggested, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    detections = write(tmp_path / "D.jsonl", json.dumps(FRAME) + "\n")
    done = edgeloop("explain", "--settings", suggested, "--detections", detections, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_suggest_chooses_as_it_is_told_and_refuses_what_it_cannot_mean(tmp_path):
    """Expected misses and rules beside each other in one table; a mixed log and a budget of nothing are one line."""
    truth, seen = coco_pair(tmp_path)
    out, settings = tmp_path / "evaluation", tmp_path / "S.json"
    done = edgeloop("evaluate", "--ground-truth", truth, "--predictions", seen, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    def suggest(budget, *options):
        common = ("suggest", "--evaluation", out, "--frames", 5000, "--out", settings, "--budget", budget)
        return edgeloop(*common, *options, cwd=tmp_path)

    done = suggest(100, "--strategy", "random")
    assert done.returncode == 0, done.stderr
    assert "| forecast | at random |" in done.stdout
    (strategy,) = json.loads(settings.read_text())["sampling_strategies"]
    assert (strategy["type"], strategy["traffic_percentage"]) == ("random", 0.02)

    record = {"camera": "gate", "captured_at": "2026-01-01T00:00:00Z", "rate": 1, "class_names": [], "confidences": []}
    mixed = "".join(json.dumps(record | {"model_version": version}) + "\n" for version in ("a", "b"))
    log = write(tmp_path / "traffic.jsonl", mixed)
    for budget, options, words in (
        (0, (), "a budget of 0"),
        (100, ("--strategy", "entropy"), "expected_misses, rules, random"),
        (100, ("--traffic", log), "of 2 models"),
    ):
        done = suggest(budget, *options)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_collect_keeps_what_its_settings_say_without_a_model(tmp_path):
    """With the stub and everything at random, each readable image of a folder is kept; a corrupt one is counted."""
    folder = images(tmp_path / "images")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    settings = write(
        tmp_path / "S.json", {"sampling_strategies": [{"name": "all", "type": "random", "traffic_percentage": 1.0}]}
    )
    done = edgeloop(
        "collect", "--source", folder, "--model", "stub", "--settings", settings, "--bucket", "bucket", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "6 frames decided, 6 kept (6 by all), 6 uploaded" in done.stdout
    assert "corrupt" in done.stdout
    assert len(list((tmp_path / "bucket").rglob("*.jpg"))) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampling_strategies": [{"name": "a", "type": "close_to_treshold"}]}, "close_to_treshold"),
        ({"sampling_strategies": [{"name": "a", "type": "random", "traffic_percentage": 2}]}, "traffic_percentage"),
        ({**SETTINGS, "seeed": 3}, "seeed"),
        (
            {
                "sampling_strategies": [
                    {"name": "low", "type": "close_to_threshold", "threshold": 0.02, "epsilon": 0.02, "probability": 1}
                ]
            },
            "0.05",
        ),
        ("{not json", "line 1"),
    ],
)
def test_settings_that_cannot_be_obeyed_are_one_clear_line(tmp_path, change, words):
    """A typo, a fraction out of range, an unknown key, a band below the floor, no JSON: named, with exit code 2."""
    settings = write(tmp_path / "S.json", change)
    detections = write(tmp_path / "D.jsonl", json.dumps(FRAME) + "\n")
    done = edgeloop("explain", "--settings", settings, "--detections", detections, cwd=tmp_path)
    line = one_line_error(done)
    assert "S.json" in line
    assert words in line


@pytest.mark.parametrize(
    ("source", "model", "bucket", "words"),
    [
        ("missing.mp4", "stub", "bucket", "missing.mp4"),
        ("images", "notes.onnx", "bucket", "notes.onnx"),
        ("images", "absent.onnx", "bucket", "absent.onnx"),
        ("images", "stub", "file:///proc/nowhere", "/proc/nowhere"),
        ("images", "stub", "ftp://somewhere", "ftp://"),
    ],
)
def test_what_collect_cannot_use_is_one_clear_line(tmp_path, source, model, bucket, words):
    """A missing video, a model that is none, a bucket that cannot be written: what, where, and exit code 2."""
    images(tmp_path / "images", 2)
    (tmp_path / "notes.onnx").write_text("these are notes")
    settings = write(tmp_path / "S.json", SETTINGS)
    done = edgeloop(
        "collect", "--source", source, "--model", model, "--settings", settings, "--bucket", bucket, cwd=tmp_path
    )
    assert words in one_line_error(done)


@pytest.mark.slow
def test_files_that_are_no_coco_are_one_clear_line(tmp_path):
    """Ground truth without categories, predictions of an unknown image: named, with exit code 2."""
    truth, seen = coco_pair(tmp_path)
    nothing = write(tmp_path / "N.json", {"images": []})
    done = edgeloop("evaluate", "--ground-truth", nothing, "--predictions", seen, "--out", "out", cwd=tmp_path)
    assert "N.json" in one_line_error(done)
    unknown = write(tmp_path / "U.json", [{"image_id": 999, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}])
    done = edgeloop("evaluate", "--ground-truth", truth, "--predictions", unknown, "--out", "out", cwd=tmp_path)
    assert "999" in one_line_error(done)


@pytest.mark.slow
def test_a_folder_that_is_no_evaluation_is_one_clear_line(tmp_path):
    """`suggest` says what it wanted, and how to make one."""
    done = edgeloop(
        "suggest", "--evaluation", tmp_path, "--budget", 10, "--frames", 100, "--out", "S.json", cwd=tmp_path
    )
    assert "edgeloop evaluate" in one_line_error(done)


@pytest.mark.slow
def test_a_project_file_with_a_typo_is_one_clear_line(tmp_path):
    """`loop` names the file and the key before anything starts."""
    config = write(tmp_path / "project.yaml", "project: yard\nbucket: bucket\nclasses: [car]\nexplorationn: 0.1\n")
    line = one_line_error(edgeloop("loop", "--config", config, cwd=tmp_path))
    assert "project.yaml" in line
    assert "explorationn" in line


def test_the_example_configurations_load():
    """Every field that configs/ shows exists and has the default that the comment claims."""
    project = read_project(CONFIGS / "project.yaml")
    plain = ProjectSettings(project=project.project, bucket=project.bucket, classes=project.classes)
    assert project == plain
    device = read_device(CONFIGS / "device.yaml")
    assert device == DeviceSettings(
        name=device.name, project=device.project, bucket=device.bucket, cameras=device.cameras
    )
    camera = device.cameras[0]
    assert camera == CameraSettings(name=camera.name, source=camera.source)


@pytest.mark.parametrize(("file", "model"), [("device.yaml", DeviceSettings), ("project.yaml", ProjectSettings)])
def test_the_example_configurations_show_every_field(file, model):
    """Whoever reads the example sees all there is to set, also below what is off by default."""
    text = (CONFIGS / file).read_text()
    missing = [name for name in field_names(model) if not re.search(rf"\b{name}:", text)]
    assert missing == []


def field_names(model: type[BaseModel]) -> set[str]:
    """Of a settings model and of all models in it; sampling strategies have a page of their own."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        for part in models_in(field.annotation):
            names |= field_names(part)
    return names


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is not SamplingSettings:
            yield annotation
        return
    for part in get_args(annotation):
        yield from models_in(part)


@pytest.mark.slow
def test_a_demo_refuses_a_folder_that_is_not_its_own(tmp_path):
    """A folder with other things in it, a finished demo, inputs that are not there: a line each, nothing touched."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "thesis" not in one_line_error(edgeloop("demo", "--folder", "mine", cwd=tmp_path))
    finished = tmp_path / "finished"
    finished.mkdir()
    write(finished / "demo.json", {"arguments": {"seed": 0}, "finished": True})
    assert "page.html" in one_line_error(edgeloop("demo", "--folder", "finished", cwd=tmp_path))
    assert "nowhere" in one_line_error(edgeloop("demo", "--folder", "new", "--data", "nowhere", cwd=tmp_path))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
