"""The retraining bench as tables: every way beside random, what was chosen, and the verdict by a rule set before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tasks.core.entities import Estimate
from tests.benchmarks.bench_retrain_figures import (
    BOTH,
    BOXES,
    IMAGES,
    Difference,
    Figure,
    Outcome,
    better,
    correlation,
    difference,
    nested,
)
from tests.benchmarks.bench_retrain_ways import ENTROPY, MAIN, NONE, RANDOM, VARIANTS, WHOLE, evenness
from tests.benchmarks.bench_yield_tables import points, with_interval
from tests.benchmarks.tables import Table

WAYS = (*MAIN, *VARIANTS)
EQUALS = (IMAGES, BOXES)
COLUMNS = (
    "way",
    "seeds",
    "images",
    "boxes",
    "AP50",
    "points over random",
    "better in",
    "points over entropy sum",
    "recall: points over random",
)
CHOSEN_COLUMNS = (
    "way",
    "boxes an image",
    "images with a miss",
    "misses an image",
    "misses a box",
    "ambiguous images",
    "evenness of classes",
    "apart",
)

Runs = Mapping[tuple[str, str, str], Sequence[Outcome]]  # by world, way and what is equal


def tables_of(outcomes: Sequence[Outcome], told: Sequence[str]) -> Iterator[Table]:
    """told: sentences that say what was trained."""
    runs, worlds = by_run(outcomes), list(dict.fromkeys(outcome.world for outcome in outcomes))
    if not worlds:
        yield Table("Retraining at equal labels", (), (), ["No training is finished."])
        return
    yield verdict_table(runs, worlds, told)
    for world in worlds:
        for equal in EQUALS:
            rows = [row for way in (NONE, RANDOM, *WAYS, WHOLE) if (row := way_row(runs, world, way, equal))]
            yield Table(f"Equal {equal}: {world}", COLUMNS, rows, [live_note(outcomes, world)])
        yield chosen_table(runs, world)


def by_run(outcomes: Sequence[Outcome]) -> Runs:
    runs: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        for equal in EQUALS if outcome.equal == BOTH else (outcome.equal,):
            runs.setdefault((outcome.world, outcome.way, equal), []).append(outcome)
    return runs


def over(runs: Runs, world: str, way: str, other: str, equal: str, figure: Figure = "ap50") -> Difference:
    return difference(runs.get((world, way, equal), ()), runs.get((world, other, equal), ()), figure)


# --- the verdict -----------------------------------------------------------------------------------------------------


def verdict_table(runs: Runs, worlds: Sequence[str], told: Sequence[str]) -> Table:
    rows = []
    for way in WAYS:
        pooled = {equal: nested([over(runs, world, way, RANDOM, equal) for world in worlds]) for equal in EQUALS}
        beside = {equal: nested([over(runs, world, way, ENTROPY, equal) for world in worlds]) for equal in EQUALS}
        rows.append(
            (
                way,
                *(in_points(pooled[equal]) for equal in EQUALS),
                *(in_points(beside[equal]) if way != ENTROPY else "" for equal in EQUALS),
            )
        )
    columns = ("way", *(f"equal {e}: points over {other}" for other in (RANDOM, ENTROPY) for e in EQUALS))
    return Table(
        f"Retraining at equal labels: mean of {' and '.join(worlds)}",
        columns,
        rows,
        [
            verdict(runs, worlds),
            "AP50 on the test part after retraining, in points; differences are paired by seed. 95% intervals are "
            "nested: seeds are drawn with replacement, and for each drawn seed one replicate of its test images. They "
            f"are not corrected for the {len(WAYS) * len(EQUALS)} comparisons with random in this table. Ways, "
            "variants and the rule of the verdict were set before the first training was looked at.",
            *told,
        ],
    )


def winners(runs: Runs, worlds: Sequence[str]) -> list[str]:
    """The ways that are better than random beyond doubt, and not below the entropy sum, at equal images and boxes."""
    return [way for way in WAYS if all(wins(runs, worlds, way, equal) for equal in EQUALS)]


def wins(runs: Runs, worlds: Sequence[str], way: str, equal: str) -> bool:
    beyond = nested([over(runs, world, way, RANDOM, equal) for world in worlds])
    beside = nested([over(runs, world, way, ENTROPY, equal) for world in worlds])
    not_below = way == ENTROPY or (beside is not None and beside.value >= 0)
    return beyond is not None and beyond.low > 0 and not_below


def verdict(runs: Runs, worlds: Sequence[str]) -> str:
    rule = (
        "Rule: the way wins whose difference to random has a lower bound above 0, and which is not below the entropy "
        "sum, at equal images and at equal boxes"
    )
    found = winners(runs, worlds)
    if found:
        return f"{rule}. It holds for: {', '.join(found)}."
    at = {equal: [way for way in WAYS if wins(runs, worlds, way, equal)] for equal in EQUALS}
    each = ", ".join(f"at equal {equal} {' and '.join(some) or 'none'}" for equal, some in at.items())
    return f"{rule}. No way wins: {each}. Random stays the default."


# --- one world -------------------------------------------------------------------------------------------------------


def way_row(runs: Runs, world: str, way: str, equal: str) -> tuple[str, ...] | None:
    some = runs.get((world, way, equal), ())
    if not some:
        return None
    beyond = over(runs, world, way, RANDOM, equal)
    beside = over(runs, world, way, ENTROPY, equal)
    recall = over(runs, world, way, RANDOM, equal, "recall")
    is_random = way == RANDOM
    return (
        way,
        str(len(some)),
        f"{np.mean([one.images for one in some]):.0f}",
        f"{np.mean([one.boxes for one in some]):.0f}",
        f"{np.mean([one.ap50 for one in some]):.3f}",
        "" if is_random else in_points(nested([beyond])),
        "" if is_random else better([beyond]),
        "" if way == ENTROPY else in_points(nested([beside])),
        "" if is_random else in_points(nested([recall])),
    )


def live_note(outcomes: Sequence[Outcome], world: str) -> str:
    live = {one.seed: one for one in outcomes if one.world == world}.values()
    return (
        f"Before: AP50 {np.mean([one.ap50_live for one in live]):.3f}, recall "
        f"{np.mean([one.recall_live for one in live]):.3f}, means of {len(live)} seeds. Recall is read at the live "
        f"model's operating precision, as the gate does."
    )


def chosen_table(runs: Runs, world: str) -> Table:
    """What the ways chose at equal images, and what goes with a better model."""
    rows = [chosen_row(way, runs[world, way, IMAGES]) for way in (RANDOM, *WAYS, WHOLE) if (world, way, IMAGES) in runs]
    properties = {
        "boxes": lambda one: one.boxes,
        "images": lambda one: one.images,
        "misses": lambda one: one.misses,
        "evenness of classes": lambda one: evenness(np.array(one.by_class)),
        "apart": lambda one: one.apart,
    }
    notes = [
        "Misses: of the live model. Ambiguous: with a detection within 0.1 of its threshold. Evenness: entropy of the "
        "classes of the boxes, 1 is even. Apart: mean cosine distance of an image to the chosen one most like it."
    ]
    for equal in EQUALS:
        base = {one.seed: one for one in runs.get((world, RANDOM, equal), ())}
        some = [one for way in WAYS for one in runs.get((world, way, equal), ()) if one.seed in base]
        if len(some) > len(WAYS):
            pairs = [(one, base[one.seed]) for one in some]
            told = ", ".join(f"{name} {correlation(pairs, of):+.2f}" for name, of in properties.items())
            notes.append(f"Equal {equal}: correlation of more points over random with more of: {told}.")
    return Table(f"What was chosen, equal images: {world}", CHOSEN_COLUMNS, rows, notes)


def chosen_row(way: str, some: Sequence[Outcome]) -> tuple[str, ...]:
    images, boxes = sum(one.images for one in some), sum(one.boxes for one in some)
    misses = sum(one.misses for one in some)
    return (
        way,
        f"{boxes / images:.2f}",
        f"{sum(one.images_with_miss for one in some) / images:.1%}",
        f"{misses / images:.2f}",
        f"{misses / max(1, boxes):.3f}",
        f"{sum(one.ambiguous for one in some) / images:.1%}",
        f"{np.mean([evenness(np.array(one.by_class)) for one in some]):.3f}",
        f"{np.mean([one.apart for one in some]):.3f}",
    )


def in_points(estimate: Estimate | None) -> str:
    return "-" if estimate is None else with_interval(points(estimate), "+.1f")
