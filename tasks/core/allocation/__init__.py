"""One number of labels over cameras, strategies and confidence bands, in shares that follow what people corrected.

    evidence_of(images)      cells.py     which cell an image belongs to
                             yields.py    corrections a cell, and how much of their difference is more than chance
    allocate(...)            shares.py    shares within floor and swing, whole labels within what a cell can deliver
                             reasons.py   why, in words
    choose(samples, ...)     choice.py    the samples that are offered, and with what probability

What it means to people is in ALLOCATION.md beside this file.
"""

from tasks.core.allocation.allocate import allocate
from tasks.core.allocation.cells import EXPLORATION, NOTHING_IN_DOUBT, TOGETHER, Cell, band_of, cell_of, merged
from tasks.core.allocation.choice import choose
from tasks.core.allocation.reasons import cell_text
from tasks.core.allocation.shares import Rules
from tasks.core.allocation.yields import (
    Evidence,
    LabelledImage,
    Yields,
    added,
    corrections_by_image,
    evidence_of,
    measure,
)

__all__ = [
    "EXPLORATION",
    "NOTHING_IN_DOUBT",
    "TOGETHER",
    "Cell",
    "Evidence",
    "LabelledImage",
    "Rules",
    "Yields",
    "added",
    "allocate",
    "band_of",
    "cell_of",
    "cell_text",
    "choose",
    "corrections_by_image",
    "evidence_of",
    "measure",
    "merged",
]
