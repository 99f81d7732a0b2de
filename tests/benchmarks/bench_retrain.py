"""Which way of choosing makes the better model for equal labels? Live models are retrained, and judged by AP50.

    python -m tests.benchmarks.bench_retrain [--seeds 8] [--minutes 60] [--workers 2] [--device cpu] [--write]

A seed: a world is cut into start, calibration, pool and test; a live model learns the start; every way of choosing
orders the pool by what that model sees; the model goes on from its weights with start and what was chosen, for equal
steps; the test part judges. Every finished training is a line in a file, so that the same command goes on where it was
stopped, and more seeds or another device add to what there is.

The ways, their variants and the rule by which one wins were written down before the first training was looked at.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.bootstrap import Bootstrap, cluster_bootstrap
from tasks.core.gate.figures import Edition, ModelOutcome, ap50, compare
from tasks.core.matching import ImageResult, Integers, match
from tests.benchmarks import bench_retrain_training as training
from tests.benchmarks import bench_retrain_ways as ways
from tests.benchmarks import machine, results
from tests.benchmarks.bench_retrain_figures import BOTH, BOXES, IMAGES, Outcome
from tests.benchmarks.bench_retrain_tables import tables_of
from tests.benchmarks.bench_retrain_training import Recipe
from tests.benchmarks.bench_retrain_ways import Pool
from tests.benchmarks.bench_retrain_worlds import VEHICLE_WEIGHTS, YARD_WEIGHTS, Sizes, World, vehicles, yard
from tests.benchmarks.bench_yield_contenders import Known, known_of, part_of
from tests.benchmarks.bench_yield_sets import LabelledSet
from tests.benchmarks.tables import Table
from tests.real.shared_data import VEHICLES

FOLDER = Path(".benchmarks") / "retrain"
RESULTS = Path(__file__).with_name("RESULTS.md")
SEEDS = 8
SEEDS_AT_ONCE = 4
PHOTOGRAPHS, YARD = "photographs", "yard"
REPLICATES = 400  # of the test images, kept with every training


@dataclass(frozen=True)
class Options:
    """What every training of a run has in common. wanted: images to label, by world."""

    wanted: int = 60
    sizes: tuple[tuple[str, Sizes], ...] = (
        (PHOTOGRAPHS, Sizes(start=100, calibration=100, pool=400, test=150)),
        (YARD, Sizes(start=40, calibration=100, pool=400, test=160)),
    )
    recipes: tuple[tuple[str, Recipe], ...] = (
        (PHOTOGRAPHS, Recipe(VEHICLE_WEIGHTS, side=192, freeze=10, steps_live=250, steps=64)),
        (YARD, Recipe(YARD_WEIGHTS, side=256, freeze=0, steps_live=40, steps=50)),
    )
    device: str = "cpu"
    replicates: int = REPLICATES

    def stretched(self, factor: float) -> Options:
        """Trainings with `factor` times the steps, for a machine that has the time."""
        longer = tuple(
            (name, replace(r, steps=round(r.steps * factor), steps_live=round(r.steps_live * factor)))
            for name, r in self.recipes
        )
        return replace(self, recipes=longer)

    @property
    def fingerprint(self) -> str:
        """Of what makes trainings comparable; a device is not."""
        told = [(name, replace(recipe, weights=Path(recipe.weights.name))) for name, recipe in self.recipes]
        return blake2b(repr((self.wanted, self.sizes, told, self.replicates)).encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Part:
    """A world, a seed and some ways: what one process does at a time.

    jobs: way, and what is equal. until: no training is begun later, in seconds since 1970.
    """

    world: str
    seed: int
    options: Options
    until: float
    jobs: tuple[tuple[str, str], ...] = ()

    @property
    def file(self) -> Path:
        return FOLDER / self.options.fingerprint / f"{self.world}-{self.seed}.jsonl"


def jobs(some: Sequence[str]) -> list[tuple[str, str]]:
    """(way, equal) in the order in which they are trained: equal images first."""
    return [(way, equal) for equal in (IMAGES, BOXES) for way in some]


MAIN_JOBS = ((ways.NONE, BOTH), (ways.RANDOM, BOTH), *jobs(ways.MAIN))
FURTHER_JOBS = (*jobs(ways.VARIANTS), (ways.WHOLE, BOTH))


def play(part: Part) -> int:
    """All trainings of a part that are not done; how many there were. In a process of its own, on one thread."""
    done = {(outcome.way, outcome.equal) for outcome in read(part.file)}
    todo = [job for job in part.jobs if job not in done]
    if not todo or time.time() > part.until:
        return 0
    import torch  # not above: a part that is done needs none

    torch.set_num_threads(1)
    lab, trained = Laboratory(part), 0
    for way, equal in todo:
        if time.time() > part.until:
            break
        outcome = lab.outcome(way, equal)
        part.file.parent.mkdir(parents=True, exist_ok=True)
        with part.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        said = f"{outcome.images} images, {outcome.boxes} boxes, AP50 {outcome.ap50:.3f}, {outcome.seconds:.0f} s"
        print(f"{part.world} {part.seed}: {way}, equal {equal}: {said}", flush=True)
        trained += 1
    return trained


def read(file: Path) -> list[Outcome]:
    """Finished trainings; a line that a stop cut short is left out."""
    if not file.exists():
        return []
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    known = {field.name for field in fields(Outcome)}
    return [Outcome(**{name: value for name, value in row.items() if name in known}) for row in rows]


class Laboratory:
    """One world of one seed with its live model: trains and judges whatever way is asked for."""

    def __init__(self, part: Part) -> None:
        self.part, self.device = part, part.options.device
        self.recipe, sizes = dict(part.options.recipes)[part.world], dict(part.options.sizes)[part.world]
        self.world: World = (vehicles if part.world == PHOTOGRAPHS else yard)(part.seed, self.recipe.side, sizes)
        self.edition = Edition(tuple(self.world.clusters[row] for row in self.world.test), self.world.class_names)
        self.bootstrap: Bootstrap = cluster_bootstrap(
            self.edition.clusters, replicates=part.options.replicates, seed=part.seed
        )

    @cached_property
    def live(self) -> Any:
        """The live model: trained on the start; kept in a file beside the trainings."""
        import torch

        model = training.first_model(self.recipe, self.world.class_names)
        file = self.part.file.with_suffix(".pt")
        if file.exists():
            model.load_state_dict(torch.load(file, weights_only=True))
            return model
        model = self.trained(model, self.world.start, self.recipe.steps_live)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.tmp")
        torch.save(model.state_dict(), partial)
        partial.replace(file)
        return model

    def trained(self, model: Any, rows: Integers, steps: int) -> Any:
        return training.train(
            model,
            self.world.pixels,
            self.world.truths,
            rows,
            self.recipe,
            steps=steps,
            seed=self.part.seed,
            device=self.device,
        )

    def results(self, model: Any, rows: Integers) -> list[ImageResult]:
        seen = training.look(model, self.world.pixels[rows], self.world.class_names, self.device)
        return [ImageResult(found, self.world.truths[row]) for found, row in zip(seen, rows)]

    def known(self, model: Any, rows: Integers) -> tuple[Known, LabelledSet]:
        """What a model's detections in the calibration images say; the set holds these, and then `rows`."""
        both = np.concatenate([self.world.calibration, rows])
        clusters = [self.world.clusters[row] for row in both]
        seen = self.results(model, both)
        labelled = LabelledSet(self.world.name, "trained", self.world.class_names, seen, clusters, [""] * len(both))
        first = part_of(labelled, np.arange(len(self.world.calibration)))
        return known_of(labelled, first, first), labelled

    @cached_property
    def pool(self) -> Pool:
        world, options = self.world, self.part.options
        known, labelled = self.known(self.live, world.pool)
        part = part_of(labelled, np.arange(len(world.calibration), len(labelled.results)))
        embeddings = training.embed(self.live, world.pixels[world.pool], self.device)
        return Pool(known, part, embeddings, options.wanted, self.part.seed)

    def chosen(self, way: str, equal: str) -> Integers:
        """Rows of the pool that this way has labelled."""
        if way == ways.NONE:
            return np.zeros(0, np.int64)
        if way == ways.WHOLE:
            return np.arange(len(self.world.pool))
        order, wanted = ways.WAYS[way](self.pool), self.part.options.wanted
        if equal == BOXES:
            budget = int(self.world.boxes(self.world.pool[ways.at_random(self.pool)[:wanted]]).sum())
            wanted = ways.rows_for_boxes(self.world.boxes(self.world.pool[order]), budget)
        return order[:wanted]

    @cached_property
    def live_on_test(self) -> ModelOutcome:
        return self.on_test(self.live)

    def on_test(self, model: Any) -> ModelOutcome:
        """On the test part, at thresholds that the model's own detections in the calibration images call for."""
        known, labelled = self.known(model, self.world.test)
        seen = labelled.results[len(self.world.calibration) :]
        return ModelOutcome("trained", match(seen), known.evaluation.thresholds)

    def outcome(self, way: str, equal: str) -> Outcome:
        chosen, live = self.chosen(way, equal), self.live_on_test
        rows, began = self.world.pool[chosen], time.monotonic()
        model = self.trained(self.live, np.concatenate([self.world.start, rows]), self.recipe.steps)
        after = self.on_test(model)
        classes = len(self.world.class_names)
        figure, of_live = (ap50(each, self.bootstrap, classes)[0] for each in (after, live))
        compared = compare(after, live, self.bootstrap, self.edition)
        by_class, misses = self.world.boxes_by_class(rows), self.pool.known.misses(self.pool.part)[chosen]
        ambiguous = ways.is_ambiguous(self.pool.part, self.pool.known.thresholds)[chosen]
        return Outcome(
            world=self.part.world,
            seed=self.part.seed,
            way=way,
            equal=equal,
            images=len(chosen),
            boxes=int(by_class.sum()),
            by_class=by_class.tolist(),
            misses=int(misses.sum()),
            images_with_miss=int((misses > 0).sum()),
            ambiguous=int(ambiguous.sum()),
            apart=ways.nearest_distance(self.pool.embeddings[chosen]),
            ap50=figure.value,
            ap50_live=of_live.value,
            ap50_drawn=np.round(figure.drawn, 5).tolist(),
            recall=compared.recall[0],
            recall_live=compared.recall[1],
            recall_gain_drawn=np.round(compared.recall_difference.drawn, 5).tolist(),
            seconds=time.monotonic() - began,
        )


# --- all of it -------------------------------------------------------------------------------------------------------


def run(parts: Sequence[Part], workers: int) -> None:
    """Parts in their order, `workers` at a time, each in a process that computes on one thread."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(play, parts, chunksize=1):
            pass


def parts_of(options: Options, seeds: int, minutes: float) -> list[Part]:
    """Some seeds at a time, first the ways that are compared, then what else was tried, so that a run that is stopped
    is still a balanced one; the photographs only where they are there."""
    until = time.time() + 60 * minutes
    worlds = (*([PHOTOGRAPHS] if VEHICLES.exists() and VEHICLE_WEIGHTS.exists() else []), YARD)
    return [
        Part(world, seed, options, until, some)
        for first in range(0, seeds, SEEDS_AT_ONCE)
        for some in (MAIN_JOBS, FURTHER_JOBS)
        for seed in range(first, min(seeds, first + SEEDS_AT_ONCE))
        for world in worlds
    ]


def tables(
    seeds: int = SEEDS, minutes: float = float("inf"), workers: int = 2, options: Options | None = None
) -> Iterator[Table]:
    options = options or Options()
    parts = parts_of(options, seeds, minutes)
    run(parts, workers)
    files = dict.fromkeys(part.file for part in parts)
    yield from tables_of([outcome for file in files for outcome in read(file)], told(options))


def told(options: Options) -> list[str]:
    """What was trained, in sentences."""
    sizes = dict(options.sizes)
    return [
        f"{name}: {recipe.weights.name} at {recipe.side} px, {recipe.freeze} layers frozen; the live model learnt "
        f"{sizes[name].start} images in {recipe.steps_live} steps, every retraining has {recipe.steps} more, batch "
        f"{recipe.batch}, AdamW {recipe.rate:g}; {options.wanted} images are chosen, {sizes[name].test} are the test."
        for name, recipe in options.recipes
    ]


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training later than that")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, mps")
    parser.add_argument("--longer", type=float, default=1.0, help="times as many steps in every training")
    parser.add_argument("--write", action="store_true", help=f"update {RESULTS.name}")
    given = parser.parse_args(list(arguments) if arguments is not None else None)
    options = Options(device=given.device).stretched(given.longer)
    printed = []
    for table in tables(given.seeds, given.minutes, given.workers, options):
        print(table, flush=True)
        printed.append(table)
    if given.write:
        results.write(RESULTS, "retrain", f"{machine.describe()}. No figure depends on the machine's speed.", printed)


if __name__ == "__main__":
    main()
