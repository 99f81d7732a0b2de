"""How fast the collector is, end to end, against the bare session, a plain OpenCV loop, `YOLO.predict` and, where it is
asked for, Roboflow's `InferencePipeline`; and what the collector takes of the machine.

    python -m tests.benchmarks.bench_edge [--model model.onnx] [--video clip.mp4] [--threads 1] [--peer-inference]

Every contender processes the same frames with the same number of threads, each round beside the bare session; a figure
is the median over the rounds of the ratio within a round, so that a busy machine slows both of its sides.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from tasks.adapters.camera import open_source
from tasks.adapters.detector import Detector, open_detector
from tasks.adapters.outbox import Outbox
from tasks.collector.keeping import Kept, make_sample, observation_of
from tasks.core.sampling import Sampler
from tests.benchmarks.edge_contenders import (
    KEPT_SHARE,
    SAMPLING,
    BareSession,
    Collector,
    Contender,
    PlainLoop,
    Stopwatch,
    UltralyticsPredict,
)
from tests.benchmarks.edge_footprint import footprint_table
from tests.benchmarks.edge_models import (
    LARGE_INPUT,
    SMALL_INPUT,
    export_large_model,
    export_small_model,
    prepare_ultralytics,
    render_video,
)
from tests.benchmarks.edge_peer import HOW_TO_GET_IT, InferencePipelinePeer, PeerMissing, environment
from tests.benchmarks.machine import cores
from tests.benchmarks.pairs import Pairs, measure_pairs
from tests.benchmarks.plain_detect import FLOOR, NMS_IOU
from tests.benchmarks.tables import Table
from tests.real.shared_data import VIDEO, YOLOX_NANO

OVER_PREDICT = 1.25
OVER_PIPELINE, OVER_PIPELINE_SMALL = 1.0, 1.15
LARGE_FRAMES, LARGE_ROUNDS = 60, 5  # of a model for 640 pixels or more, at most
FOLDER = Path(".benchmarks")  # on the disk of the project, so that a sync is one


@dataclass(frozen=True)
class Options:
    """classes: names of a model's classes where its file has none. frames: a contender and round; 0: the whole video.

    peer_inference: install and measure Roboflow's `InferencePipeline`, too.
    """

    model: Path | None = None
    classes: str = "coco80"
    video: Path | None = None
    threads: int = 1
    frames: int = 0
    rounds: int = 9
    peer_inference: bool = False

    def for_input(self, side: int) -> "Options":
        """Fewer frames and rounds for a large model, which would take an hour; its ratios vary less, too."""
        if side < LARGE_INPUT:
            return self
        return replace(self, frames=min(self.frames, LARGE_FRAMES), rounds=min(self.rounds, LARGE_ROUNDS))


@dataclass
class Peer:
    """Roboflow's pipeline: the Python of its environment, or why there is none. told: what is said below a table."""

    python: Path | None
    told: list[str] = field(default_factory=list)


def tables(options: Options = Options()) -> Iterator[Table]:
    """One table a model, and where its time goes; then what a collector takes of the machine."""
    cv2.setNumThreads(options.threads)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        here = Path(name).absolute()
        video = options.video or (VIDEO if VIDEO.exists() else render_video(here / "rendered.mp4"))
        options = replace(options, frames=min(options.frames or frames_of(video), frames_of(video)))
        peer = peer_of(options)
        if options.model is None and not YOLOX_NANO.exists():
            yield Table("Edge: YOLOX-nano", (), (), [f"Left out: {YOLOX_NANO.name} is not there."])
        for model in models(options, here):
            yield from tables_of(model, video, here, options, peer)
        yield footprint_table(options.model or YOLOX_NANO, options.classes, video, options.threads)


def models(options: Options, folder: Path) -> Iterator[Path]:
    """The model that was named; else YOLOX-nano, where it is there, and a small and a large one, exported now."""
    if options.model is not None:
        yield options.model
        return
    if YOLOX_NANO.exists():
        yield YOLOX_NANO
    prepare_ultralytics(folder)
    yield export_small_model(folder)
    yield export_large_model(folder)


def frames_of(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return frames


def peer_of(options: Options) -> Peer:
    if not options.peer_inference:
        return Peer(None, [f"{InferencePipelinePeer.name} was not asked for: {HOW_TO_GET_IT}."])
    try:
        return Peer(environment(FOLDER))
    except PeerMissing as error:
        return Peer(None, [f"{InferencePipelinePeer.name} could not be installed: {error}."])


def tables_of(model: Path, video: Path, folder: Path, options: Options, peer: Peer) -> Iterator[Table]:
    detector = open_detector(
        model,
        project_classes=None,
        model_classes=options.classes,
        threads=options.threads,
        confidence_floor=FLOOR,
        nms_iou=NMS_IOU,
    )
    height, width = detector.image_size
    options = options.for_input(max(height, width))
    what = f"{model.stem}, {height} x {width} px, {options.threads} thread(s), {options.frames} frames of {video.name}"
    with ExitStack() as processes:
        contenders, told = contenders_of(detector, model, video, folder, options, peer, processes)
        pairs = measure(contenders, options.rounds, told)
    yield speed_table(f"Edge: {what}", targets_of(detector), pairs, contenders, options.frames, told)
    steps = where_time_goes(detector, video, folder, options.frames)
    yield steps_table(f"Edge, where the time goes: {model.stem}", steps, 1 / fastest(pairs, options.frames))


def targets_of(detector: Detector) -> dict[str, float]:
    """How many times the speed of each other side the collector is to have; none for a side that none was set for."""
    is_small = detector.image_size == (SMALL_INPUT, SMALL_INPUT)
    targets = {
        PlainLoop.name: 1.0,
        UltralyticsPredict.name: OVER_PREDICT,
        InferencePipelinePeer.name: OVER_PIPELINE_SMALL if is_small else OVER_PIPELINE,
    }
    if detector.format == "yolox":
        targets[BareSession.name] = 0.95
    elif is_small:
        targets[BareSession.name] = 0.90
    return targets


# --- speed -----------------------------------------------------------------------------------------------------------


def contenders_of(
    detector: Detector, model: Path, video: Path, folder: Path, options: Options, peer: Peer, processes: ExitStack
) -> tuple[dict[str, Contender], list[str]]:
    """The sides by name, the bare session and the collector first, and what is said of a side that is missing.

    processes: ends those that were started.
    """
    frames, threads = options.frames, options.threads
    bare = BareSession(model, threads, frames)
    collector = Collector(Stopwatch(detector), video, folder, threads, frames)
    contenders: list[Contender] = [bare, collector, PlainLoop(bare, video, frames, is_yolox=detector.format == "yolox")]
    if detector.format == "ultralytics":
        prepare_ultralytics(folder)
        contenders.append(UltralyticsPredict(model, video, threads, frames, max(detector.image_size)))
    told = list(peer.told)
    if peer.python is not None:
        try:
            pipeline = InferencePipelinePeer(peer.python, model, video, threads, frames, detector.format)
        except PeerMissing as error:
            told.append(f"{InferencePipelinePeer.name} could not be started: {error}.")
        else:
            processes.callback(pipeline.close)
            contenders.append(pipeline)
            told.append(f"{pipeline.name} ran with {pipeline.described}; it decodes up to 64 frames ahead.")
    return {one.name: one for one in contenders}, told


def measure(contenders: dict[str, Contender], rounds: int, told: list[str]) -> dict[str, Pairs]:
    """Each contender in pairs with the bare session, and the collector in pairs with each of the others.

    One that fails on the way is left out, and `told` says why.
    """
    bare, collector, *others = contenders.values()
    pairs = {collector.name: measure_pairs(bare, collector, rounds)}
    for other in others:
        try:
            measured = {
                other.name: measure_pairs(bare, other, rounds),
                f"against {other.name}": measure_pairs(other, collector, max(3, rounds // 2)),
            }
        except PeerMissing as error:
            told.append(f"{other.name} could not be measured: {error}.")
        else:
            pairs.update(measured)
    return pairs


def speed_table(
    title: str,
    targets: dict[str, float],
    pairs: dict[str, Pairs],
    contenders: dict[str, Contender],
    frames: int,
    told: list[str],
) -> Table:
    """A row a contender; one of dashes for Roboflow's pipeline where it was not measured."""
    first = pairs[Collector.name]
    rows = [(BareSession.name, f"{frames / first.seconds('first'):.1f}", "1.000", "", _cpu(first, "first", frames), "")]
    for name, contender in contenders.items():
        if name in pairs:
            both = pairs[name]
            rate, spread = frames / both.seconds(), "{:.2f} to {:.2f}".format(*both.spread)
            found = str(contender.detections)
            rows.append((name, f"{rate:.1f}", f"{both.speed_ratio:.3f}", spread, _cpu(both, "second", frames), found))
    if InferencePipelinePeer.name not in pairs:
        rows.append((InferencePipelinePeer.name, *("-",) * 5))
    notes = [_against_target(BareSession.name, first.speed_ratio, targets)]
    notes += [
        _against_target(name, pairs[f"against {name}"].speed_ratio, targets)
        for name in contenders
        if f"against {name}" in pairs
    ]
    columns = ("", "frames/s", "of bare", "quartiles", "CPU ms/frame", "detections")
    return Table(title, columns, rows, [*notes, *told])


def _cpu(pairs: Pairs, side: str, frames: int) -> str:
    return f"{pairs.cpu(side) / frames * 1000:.2f}"


def _against_target(other: str, ratio: float, targets: dict[str, float]) -> str:
    said = f"The collector ran at {ratio:.3f} times the speed of {other}, side by side"
    if other not in targets:
        return f"{said}."
    return f"{said}; target {targets[other]:.2f}, {'reached' if ratio >= targets[other] else 'missed'}."


def fastest(pairs: dict[str, Pairs], frames: int) -> float:
    """Median seconds a frame of the collector, in all of its pairs with the bare session."""
    return frames / pairs[Collector.name].seconds()


# --- where the time goes ----------------------------------------------------------------------------------------------


def where_time_goes(detector: Detector, video: Path, folder: Path, frames: int) -> dict[str, float]:
    """Median CPU seconds of every step of a frame, done one after the other; of the last one, of a kept frame."""
    sampler, outbox = Sampler(SAMPLING, "bench"), Outbox(folder / "steps", 10**9)
    names = ("decode", "letterbox", "session", "NMS", "sampling", "encode + outbox")
    taken: dict[str, list[float]] = {name: [] for name in names}
    source = iter(open_source(str(video), "road"))
    while len(taken["decode"]) < frames:
        times = [time.process_time()]
        frame = next(source, None)
        if frame is None:
            break
        times.append(time.process_time())
        prepared = detector.prepare(frame.pixels)
        times.append(time.process_time())
        detector.run(prepared)
        times.append(time.process_time())
        detections = detector.detect_prepared(prepared)
        times.append(time.process_time())
        decision = sampler.decide(observation_of(frame, detections, "bench", SAMPLING, is_stub=False))
        times.append(time.process_time())
        if frame.index % 5 == 0:  # every fifth is stored, for a sure figure; kept or not, it costs the same
            kept = Kept(frame, detections, decision, SAMPLING, "bench", detector.model_version, clock_suspect=False)
            sample, jpeg = make_sample(kept, "bench")
            outbox.put(sample, jpeg)
            times.append(time.process_time())
        for name, seconds in zip(names, np.diff(times)):
            taken[name].append(float(seconds))
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def steps_table(title: str, steps: dict[str, float], seconds_a_frame: float) -> Table:
    """seconds_a_frame: what the collector took."""
    share = {name: KEPT_SHARE if name == "encode + outbox" else 1.0 for name in steps}
    rows = [(name, f"{seconds * 1000:.3f}", f"{seconds * share[name] * 1000:.3f}") for name, seconds in steps.items()]
    rows.append(("together", "", f"{sum(seconds * share[name] for name, seconds in steps.items()) * 1000:.3f}"))
    limit = cores() / (steps["decode"] + steps["letterbox"] + steps["session"])
    reached = 1 / seconds_a_frame
    notes = [
        f"The CPU's own limit, {cores()} cores / (decode + letterbox + session), is {limit:.1f} frames/s; the "
        f"collector reached {reached:.1f}, {reached / limit:.0%} of it."
    ]
    return Table(title, ("step", "CPU ms", f"CPU ms a frame, {KEPT_SHARE:.0%} kept"), rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="ONNX file; default: YOLOX-nano, where it is there, and two exports")
    parser.add_argument("--classes", default="coco80", help="class names of a model without metadata")
    parser.add_argument("--video", type=Path, help="default: the road camera, where it is there, or a rendered one")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime and OpenCV")
    parser.add_argument("--frames", type=int, default=0, help="a contender and round; default: those of the video")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer-inference", action="store_true", help="Roboflow's pipeline, too; installed, several GB")
    given = vars(parser.parse_args())
    for table in tables(Options(**given)):
        print(table, flush=True)


if __name__ == "__main__":
    main()
