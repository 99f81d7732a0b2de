"""Roboflow's `InferencePipeline` over a video, again and again: run by the Python of the peer's own environment.

    .benchmarks/inference/bin/python -m tests.benchmarks.peer_process model.onnx clip.mp4 1 200 yolox

Arguments: model, video, threads, frames, and the model's format. It says in a JSON line which versions it has; then,
for every line that it is sent, it runs the pipeline once and answers with a JSON line: wall and CPU seconds from the
pipeline's start to the last frame's detections, and how many these were.
"""

import json
import os
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import cv2

from tests.benchmarks.plain_detect import PlainDetect, open_session

PACKAGES = ("inference", "onnxruntime", "opencv-python", "numpy")


class Peer:
    """The pipeline with the same function inside as the plain loop, in the first frames of a video."""

    def __init__(self, model: Path, video: Path, threads: int, frames: int, *, is_yolox: bool) -> None:
        from inference import InferencePipeline

        cv2.setNumThreads(threads)
        self._pipeline_class = InferencePipeline
        self._detect = PlainDetect(open_session(model, threads), is_yolox=is_yolox)
        self._video, self._frames = video, frames

    def __call__(self) -> dict[str, float]:
        self._detections, self._seen, self._done = 0, [], threading.Event()
        pipeline = self._pipeline_class.init_with_custom_logic(
            video_reference=str(self._video),
            on_video_frame=self._on_frames,
            on_prediction=lambda prediction, frame: None,
        )
        began = time.perf_counter(), time.process_time()
        pipeline.start(use_main_thread=False)
        ended = self._done.wait(600)
        pipeline.terminate()
        pipeline.join()
        if not ended or self._seen != list(range(1, self._frames + 1)):
            raise RuntimeError(f"the pipeline handed over {len(self._seen)} of {self._frames} frames")
        wall, cpu = (end - start for start, end in zip(began, self._ended))
        return {"wall": wall, "cpu": cpu, "detections": self._detections}

    def _on_frames(self, frames: list) -> list[dict[str, int]]:
        """Custom logic: frames of all videos, here one of one; what comes after the last is left out."""
        predictions = []
        for frame in frames:
            found = 0
            if not self._done.is_set():
                found = self._detect(frame.image)
                self._detections += found
                self._seen.append(frame.frame_id)
            if len(self._seen) == self._frames and not self._done.is_set():
                self._ended = time.perf_counter(), time.process_time()
                self._done.set()
            predictions.append({"detections": found})
        return predictions


def main(model: str, video: str, threads: str, frames: str, format_: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    peer = Peer(Path(model), Path(video), int(threads), int(frames), is_yolox=format_ == "yolox")
    print(json.dumps({name: version(name) for name in PACKAGES}), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(peer()), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
