"""Every benchmark in turn: `python -m tests.benchmarks [--only NAME] [--write] [--demo] [--peer-inference]`.

--write puts the tables into RESULTS.md, each benchmark with the machine that it ran on; what was not run stays.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import machine, results
from tests.benchmarks.tables import Table

NAMES = ("edge", "growth", "sampler", "matching", "drift", "labels", "bucket_outbox")
DEMO, YIELD, RETRAIN = "demo", "yield", "retrain"  # an hour, minutes, hours; only when they are asked for
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        action="append",
        choices=(*NAMES, DEMO, YIELD, RETRAIN),
        metavar="NAME",
        help=f"{', '.join(NAMES)}, {YIELD}, {RETRAIN} or {DEMO}",
    )
    parser.add_argument("--write", action="store_true", help=f"update {RESULTS.name}")
    parser.add_argument("--demo", action="store_true", help="play the demo's seeds, too: more than an hour")
    parser.add_argument("--seeds", default="100-119", help="of the demo")
    parser.add_argument("--orders", type=int, default=200, help="of the yield bench")
    parser.add_argument("--keep", type=Path, help="file of the demo's finished seeds, to go on from")
    parser.add_argument(
        "--peer-inference", action="store_true", help="Roboflow's InferencePipeline, too: installed once, several GB"
    )
    given = parser.parse_args()
    for variable in THREADS:  # before NumPy or torch are imported: a benchmark says itself how many it uses
        os.environ.setdefault(variable, "1")
    names = tuple(given.only or NAMES) + ((DEMO,) if given.demo and DEMO not in (given.only or ()) else ())
    print(f"{machine.describe()}\n", flush=True)
    for name in names:
        with machine.Watch() as watch:
            tables = list(told(run(name, given)))
        print(f"{watch}\n", flush=True)
        if given.write:
            said = "No figure depends on the machine's speed." if name in (YIELD, RETRAIN) else watch
            results.write(RESULTS, name, f"{machine.describe()}. {said}", tables)
    return 0


def run(name: str, given: argparse.Namespace) -> Iterator[Table]:
    bench = importlib.import_module(f"tests.benchmarks.bench_{name}")
    tables: Iterator[Table]
    if name == DEMO:
        tables = bench.tables(given.seeds, given.keep or bench.KEEP)
    elif name == YIELD:
        tables = bench.tables(given.orders)
    elif name == "edge":
        tables = bench.tables(bench.Options(peer_inference=given.peer_inference))
    else:
        tables = bench.tables()
    return tables


def told(tables: Iterator[Table]) -> Iterator[Table]:
    """Each table, printed as soon as it is there."""
    for table in tables:
        print(table, flush=True)
        yield table


if __name__ == "__main__":
    sys.exit(main())
