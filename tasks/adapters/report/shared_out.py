"""How a week's labels were shared out, for the page of the loop: a sentence, the picture, a reason for each cell."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from tasks.adapters.report.allocation_plot import allocation_plot
from tasks.adapters.report.sentences import counted
from tasks.core.entities import Allocation


def allocation_sentence(allocation: Allocation) -> str:
    """How many labels, over how many cells, and what decides."""
    exploring = sum(cell.labels for cell in allocation.cells if cell.exploration)
    others = [cell for cell in allocation.cells if not cell.exploration]
    made = "were drawn" if allocation.drawn_from else "are planned"
    told = (
        f"{counted(allocation.handed_out, 'label')} {made}: {exploring:,} for images that chance alone chose, "
        f"{allocation.handed_out - exploring:,} for what {counted(len(others), 'group')} of camera, strategy and "
        "confidence band collected."
    )
    if allocation.mean_yield is None:
        return f"{told} Nobody has corrected anything yet, so all groups have an equal share."
    return (
        f"{told} Groups in which people corrected more for their work get more, and every group keeps at least "
        f"{allocation.floor:.0%} of an equal share, where so many of its images wait."
    )


def allocation_values(allocation: Allocation | None, folder: Path) -> dict[str, Any] | None:
    """What the part of the page asks for; the picture is drawn in `folder`. None where nothing was shared out."""
    if allocation is None:
        return None
    picture = allocation_plot(allocation, folder / f"allocation-{allocation.number}.png")
    return {
        "sentence": allocation_sentence(allocation),
        "picture": f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}",
        "reasons": [(f"{cell.labels:,}", cell.reason) for cell in allocation.cells],
        "warnings": allocation.warnings,
    }
