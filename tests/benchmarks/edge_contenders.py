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
from tests.benchmarks.plain_detect import FLOOR, NMS_IOU, PlainDetect, open_session

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
        self.session = open_session(model, threads)
        self.input = self.session.get_inputs()[0]
        self._pixels = np.random.default_rng(0).random(self.input.shape, np.float32)

    def process(self) -> None:
        for _ in range(self.frames):
            self.session.run(None, {self.input.name: self._pixels})


class Stopwatch:
    """A detector that notes when it has last detected, and how much. warm_up: detections in frames that do not count.

    Its time begins when a source is opened, or with the last frame of the warm-up.
    """

    is_stub = False

    def __init__(self, detector: Detector, warm_up: int = 0) -> None:
        self.model_version = detector.model_version
        self._detector = detector
        self._warm_up = warm_up
        self.reset()

    def reset(self) -> None:
        self.found = self._frames = 0
        self._began = self._ended = (0.0, 0.0)

    def opened(self) -> None:
        """A source is opened; only the first counts."""
        if self._began == (0.0, 0.0):
            self._began = self._ended = _now()

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
        self._frames += 1
        self._ended = _now()
        if self._frames == self._warm_up:
            self._began = self._ended
        return detections

    def detect(self, pixels: np.ndarray) -> Detections:
        return self.detect_prepared(self.prepare(pixels))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class Collector(Contender):
    """`run_collector` as it runs on a device: decode, letterbox, session, NMS, sampling, outbox with fsync, bucket.

    Its time is the stopwatch's, to the last frame's detections. What comes before, the model's loading, and after, the
    last delivery, does not grow with the frames. cameras: so many, all of the same video; the frames are those of all.
    """

    name = "edgeloop collector"

    def __init__(
        self,
        stopwatch: Stopwatch,
        video: Path,
        folder: Path,
        threads: int,
        frames: int,
        *,
        sampling: SamplingSettings = SAMPLING,
        cameras: int = 1,
    ) -> None:
        super().__init__(frames)
        self.kept = 0  # frames of the last call
        self._stopwatch = stopwatch
        self._folder, self._threads, self._sampling = folder, threads, sampling
        self._cameras = tuple(CameraSettings(name=f"road-{i}", source=str(video)) for i in range(cameras))

    def __call__(self) -> Timed:
        self._stopwatch.reset()
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            device = DeviceSettings(
                name="bench",
                project="bench",
                bucket=(Path(name) / "bucket").absolute().as_uri(),
                cameras=self._cameras,
                outbox=str(Path(name) / "outbox"),
                threads=self._threads,
            )
            status = run_collector(
                device,
                sampling=self._sampling,
                max_frames=self.frames,
                follow_releases=False,
                open_source=self._opened,
                open_detector=lambda *_, **__: self._stopwatch,
            )
        if (status.frames, status.frames_lost) != (self.frames, 0):
            raise RuntimeError(f"the collector decided {status.frames} of {self.frames} frames: {status.last_error}")
        self.kept = status.kept
        self.detections = self._stopwatch.found
        return self._stopwatch.taken

    def _opened(
        self,
        source: str,
        name: str,
        *,
        start: datetime | None,
        time_scale: float,
        settings: CameraSettings | None = None,
    ) -> camera.Source:
        self._stopwatch.opened()
        return camera.open_source(source, name, start=start, time_scale=time_scale, settings=settings)


class PlainLoop(Contender):
    """What a short script with OpenCV and ONNX Runtime does. It neither samples nor stores anything."""

    name = "plain OpenCV + ONNX Runtime loop"

    def __init__(self, bare: BareSession, video: Path, frames: int, *, is_yolox: bool) -> None:
        super().__init__(frames)
        self._detect, self._video = PlainDetect(bare.session, is_yolox=is_yolox), video

    def process(self) -> None:
        capture = cv2.VideoCapture(str(self._video))
        self.detections = sum(self._detect(capture.read()[1]) for _ in range(self.frames))
        capture.release()


class UltralyticsPredict(Contender):
    """`YOLO("x.onnx").predict` over the video, its session and torch held to the same threads."""

    name = 'YOLO("x.onnx").predict'

    def __init__(self, model: Path, video: Path, threads: int, frames: int, side: int) -> None:
        super().__init__(frames)
        import onnxruntime as ort
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(threads)
        self._video = video
        self._yolo = YOLO(str(model), task="detect")
        self._settings = {"imgsz": side, "conf": FLOOR, "iou": NMS_IOU, "verbose": False, "device": "cpu"}
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
