"""The yield bench, cross-checked by worlds whose answer is known by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.entities import Detections, LabelBox
from tasks.core.errors import DataError
from tasks.core.settings import RandomSampling, SamplingSettings
from tasks.core.suggestion.misses import minimum_for
from tests.benchmarks import bench_yield, bench_yield_sets, bench_yield_tables
from tests.benchmarks.bench_yield_contenders import RULES, any_detection, drawn, highest, known_of, part_of
from tests.benchmarks.bench_yield_days import _recall, days, device_view, even_hours, replay
from tests.benchmarks.bench_yield_figures import (
    Figures,
    ForecastRecord,
    Sums,
    interval_scores,
)
from tests.benchmarks.bench_yield_orders import SHARES, Order, assert_disjoint, orders
from tests.benchmarks.bench_yield_sets import LabelledPicture, LabelledSet
from tests.core.suggestion_yard import ALARM, BLIND, EASY, HARD, NAMES, image


def a_set(contents, *, clusters=None, later=None) -> LabelledSet:
    """A labelled set of images as `suggestion_yard.image` takes them; one cluster each unless said."""
    return LabelledSet(
        name="by hand",
        model_version="m",
        class_names=NAMES,
        results=[image(*content) for content in contents],
        clusters=clusters or [f"cluster {row}" for row in range(len(contents))],
        site=[""] * len(contents),
        later=later,
    )


def fitted(contents, labelled):
    """What is known where calibration and traffic are images like `contents`."""
    past = a_set(contents)
    return known_of(labelled, part_of(past, np.arange(len(contents))), part_of(past, np.arange(len(contents))))


def figures_of(labelled, known, share, names=tuple(RULES)) -> Figures:
    stream = part_of(labelled, np.arange(len(labelled.results)))
    sums = {name: Sums.of(labelled) for name in names}
    for name in names:
        sums[name].add(known, stream, RULES[name](known, share), share)
    return Figures(labelled, sums, replicates=200)


# In HARD the model's candidate lies far below the threshold, ALARM holds a false detection in the popular band,
# a BLIND image shows nothing of its miss, and in EASY all is found: a tenth, 15%, 5% and 70%.
WORLD = [HARD] * 20 + [ALARM] * 30 + [BLIND] * 10 + [EASY] * 140


# --- rules, in a world whose answer is known -------------------------------------------------------------------------


def test_each_rule_has_the_yield_that_its_world_gives_it():
    """Expected misses keep the hard images alone, the popular band only false alarms, and chance the base rate."""
    labelled = a_set(WORLD)
    of = figures_of(labelled, fitted(WORLD, labelled), share=0.1)
    assert of.of("random", "yield").value == pytest.approx(30 / 200)
    assert of.of("expected misses", "yield").value == 1.0
    assert of.of("expected misses", "coverage").value == pytest.approx(20 / 30)
    assert of.of("expected misses", "spent").value == pytest.approx(1.0)
    assert of.of("0.3 to 0.5", "yield").value == 0.0
    assert of.of("suggested rules", "yield").value == 1.0
    assert of.times("expected misses", "random", "yield").value == pytest.approx(200 / 30)
    assert of.more("expected misses", "0.3 to 0.5", "yield").value == 1.0


def test_where_confidence_says_nothing_no_rule_beats_chance():
    """All misses blind and in images like the others: yields are the base rate, and no interval excludes it."""
    contents = [([(0, 0.9), (0, None)], [(0, 0.2), (0, 0.4)]), ([(0, 0.9)], [(0, 0.2), (0, 0.4)])] * 60
    labelled = a_set(contents)
    of = figures_of(labelled, fitted(contents, labelled), share=0.2)
    for rule in RULES:
        if of.of(rule, "spent").value > 0:
            difference = of.more(rule, "random", "yield")
            assert difference.value == pytest.approx(0.0)
            assert difference.low <= 0 <= difference.high


def test_a_false_alarm_below_the_threshold_weighs_little():
    """Entropy takes false alarms near 0.5 for doubt; expected misses have learnt that they are nothing."""
    alarms = ([(0, 0.9)], [(0, 0.45), (0, 0.46), (0, 0.47)])
    contents = [HARD] * 20 + [alarms] * 30 + [EASY] * 50
    labelled = a_set(contents)
    of = figures_of(labelled, fitted(contents, labelled), share=0.2)
    assert of.of("expected misses", "yield").value == 1.0
    assert of.of("entropy sum", "yield").value == 0.0


def test_figures_by_hand():
    """Two images kept with probability 1 and a half: every figure is the sum that its name says."""
    labelled = a_set([([(0, 0.1), (0, 0.1), (0, 0.9)], []), ([(0, 0.9)], []), ([(0, 0.1)], [])])
    known = fitted([EASY] * 3, labelled)
    stream = part_of(labelled, np.arange(3))
    assert known.misses(stream).tolist() == [2, 0, 1]
    sums = Sums.of(labelled)
    sums.add(known, stream, lambda part: np.array([1.0, 0.5, 0.0]), 0.25)
    of = Figures(labelled, {"x": sums}, replicates=50)
    assert of.of("x", "yield").value == pytest.approx(1 / 1.5)
    assert of.of("x", "misses an image").value == pytest.approx(2 / 1.5)
    assert of.of("x", "misses a box").value == pytest.approx(2 / 3.5)
    assert of.of("x", "coverage").value == pytest.approx(2 / 3)
    assert of.of("x", "spent").value == pytest.approx(1.5 / 0.75)
    assert of.spread("x") == pytest.approx((2.0, 2.0))


def test_rules_are_compared_in_the_same_draws():
    """A rule beside itself differs by nothing, in every replicate."""
    labelled = a_set(WORLD)
    of = figures_of(labelled, fitted(WORLD, labelled), 0.1, ("random", "0.3 to 0.5"))
    same = of.more("random", "random", "yield")
    assert (same.low, same.value, same.high) == (0, 0, 0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_the_budget_is_kept_on_the_traffic_and_zero_is_never_kept(scores, share):
    """The quantile with its tie probability spends the budget, or all that has a score; as the product's own does."""
    scores = np.array(scores, np.float64) / 2
    part = SimpleNamespace(images=len(scores))
    kept = highest(lambda _: scores, SimpleNamespace(traffic=part), share)(part)
    assert kept.sum() == pytest.approx(min(share * len(scores), (scores > 0).sum()))
    assert not kept[scores == 0].any()
    minimum = minimum_for(scores, np.ones(len(scores)), share)
    np.testing.assert_allclose(kept, minimum.keeps(scores), atol=1e-5)


def test_a_rule_that_matches_too_little_keeps_all_of_it():
    """The draw's probability is at most 1, and a rule that never matched keeps nothing."""
    labelled = a_set(WORLD)
    known = fitted(WORLD, labelled)
    stream = part_of(labelled, np.arange(len(WORLD)))

    def alarms(part):
        return any_detection(part, part.candidates.confidence, 0.4, 0.1)

    assert drawn(alarms, known, 0.3)(stream).max() == 1.0
    assert drawn(alarms, known, 0.075)(stream).max() == pytest.approx(0.5)
    assert not drawn(lambda part: np.zeros(part.images, bool), known, 0.3)(stream).any()


# --- orders ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 3), min_size=30, max_size=40), st.booleans(), st.integers(0, 1000))
def test_no_cluster_is_in_two_parts_and_every_image_is_in_one(sizes, has_time, seed):
    """Whole clusters, all images used once, in about the shares; where there is a time, what is learnt is earlier."""
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    later = numbers % 2 == 1
    labelled = LabelledSet(
        name="by hand",
        model_version="m",
        class_names=NAMES,
        results=[image(*EASY)] * len(numbers),
        clusters=[f"cluster {number}" for number in numbers],
        site=[""] * len(numbers),
        later=later if has_time else None,
    )
    (order,) = orders(labelled, 1, seed)
    rows = np.concatenate(list(order.parts.values()))
    assert sorted(rows.tolist()) == list(range(len(numbers)))
    parts = [set(numbers[part]) for part in order.parts.values()]
    assert sum(map(len, parts)) == len(sizes)
    whole = [(~later).sum()] * 2 + [later.sum()] * 2 if has_time else [len(numbers)] * 4
    shares = (0.6, 0.4, 0.7, 0.3) if has_time else SHARES
    for part, share, images in zip(order.parts.values(), shares, whole):
        assert abs(len(part) - share * images) <= 3
    if has_time:
        assert not later[np.concatenate([order.calibration, order.traffic])].any()
        assert later[np.concatenate([order.verification, order.test])].all()


def test_parts_that_overlap_are_refused():
    """A shared image, a shared cluster, an empty part and a calibration that is later: each is named."""
    labelled = a_set([EASY] * 5, clusters=["a", "b", "c", "d", "a"], later=np.array([0, 0, 1, 1, 0], bool))
    rows = [np.array([row]) for row in range(5)]
    assert_disjoint(Order(*rows[:4]), labelled)
    with pytest.raises(DataError, match="a is in calibration and in test"):
        assert_disjoint(Order(rows[0], rows[1], rows[2], rows[4]), labelled)
    with pytest.raises(DataError, match="no image is left for traffic"):
        assert_disjoint(Order(rows[0], rows[0][:0], rows[2], rows[3]), labelled)
    with pytest.raises(DataError, match="must be earlier"):
        assert_disjoint(Order(rows[2], rows[1], rows[0], rows[3]), labelled)


# --- forecasts -------------------------------------------------------------------------------------------------------


def test_an_interval_is_scored_by_its_width_and_by_what_it_misses():
    """Inside: the width. Outside: forty times the distance more, at 95%."""
    scores = interval_scores(np.array([(0.2, 0.6)] * 3), np.array([0.5, 0.7, 0.1]))
    assert scores == pytest.approx([0.4, 4.4, 4.4])
    record = ForecastRecord([(0.2, 0.6), (0.2, 0.6)], [0.6, 0.61])
    assert (record.days, record.held, record.width) == (2, 1, pytest.approx(0.4))


# --- days ------------------------------------------------------------------------------------------------------------


def test_recall_is_weighted_by_one_over_p():
    """One image kept for sure and one of two kept at a half: the weighted recall is that of all four objects."""
    assert _recall(np.array([1, 0]), np.array([1, 1]), np.array([1.0, 2.0])) == pytest.approx(2 / 3)
    assert np.isnan(_recall(np.array([0]), np.array([0]), np.ones(1)))


def test_a_device_is_replayed_as_it_would_decide():
    """A random strategy keeps its share, with its probability; the same seed gives the same frames."""
    strategy = RandomSampling(name="r", type="random", traffic_percentage=0.25)
    frames = device_view(a_set([EASY] * 400))
    assert all((one.confidence >= 0.05).all() for one in frames)
    one, two = (
        replay(SamplingSettings(sampling_strategies=(strategy,)), frames, even_hours(400), seed=3) for _ in range(2)
    )
    assert one.kept.tolist() == two.kept.tolist()
    assert 70 <= one.kept.sum() <= 130
    assert set(one.probability) == {0.25}
    assert not one.chosen.any()  # all by exploration


def test_a_devices_days_spend_their_budget_and_recall_is_what_it_is():
    """Three days, one of them with a step: a tenth of the frames, and the known recall of the world."""
    labelled = a_set(WORLD)
    known, stream = fitted(WORLD, labelled), part_of(labelled, np.arange(len(WORLD)))
    suggested = bench_yield.suggestion_of(known, 0.1, images=1000, replicates=50).settings
    played = list(days(suggested, known, stream, device_view(labelled), frames=1000, seed=1))
    assert [day.kind for day in played] == ["first day", "second day", "threefold from noon"]
    for day in played:
        assert day.spent == pytest.approx(1, abs=0.15)
        assert abs(day.weighted - day.recall) < abs(day.unweighted - day.recall)


# --- the bench itself -------------------------------------------------------------------------------------------------


def test_detections_are_computed_once(tmp_path, monkeypatch):
    """The second time they come from the file; other images or another model have a file of their own."""
    monkeypatch.setattr(bench_yield_sets, "FOLDER", tmp_path)
    asked = []

    class Detector:
        class_names, model_version = NAMES, "m"

        def detect(self, pixels):
            asked.append(pixels)
            return Detections(
                np.array([[0, 0, 5, 5]] * pixels, np.float32).reshape(-1, 4),
                np.full(pixels, 0.5, np.float32),
                np.zeros(pixels, np.int64),
                NAMES,
            )

    pictures = [
        LabelledPicture(lambda n=n: n, (LabelBox(class_name="car", xyxy=(0, 0, 5, 5)),), f"c{n}") for n in (2, 0, 1)
    ]
    first, again = (bench_yield_sets._seen("by hand", Detector(), pictures, "f") for _ in range(2))
    assert asked == [2, 0, 1]
    assert [len(one.detections) for one in again.results] == [2, 0, 1]
    assert [one.detections.confidence.tolist() for one in first.results] == [[0.5, 0.5], [], [0.5]]
    bench_yield_sets._seen("by hand", Detector(), pictures, "other")
    assert len(asked) == 6
    with pytest.raises(DataError, match="detections of 3 images for 2"):
        bench_yield_sets._seen("by hand", Detector(), pictures[:2], "f")


def test_the_bench_tells_targets_nulls_and_days(monkeypatch):
    """A world by hand through everything: every table has its rows, and its sentences name what was reached."""
    monkeypatch.setattr(bench_yield, "REPLICATES", 100)
    monkeypatch.setattr(bench_yield, "DAY_FRAMES", 300)
    labelled = a_set(WORLD)
    tables = list(bench_yield.tables(2, [labelled]))
    assert [table.title for table in tables] == [
        f"{what}: by hand" for what in ("Yield", "Nulls", "Forecasts", "Days of a device")
    ]
    yields, nulls, forecasts, played = tables
    assert len(yields.rows) == len(RULES) * len(bench_yield.SHARES)
    assert "target 1.5, reached" in yields.notes[2]
    assert "target 12, reached" in yields.notes[3]
    assert all(len(row) == len(nulls.columns) for row in nulls.rows)
    assert {"expected misses", "rules"} <= {row[1] for row in forecasts.rows}
    assert all(len(row) == len(forecasts.columns) for row in forecasts.rows)
    assert len(played.rows) == 3 * len(bench_yield.SHARES)
    assert "Spend within 10%" in played.notes[1]


def test_a_target_that_no_rule_can_reach_says_so():
    """Where seven of ten random images have a miss, one and a half times that is more than all of them."""
    hard = ([(0, 0.9), (0, 0.22)], [(0, 0.23), (0, 0.24), (0, 0.25)])
    contents = [hard] * 70 + [ALARM] * 30
    labelled = a_set(contents)
    of = figures_of(labelled, fitted(contents, labelled), share=0.1)
    first, *others = bench_yield_tables.targets(of)
    assert "target 1.5, missed" in first
    assert first.endswith(", and beyond what is possible here.")
    assert not any("possible" in other for other in others)
    assert bench_yield_tables.ceiling(of).endswith("a yield of 1.43 times that.")
    nothing = figures_of(a_set([EASY] * 30), fitted([EASY] * 30, a_set([EASY] * 30)), share=0.1)
    assert list(bench_yield_tables.targets(nothing)) == []
    assert bench_yield_tables.ceiling(nothing) == "No image has a miss."
