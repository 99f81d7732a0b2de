"""`edgeloop explain` from a terminal: recordings and files of detections in, answers, a summary and a picture out."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.config import read_device, read_sampling
from tasks.collector import run_collector
from tests.adapters.models import constant_detector
from tests.conftest import ROOT, edgeloop, plain_environment
from tests.core.conformance_tables import ALWAYS, HARD, boxes
from tests.tasks.collecting import CAR, a_folder, samples_of

SETTINGS = {"sampling_strategies": [HARD, {**ALWAYS, "traffic_percentage": 0.3}], "thresholds": {"car": 0.5}}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with settings, images, a model and a file of detections."""
    a_folder(tmp_path / "frames", 6)
    constant_detector(tmp_path / "model.onnx", [CAR, (32, 32, 20, 10, 1, 0.4)])
    (tmp_path / "S.json").write_text(json.dumps(SETTINGS))
    cameras = [{"name": "north", "source": "frames"}, {"name": "west", "source": "rtsp://192.0.2.1/stream"}]
    device = {"name": "edge", "project": "yard", "bucket": "bucket", "cameras": cameras}
    (tmp_path / "device.yaml").write_text(json.dumps(device))
    (tmp_path / "D.jsonl").write_text("".join(json.dumps(boxes(0.3 + 0.05 * n, number=n)) + "\n" for n in range(6)))
    return tmp_path


def explain(desk: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return edgeloop("explain", "--settings", "S.json", *arguments, cwd=desk)


def answers_of(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_folder_is_explained_shown_saved_and_tried_again(desk):
    """One line an image, a summary as the last line of stderr, answers and a picture; then without the model."""
    arguments = ["frames", "--model", "model.onnx", "--device", "edge-1", "--camera", "gate", "--seed", 5]
    arguments += ["--start", "2026-01-05T12:00:00+02:00", "--out", "out", "--save-detections", "seen/D.jsonl"]
    done = explain(desk, *arguments)
    answers = answers_of(done)
    assert [answer["frame"] for answer in answers] == sorted(path.name for path in (desk / "frames").iterdir())
    assert done.stderr.splitlines()[-1] == "edgeloop: 6 frames: 6 kept (6 by 'hard'), 0 not"
    records = [json.loads(line) for line in (desk / "out" / "answers.jsonl").read_text().splitlines()]
    assert (records[0]["captured_at"], records[0]["camera"]) == ("2026-01-05T10:00:00.000Z", "gate")
    assert (desk / "out" / "timeline.png").read_bytes().startswith(b"\x89PNG")
    again = explain(desk, "--detections", "seen/D.jsonl", "--seed", 5)
    assert (again.stdout, again.stderr) == (done.stdout, done.stderr)
    other = answers_of(explain(desk, "--detections", "seen/D.jsonl", "--seed", 6))
    assert [answer["reason"] for answer in other] != [answer["reason"] for answer in answers]
    slow = answers_of(explain(desk, "frames", "--frame-rate", 0.5, "--start", "2026-01-05T12:00:00Z"))
    assert [answer["frame"] for answer in slow] == ["0000.png", "0002.jpg", "0004.png"]


@pytest.mark.slow
def test_a_devices_own_camera_is_explained_as_its_collector_decides(desk):
    """With its settings, which have a region, a mask and a frame rate: the frames that it keeps, at the same draws."""
    often = {**ALWAYS, "traffic_percentage": 0.5}
    (desk / "S.json").write_text(json.dumps({"sampling_strategies": [often], "seed": 3}))
    narrowed = {"region": {"left": 0.2}, "masks": [{"right": 0.4}], "frame_rate": 0.5}
    cameras = [{"name": "gate", "source": "frames", **narrowed}, {"name": "yard", "source": "0"}]
    device = {"name": "edge-1", "project": "yard", "bucket": "bucket", "outbox": "outbox", "cameras": cameras[:1]}
    (desk / "one.yaml").write_text(json.dumps(device))
    (desk / "two.yaml").write_text(json.dumps({**device, "cameras": cameras}))
    start = "2026-01-05T12:00:00Z"
    arguments = ["--model", "model.onnx", "--start", start]
    own = answers_of(explain(desk, *arguments, "--config", "one.yaml", "--save-detections", "D.jsonl"))
    other = answers_of(explain(desk, "frames", *arguments, "--config", "two.yaml", "--camera", "gate"))
    assert [answer["frame"] for answer in own] == ["0000.png", "0002.jpg", "0004.png"]
    assert own == other
    seen = json.loads((desk / "D.jsonl").read_text().splitlines()[0])
    assert (seen["camera"], seen["width"], seen["height"]) == ("gate", 52, 48)
    settings = read_device(desk / "one.yaml").model_copy(update={"outbox": str(desk / "outbox")})
    camera = settings.cameras[0].model_copy(update={"source": str(desk / "frames")})
    settings = settings.model_copy(update={"cameras": (camera,), "bucket": f"file://{desk}/bucket"})
    sampling, _ = read_sampling(desk / "S.json")
    given = {"sampling": sampling, "follow_releases": False, "start": datetime.fromisoformat(start)}
    run_collector(settings, model=str(desk / "model.onnx"), **given)
    kept = {sample.source for sample in samples_of(Bucket(settings.bucket, "yard"))}
    assert kept == {answer["frame"] for answer in own if answer["kept"]}
    assert 0 < len(kept) < 3


@pytest.mark.slow
def test_without_matplotlib_the_answers_come_all_the_same(desk):
    """The base install has no matplotlib: --out says so in one line, and the exit code is that of success."""
    code = "import sys; sys.modules['matplotlib'] = None; from flows.cli import main; main()"
    arguments = ["explain", "--settings", "S.json", "--detections", "D.jsonl", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=desk,
        env=plain_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(answers_of(done)) == 6
    missing, summary = done.stderr.splitlines()
    assert missing == (
        "edgeloop: --out out: matplotlib is not installed: no timeline.png; install edgeloop[central] for it"
    )
    assert summary.startswith("edgeloop: 6 frames: ")
    assert [path.name for path in (desk / "out").iterdir()] == ["answers.jsonl"]


@pytest.mark.slow
def test_lines_that_cannot_be_read_are_named_and_counted(desk):
    """NaN, no area, an unknown task: each is a line on stderr, the others are answered, and the exit code is 2."""
    good = json.dumps(boxes(0.4))
    bad = [
        json.dumps(boxes(float("nan"))),
        good.replace("[1, 2, 30, 40]", "[1, 2, 1, 40]"),
        json.dumps({**boxes(0.4), "task": "lmm"}),
    ]
    (desk / "D.jsonl").write_text("\n".join([*bad, good]))
    done = explain(desk, "--detections", "D.jsonl")
    assert done.returncode == 2
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == ["f1"]
    assert [line.split(": ")[1:4] for line in done.stderr.splitlines()[:3]] == [
        ["D.jsonl", "line 1", "detections.0.confidence"],
        ["D.jsonl", "line 2", "detections.0.xyxy"],
        ["D.jsonl", "line 3", "task"],
    ]
    assert done.stderr.splitlines()[3] == "edgeloop: 1 frame: 1 kept (1 by 'hard'), 0 not; 3 lines could not be read"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a video or a folder, or a file of --detections"),
        (["frames", "--detections", "D.jsonl"], "not both"),
        (["--detections", "D.jsonl", "--model", "model.onnx"], "--model: is for a video or a folder"),
        (["--config", "device.yaml", "--camera", "south"], "no camera 'south'; its cameras: north, west"),
        (["--config", "device.yaml"], "--camera: say which; its cameras: north, west"),
        (["--config", "device.yaml", "--camera", "west"], "west: is a live camera"),
        (["frames", "--config", "device.yaml", "--device", "edge"], "--device: device.yaml says it"),
        (["frames", "--config", "nothing.yaml"], "nothing.yaml: there is no such file"),
        (["--detections", "D.jsonl", "--config", "device.yaml"], "--config: is for a video or a folder"),
        (["--detections", "nothing.jsonl"], "nothing.jsonl: cannot be read"),
        (["frames", "--start", "yesterday"], "--start 'yesterday'"),
        (["frames", "--frame-rate", "0"], "frame_rate"),
        (["frames", "--camera", "Gate 1"], "cameras[0] 'Gate 1': name"),
        (["frames", "--device", "Edge"], "name"),
        (["nothing.mp4"], "nothing.mp4"),
        (["frames", "--model", "model.onnx", "--classes", "cat,dog"], "the model has no class of the project"),
        (["frames", "--save-detections", "S.json/D.jsonl"], "cannot be written"),
    ],
)
def test_what_cannot_be_explained_is_one_line(desk, arguments, words):
    """Exit code 2, nothing on stdout, no traceback."""
    done = explain(desk, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgeloop: ")
    assert words in line
