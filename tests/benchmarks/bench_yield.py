"""Do our rules collect more of what the model misses than simpler ones, and is what we forecast true?

    python -m tests.benchmarks.bench_yield [--orders 200] [--write] [--data FOLDER --model FILE]

Each set of labelled images is put into many random stream orders. In each, rules are fitted to what comes first and
judged by what comes later (bench_yield_orders.py). No constant of the product or of this bench was fitted to a set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.entities import Alternative, Detections, Suggestion
from tests.benchmarks import bench_yield_tables as told
from tests.benchmarks import machine, results
from tests.benchmarks.bench_yield_contenders import RULES, Known, Part, known_of, part_of, suggestion_of
from tests.benchmarks.bench_yield_days import Day, Kept, days, device_view, even_hours, replay
from tests.benchmarks.bench_yield_figures import BASE_RATE, Figures, ForecastRecord, Sums
from tests.benchmarks.bench_yield_orders import Order, orders
from tests.benchmarks.bench_yield_sets import LabelledSet, photographs, yards
from tests.benchmarks.tables import Table
from tests.real.shared_data import VEHICLES, YOLOX_NANO

ORDERS = 200
SHARES = (0.05, 0.1, 0.2)
DAY_ORDERS = 40  # of which three days each are played on a device, at every budget
DAY_FRAMES = 1500
REPLICATES = 1000
RESULTS = Path(__file__).with_name("RESULTS.md")


@dataclass
class Run:
    """Everything that the orders of a set came to. Keys of sums: budget, rule; of forecasts: budget, way, figure."""

    labelled: LabelledSet
    sums: dict[float, dict[str, Sums]]
    forecasts: dict[tuple[float, str, str], ForecastRecord] = field(default_factory=dict)
    days: dict[float, list[Day]] = field(default_factory=dict)
    test_recall: list[tuple[float, float]] = field(default_factory=list)  # of the test part, and of the stream

    def figures(self, share: float, replicates: int = REPLICATES) -> Figures:
        return Figures(self.labelled, self.sums[share], replicates=replicates)


def play(labelled: LabelledSet, count: int, *, day_orders: int, day_frames: int) -> Run:
    """Every order of a set: all rules at all budgets, our forecasts, and for the first orders a device's days."""
    run = Run(labelled, {share: {name: Sums.of(labelled) for name in RULES} for share in SHARES})
    view = device_view(labelled)
    for number, order in enumerate(orders(labelled, count)):
        known, stream = prepared(labelled, order)
        run.test_recall.append(recalls(known, part_of(labelled, order.test), stream))
        for turn, share in enumerate(SHARES):
            for name, rule in RULES.items():
                run.sums[share][name].add(known, stream, rule(known, share), share)
            suggestion = suggestion_of(known, share, images=stream.images, replicates=REPLICATES, seed=number)
            check_forecasts(run, share, suggestion, known, stream, view, seed=number)
            if number < day_orders:
                settings = suggestion_of(known, share, images=day_frames, replicates=2).settings
                played = days(settings, known, stream, view, frames=day_frames, seed=number * len(SHARES) + turn)
                run.days.setdefault(share, []).extend(played)
    return run


def prepared(labelled: LabelledSet, order: Order) -> tuple[Known, Part]:
    """What is known before the stream begins, and the stream."""
    calibration, traffic = part_of(labelled, order.calibration), part_of(labelled, order.traffic)
    return known_of(labelled, calibration, traffic), part_of(labelled, order.verification)


def recalls(known: Known, test: Part, stream: Part) -> tuple[float, float]:
    """Pooled, of the test part and of the stream: what an honest evaluation would say, and what is true."""
    of_test, of_stream = (1 - known.misses(part).sum() / max(1, part.boxes.sum()) for part in (test, stream))
    return float(of_test), float(of_stream)


# --- forecasts -------------------------------------------------------------------------------------------------------


def check_forecasts(
    run: Run,
    share: float,
    suggestion: Suggestion,
    known: Known,
    stream: Part,
    view: list[Detections],
    *,
    seed: int,
) -> None:
    """Play the stream as one day of a device, once for each way to choose, and compare with what was forecast."""
    frames = [view[row] for row in stream.rows]
    ways: list[Suggestion | Alternative] = [suggestion, *suggestion.alternatives]
    for way in ways:
        done = replay(way.settings, frames, even_hours(stream.images), seed=seed)
        truth = came_true(done, known, stream)
        forecasts = {figure: getattr(way.forecast, figure) for figure in truth}
        if "share_with_miss" in truth:  # what somebody says who takes the chosen images to be like random ones
            forecasts[BASE_RATE] = way.forecast.share_with_miss_random
            truth[BASE_RATE] = truth["share_with_miss"]
        for figure, forecast in forecasts.items():
            run.forecasts.setdefault((share, way.strategy, figure), ForecastRecord()).add(forecast, truth[figure])


def came_true(done: Kept, known: Known, stream: Part) -> dict[str, float]:
    """The figures of a day; those of chosen images only where any was chosen."""
    misses, boxes, chosen = known.misses(stream), stream.boxes, done.chosen
    truth = {"images_a_day": float(done.kept.sum())}
    if chosen.any():
        truth["share_with_miss"] = float((misses[chosen] > 0).mean())
        truth["misses_an_image"] = float(misses[chosen].mean())
    if boxes[chosen].any():
        truth["misses_a_box"] = float(misses[chosen].sum() / boxes[chosen].sum())
    return truth


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(count: int = ORDERS, sets: Iterable[LabelledSet] | None = None) -> Iterator[Table]:
    for labelled in sets or known_sets():
        run = play(labelled, count, day_orders=DAY_ORDERS, day_frames=DAY_FRAMES)
        figures = {share: run.figures(share) for share in SHARES}
        yield told.yield_table(labelled, count, figures)
        yield told.nulls_table(labelled, figures)
        yield told.forecast_table(labelled, run.forecasts)
        yield told.days_table(labelled, run.days, run.test_recall)


def known_sets() -> Iterator[LabelledSet]:
    """The photographs with all classes and with those that the model knows, where they are there; the yards."""
    if VEHICLES.exists() and YOLOX_NANO.exists():
        for known_classes_only in (False, True):
            yield photographs(VEHICLES, YOLOX_NANO, model_classes="coco80", known_classes_only=known_classes_only)
    yield yards()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--data", type=Path, help="labelled images of your own, in a layout that the importer reads")
    parser.add_argument("--model", type=Path, help="an ONNX detector for them")
    parser.add_argument("--model-classes", help="class list of a model that names none: coco80")
    parser.add_argument("--write", action="store_true", help=f"update {RESULTS.name}")
    given = parser.parse_args()
    if (given.data is None) != (given.model is None):
        parser.error("--data and --model go together")
    own = (photographs(given.data, given.model, model_classes=given.model_classes),) if given.data else None
    printed = []
    for table in tables(given.orders, own):
        print(table, flush=True)
        printed.append(table)
    if given.write:
        results.write(RESULTS, "yield", f"{machine.describe()}. No figure depends on the machine's speed.", printed)


if __name__ == "__main__":
    main()
