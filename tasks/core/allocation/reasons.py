"""Why a cell was given what it was given, in words."""

from __future__ import annotations

from tasks.core.allocation.cells import EXPLORATION, Cell
from tasks.core.allocation.shares import Rules
from tasks.core.entities import AllocationCell

SAME = 0.05  # relative difference below which nothing is said of it


def cell_text(row: AllocationCell) -> str:
    return (EXPLORATION if row.exploration else Cell(row.camera, row.strategy, row.band)).text


def of_cell(row: AllocationCell, cells: int, wanted: float, rules: Rules) -> str:
    """cells: those that can deliver. wanted: the share that its yield alone would give it."""
    if row.supply == 0:
        return f"{cell_text(row)}: {measured_text(row)}; nothing of it waits, so its labels go to the others"
    parts = [measured_text(row), times_text(row.share * cells)]
    if abs(row.share / wanted - 1) > SAME:
        parts.append(f"on its way to {wanted * cells:.1f} times, by {rules.swing:g} times a week at most")
    elif row.share * cells <= rules.floor * (1 + SAME):
        parts.append("the floor of every cell")
    if row.supply is not None and row.labels == row.supply:
        parts.append(f"no more than {row.supply} {'waits' if row.supply == 1 else 'wait'}")
    return f"{cell_text(row)}: {'; '.join(parts)}"


def measured_text(row: AllocationCell) -> str:
    """'31 corrections in 80 images (0.39 each, 0.26 a box; 0.36 shrunk to 0.33)'."""
    if not row.images or row.measured is None:
        return "no labels yet"
    corrections, images = counted(row.corrections, "correction"), counted(row.images, "image")
    a_box = f", {row.corrections / row.boxes:.2f} a box" if row.boxes else ""
    shrunk = "" if row.exploration else f"; {row.measured:.2f} shrunk to {row.shrunk:.2f}"
    return f"{corrections} in {images} ({row.corrections / row.images:.2f} each{a_box}{shrunk})"


def times_text(times: float) -> str:
    return "an equal share" if abs(times - 1) < SAME else f"{times:.{1 if times >= 0.1 else 2}f} times an equal share"


def of_exploration(row: AllocationCell, rules: Rules) -> str:
    parts = [measured_text(row), f"never below {rules.exploration:.0%} of all labels"]
    if row.supply == 0:
        parts.append("nothing of it waits")
    elif row.supply is not None:
        whole = row.labels == row.supply
        parts.append(f"all {row.supply} that wait" if whole else f"{row.labels} of the {row.supply} that wait")
    return f"{cell_text(row)}: {'; '.join(parts)}"


def warnings(
    *, labels: int, unused: int, together: str, finest: int, needed: int, exploration: AllocationCell, has_labels: bool
) -> tuple[str, ...]:
    """What a reader must know, a sentence each. finest: cells if nothing were taken together, needed: labels for it."""
    told = []
    if not has_labels:
        told.append("no labels of a model's images yet, so there are no yields: all cells have equal shares")
    if together:
        told.append(
            f"{labels} labels are few for {finest} cells of camera, strategy and band: {together} were taken together "
            f"(it takes {needed} labels to tell all apart)"
        )
    if unused:
        told.append(f"{unused} of {labels} labels are left over: no more was collected")
    if exploration.supply == 0:
        told.append("nothing of the random slice waits: these labels bring no test or calibration images")
    elif exploration.supply is not None and exploration.labels < exploration.supply:
        told.append(
            f"the random slice has {exploration.supply} images and {exploration.labels} labels: it could not be taken "
            f"whole without the floors of the other cells (give more labels, or collect less at random)"
        )
    return tuple(told)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
