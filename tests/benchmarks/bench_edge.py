"""How fast the collector is, end to end, against the bare session, a plain OpenCV loop and `YOLO.predict`.

    python -m tests.benchmarks.bench_edge [--model model.onnx] [--video clip.mp4] [--threads 1]

Every contender processes the same frames with the same number of threads, each round beside the bare session; a figure
is the median over the rounds of the ratio within a round, so that a busy machine slows both of its sides.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tasks.adapters.camera import open_source
from tasks.adapters.detector import Detector, open_detector
from tasks.adapters.outbox import Outbox
from tasks.collector.keeping import Kept, make_sample, observation_of
from tasks.core.sampling import Sampler
from tests.benchmarks.edge_contenders import (
    FLOOR,
    KEPT_SHARE,
    NMS_IOU,
    SAMPLING,
    BareSession,
    Collector,
    Contender,
    PlainLoop,
    UltralyticsPredict,
)
from tests.benchmarks.edge_models import SMALL_INPUT, export_small_model, prepare_ultralytics, render_video
from tests.benchmarks.machine import cores
from tests.benchmarks.pairs import Pairs, measure_pairs
from tests.benchmarks.tables import Table
from tests.real.shared_data import VIDEO, YOLOX_NANO

TARGETS = {"yolox": 0.95, "ultralytics": 0.90}  # of the bare session, by the model's format
OVER_PREDICT = 1.25


@dataclass(frozen=True)
class Options:
    """classes: names of a model's classes where its file has none. frames: a contender and round."""

    model: Path | None = None
    classes: str = "coco80"
    video: Path | None = None
    threads: int = 1
    frames: int = 200
    rounds: int = 9


def tables(options: Options = Options()) -> Iterator[Table]:
    """One table a model, and where its time goes."""
    cv2.setNumThreads(options.threads)
    folder = Path(".benchmarks")  # on the disk of the project, so that a sync is one
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name).absolute()
        video = options.video or (VIDEO if VIDEO.exists() else render_video(here / "rendered.mp4", options.frames))
        if options.model is None and not YOLOX_NANO.exists():
            yield Table("Edge: YOLOX-nano", (), (), [f"Left out: {YOLOX_NANO.name} is not there."])
        for model in models(options, here):
            yield from tables_of(model, video, here, options)


def models(options: Options, folder: Path) -> Iterator[Path]:
    """The model that was named; else YOLOX-nano, where it is there, and a small one that is exported now."""
    if options.model is not None:
        yield options.model
        return
    if YOLOX_NANO.exists():
        yield YOLOX_NANO
    prepare_ultralytics(folder)
    yield export_small_model(folder)


def tables_of(model: Path, video: Path, folder: Path, options: Options) -> Iterator[Table]:
    detector = open_detector(
        model,
        project_classes=None,
        model_classes=options.classes,
        threads=options.threads,
        confidence_floor=FLOOR,
        nms_iou=NMS_IOU,
    )
    height, width = detector.image_size
    what = f"{model.stem}, {height} x {width} px, {options.threads} thread(s), {options.frames} frames of {video.name}"
    pairs, contenders = measure(detector, model, video, folder, options)
    yield speed_table(f"Edge: {what}", detector.format, pairs, contenders, options.frames)
    steps = where_time_goes(detector, video, folder, options.frames)
    yield steps_table(f"Edge, where the time goes: {model.stem}", steps, 1 / fastest(pairs, options.frames))


# --- speed -----------------------------------------------------------------------------------------------------------


def measure(
    detector: Detector, model: Path, video: Path, folder: Path, options: Options
) -> tuple[dict[str, Pairs], dict[str, Contender]]:
    """Every contender in pairs with the bare session, and, where there is `predict`, the collector in pairs with it."""
    frames, threads = options.frames, options.threads
    bare = BareSession(model, threads, frames)
    collector = Collector(detector, video, folder, threads, frames)
    others: list[Contender] = [PlainLoop(bare, video, frames, is_yolox=detector.format == "yolox")]
    if detector.format == "ultralytics" and detector.image_size == (SMALL_INPUT, SMALL_INPUT):
        prepare_ultralytics(folder)
        others.append(UltralyticsPredict(model, video, threads, frames))
    pairs = {one.name: measure_pairs(bare, one, options.rounds) for one in (collector, *others)}
    for other in others:
        pairs[f"against {other.name}"] = measure_pairs(other, collector, max(3, options.rounds // 2))
    return pairs, {one.name: one for one in (bare, collector, *others)}


def speed_table(
    title: str, format_: str, pairs: dict[str, Pairs], contenders: dict[str, Contender], frames: int
) -> Table:
    rows = []
    for name, contender in contenders.items():
        with_bare = pairs.get(name, pairs[Collector.name])
        side = "second" if name in pairs else "first"
        ratio = with_bare.speed_ratio if name in pairs else 1.0
        spread = "{:.2f} to {:.2f}".format(*with_bare.spread) if name in pairs else ""
        rate, cpu = frames / with_bare.seconds(side), with_bare.cpu(side) / frames
        found = str(contender.detections) if name in pairs else ""
        rows.append((name, f"{rate:.1f}", f"{ratio:.3f}", spread, f"{cpu * 1000:.2f}", found))
    notes = [_against_target("the bare session", pairs[Collector.name].speed_ratio, TARGETS.get(format_, 0.0))]
    for name in contenders:
        if f"against {name}" in pairs:
            target = OVER_PREDICT if name == UltralyticsPredict.name else 1.0
            notes.append(_against_target(name, pairs[f"against {name}"].speed_ratio, target))
    columns = ("", "frames/s", "of bare", "quartiles", "CPU ms/frame", "detections")
    return Table(title, columns, rows, notes)


def _against_target(other: str, ratio: float, target: float) -> str:
    verdict = "reached" if ratio >= target else "missed"
    return f"The collector ran at {ratio:.3f} times the speed of {other}, side by side; target {target:.2f}, {verdict}."


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
    parser.add_argument("--model", type=Path, help="ONNX file; default: YOLOX-nano, where it is there, and a small one")
    parser.add_argument("--classes", default="coco80", help="class names of a model without metadata")
    parser.add_argument("--video", type=Path, help="default: the road camera, where it is there, or a rendered one")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime and OpenCV")
    parser.add_argument("--frames", type=int, default=200, help="a contender and round")
    parser.add_argument("--rounds", type=int, default=9)
    given = vars(parser.parse_args())
    for table in tables(Options(**given)):
        print(table)


if __name__ == "__main__":
    main()
