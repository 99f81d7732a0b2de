"""The sides of the edge benchmark: the bare session, the collector, a plain script, and `YOLO.predict`.

Each processes the first frames of the same video with the same number of threads.
"""

import tempfile
import time
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from tasks.adapters import camera
from tasks.adapters.detector import Detector, Prepared
from tasks.collector import run_collector
from tasks.core.entities import Detections
from tasks.core.settings import CameraSettings, DeviceSettings, RandomSampling, SamplingSettings
from tests.benchmarks.pairs import Timed, timed

FLOOR, NMS_IOU = 0.05, 0.6
KEPT_SHARE = 0.01
SAMPLING = SamplingSettings(
    sampling_strategies=(RandomSampling(name="random", type="random", traffic_percentage=KEPT_SHARE),),
    confidence_floor=FLOOR,
)


class Contender:
    """One side. detections: found in the frames of the last call, 0 where none are looked for."""

    name = ""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.detections = 0

    def __call__(self) -> Timed:
        """Process the frames once."""
        return timed(self.process)

    def process(self) -> None:
        raise NotImplementedError


class BareSession(Contender):
    """`InferenceSession.run` on one and the same input: what no pipeline around it can beat but by threads."""

    name = "bare InferenceSession.run"

    def __init__(self, model: Path, threads: int, frames: int) -> None:
        super().__init__(frames)
        # Imported after `tasks`, which switches off what it would tell its vendor.
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self._pixels = np.random.default_rng(0).random(self.input.shape, np.float32)

    def process(self) -> None:
        for _ in range(self.frames):
            self.session.run(None, {self.input.name: self._pixels})


class Collector(Contender):
    """`run_collector` as it runs on a device: decode, letterbox, session, NMS, sampling, outbox with fsync, bucket.

    Its time is that from the opening of the video to the last frame's detections. What comes before, the model's
    loading, and after, the last delivery, does not grow with the frames.
    """

    name = "edgeloop collector"

    def __init__(self, detector: Detector, video: Path, folder: Path, threads: int, frames: int) -> None:
        super().__init__(frames)
        self._detector = Stopwatch(detector)
        self._video, self._folder, self._threads = video, folder, threads

    def __call__(self) -> Timed:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            device = DeviceSettings(
                name="bench",
                project="bench",
                bucket=(Path(name) / "bucket").absolute().as_uri(),
                cameras=(CameraSettings(name="road", source=str(self._video)),),
                outbox=str(Path(name) / "outbox"),
                threads=self._threads,
            )
            status = run_collector(
                device,
                sampling=SAMPLING,
                max_frames=self.frames,
                follow_releases=False,
                open_source=self._opened,
                open_detector=lambda *_, **__: self._detector,
            )
        if (status.frames, status.frames_lost) != (self.frames, 0):
            raise RuntimeError(f"the collector decided {status.frames} of {self.frames} frames: {status.last_error}")
        self.detections = self._detector.found
        return self._detector.taken

    def _opened(
        self,
        source: str,
        name: str,
        *,
        start: datetime | None,
        time_scale: float,
        settings: CameraSettings | None = None,
    ) -> camera.Source:
        self._detector.start()
        return camera.open_source(source, name, start=start, time_scale=time_scale, settings=settings)


class Stopwatch:
    """A detector that notes when it has last detected, and how much."""

    is_stub = False

    def __init__(self, detector: Detector) -> None:
        self.model_version = detector.model_version
        self._detector = detector
        self.start()

    def start(self) -> None:
        self.found = 0
        self._began = self._ended = time.perf_counter(), time.process_time()

    def __getattr__(self, name: str) -> object:
        return getattr(self._detector, name)

    @property
    def taken(self) -> Timed:
        return Timed(self._ended[0] - self._began[0], self._ended[1] - self._began[1])

    def prepare(self, pixels: np.ndarray) -> Prepared:
        return self._detector.prepare(pixels)

    def run(self, prepared: Prepared) -> np.ndarray:
        return self._detector.run(prepared)

    def detect_prepared(self, prepared: Prepared) -> Detections:
        detections = self._detector.detect_prepared(prepared)
        self.found += len(detections)
        self._ended = time.perf_counter(), time.process_time()
        return detections

    def detect(self, pixels: np.ndarray) -> Detections:
        return self.detect_prepared(self.prepare(pixels))


class PlainLoop(Contender):
    """What a short script with OpenCV and ONNX Runtime does. It neither samples nor stores anything."""

    name = "plain OpenCV + ONNX Runtime loop"

    def __init__(self, bare: BareSession, video: Path, frames: int, *, is_yolox: bool) -> None:
        super().__init__(frames)
        self._session, self._input = bare.session, bare.input
        self._video, self._is_yolox = video, is_yolox
        self._side = self._input.shape[2]
        self._grid = yolox_grid(self._side)

    def process(self) -> None:
        capture = cv2.VideoCapture(str(self._video))
        self.detections = sum(self._detect(capture.read()[1]) for _ in range(self.frames))
        capture.release()

    def _detect(self, pixels: np.ndarray) -> int:
        side, is_yolox = self._side, self._is_yolox
        scale = min(side / pixels.shape[0], side / pixels.shape[1])
        scaled = cv2.resize(pixels, (int(pixels.shape[1] * scale), int(pixels.shape[0] * scale)))
        below, right = side - scaled.shape[0], side - scaled.shape[1]
        padded = cv2.copyMakeBorder(scaled, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        blob = cv2.dnn.blobFromImage(padded, 1.0 if is_yolox else 1 / 255, swapRB=not is_yolox)
        output = self._session.run(None, {self._input.name: blob})[0][0]
        boxes, scores = self._of_yolox(output) if is_yolox else (output[:4].T, output[4:].T)
        best, classes = scores.max(axis=1), scores.argmax(axis=1)
        corners = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]]) / scale
        above = best >= FLOOR
        return len(
            cv2.dnn.NMSBoxesBatched(
                corners[above].tolist(), best[above].tolist(), classes[above].tolist(), FLOOR, NMS_IOU, top_k=300
            )
        )

    def _of_yolox(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centres, strides = self._grid[:, :2], self._grid[:, 2:]
        boxes = np.column_stack([(output[:, :2] + centres) * strides, np.exp(output[:, 2:4]) * strides])
        return boxes, output[:, 4:5] * output[:, 5:]


def yolox_grid(side: int) -> np.ndarray:
    """(locations, 3): column, row and stride of each of YOLOX's locations."""
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(side // stride) for x in range(side // stride)]
    return np.array(cells, np.float32)


class UltralyticsPredict(Contender):
    """`YOLO("x.onnx").predict` over the video, its session and torch held to the same threads."""

    name = 'YOLO("x.onnx").predict'

    def __init__(self, model: Path, video: Path, threads: int, frames: int) -> None:
        super().__init__(frames)
        import onnxruntime as ort
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(threads)
        self._video = video
        self._yolo = YOLO(str(model), task="detect")
        self._settings = {"imgsz": 256, "conf": FLOOR, "iou": NMS_IOU, "verbose": False, "device": "cpu"}
        plain_session = ort.InferenceSession

        def session_with_threads(weights: str, _: None = None, **kwargs: object) -> ort.InferenceSession:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            return plain_session(weights, options, **kwargs)

        ort.InferenceSession = session_with_threads  # ultralytics has no setting for it
        try:
            self._yolo.predict(np.zeros((480, 640, 3), np.uint8), **self._settings)  # makes the session
        finally:
            ort.InferenceSession = plain_session

    def process(self) -> None:
        results = self._yolo.predict(str(self._video), stream=True, **self._settings)
        self.detections = sum(len(result.boxes) for result, _ in zip(results, range(self.frames)))
