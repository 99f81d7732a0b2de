"""One number of labels over all cells, in shares that follow what people corrected."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import ceil, inf

import numpy as np

from tasks.core.allocation import reasons
from tasks.core.allocation.cells import EXPLORATION, TOGETHER, Cell, merged
from tasks.core.allocation.shares import Rules, exploration_labels, labels_of, level_of, needed, shares_of
from tasks.core.allocation.yields import Evidence, Yields, added, measure, pooled_boxes_an_image
from tasks.core.entities import Allocation, AllocationCell
from tasks.core.errors import NotEnoughData, SettingsError
from tasks.core.matching import Floats


def allocate(
    evidence: Mapping[Cell, Evidence],
    supply: Mapping[Cell, int] | None,
    labels: int,
    rules: Rules,
    *,
    number: int,
    created_at: datetime,
    before: Allocation | None = None,
    weeks_back: float | None = None,
    warnings: tuple[str, ...] = (),
) -> Allocation:
    """The labels of every cell, with the reasons; together exactly `labels` where so much can be delivered.

    evidence, supply: by the finest cells. supply: images that a cell can deliver; None where that is not known at all,
    and every cell of the evidence then delivers what it is asked for. before: the allocation of an earlier week, which
    no share may swing far from. The order of cells changes nothing.

    Raises SettingsError for a number of labels that cannot be shared out, NotEnoughData where there is no cell.
    """
    alive, explorable = _supply(evidence, supply)
    least = exploration_labels(labels, rules) if explorable else 0
    _check(labels, least, alive, explorable)

    levels = [len({merged(cell, level) for cell in alive}) for level in range(len(TOGETHER))]
    level = level_of(levels, labels - least, rules)
    waiting = _merged_supply(alive, level)
    known = _merged_evidence(evidence, level)
    cells = sorted({cell for cell in (*waiting, *known) if not cell.is_exploration})
    yields = measure([known.get(cell, Evidence()) for cell in cells], pooled_boxes_an_image(evidence) or None)

    is_alive = np.array([cell in waiting for cell in cells], np.bool_)
    last = _shares_before(cells, before, TOGETHER[level])
    share, wanted = np.zeros(len(cells)), np.zeros(len(cells))
    share[is_alive] = shares_of(yields.shrunk[is_alive], last[is_alive], rules)
    wanted[is_alive] = shares_of(yields.shrunk[is_alive], np.full(is_alive.sum(), np.nan), rules)
    room = np.array([waiting.get(cell, 0.0) for cell in cells], np.float64)
    given, explored = labels_of(share, room, explorable, labels, rules)

    rows = [
        _row(cell, known.get(cell, Evidence()), yields, place, float(share[place]), room[place], int(given[place]))
        for place, cell in enumerate(cells)
    ]
    told = [reasons.of_cell(row, len(waiting), float(aim), rules) for row, aim in zip(rows, wanted)]
    rows = [row.model_copy(update={"reason": reason}) for row, reason in zip(rows, told)]
    exploring = _exploration_row(known, evidence, explorable, explored, rules)
    unused = labels - explored - int(given.sum())
    return Allocation(
        number=number,
        created_at=created_at,
        labels=labels,
        exploration=rules.exploration,
        floor=rules.floor,
        swing=rules.swing,
        half_life_weeks=rules.half_life_weeks,
        weeks_back=weeks_back,
        together=TOGETHER[level],
        mean_yield=None if np.isnan(yields.mean) else yields.mean,
        prior_images=None if np.isinf(yields.prior_images) else yields.prior_images,
        dispersion=yields.dispersion,
        cells=(exploring, *rows),
        warnings=(
            *warnings,
            *reasons.warnings(
                labels=labels,
                unused=unused,
                together=TOGETHER[level],
                finest=levels[0],
                needed=_needed_in_all(levels[0], bool(explorable), rules),
                exploration=exploring,
                has_labels=bool(known),
            ),
        ),
    )


def _supply(evidence: Mapping[Cell, Evidence], supply: Mapping[Cell, int] | None) -> tuple[dict[Cell, float], float]:
    """What the cells can deliver, those with nothing left out, and what the random slice can."""
    if supply is None:
        return {cell: inf for cell in evidence if not cell.is_exploration}, inf
    for cell, images in supply.items():
        if images < 0:
            raise SettingsError(f"{cell.text}: a supply of {images} images: give 0 or more")
    alive = {cell: float(images) for cell, images in supply.items() if images and not cell.is_exploration}
    return alive, float(supply.get(EXPLORATION, 0))


def _check(labels: int, least: int, alive: Mapping[Cell, float], explorable: float) -> None:
    if labels < 1:
        raise SettingsError(f"{labels} labels cannot be shared out: give at least 1 (labels_a_week, or --labels)")
    if not alive and not explorable:
        raise NotEnoughData(
            f"there is nothing to share {labels} labels out over: no sample was collected that could be labelled"
        )
    if alive and labels - least < 1:
        raise SettingsError(
            f"{labels} labels: exploration takes {least}, which leaves none for what the strategies collected: give "
            f"more labels, or a smaller share of exploration"
        )


def _needed_in_all(cells: int, explorable: bool, rules: Rules) -> int:
    """The labels from which on so many cells are told apart, with those of exploration."""
    return ceil(needed(cells, rules) / (1 - rules.exploration * explorable)) if cells else 0


def _merged_supply(alive: Mapping[Cell, float], level: int) -> dict[Cell, float]:
    together: dict[Cell, float] = {}
    for cell, images in alive.items():
        together[merged(cell, level)] = together.get(merged(cell, level), 0.0) + images
    return together


def _merged_evidence(evidence: Mapping[Cell, Evidence], level: int) -> dict[Cell, Evidence]:
    parts: dict[Cell, list[Evidence]] = {}
    for cell, of_cell in evidence.items():
        parts.setdefault(merged(cell, level), []).append(of_cell)
    return {cell: added(some) for cell, some in parts.items()}


def _shares_before(cells: list[Cell], before: Allocation | None, together: str) -> Floats:
    """(cells,) shares of an earlier week; nan where there were none, or where other things were taken together."""
    if before is None or before.together != together:
        return np.full(len(cells), np.nan)
    known = {Cell(row.camera, row.strategy, row.band): row.share for row in before.cells if not row.exploration}
    return np.array([known.get(cell) or np.nan for cell in cells], np.float64)


def _row(
    cell: Cell, evidence: Evidence, yields: Yields, place: int, share: float, room: float, labels: int
) -> AllocationCell:
    is_measured = evidence.images > 0
    return AllocationCell(
        camera=cell.camera,
        strategy=cell.strategy,
        band=cell.band,
        images=evidence.images,
        boxes=evidence.boxes,
        missed=evidence.missed,
        false_alarms=evidence.false_alarms,
        measured=float(yields.measured[place]) if is_measured else None,
        interval=(float(yields.low[place]), float(yields.high[place])) if is_measured else None,
        shrunk=float(yields.shrunk[place]) if not np.isnan(yields.mean) else 0.0,
        share=share,
        supply=None if np.isinf(room) else int(room),
        labels=labels,
    )


def _exploration_row(
    known: Mapping[Cell, Evidence], evidence: Mapping[Cell, Evidence], supply: float, labels: int, rules: Rules
) -> AllocationCell:
    """Its yield is the base rate: what an image gives that nobody chose."""
    found = known.get(EXPLORATION, Evidence())
    base = measure([found], pooled_boxes_an_image(evidence) or None)
    row = _row(EXPLORATION, found, base, 0, 0.0, supply, labels).model_copy(update={"exploration": True})
    return row.model_copy(update={"reason": reasons.of_exploration(row, rules)})
