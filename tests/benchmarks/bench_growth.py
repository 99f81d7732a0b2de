"""How the collector's speed grows, or does not, with strategies, detections and cameras.

    python -m tests.benchmarks.bench_growth [--frames 360] [--rounds 5]

The real collector with the small model, as in `bench_edge`. One thing is varied at a time; each of its values runs in
pairs with the first one, and the figure is the median of the ratios. The length of the outbox is varied in
`bench_bucket_outbox`.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import Detector, Prepared, open_detector
from tasks.core.entities import Detections
from tasks.core.settings import SamplingSettings
from tests.benchmarks.bench_sampler import CLASS_NAMES, settings_of
from tests.benchmarks.edge_contenders import KEPT_SHARE, Collector, Stopwatch
from tests.benchmarks.edge_models import SMALL_INPUT, export_small_model, prepare_ultralytics, render_video
from tests.benchmarks.machine import cores
from tests.benchmarks.pairs import Pairs, Timed, measure_pairs
from tests.benchmarks.plain_detect import FLOOR, NMS_IOU
from tests.benchmarks.tables import Table
from tests.real.shared_data import VIDEO

VARIED = {"strategies": (1, 5, 10, 20), "detections": (0, 30, 100, 300), "cameras": (1, 2, 4, 8)}
SINGLE = {("cameras", 1): "camera"}
FOLDER = Path(".benchmarks")  # on the disk of the project, so that a sync is one
COLUMNS = 30  # of boxes in the model's input
BAND = 0.5  # share of its height where boxes lie; above and below a wide picture is only padding


@dataclass(frozen=True)
class Load:
    """What a collector has to do beside the model. detections: a frame."""

    strategies: int = 5
    detections: int = 30
    cameras: int = 1


@dataclass(frozen=True)
class Options:
    """frames: of all cameras together, a collector and round. The first tenth is a warm-up."""

    frames: int = 360
    rounds: int = 5
    threads: int = 1


def tables(options: Options = Options()) -> Iterator[Table]:
    """One table for each thing that is varied."""
    cv2.setNumThreads(options.threads)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        here = Path(name).absolute()
        video = long_enough(options.frames, here)
        prepare_ultralytics(here)
        detector = open_detector(
            export_small_model(here),
            project_classes=None,
            threads=options.threads,
            confidence_floor=FLOOR,
            nms_iou=NMS_IOU,
        )
        for what, values in VARIED.items():
            yield table(what, values, detector, video, here, options)


def long_enough(frames: int, folder: Path) -> Path:
    """The road camera, where it is there and has so many frames; else a rendered video."""
    if VIDEO.exists():
        capture = cv2.VideoCapture(str(VIDEO))
        has_enough = capture.get(cv2.CAP_PROP_FRAME_COUNT) >= frames
        capture.release()
        if has_enough:
            return VIDEO
    return render_video(folder / "rendered.mp4", frames)


def table(what: str, values: Sequence[int], detector: Detector, video: Path, folder: Path, options: Options) -> Table:
    collectors = {
        value: Growing(replace(Load(), **{what: value}), detector, video, folder, options) for value in values
    }
    first = collectors[values[0]]
    pairs = {value: measure_pairs(first, collectors[value], options.rounds) for value in values[1:]}
    base, counted = Load(), options.frames - warm_up(options.frames)
    rest = ", ".join(f"{count} {SINGLE.get((name, count), name)}" for name, count in vars(base).items() if name != what)
    return Table(
        f"Growth: frames/s by {what}",
        (what, "frames/s", "of the first", "quartiles", "CPU ms/frame", "kept"),
        list(rows(values, pairs, {value: one.kept for value, one in collectors.items()}, counted)),
        [
            f"Beside that: {rest}; {options.threads} thread(s), {options.frames} frames of "
            f"{video.name} in all, {cores()} cores. {SAID[what]}"
        ],
    )


SAID = {
    "strategies": f"Each keeps a share of what it matches, all together at most {KEPT_SHARE:.0%} of the frames.",
    "detections": "The model runs as ever; then its output is overwritten with so many boxes above the confidence "
    "floor that do not overlap, which are decoded, go through NMS, all remain, and are sampled.",
    "cameras": "All cameras show the same video, and the frames are divided among them; each is decoded on its own.",
}


def rows(
    values: Sequence[int], pairs: dict[int, Pairs], kept: dict[int, int], frames: int
) -> Iterator[tuple[str, ...]]:
    """frames: that were timed. The first value's speed is that in its pairs with the second one."""
    start = pairs[values[1]]
    yield (str(values[0]), *_speed(start, "first", frames, "1.000", ""), str(kept[values[0]]))
    for value in values[1:]:
        both = pairs[value]
        ratio, spread = f"{both.speed_ratio:.3f}", "{:.2f} to {:.2f}".format(*both.spread)
        yield (str(value), *_speed(both, "second", frames, ratio, spread), str(kept[value]))


def _speed(pairs: Pairs, side: str, frames: int, ratio: str, spread: str) -> tuple[str, ...]:
    return f"{frames / pairs.seconds(side):.1f}", ratio, spread, f"{pairs.cpu(side) / frames * 1000:.2f}"


def warm_up(frames: int) -> int:
    """Frames that are not timed: the opening of eight videos is not what grows with the frames."""
    return max(1, frames // 10)


class Growing(Collector):
    """A collector with a given load, which sees just so many detections in every frame."""

    def __init__(self, load: Load, detector: Detector, video: Path, folder: Path, options: Options) -> None:
        stopwatch = SeesBoxes(detector, load.detections, warm_up(options.frames))
        sampling = sampling_of(load.strategies)
        super().__init__(
            stopwatch, video, folder, options.threads, options.frames, sampling=sampling, cameras=load.cameras
        )
        self._expected = load.detections * options.frames

    def __call__(self) -> Timed:
        taken = super().__call__()
        if self.detections != self._expected:
            raise RuntimeError(f"{self.detections} detections in {self.frames} frames instead of {self._expected}")
        return taken


class SeesBoxes(Stopwatch):
    """The model runs; then its output for the frame is overwritten, and decoded, NMS included, by the detector."""

    def __init__(self, detector: Detector, boxes: int, warm_up: int) -> None:
        super().__init__(detector, warm_up)
        self._output = output_with(boxes)

    def detect_prepared(self, prepared: Prepared) -> Detections:
        np.copyto(self._detector.run(prepared)[0, :, : self._output.shape[1]], self._output)
        return super().detect_prepared(prepared)


def output_with(boxes: int, side: int = SMALL_INPUT, classes: int = len(CLASS_NAMES)) -> NDArray[np.float32]:
    """(4 + classes, locations) of an ultralytics model: so many candidates above the floor, none overlaps another.

    They lie in the middle of the input, in 30 columns and as many rows as it takes, at most 300 of them.
    """
    output = np.zeros((4 + classes, sum((side // stride) ** 2 for stride in (8, 16, 32))), np.float32)
    number = np.arange(boxes)
    width, height = side / COLUMNS, side * BAND / 10
    output[0, :boxes] = (number % COLUMNS + 0.5) * width
    output[1, :boxes] = side * (1 - BAND) / 2 + (number // COLUMNS + 0.5) * height
    output[2, :boxes], output[3, :boxes] = width * 0.8, height * 0.8
    output[4 + number % classes, number] = np.linspace(2 * FLOOR, 0.95, boxes)
    return output


def sampling_of(strategies: int) -> SamplingSettings:
    """The strategies of the sampler's benchmark, with what they keep divided among them."""
    settings = settings_of(strategies)
    share = KEPT_SHARE / strategies
    chosen = tuple(
        strategy.model_copy(
            update={"traffic_percentage" if strategy.type == "random" else "probability": share},
        )
        for strategy in settings.sampling_strategies
    )
    return settings.model_copy(update={"sampling_strategies": chosen, "confidence_floor": FLOOR})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=Options.frames, help="of all cameras, a collector and round")
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--threads", type=int, default=Options.threads, help="of ONNX Runtime and OpenCV")
    for one in tables(Options(**vars(parser.parse_args()))):
        print(one, flush=True)


if __name__ == "__main__":
    main()
