"""Labels over cells: exact sums, floors, caps, yields shrunk as the data allow, and reasons that say so."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.allocation import (
    EXPLORATION,
    NOTHING_IN_DOUBT,
    Cell,
    Evidence,
    LabelledImage,
    Rules,
    allocate,
    band_of,
    corrections_by_image,
    evidence_of,
    measure,
)
from tasks.core.allocation.shares import rounded, shares_of, within
from tasks.core.allocation.yields import gamma_interval
from tasks.core.entities import Allocation, Detection, Detections
from tasks.core.errors import DataError, NotEnoughData, SettingsError
from tasks.core.matching import GroundTruths, ImageResult, match

NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
RULES = Rules(exploration=0.2)
GATE, YARD = Cell("edge-1/gate", "rule-1", "0.2 to 0.3"), Cell("edge-1/yard", "rule-1", "0.2 to 0.3")


def shared(evidence, supply, labels, rules=RULES, **fields) -> Allocation:
    return allocate(evidence, supply, labels, rules, number=1, created_at=NOW, **fields)


def by_cell(made: Allocation) -> dict[Cell, int]:
    return {Cell(row.camera, row.strategy, row.band, row.exploration): row.labels for row in made.cells}


def images_of(cell: Cell, images: int, corrections: int, boxes: int = 2, weeks_old: float = 0.0) -> list[LabelledImage]:
    """`corrections` spread evenly over `images`."""
    each = [corrections * (n + 1) // images - corrections * n // images for n in range(images)]
    return [LabelledImage(cell, c, 0, max(boxes, c), weeks_old) for c in each]


def evidence(*parts: list[LabelledImage]) -> dict[Cell, Evidence]:
    return evidence_of([image for part in parts for image in part], RULES.half_life_weeks)


# --- labels ----------------------------------------------------------------------------------------------------------

CELLS = [Cell(f"e/{c}", s, b) for c in "abc" for s in ("r1", "r2") for b in ("0.1 to 0.2", "0.2 to 0.3")]


@st.composite
def worlds(draw):
    """Labelled images and supplies of some cells, and a number of labels that leaves some beside exploration."""
    cells = draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=len(CELLS), unique=True))
    supply = {cell: draw(st.integers(0, 60)) for cell in cells}
    supply[EXPLORATION] = draw(st.integers(0, 60))
    images = [
        LabelledImage(cell, draw(st.integers(0, 4)), draw(st.integers(0, 2)), draw(st.integers(6, 12)), age)
        for cell in draw(st.lists(st.sampled_from([*CELLS, EXPLORATION]), max_size=25))
        for age in [draw(st.floats(0, 20))]
    ]
    return images, supply, draw(st.integers(2, 250))


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_labels_add_up_and_the_order_of_inputs_changes_nothing(world, shuffle):
    """The sum is exact, no cell has more than it can deliver, all that can deliver have their floors, in any order."""
    images, supply, labels = world
    if not any(supply.values()):
        return
    made = shared(evidence_of(images, 4.0), supply, labels)
    given_labels = by_cell(made)
    assert made.handed_out == min(labels, sum(supply.values()))
    for row in made.cells:
        assert 0 <= row.labels <= row.supply
    alive = [row for row in made.cells if row.supply and not row.exploration]
    assert all(row.labels >= 1 for row in alive)
    assert sum(row.share for row in alive) == pytest.approx(1.0 if alive else 0.0)
    assert all(row.share >= RULES.floor / len(alive) - 1e-9 for row in alive)
    least = min(supply[EXPLORATION], -(-labels * Fraction(1, 5) // 1))
    assert given_labels[EXPLORATION] >= least
    assert all(row.reason for row in made.cells)

    shuffle.shuffle(images)
    items = list(supply.items())
    shuffle.shuffle(items)
    turned = dict(reversed(evidence_of(images, 4.0).items()))
    assert shared(turned, dict(items), labels) == made


def test_without_labels_all_shares_are_equal():
    """A cold start: nothing is known, so that nobody is preferred, and a sentence says so."""
    supply = dict.fromkeys(CELLS, 100) | {EXPLORATION: 12}
    made = shared({}, supply, 60)
    assert {labels for cell, labels in by_cell(made).items() if cell != EXPLORATION} == {4}
    assert by_cell(made)[EXPLORATION] == 12
    assert "all cells have equal shares" in made.warnings[0]
    assert made.mean_yield is None
    assert made.cells[1].reason == "e/a, r1, 0.1 to 0.2: no labels yet; an equal share"


def test_what_a_capped_cell_cannot_use_goes_to_the_others_in_proportion():
    """Shares stay what the yields make them; the labels of the others grow by the same factor."""
    cells = [Cell(f"e/{name}", "r", "0.1 to 0.2") for name in "abcd"]
    known = evidence(*(images_of(cell, 400, 100 * (n + 1)) for n, cell in enumerate(cells)))
    plenty = by_cell(shared(known, dict.fromkeys(cells, 10_000), 4000))
    capped = by_cell(shared(known, {**dict.fromkeys(cells, 10_000), cells[3]: 40}, 4000))
    assert capped[cells[3]] == 40
    for cell in cells[:3]:
        assert capped[cell] == pytest.approx(plenty[cell] * (4000 - 40) / (4000 - plenty[cells[3]]), abs=1)


def test_the_random_slice_is_whole_while_the_others_keep_their_floors():
    """It takes more than its share when more of it waits, never so much that a cell loses its floor."""
    supply = {GATE: 500, YARD: 500}
    assert by_cell(shared({}, supply | {EXPLORATION: 0}, 100))[EXPLORATION] == 0
    assert by_cell(shared({}, supply | {EXPLORATION: 15}, 100))[EXPLORATION] == 15
    assert by_cell(shared({}, supply | {EXPLORATION: 70}, 100))[EXPLORATION] == 70
    crowded = shared({}, supply | {EXPLORATION: 900}, 100)
    assert by_cell(crowded) == {EXPLORATION: 80, GATE: 10, YARD: 10}
    assert "could not be taken whole" in crowded.warnings[-1]
    assert by_cell(shared({}, {EXPLORATION: 900}, 100)) == {EXPLORATION: 100}
    assert by_cell(shared({}, {GATE: 10, EXPLORATION: 90}, 90)) == {GATE: 10, EXPLORATION: 80}
    left_over = shared({}, {GATE: 10, EXPLORATION: 20}, 90)
    assert left_over.handed_out == 30
    assert "60 of 90 labels are left over" in left_over.warnings[-1]


def test_a_supply_that_is_not_known_limits_nothing():
    """A plan before anything was collected: exploration has its share, the cells what their yields ask for."""
    made = shared(evidence(images_of(GATE, 50, 10), images_of(YARD, 50, 10)), None, 101)
    assert by_cell(made) == {EXPLORATION: 21, GATE: 40, YARD: 40}
    assert all(row.supply is None for row in made.cells)


def test_few_labels_take_cells_together_until_each_has_its_floor():
    """48 labels tell 12 cells apart, fewer 6, 3 or none; a floor of a quarter of an equal share is a whole label."""
    supply = dict.fromkeys(CELLS, 100)
    for labels, cells, together in ((48, 12, ""), (47, 6, "bands"), (23, 3, "bands and strategies"), (2, 1, "cameras")):
        made = shared({}, supply, labels)
        assert len(made.cells) == cells + 1
        assert made.together.endswith(together)
        assert all(row.labels for row in made.cells if not row.exploration)
        assert any("taken together" in line for line in made.warnings) == (labels < 48)
    few = shared({}, supply | {EXPLORATION: 100}, 20)
    assert "it takes 60 labels to tell all apart" in few.warnings[1]
    assert few.cells[1].reason == "e/a: no labels yet; an equal share"
    exact = shared({}, supply | {EXPLORATION: 12}, 60)
    assert exact.together == ""


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3), st.floats(0, 9)), min_size=1, max_size=12),
    st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_amounts_within_limits_are_proportional_where_the_limits_allow(rows, place):
    """Against bisection on the factor: the sum is met, and every amount is its clipped multiple of the weight."""
    weights, low, more = np.array(rows).T
    high = low + more
    total = float(low.sum() + place * (high - low).sum())
    amounts = within(weights, low, high, total)
    assert amounts.sum() == pytest.approx(total, abs=1e-6)
    assert (amounts >= low - 1e-9).all()
    assert (amounts <= high + 1e-9).all()
    slow = np.maximum(weights / weights.max(), 1e-9) if weights.max() > 0 else np.ones(len(weights))
    below, above = 0.0, 1e12
    for _ in range(200):
        middle = (below + above) / 2
        below, above = (middle, above) if np.clip(middle * slow, low, high).sum() <= total else (below, middle)
    np.testing.assert_allclose(amounts, np.clip(below * slow, low, high), atol=1e-3)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=30), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_rounding_keeps_the_sum_and_stays_within_one(weights, total):
    """Largest remainders: nothing is more than one away from its share, and the larger remainder never comes second."""
    exact = np.array(weights) + 0.01
    amounts = exact / exact.sum() * total
    whole = rounded(amounts, np.full(len(amounts), np.inf), total)
    assert whole.sum() == total
    assert (abs(whole - amounts) < 1 + 1e-6).all()
    up, down = whole > amounts + 1e-6, whole < amounts - 1e-6
    remainder = amounts - np.floor(amounts + 1e-9)
    if up.any() and down.any():
        assert remainder[up].min() >= remainder[down].max() - 1e-6


# --- yields ----------------------------------------------------------------------------------------------------------


def slow_yields(evidence_by_cell: list[Evidence]) -> list[float]:
    """The formulas of the page, one after the other."""
    boxes_an_image = sum(e.recent_boxes for e in evidence_by_cell) / sum(e.recent_images for e in evidence_by_cell)
    effort = [(e.recent_images + e.recent_boxes / boxes_an_image) / 2 for e in evidence_by_cell]
    total, corrections = sum(effort), [e.recent_corrections for e in evidence_by_cell]
    mean = sum(corrections) / total
    within_cells = sum(e.squares - e.recent_corrections**2 / e.recent_images for e in evidence_by_cell)
    expected = sum(e.recent_corrections * (1 - 1 / e.images) for e in evidence_by_cell)
    dispersion = max(1.0, within_cells / expected)
    spread = sum(e * (c / e - mean) ** 2 for e, c in zip(effort, corrections))
    variance = (spread - (len(effort) - 1) * dispersion * mean) / (total - sum(e * e for e in effort) / total)
    if variance <= 0:
        return [mean] * len(effort)
    k = max(10.0, dispersion * mean / variance)
    return [(c + k * mean) / (e + k) for e, c in zip(effort, corrections)]


def test_yields_are_shrunk_as_the_page_says():
    """Against the formulas written out, on cells of many sizes and ages."""
    draw = random.Random(5)
    for _ in range(40):
        cells = [Cell(f"e/{n}", "r", "b") for n in range(draw.randint(2, 9))]
        images = [
            LabelledImage(
                cell, draw.choice([0, 0, 1, 2, 5]), draw.choice([0, 1]), draw.randint(6, 9), draw.random() * 9
            )
            for cell in cells
            for _ in range(draw.randint(2, 40))
        ]
        found = list(evidence_of(images, 4.0).values())
        np.testing.assert_allclose(measure(found).shrunk, slow_yields(found), rtol=1e-9)


def simulated(rng, rates, images, boxes=4, clumps=1):
    """Cells with so many images each, Poisson corrections at their rates; clumps: corrections that come together."""
    return [
        Evidence(
            images=images,
            boxes=boxes * images,
            missed=int(counts.sum()),
            recent_images=images,
            recent_boxes=boxes * images,
            recent_corrections=float(counts.sum()),
            squares=float((counts**2).sum()),
        )
        for rate in rates
        for counts in [clumps * rng.poisson(rate / clumps, images)]
    ]


@pytest.mark.parametrize("clumps", [1, 4])
def test_cells_that_differ_by_chance_alone_get_nearly_equal_shares(clumps):
    """Also where corrections come four at a time: chance is measured, not taken for Poisson."""
    rng = np.random.default_rng(1)
    spread, errors = [], np.zeros(2)
    for _ in range(200):
        found = measure(simulated(rng, [0.4] * 10, 30, clumps=clumps))
        spread.append(found.shrunk.max() / found.shrunk.min())
        errors += [np.square(guess - 0.4).sum() for guess in (found.shrunk, found.measured)]
    assert np.median(spread) < 1.15
    assert errors[0] < 0.35 * errors[1]


def test_cells_that_differ_are_told_apart_by_the_right_amount():
    """With gamma rates of known spread the shrunken yields beat both the measured ones and the mean of all."""
    rng = np.random.default_rng(2)
    errors = np.zeros(3)
    for _ in range(200):
        rates = rng.gamma(4.0, 0.1, 12)
        found = measure(simulated(rng, rates, 25))
        guesses = (found.shrunk, found.measured, np.full(12, found.mean))
        errors += [np.square(guess - rates).sum() for guess in guesses]
    assert errors[0] < 0.85 * errors[1]
    assert errors[0] < 0.75 * errors[2]


def test_crowded_images_do_not_win_by_being_crowded():
    """The same share of wrong boxes, ten times the boxes: between what the image and what the box would say."""
    crowded, sparse = images_of(GATE, 200, 400, boxes=20), images_of(YARD, 200, 40, boxes=2)
    found = measure(list(evidence(crowded, sparse).values()))
    by_image, by_box = 10.0, 1.0
    ratio = found.measured[0] / found.measured[1]
    assert by_box < ratio < by_image
    # each relative to all: 440 corrections in 400 images and 4,400 boxes
    relative = [2 / (1 / (y_image / 1.1) + 1 / (y_box / 0.1)) for y_image, y_box in ((2.0, 0.1), (0.2, 0.1))]
    assert ratio == pytest.approx(relative[0] / relative[1])
    assert ratio == pytest.approx(4.19, abs=0.01)


def test_a_label_counts_half_after_a_half_life():
    """What was corrected long ago, by another model's mistakes, is outweighed by what is corrected now."""
    old, new = images_of(GATE, 100, 100, weeks_old=8.0), images_of(GATE, 100, 0)
    found = evidence(old, new)[GATE]
    assert found.images == 200
    assert found.recent_images == pytest.approx(125)
    assert found.recent_corrections == pytest.approx(25)
    assert evidence(images_of(GATE, 3, 1, weeks_old=-5.0)) == evidence(images_of(GATE, 3, 1))  # clocks disagree


def test_intervals_are_those_of_the_gamma_distribution():
    """The cube-root approximation is within 3% of drawn quantiles from a handful of corrections up."""
    rng = np.random.default_rng(3)
    for shape in (3.5, 12.5, 80.5):
        low, high = gamma_interval(np.array([shape]), np.array([20.0]))
        drawn = np.quantile(rng.gamma(shape, 1 / 20, 400_000), [0.025, 0.975])
        np.testing.assert_allclose([low[0], high[0]], drawn, rtol=0.03)


def test_corrections_are_objects_added_and_false_alarms_removed():
    """By the matching at the operating thresholds: what lies below them is not shown, a crowd region is nobody's."""
    car, other, crowd = (10, 10, 30, 30), (40, 10, 60, 30), (70, 0, 100, 40)
    seen = [(car, 0.9), (other, 0.3), ((70, 10, 90, 30), 0.8), ((10, 40, 30, 60), 0.7)]
    detections = Detections(
        np.array([box for box, _ in seen], np.float32), np.array([c for _, c in seen], np.float32),
        np.zeros(4, np.int64), ("car",),
    )  # fmt: skip
    truths = GroundTruths(np.array([car, other, crowd]), np.zeros(3, np.int64), np.array([False, False, True]))
    matches = match([ImageResult(Detections.empty(("car",)), GroundTruths.empty()), ImageResult(detections, truths)])
    assert [c.tolist() for c in corrections_by_image(matches, np.array([0.5]))] == [[0, 1], [0, 1], [0, 3]]
    assert [c.tolist() for c in corrections_by_image(matches, np.array([0.2]))] == [[0, 0], [0, 1], [0, 3]]


def test_the_band_is_that_of_the_most_confident_detection_in_doubt():
    """Below its own class's threshold; edges belong to the band above them."""

    def band(*seen, **thresholds):
        found = [Detection(class_name=name, confidence=c, xyxy=(0, 0, 9, 9)) for name, c in seen]
        return band_of(found, thresholds)

    assert band() == NOTHING_IN_DOUBT
    assert band(("car", 0.9), ("car", 0.5)) == NOTHING_IN_DOUBT
    assert band(("car", 0.9), ("car", 0.3), ("car", 0.07)) == "0.3 to 0.5"
    assert band(("car", 0.29), ("van", 0.4), van=0.35, car=0.6) == "0.2 to 0.3"
    assert band(("car", 0.6), car=0.7) == "0.5 and up"
    assert band(("car", 0.01)) == "below 0.02"


# --- reasons ---------------------------------------------------------------------------------------------------------


def test_reasons_say_what_was_measured_and_what_became_of_it():
    """Corrections, images, boxes, what they were shrunk to, how many times an equal share, and what limits it."""
    gone = Cell("edge-1/old", "rule-1", "0.2 to 0.3")
    known = evidence(images_of(GATE, 400, 400), images_of(YARD, 400, 40), images_of(gone, 100, 50),
                     images_of(EXPLORATION, 50, 5))  # fmt: skip
    made = shared(known, {GATE: 30, YARD: 900, EXPLORATION: 25}, 200)
    told = {Cell(r.camera, r.strategy, r.band, r.exploration): r.reason for r in made.cells}
    assert told[GATE] == (
        "edge-1/gate, rule-1, 0.2 to 0.3: 400 corrections in 400 images (1.00 each, 0.50 a box; 1.00 shrunk to 0.99); "
        "1.8 times an equal share; no more than 30 wait"
    )
    assert "0.2 times an equal share; the floor of every cell" in told[YARD]
    assert told[gone].endswith("nothing of it waits, so its labels go to the others")
    assert told[EXPLORATION] == (
        "exploration (the random slice): 5 corrections in 50 images (0.10 each, 0.05 a box); never below 20% of all "
        "labels; all 25 that wait"
    )
    assert by_cell(made)[gone] == 0


def test_a_share_that_is_on_its_way_says_where_to():
    """A yield that jumps moves the share by the swing, and the reason names where it goes."""
    equal = shared({}, {GATE: 900, YARD: 900}, 100)
    known = evidence(images_of(GATE, 400, 400), images_of(YARD, 400, 20))
    made = shared(known, {GATE: 900, YARD: 900}, 100, before=equal)
    gate = next(row for row in made.cells if row.camera == "edge-1/gate")
    assert gate.share == pytest.approx(1 - 0.5 / 1.5)
    assert "1.3 times an equal share; on its way to 1.8 times, by 1.5 times a week at most" in gate.reason


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [0, -5])
def test_no_labels_cannot_be_shared_out(labels):
    """The error names the number and the setting."""
    with pytest.raises(SettingsError, match=rf"^{labels} labels cannot be shared out: give at least 1 \(labels_a_week"):
        shared({}, {GATE: 5}, labels)


def test_one_label_cannot_serve_exploration_and_the_rest():
    """Where both wait, two are the least; where only one of them does, one is enough."""
    with pytest.raises(SettingsError, match="exploration takes 1, which leaves none"):
        shared({}, {GATE: 5, EXPLORATION: 5}, 1)
    assert by_cell(shared({}, {GATE: 5}, 1))[Cell()] == 1
    assert by_cell(shared({}, {EXPLORATION: 5}, 1)) == {EXPLORATION: 1}
    assert by_cell(shared({}, {EXPLORATION: 5}, 1, Rules(exploration=1.0))) == {EXPLORATION: 1}


def test_nothing_to_share_out_over_is_said():
    """Neither samples nor cells: the error says what is missing."""
    for evidence_by_cell, supply in (({}, {}), ({}, None), ({}, {GATE: 0}), ({GATE: Evidence()}, {})):
        if supply is None:
            assert shared(evidence_by_cell, supply, 10).handed_out == 10  # a plan for exploration alone
            continue
        with pytest.raises(NotEnoughData, match="nothing to share 10 labels out over"):
            shared(evidence_by_cell, supply, 10)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"missed": -1}, "an image with missed -1"),
        ({"false_alarms": float("nan")}, "an image with false_alarms nan"),
        ({"boxes": float("inf")}, "an image with boxes inf"),
        ({"weeks_old": float("nan")}, "an image with weeks_old nan"),
    ],
)
def test_a_yield_that_cannot_be_is_refused_with_its_cell(fields, told):
    """Negative or no number: the error names the cell and the figure."""
    image = LabelledImage(**{"cell": GATE, "missed": 0, "false_alarms": 0, "boxes": 1, **fields})
    with pytest.raises(DataError, match=f"^edge-1/gate, rule-1, 0.2 to 0.3: {told}: leave it out"):
        evidence_of([image], 4.0)


def test_figures_of_a_cell_that_cannot_be_are_refused():
    """Also when they were not counted from images."""
    with pytest.raises(DataError, match="recent_corrections is nan"):
        Evidence(images=1, recent_images=1.0, recent_corrections=float("nan"))
    with pytest.raises(DataError, match="corrections without an image"):
        Evidence(recent_corrections=3.0)
    with pytest.raises(SettingsError, match="a supply of -1 images"):
        shared({}, {GATE: -1, YARD: 3}, 10)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"exploration": 0.0}, "exploration 0"),
        ({"exploration": 1.1}, "exploration 1.1"),
        ({"floor": 0.0}, "floor 0"),
        ({"swing": 1.2}, "swing 1.2 leaves no room above a floor of 0.25: give at least 1.33"),
        ({"half_life_weeks": 0.0}, "half-life of 0 weeks"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(fields, told):
    """Before anything is shared out, in one line."""
    with pytest.raises(SettingsError, match=told):
        Rules(**{"exploration": 0.2, **fields})


def test_no_cells_have_no_shares():
    """An empty list is no error: there may be nothing but exploration."""
    assert len(shares_of(np.zeros(0), np.zeros(0), RULES)) == 0
