"""What the demo comes to in worlds that nobody tuned it on: one row a seed, medians at the end.

    python -m tests.benchmarks.bench_demo --seeds 100-119 --keep demos.json

Each seed is `edgeloop demo --seed N` as a user calls it, in a folder of its own that is removed afterwards. Finished
seeds are kept in a file, so that the same command goes on where it was stopped. A demo takes minutes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import Estimate, Evaluation, Suggestion, Turn
from tests.benchmarks.tables import Table

SEEDS = "100-119"
KEEP = Path(".benchmarks") / "demos.json"
COLUMNS = (
    "seed",
    "AP50 before",
    "after",
    "recall before",
    "after",
    "gate",
    "yield of rules",
    "of random",
    "forecast",
    "figures inside",
    "lost",
    "seconds",
)


@dataclass(frozen=True)
class Outcome:
    """What round 1 of a demo came to; None where it did not come so far.

    ap50, recall: of the model before and after the round, on the same test edition; recall of both is the gate's, at
    the operating precision of the one before. rules, random: share of the images that the suggested rules, and chance,
    collected in which the model missed something. inside: was the share of `rules` in the interval of its forecast?
    figures_inside, figures: of all figures of the forecast, how many were.
    """

    seed: int
    quick: bool = False
    ap50_before: float | None = None
    ap50_after: float | None = None
    recall_before: float | None = None
    recall_after: float | None = None
    verdict: str = ""
    rules: float | None = None
    random: float | None = None
    inside: bool | None = None
    figures_inside: int = 0
    figures: int = 0
    frames_lost: int | None = None
    seconds: float = 0.0


# --- playing ---------------------------------------------------------------------------------------------------------


def play(seed: int, *, quick: bool) -> Outcome:
    """Run one demo and read what it came to. Raises RuntimeError with its last words when it fails."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-demo-") as name:
        folder, began = Path(name) / "demo", time.monotonic()
        command = [*edgeloop(), "demo", "--seed", str(seed), "--folder", str(folder), *(["--quick"] if quick else [])]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"seed {seed}: the demo ended with exit status {done.returncode}: {said}")
        return outcome_of(folder, seed, quick, time.monotonic() - began)


def edgeloop() -> list[str]:
    """The command as it is installed beside this Python, or the module where it is not."""
    installed = Path(sys.executable).with_name("edgeloop")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "flows.cli"]


# --- reading ---------------------------------------------------------------------------------------------------------


def outcome_of(folder: Path, seed: int, quick: bool, seconds: float) -> Outcome:
    """From demo.json and the records in the demo's bucket."""
    state = json.loads((folder / "demo.json").read_text())
    project = next(path.name for path in (folder / "bucket").iterdir() if path.is_dir())
    bucket = Bucket((folder / "bucket").absolute().as_uri(), project)
    last = bucket.read_record(layout.turn(bucket.latest_number(layout.turn)), Turn)
    # A first model has none before it: then the round came to no comparison.
    verdict = last.verdict if last.verdict and last.verdict.mode == "improve" else None
    before = evaluation_of(bucket, last.replaced_test_evaluation or last.test_evaluation) if verdict else None
    after = evaluation_of(bucket, last.candidate_test_evaluation) if verdict else None
    numbers = verdict.numbers if verdict else {}
    rules, chance, judged = scores_of(bucket, last)
    bucket.close()
    inside = dict(judged)
    return Outcome(
        seed=seed,
        quick=quick,
        ap50_before=before.coco.get("AP50") if before else None,
        ap50_after=after.coco.get("AP50") if after else None,
        recall_before=numbers.get("live.recall"),
        recall_after=numbers.get("candidate.recall"),
        verdict=verdict.verdict if verdict else f"no round 1: {last.verdict.verdict}" if last.verdict else "no model",
        rules=rules,
        random=chance,
        inside=inside.get("share_with_miss"),
        figures_inside=sum(inside.values()),
        figures=len(inside),
        frames_lost=(state["final"] or state["days"][-1])["frames_lost"] if state["days"] else None,
        seconds=seconds,
    )


def evaluation_of(bucket: Bucket, evaluation: str) -> Evaluation | None:
    if not evaluation:
        return None
    return bucket.read_record(layout.evaluation_file(evaluation, "evaluation.json"), Evaluation)


def scores_of(bucket: Bucket, turn: Turn) -> tuple[float | None, float | None, list[tuple[str, bool]]]:
    """Yield of the rules, of chance, and for each figure of the forecast whether it came true within its interval."""
    for suggestion, score in turn.newly_scored.items():
        forecast = bucket.read_record(layout.suggestion(suggestion), Suggestion).forecast
        estimates: dict[str, Estimate] = {
            name: getattr(forecast, name) for name in type(forecast).model_fields if name in score
        }
        judged = [(name, one.low <= score[name] <= one.high) for name, one in estimates.items()]
        return score.get("share_with_miss"), score.get("share_with_miss_random"), judged
    return None, None, []


# --- telling ---------------------------------------------------------------------------------------------------------


def table_of(outcomes: Sequence[Outcome]) -> Table:
    rows = [row_of(outcome) for outcome in outcomes]
    if outcomes:
        rows.append(medians(outcomes))
    gains = differences(outcomes, lambda o: o.ap50_after, lambda o: o.ap50_before)
    found = differences(outcomes, lambda o: o.recall_after, lambda o: o.recall_before)
    yields = ratios(outcomes, lambda o: o.rules, lambda o: o.random)
    accepted = sum(o.verdict == "accepted" for o in outcomes)
    inside = [o.inside for o in outcomes if o.inside is not None]
    notes = [
        f"AP50 after round 1 less before: median {median_text(gains, '+.3f')}, better in {positive(gains)}. Recall: "
        f"median {median_text(found, '+.3f')}, better in {positive(found)}. Accepted by the gate: {accepted} of "
        f"{len(outcomes)}.",
        f"Images with a miss, rules / random: median {median_text(yields, '.2f')}, above 1 in "
        f"{sum(y > 1 for y in yields)} of {len(yields)}. The forecast's interval held it in {sum(inside)} of "
        f"{len(inside)}.",
        "AP50 and recall are of the models before and after round 1 on the same test edition, whose labels have the "
        "simulated annotator's faults; recall of both is read at the operating precision of the one before.",
    ]
    if any(outcome.quick for outcome in outcomes):
        notes.append("With --quick, a fraction of the frames and epochs: it shows the path, not the gain.")
    return Table("Demo: simulated yards", COLUMNS, rows, notes)


def row_of(outcome: Outcome) -> tuple[str, ...]:
    figures = (outcome.ap50_before, outcome.ap50_after, outcome.recall_before, outcome.recall_after)
    return (
        str(outcome.seed),
        *(figure_text(figure) for figure in figures),
        outcome.verdict or "-",
        figure_text(outcome.rules),
        figure_text(outcome.random),
        {True: "inside", False: "outside", None: "-"}[outcome.inside],
        f"{outcome.figures_inside} of {outcome.figures}" if outcome.figures else "-",
        "-" if outcome.frames_lost is None else str(outcome.frames_lost),
        f"{outcome.seconds:.0f}",
    )


def medians(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    def of(value: Callable[[Outcome], float | None]) -> str:
        return median_text([v for v in map(value, outcomes) if v is not None], ".3f")

    figures = (of(lambda o: o.ap50_before), of(lambda o: o.ap50_after), of(lambda o: o.recall_before))
    others = (of(lambda o: o.recall_after), "", of(lambda o: o.rules), of(lambda o: o.random), "", "", "")
    return ("median", *figures, *others, f"{statistics.median(o.seconds for o in outcomes):.0f}")


def differences(
    outcomes: Sequence[Outcome], after: Callable[[Outcome], float | None], before: Callable[[Outcome], float | None]
) -> list[float]:
    pairs = [(after(outcome), before(outcome)) for outcome in outcomes]
    return [a - b for a, b in pairs if a is not None and b is not None]


def ratios(
    outcomes: Sequence[Outcome], part: Callable[[Outcome], float | None], whole: Callable[[Outcome], float | None]
) -> list[float]:
    pairs = [(part(outcome), whole(outcome)) for outcome in outcomes]
    return [a / b for a, b in pairs if a is not None and b]


def positive(values: Sequence[float]) -> str:
    return f"{sum(value > 0 for value in values)} of {len(values)}"


def median_text(values: Sequence[float], form: str) -> str:
    return format(statistics.median(values), form) if values else "-"


def figure_text(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


# --- seeds that are done ----------------------------------------------------------------------------------------------


def read_kept(keep: Path) -> dict[int, Outcome]:
    """Finished seeds; fields that this version does not know are left out."""
    if not keep.exists():
        return {}
    known = {field.name for field in fields(Outcome)}
    rows = [{name: value for name, value in row.items() if name in known} for row in json.loads(keep.read_text())]
    return {row["seed"]: Outcome(**row) for row in rows}


def write_kept(keep: Path, done: dict[int, Outcome]) -> None:
    keep.parent.mkdir(parents=True, exist_ok=True)
    temporary = keep.with_suffix(".tmp")
    temporary.write_text(json.dumps([asdict(done[seed]) for seed in sorted(done)], indent=1))
    temporary.replace(keep)


def seeds_of(text: str) -> list[int]:
    """`100-119`, `1,3,5`, or both."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def tables(seeds: str = SEEDS, keep: Path = KEEP, *, quick: bool = False) -> Iterator[Table]:
    """Play the seeds that are not done, telling each row as it comes; then the table of all."""
    done, failures = read_kept(keep), []
    for seed in seeds_of(seeds):
        if seed not in done or done[seed].quick != quick:
            try:
                outcome = play(seed, quick=quick)
            except RuntimeError as error:
                failures.append(str(error))
                print(error, file=sys.stderr, flush=True)
                continue
            done[seed] = outcome
            write_kept(keep, done)
        told = (f"{name} {value}" for name, value in zip(COLUMNS, row_of(done[seed])))
        print(", ".join(told), file=sys.stderr, flush=True)
    table = table_of([done[seed] for seed in seeds_of(seeds) if seed in done])
    yield Table(table.title, table.columns, table.rows, [*table.notes, *failures])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=SEEDS, help="such as 100-119 or 1,3")
    parser.add_argument("--keep", type=Path, default=KEEP, help="file of finished seeds, to go on from")
    parser.add_argument("--quick", action="store_true", help="a fraction of the frames and epochs")
    given = parser.parse_args()
    for table in tables(given.seeds, given.keep, quick=given.quick):
        print(table)


if __name__ == "__main__":
    main()
