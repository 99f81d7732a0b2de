"""The picture and the table of an allocation."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import cv2
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from tasks.adapters.allocation_table import allocation_table
from tasks.adapters.report.allocation_plot import MOST_ROWS, allocation_plot, draw_labels, draw_yields, row_name
from tasks.core.allocation import EXPLORATION, Cell, LabelledImage, Rules, allocate, evidence_of
from tasks.core.entities import Allocation

NOW = datetime(2026, 5, 4, tzinfo=timezone.utc)
GATE, YARD, OLD = (Cell(f"edge-1/{name}", "rule-1", "0.2 to 0.3") for name in ("gate", "yard", "old"))


def an_allocation(supply=None, labels=100) -> Allocation:
    images = [LabelledImage(cell, n % 2 * c, 0, 4) for cell, c in ((GATE, 2), (YARD, 0), (OLD, 1)) for n in range(60)]
    supply = supply or {GATE: 500, YARD: 500, EXPLORATION: 12}
    return allocate(evidence_of(images, 4.0), supply, labels, Rules(0.2), number=3, created_at=NOW)


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_the_picture_is_written_and_the_same_data_give_the_same_bytes(tmp_path, many):
    """With three cells and with more than are drawn, whose labels are counted below."""
    supply = {Cell(f"edge-1/c{n}", "$_rule_$" * 9, "0.1 to 0.2"): 50 for n in range(MOST_ROWS + 15)} if many else None
    made = an_allocation(supply, 300)
    first, second = (allocation_plot(made, tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()
    pixels = cv2.imread(str(first))
    assert pixels.shape[1] > 1500
    assert (pixels.shape[0] > 1300) == many
    assert pixels.std() > 10


def test_the_panels_show_what_the_record_says():
    """Bars as long as the labels, a line at the mean and one at an equal share, words for what limits a cell."""
    made = an_allocation()
    others = [row for row in made.cells if not row.exploration]
    left, right = Figure().subplots(1, 2)
    draw_yields(left, made.cells, made)
    draw_labels(right, made.cells, others, made)
    assert [bar.get_width() for bar in right.patches] == [row.labels for row in made.cells]
    assert right.get_title() == "100 labels"
    written = [text.get_text().strip() for text in right.texts]
    assert written[:2] == ["12: all that wait", str(others[0].labels)]
    assert "nothing waits" in written
    assert right.lines[0].get_xdata()[0] == pytest.approx((100 - 12) / 2)
    assert left.lines[0].get_xdata()[0] == pytest.approx(made.mean_yield)


def test_without_labels_the_picture_says_so():
    """No rings, no mean, a word in every row."""
    made = allocate({}, {GATE: 9, YARD: 9}, 10, Rules(0.2), number=1, created_at=NOW)
    left = Figure().subplots()
    draw_yields(left, made.cells, made)
    assert [text.get_text() for text in left.texts] == ["no labels yet"] * len(made.cells)
    assert not left.lines


def test_long_names_keep_their_end():
    """The camera's end and the band tell cells apart."""
    row = an_allocation().cells[1].model_copy(update={"camera": "device-with-a-very-long-name/camera-north-gate"})
    assert row_name(row).startswith("…")
    assert row_name(row).endswith("north-gate, rule-1, 0.2 to 0.3")


def test_the_table_has_a_reason_for_every_cell_and_no_control_characters():
    """Labels, what there is of it, and why; names come from devices, and are not trusted."""
    made = an_allocation()
    evil = made.cells[1].model_copy(update={"reason": "edge\x1b[31m/gate: a reason"})
    made = made.model_copy(update={"cells": (made.cells[0], evil, *made.cells[2:]), "warnings": ("look here",)})
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(allocation_table(made))
    told = console.export_text()
    assert "\x1b" not in told.replace("\x1b[0m", "")
    assert "exploration (the random slice)" in told
    assert "100 of 100 labels, allocation 3" in told
    assert "look here" in told
    assert told.splitlines()[0].split() == ["labels", "of", "why"]
