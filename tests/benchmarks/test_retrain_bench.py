"""The retraining bench: its orders, parts, figures and verdict, cross-checked by what is known by hand."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.entities import LabelBox
from tasks.core.errors import DataError
from tasks.core.matching import GroundTruths
from tests.benchmarks import bench_retrain, bench_retrain_tables
from tests.benchmarks import bench_retrain_ways as ways
from tests.benchmarks.bench_retrain import FURTHER_JOBS, MAIN_JOBS, Options, parts_of, read
from tests.benchmarks.bench_retrain_figures import (
    BOTH,
    BOXES,
    IMAGES,
    Difference,
    Outcome,
    better,
    correlation,
    difference,
    nested,
)
from tests.benchmarks.bench_retrain_tables import by_run, tables_of, verdict, winners
from tests.benchmarks.bench_retrain_training import augmented, batches, detections_of, rate_at
from tests.benchmarks.bench_retrain_worlds import Sizes, World, by_cluster, letterboxed, yard
from tests.benchmarks.bench_yield_contenders import known_of, part_of
from tests.benchmarks.test_yield import WORLD, a_set


def a_pool(contents=None, *, wanted=10, seed=0) -> ways.Pool:
    """A pool of images like `contents`, whose model was calibrated on images of the same kinds."""
    labelled = a_set(contents or WORLD)
    every = part_of(labelled, np.arange(len(labelled.results)))
    features = np.random.default_rng(0).normal(size=(every.images, 4))
    embeddings = features / np.linalg.norm(features, axis=1, keepdims=True)
    return ways.Pool(known_of(labelled, every, every), every, embeddings, wanted, seed)


def an_outcome(way=ways.RANDOM, equal=BOTH, *, seed=0, ap50=0.5, world="by hand", **other) -> Outcome:
    """A training whose replicates are all equal to its figure."""
    given = {
        "images": 10, "boxes": 20, "by_class": [10, 10], "misses": 5, "images_with_miss": 4, "ambiguous": 3,
        "apart": 0.1, "ap50_live": 0.4, "ap50_drawn": [ap50] * 8, "recall": 0.6, "recall_live": 0.5,
        "recall_gain_drawn": [0.1] * 8, "seconds": 1.0,
    }  # fmt: skip
    return Outcome(world, seed, way, equal, ap50=ap50, **{**given, **other})


# --- ways ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ways.WAYS)
def test_every_way_orders_the_whole_pool_and_twice_the_same(way):
    """No image is left out or comes twice, and the same seed gives the same order."""
    order = ways.WAYS[way](a_pool())
    assert sorted(order.tolist()) == list(range(len(WORLD)))
    assert np.array_equal(order, ways.WAYS[way](a_pool()))


def test_ways_put_first_what_they_look_for():
    """Expected misses take the images with a doubtful candidate of a missed object, the band those within it."""
    misses = ways.by_misses(a_pool())
    assert set(misses[:20].tolist()) == set(range(20))
    band = ways.in_the_band(a_pool())
    matched = ways.any_detection(a_pool().part, a_pool().part.candidates.confidence, 0.4, 0.1)
    assert matched[band[: matched.sum()]].all()
    assert not matched[band[matched.sum() :]].any()
    assert 0 < matched.sum() < len(WORLD)


@settings(max_examples=50)
@given(st.integers(1, 40), st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.integers(0, 1000))
def test_mixed_orders_take_their_share_from_the_other(rows, share, seed):
    """A permutation of all rows, equal to an obvious loop over both orders."""
    random = np.random.default_rng(seed)
    order, other = random.permutation(rows), random.permutation(rows)
    taken: list[int] = []
    for k in range(1, rows + 1):
        source = other if int(k * share) > int((k - 1) * share) else order
        taken.append(next(int(row) for row in source if row not in taken))
    assert ways.mixed(order, other, share).tolist() == taken


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_farthest_first_is_that_of_a_slow_reference(rows, seed):
    """Each next row is the one whose nearest taken row is farthest away."""
    features = np.random.default_rng(seed).normal(size=(rows, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = ways.farthest_first(features).tolist()
    assert sorted(order) == list(range(rows))
    assert order[0] == 0
    for k in range(1, rows):
        nearest = [min(1 - features[row] @ features[t] for t in order[:k]) for row in range(rows)]
        left = set(range(rows)) - set(order[:k])
        assert nearest[order[k]] == pytest.approx(max(nearest[row] for row in left))


def test_classes_take_turns():
    """Where one class has all the most likely misses, every second image is nevertheless of the other one."""
    cars, people = [(((0, 0.2), (0, 0.21)), ()), (((1, 0.2),), ())]
    found, alarms = (((0, 0.9), (1, 0.9)), ()), (((0, 0.9), (1, 0.9)), ((0, 0.4), (1, 0.4)))
    pool = a_pool([cars] * 20 + [people] * 20 + [found] * 20 + [alarms] * 80)
    assert set(ways.by_misses(pool)[:20].tolist()) == set(range(20))
    turns = ways.class_by_class(pool)[:20]
    assert ((turns < 20) == ([True, False] * 10)).all()
    assert pool.misses(0) + pool.misses(1) == pytest.approx(pool.misses(), abs=1e-5)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 100))
def test_a_budget_of_boxes_is_met_as_closely_as_whole_images_can(boxes, budget):
    """No other number of images, from one up, comes closer."""
    count = ways.rows_for_boxes(np.array(boxes), budget)
    off = [abs(sum(boxes[:k]) - budget) for k in range(1, len(boxes) + 1)]
    assert off[count - 1] == min(off)


def test_what_was_chosen_is_described():
    """Copies are not apart, even classes have evenness 1, and one class alone has none."""
    assert ways.nearest_distance(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])) == pytest.approx(0)
    assert ways.nearest_distance(np.eye(3)) == pytest.approx(1)
    assert np.isnan(ways.nearest_distance(np.eye(1)))
    assert ways.evenness(np.array([5, 5])) == pytest.approx(1)
    assert ways.evenness(np.array([5, 0])) == 0


# --- worlds ----------------------------------------------------------------------------------------------------------


def test_a_picture_keeps_its_proportions_and_its_boxes():
    """The longer side fills the square, the rest is grey, colours are turned to RGB, and boxes shrink with it."""
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[..., 0] = 200  # blue
    canvas, (box,) = letterboxed(picture, [LabelBox(class_name="a", xyxy=(4, 8, 40, 20))], 32)
    assert box.xyxy == pytest.approx((3.2, 6.4, 32, 16))
    assert canvas[:16, :, 2].min() == 200
    assert canvas[:16, :, 0].max() == 0
    assert (canvas[16:] == 114).all()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=8, max_size=40), st.integers(1, 7), st.integers(0, 99))
def test_clusters_are_drawn_whole(cluster, images, seed):
    """No cluster is on both sides, nothing is lost, and the drawn side is as large as asked for."""
    rows = np.arange(len(cluster))
    drawn, left = by_cluster(rows, [str(c) for c in cluster], images, np.random.default_rng(seed))
    assert sorted([*drawn, *left]) == rows.tolist()
    assert len(drawn) >= images
    assert not {cluster[row] for row in drawn} & {cluster[row] for row in left}


@pytest.mark.slow
def test_the_parts_of_a_yard_are_disjoint_and_differ_by_seed():
    """Every part has the images that were asked for; another seed is another yard."""
    sizes = Sizes(start=6, calibration=8, pool=10, test=7)
    one, other = yard(0, 64, sizes), yard(1, 64, sizes)
    assert [len(rows) for rows in (one.start, one.pool, one.test)] == [6, 10, 7]
    assert len(one.calibration) >= 8
    assert one.boxes(one.test).sum() == one.boxes_by_class(one.test).sum() > 0
    assert one.pixels.shape[1:] == other.pixels.shape[1:]
    assert not np.array_equal(one.pixels[0], other.pixels[0])


def test_a_world_with_a_cluster_in_two_parts_is_refused():
    """So that nothing is judged by what was learnt."""
    parts = [np.array([row]) for row in range(4)]
    with pytest.raises(DataError, match="two of them"):
        World("w", ("a",), np.zeros((4, 8, 8, 3), np.uint8), [GroundTruths.empty()] * 4, ["a", "b", "c", "c"], *parts)


# --- trainings -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 8))
def test_batches_are_equally_many_whatever_there_is_to_learn(rows, steps, size):
    """Every training has its steps, full batches, and no row more than once oftener than another."""
    made = list(batches(np.arange(rows), steps, size, np.random.default_rng(0)))
    assert [len(batch) for batch in made] == [size] * steps
    seen = np.bincount(np.concatenate(made), minlength=rows)
    assert seen.max() - seen.min() <= 1


def test_the_learning_rate_rises_and_falls():
    """From near 0 up to its height in the first tenth, and down to a hundredth."""
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, abs=0.01)
    assert 5 <= int(np.argmax(rates)) <= 15
    assert max(rates) > 0.95
    assert rates[-1] < 0.02
    assert np.all(np.diff(rates[10:]) < 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_boxes_move_with_their_picture(seed):
    """A white object on black is where its box is, whatever scale, place and side it got."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[24:40, 16:40] = 255
    truth = GroundTruths(np.array([[16.0, 24, 40, 40]]), np.array([3]), np.zeros(1, np.bool_))
    moved, boxes, classes = augmented(picture, truth, np.random.default_rng(seed))
    inside = moved.max(axis=2) > 0.75 * moved.max()  # neither black nor the border's grey, however bright
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert classes.tolist() == [3]
    assert boxes[0] == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=2.0)


def test_raw_output_becomes_detections():
    """Centre and size become corners, the best class counts, a double is suppressed, and the faint is cut."""
    raw = np.array(
        [[10, 10.5, 40, 5], [10, 10, 40, 5], [8, 8, 4, 2], [8, 8, 4, 2], [0.9, 0.8, 0.1, 0.001], [0.1, 0.1, 0.3, 0.0]],
        np.float32,
    )
    seen = detections_of(raw, ("a", "b"))
    assert seen.xyxy.tolist() == [[6, 6, 14, 14], [38, 38, 42, 42]]
    assert seen.class_id.tolist() == [0, 1]
    assert seen.confidence == pytest.approx([0.9, 0.3])


# --- figures ---------------------------------------------------------------------------------------------------------


def test_differences_are_paired_by_seed():
    """Seeds that only one way has do not count, and the order of the trainings does not matter."""
    ours = [an_outcome(seed=seed, ap50=0.5 + seed / 100) for seed in (2, 0, 1)]
    theirs = [an_outcome(seed=seed, ap50=0.4) for seed in (0, 2, 5)]
    between = difference(ours, theirs)
    assert sorted(between.by_seed) == pytest.approx([0.10, 0.12])
    assert between.value == pytest.approx(0.11)
    assert better([between]) == "2 of 2"
    assert difference(ours, theirs, "recall").value == 0


def test_nested_intervals_hold_both_spreads():
    """Without any spread the interval is a point; seeds alone, and images alone, each widen it as they should."""
    alike = Difference(np.full(9, 0.1), np.full((9, 50), 0.1))
    assert nested([alike]).low == nested([alike]).high == pytest.approx(0.1)
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, (200, 400))
    of_images = nested([Difference(np.zeros(200), noise)])
    assert of_images.high - of_images.low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.15)
    of_seeds = random.normal(0, 1, 200)
    both = nested([Difference(of_seeds, of_seeds[:, None] + noise)])
    assert both.high - both.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 200), rel=0.15)


def test_worlds_count_the_same_in_the_mean():
    """However many seeds each has; and a world without any leaves nothing to be said."""
    one, two = Difference(np.full(2, 0.1), np.full((2, 5), 0.1)), Difference(np.full(8, 0.3), np.full((8, 5), 0.3))
    assert nested([one, two]).value == pytest.approx(0.2)
    assert nested([one, Difference(np.zeros(0), np.zeros((0, 1)))]) is None
    assert nested([]) is None


def test_a_correlation_is_of_differences_to_the_base():
    """A property that says nothing within a seed has none, however it differs between seeds."""
    bases = [an_outcome(seed=seed, ap50=seed / 10, boxes=100 * seed) for seed in range(4)]
    pairs = [(replace(base, boxes=base.boxes + k, ap50=base.ap50 + k / 100), base) for base in bases for k in (1, 2)]
    assert correlation(pairs, lambda one: one.boxes) == pytest.approx(1)
    assert np.isnan(correlation(pairs, lambda one: one.images))


# --- the verdict -----------------------------------------------------------------------------------------------------


def a_run(ap50_by_way, *, seeds=5) -> list[Outcome]:
    """All ways at both budgets, with random at 0.5; ap50_by_way: at equal images and at equal boxes."""
    every = [an_outcome(seed=seed, ap50=0.5) for seed in range(seeds)]
    for way in (*ways.MAIN, *ways.VARIANTS):
        for equal, ap50 in zip((IMAGES, BOXES), ap50_by_way.get(way, (0.5, 0.5))):
            every += [an_outcome(way, equal, seed=seed, ap50=ap50) for seed in range(seeds)]
    return every


@pytest.mark.parametrize(
    ("ap50_by_way", "won"),
    [
        ({}, []),
        ({ways.MISSES: (0.6, 0.5)}, []),
        ({ways.MISSES: (0.6, 0.6)}, [ways.MISSES]),
        ({ways.MISSES: (0.6, 0.6), ways.ENTROPY: (0.7, 0.4)}, []),
        ({ways.MISSES: (0.6, 0.6), ways.ENTROPY: (0.6, 0.55)}, [ways.ENTROPY, ways.MISSES]),
    ],
)
def test_only_who_wins_at_both_budgets_is_the_winner(ap50_by_way, won):
    """Above random at equal images and equal boxes, and never below the entropy sum; else random stays."""
    runs = by_run(a_run(ap50_by_way))
    assert winners(runs, ["by hand"]) == won
    assert ("Random stays the default" in verdict(runs, ["by hand"])) == (not won)


def test_tables_tell_what_there_is_of_a_run_that_was_stopped():
    """Ways that were not trained have no row, random is in both tables, and nothing at all is said to be nothing."""
    some = [one for one in a_run({ways.MISSES: (0.6, 0.5)}) if one.way in (ways.RANDOM, ways.MISSES)]
    pooled, images, boxes, chosen = tables_of(some, ["Trained by hand."])
    assert [row[0] for row in images.rows] == [row[0] for row in boxes.rows] == [ways.RANDOM, ways.MISSES]
    assert images.rows[1][5] == "+10.0 (+10.0 to +10.0)"
    assert "Trained by hand." in pooled.notes
    assert chosen.rows[0][1] == "2.00"
    (nothing,) = bench_retrain_tables.tables_of([], [])
    assert nothing.notes == ["No training is finished."]


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_line_that_a_stop_cut_short_is_left_out(tmp_path):
    """All finished trainings are read as they were written; one without any neighbour has nan."""
    file, done = tmp_path / "w-0.jsonl", [an_outcome(seed=1, apart=float("nan")), an_outcome(ways.MISSES, IMAGES)]
    assert read(file) == []
    lines = [json.dumps(asdict(one)) for one in done]
    file.write_text("\n".join([*lines, lines[0][:200]]), encoding="utf-8")
    again = read(file)
    assert [(one.way, one.equal) for one in again] == [(ways.RANDOM, BOTH), (ways.MISSES, IMAGES)]
    assert again[1] == done[1]
    assert np.isnan(again[0].apart)


def test_what_is_done_is_not_trained_again(tmp_path, monkeypatch):
    """A part whose jobs are all in its file, and one that comes too late, begin no training."""
    monkeypatch.setattr(bench_retrain, "FOLDER", tmp_path)
    monkeypatch.setattr(bench_retrain, "Laboratory", lambda part: pytest.fail("began"))
    late, *_ = parts_of(Options(), 1, -1.0)
    assert bench_retrain.play(late) == 0
    done = replace(late, until=1e12, jobs=((ways.RANDOM, BOTH),))
    done.file.parent.mkdir(parents=True)
    done.file.write_text(json.dumps(asdict(an_outcome())) + "\n")
    assert bench_retrain.play(done) == 0


def test_every_way_is_trained_once_at_each_budget():
    """Random and what has no choice are the same at both; other options are other files."""
    every = [*MAIN_JOBS, *FURTHER_JOBS]
    assert len(set(every)) == len(every) == 3 + 2 * (len(ways.WAYS) - 1)
    assert Options().fingerprint == Options(device="cuda:0").fingerprint != Options().stretched(2).fingerprint
    parts = parts_of(Options(), 6, 1.0)
    seeds = [part.seed for part in parts if part.world == bench_retrain.YARD]
    assert seeds == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 4, 5]
