"""How fast the edge loop is, against the bare session, a plain OpenCV loop and `YOLO.predict`, side by side.

    python -m tests.benchmarks.bench_edge [--model model.onnx] [--video clip.mp4] [--threads 1]

Every contender processes the same frames of the same video with the same number of threads; a round runs all of them
one after the other, and the figures are medians over rounds of the ratio to the bare `InferenceSession.run` of the same
round, so that a busy machine slows both sides of a ratio.
"""

import argparse
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from tasks.adapters.camera import open_source
from tasks.adapters.detector import Detector, Prepared, open_detector
from tasks.core.entities import Frame
from tasks.core.sampling import Observation, Sampler
from tasks.core.settings import CloseToThreshold, RandomSampling, SamplingSettings
from tests.benchmarks.edge_models import export_small_model, prepare_ultralytics, render_video
from tests.real.shared_data import VIDEO, YOLOX_NANO

FLOOR, NMS_IOU = 0.05, 0.6
Contender = Callable[[], int]  # processes the frames and says how many detections there were


# --- contenders ------------------------------------------------------------------------------------------------------


def some_frames(video: Path, frames: int) -> Iterator[Frame]:
    """The first frames of a video, from its start again when it is too short; times go on."""
    given = 0
    while True:
        for frame in open_source(str(video), "bench"):
            if given == frames:
                return
            yield Frame(frame.pixels, frame.camera, frame.captured_at + timedelta(hours=given), given, frame.source)
            given += 1


def session_of(model: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def bare_session(session: ort.InferenceSession, frames: int) -> int:
    image = session.get_inputs()[0]
    pixels = np.random.default_rng(0).random(image.shape, np.float32)
    for _ in range(frames):
        session.run(None, {image.name: pixels})
    return 0


def edge_loop(detector: Detector, frames: Iterator[Frame], sampler: Sampler) -> int:
    """Decode, letterbox, session, NMS, sampling."""
    found = 0
    for frame in frames:
        detections = detector.detect(frame.pixels)
        sampler.decide(Observation(str(frame.index), "bench", frame.camera, frame.captured_at, detections))
        found += len(detections)
    return found


def pipelined_loop(detector: Detector, frames: Iterator[Frame], sampler: Sampler, waiting: int = 2) -> int:
    """The same, with decoding and letterboxing in a capture thread."""
    ready: queue.Queue[tuple[Frame, Prepared] | None] = queue.Queue(waiting)

    def capture() -> None:
        for frame in frames:
            ready.put((frame, detector.prepare(frame.pixels)))
        ready.put(None)

    threading.Thread(target=capture, daemon=True).start()
    found = 0
    while (item := ready.get()) is not None:
        frame, prepared = item
        detections = detector.detect_prepared(prepared)
        sampler.decide(Observation(str(frame.index), "bench", frame.camera, frame.captured_at, detections))
        found += len(detections)
    return found


def plain_loop(session: ort.InferenceSession, video: Path, frames: int, *, is_yolox: bool) -> int:
    """What a short script with OpenCV and ONNX Runtime does."""
    image = session.get_inputs()[0]
    side, found, done = image.shape[2], 0, 0
    capture = cv2.VideoCapture(str(video))
    while done < frames:
        read, pixels = capture.read()
        if not read:
            capture = cv2.VideoCapture(str(video))
            continue
        scale = min(side / pixels.shape[0], side / pixels.shape[1])
        scaled = cv2.resize(pixels, (int(pixels.shape[1] * scale), int(pixels.shape[0] * scale)))
        below, right = side - scaled.shape[0], side - scaled.shape[1]
        padded = cv2.copyMakeBorder(scaled, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        blob = cv2.dnn.blobFromImage(padded, 1.0 if is_yolox else 1 / 255, swapRB=not is_yolox)
        output = session.run(None, {image.name: blob})[0][0]
        boxes, scores = plain_yolox(output, side) if is_yolox else (output[:4].T, output[4:].T)
        best, classes = scores.max(axis=1), scores.argmax(axis=1)
        corners = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]]) / scale
        kept = cv2.dnn.NMSBoxesBatched(corners.tolist(), best.tolist(), classes.tolist(), FLOOR, NMS_IOU, top_k=300)
        found, done = found + len(kept), done + 1
    return found


def plain_yolox(output: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(side // stride) for x in range(side // stride)]
    grid = np.array(cells, np.float32)
    boxes = np.column_stack([(output[:, :2] + grid[:, :2]) * grid[:, 2:], np.exp(output[:, 2:4]) * grid[:, 2:]])
    return boxes, output[:, 4:5] * output[:, 5:]


def ultralytics_predict(model: Path, video: Path, threads: int, frames: int) -> Contender:
    """`YOLO("x.onnx").predict` over the video, its session and torch held to the same threads."""
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(threads)
    yolo = YOLO(str(model), task="detect")
    settings = {"imgsz": 256, "conf": FLOOR, "iou": NMS_IOU, "verbose": False, "device": "cpu"}
    plain_session = ort.InferenceSession

    def session_with_threads(weights: str, _: None = None, **kwargs: object) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        return plain_session(weights, options, **kwargs)

    ort.InferenceSession = session_with_threads  # ultralytics has no setting for it
    try:
        yolo.predict(np.zeros((480, 640, 3), np.uint8), **settings)  # the session is made on the first call
    finally:
        ort.InferenceSession = plain_session

    def predict() -> int:
        found = done = 0
        while True:
            for result in yolo.predict(str(video), stream=True, **settings):
                if done == frames:
                    return found
                found, done = found + len(result.boxes), done + 1

    return predict


# --- measuring -------------------------------------------------------------------------------------------------------


def sampler() -> Sampler:
    """Ten strategies, about 1% of frames kept."""
    bands = tuple(
        CloseToThreshold(
            name=f"band-{i}", type="close_to_threshold", threshold=0.1 * i, epsilon=0.05, probability=0.005
        )
        for i in range(1, 10)
    )
    everything = RandomSampling(name="random", type="random", traffic_percentage=0.005)
    return Sampler(SamplingSettings(sampling_strategies=(everything, *bands)), "bench")


@dataclass(frozen=True)
class Figures:
    """Of one contender, medians over rounds. cpu: milliseconds a frame, over all threads of the process."""

    frames_per_second: float
    share_of_bare: float
    cpu: float
    detections: int


def compare(contenders: dict[str, Contender], frames: int, rounds: int) -> dict[str, Figures]:
    """Run all contenders, the bare session first among them, in every round, each time in another order."""
    names = list(contenders)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    found: dict[str, int] = {}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began, busy = time.perf_counter(), time.process_time()
            found[name] = contenders[name]()
            if turn:  # the first round only warms up
                seconds[name].append((time.perf_counter() - began, time.process_time() - busy))
    taken = {name: np.array(pairs) / frames for name, pairs in seconds.items()}
    return {
        name: Figures(
            float(np.median(1 / wall_and_cpu[:, 0])),
            float(np.median(taken[names[0]][:, 0] / wall_and_cpu[:, 0])),
            float(np.median(wall_and_cpu[:, 1])) * 1000,
            found[name],
        )
        for name, wall_and_cpu in taken.items()
    }


def where_time_goes(detector: Detector, video: Path, frames: int) -> dict[str, float]:
    """Median CPU milliseconds a frame of every step of the loop, one after the other."""
    steps: dict[str, list[float]] = {"decode": [], "letterbox": [], "session": [], "NMS": [], "sampling": []}
    deciding, source = sampler(), some_frames(video, frames)
    while True:
        times = [time.process_time()]
        frame = next(source, None)
        if frame is None:
            return {name: float(np.median(taken)) * 1000 for name, taken in steps.items()}
        times.append(time.process_time())
        prepared = detector.prepare(frame.pixels)
        times.append(time.process_time())
        output = detector.run(prepared)
        times.append(time.process_time())
        detections = detector.decode(output, prepared.letterbox)
        times.append(time.process_time())
        deciding.decide(Observation(str(frame.index), "bench", frame.camera, frame.captured_at, detections))
        times.append(time.process_time())
        for name, taken in zip(steps, np.diff(times)):
            steps[name].append(float(taken))


def report(model: Path, video: Path, arguments: argparse.Namespace) -> None:
    threads, frames = arguments.threads, arguments.frames
    detector = open_detector(
        model,
        project_classes=None,
        model_classes=arguments.classes,
        threads=threads,
        confidence_floor=FLOOR,
        nms_iou=NMS_IOU,
    )
    session, is_yolox = session_of(model, threads), detector.format == "yolox"
    contenders: dict[str, Contender] = {
        "bare session": partial(bare_session, session, frames),
        "edge loop": lambda: edge_loop(detector, some_frames(video, frames), sampler()),
        "edge loop, capture thread": lambda: pipelined_loop(detector, some_frames(video, frames), sampler()),
        "plain OpenCV loop": partial(plain_loop, session, video, frames, is_yolox=is_yolox),
    }
    if not is_yolox:
        contenders["YOLO.predict"] = ultralytics_predict(model, video, threads, frames)
    print(f"\n{model.name}, {detector.image_size[0]} x {detector.image_size[1]}, {threads} thread(s), {video.name}")
    print(f"  {'':28}{'frames/s':>10}{'of bare':>10}{'CPU ms':>10}{'detections':>12}")
    for name, figures in compare(contenders, frames, arguments.rounds).items():
        rates = f"{figures.frames_per_second:10.1f}{figures.share_of_bare:10.3f}{figures.cpu:10.2f}"
        print(f"  {name:28}{rates}{figures.detections:12}")
    steps = where_time_goes(detector, video, frames)
    print("  CPU ms a frame: " + ", ".join(f"{name} {taken:.2f}" for name, taken in steps.items()))
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limit = cores * 1000 / (steps["decode"] + steps["letterbox"] + steps["session"])
    print(f"  {cores} cores / (decode + letterbox + session) = {limit:.1f} frames/s at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, help="ONNX file; default: YOLOX-nano, where it is there, and a small export"
    )
    parser.add_argument("--classes", default="coco80", help="class names of a model without metadata")
    parser.add_argument("--video", type=Path, help="default: the road camera, or one that is rendered, 640 x 480")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime and OpenCV")
    parser.add_argument("--frames", type=int, default=150, help="a contender and round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_ultralytics(folder)
        video = arguments.video or (VIDEO if VIDEO.exists() else render_video(folder / "rendered.mp4"))
        models = [arguments.model] if arguments.model else [m for m in (YOLOX_NANO,) if m.exists()]
        if not arguments.model:
            models.append(export_small_model(folder))
        for model in models:
            report(model, video, arguments)


if __name__ == "__main__":
    main()
