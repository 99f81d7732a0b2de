"""Operating thresholds of least cost against an obvious loop, and what follows from a threshold of 1."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bands import evaluate, misses_by_image, out_of_reach, threshold_column, tile_bands
from tasks.core.bootstrap import cluster_bootstrap
from tasks.core.matching import match
from tasks.core.settings import Costs
from tasks.core.suggestion import suggest
from tasks.core.suggestion.rules import candidate_rules
from tasks.core.thresholds import Cost, FBeta, best_threshold, operating_thresholds, rows_of_class, threshold_interval
from tests.core.suggestion_yard import NAMES, NOW, image

levels = st.sampled_from([0.006, 0.02, 0.05, 0.2, 0.3, 0.45, 0.5, 0.8, 1.0]).map(lambda s: float(np.float32(s)))
objects = st.tuples(st.integers(0, 1), st.none() | levels)
contents = st.tuples(st.lists(objects, max_size=5), st.lists(st.tuples(st.integers(0, 1), levels), max_size=5))
content_lists = st.lists(contents, max_size=6)
prices = st.sampled_from([(1, 1), (10, 1), (1, 10), (0.3, 0.1), (0, 1), (2, 0), (1e-12, 3e-12), (1e300, 2e300)])


def matches_of(contents):
    return match([image(*content) for content in contents])


def slow_costs(contents, class_id, miss, false_alarm):
    """`(cost by achieved confidence, cost of silence)` of a class, in whole numbers of the smallest cost."""
    found = [s for objects, _ in contents for c, s in objects if c == class_id]
    alarms = [s for _, alarms in contents for c, s in alarms if c == class_id]
    unit = min(price for price in (miss, false_alarm) if price)
    miss, false_alarm = round(miss / unit), round(false_alarm / unit)
    achieved = {}
    for t in {*found, *alarms} - {None}:
        missed = sum(s is None or s < t for s in found)
        achieved[t] = miss * missed + false_alarm * sum(s >= t for s in alarms)
    return achieved, miss * len(found)


@given(content_lists, prices)
@settings(deadline=None)
def test_the_threshold_of_least_cost_is_that_of_a_loop(contents, costs):
    """Of all achieved confidences the cheapest, of equal ones the highest; 1 where none beats silence, 0.5 unseen."""
    thresholds = operating_thresholds(matches_of(contents), 2, Cost(*costs))
    for class_id in (0, 1):
        achieved, silence = slow_costs(contents, class_id, *costs)
        if not achieved:
            assert thresholds[class_id] == 0.5
        elif min(achieved.values()) >= silence:
            assert thresholds[class_id] == 1.0
        else:
            assert thresholds[class_id] == min(achieved, key=lambda t: (achieved[t], -t))


@given(content_lists, st.floats(0.01, 100), st.floats(0.01, 100))
@settings(deadline=None)
def test_dearer_misses_never_raise_a_threshold(contents, cheap, dear):
    """The threshold falls, or stays, as a miss costs more against the same false alarm."""
    cheap, dear = sorted((cheap, dear))
    matches = matches_of(contents)
    at_cheap, at_dear = (operating_thresholds(matches, 2, Cost(miss, 1)) for miss in (cheap, dear))
    assert (at_dear <= at_cheap).all()


@pytest.mark.slow
@given(content_lists, prices)
@settings(deadline=None)
def test_costs_are_those_of_the_page(contents, costs):
    """Of each class and of all, at fitted and at given thresholds: misses and false alarms by their cost, an image."""
    costs = Costs(miss=costs[0], false_alarm=costs[1], classes={"person": {"miss": 7, "false_alarm": 2}})
    for thresholds in (None, {"car": 1.0, "person": 0.3}):
        found = evaluated(contents, costs=costs, thresholds=thresholds)
        total = 0.0
        for class_id, (name, c) in enumerate(found.classes.items()):
            miss, false_alarm = costs.of(name)
            alarms = sum(k == class_id and s >= c.threshold for _, alarms in contents for k, s in alarms)
            cost = miss * c.misses + false_alarm * alarms
            total += cost
            assert c.cost_an_image == (pytest.approx(cost / len(contents)) if contents else None)
        assert found.cost_an_image == (pytest.approx(total / len(contents)) if contents else None)
        if len(contents) > 1:
            for low, high in (found.cost_interval, *(c.cost_interval for c in found.classes.values())):
                assert 0 <= low <= high
        else:
            assert found.cost_interval is None


def evaluated(contents, **options):
    clusters = [f"cluster {number}" for number in range(len(contents))]
    return evaluate(matches_of(contents), clusters, NAMES, **{"created_at": NOW, "replicates": 100, **options})


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    st.lists(contents, min_size=2, max_size=4),
    prices.map(lambda costs: Cost(*costs)) | st.sampled_from([FBeta(), FBeta(2)]),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_the_interval_is_that_of_fitting_anew_in_each_replicate(contents, criterion, seed):
    """In every draw of images the fast fit equals `best_threshold` on the images that were drawn."""
    matches = rows_of_class(matches_of(contents), 0)
    for number in range(3):
        bootstrap = cluster_bootstrap([str(n) for n in range(len(contents))], replicates=1, seed=seed + number)
        low, high = threshold_interval(matches, bootstrap, criterion)
        assert low == high or (low, high) == (0.0, 1.0)
        refits = {refit(contents, draw, criterion) for draw in interchanged(bootstrap)}
        assert low in refits or (low, high) == (0.0, 1.0)


def interchanged(bootstrap):
    """The draws that a replicate can mean: its counts may be dealt to the images in any order."""
    return set(permutations(bootstrap.draws[0].astype(int).tolist()))


def refit(contents, counts, criterion):
    drawn = [content for content, count in zip(contents, counts) for _ in range(count)]
    return best_threshold(rows_of_class(matches_of(drawn), 0), criterion)


@pytest.mark.slow
def test_threshold_intervals_of_costs_are_the_percentiles_of_refits():
    """Its ends cut off 2.5% of thresholds fitted anew on 1,000 draws by other random numbers, on either side."""
    random = np.random.default_rng(3)
    contents = [
        tuple([(0, float(np.float32(s))) for s in random.beta(*shape, 2)] for shape in ((3, 2), (2, 3)))
        for _ in range(25)
    ]
    found = evaluated(contents, costs=Costs(miss=2, false_alarm=1), replicates=1000).classes["car"]
    refitted = [
        best_threshold(matches_of([contents[i] for i in draw]), Cost(2, 1))
        for draw in np.random.default_rng(1).integers(0, 25, (1000, 25))
    ]
    refitted = np.array(refitted)
    for end, percentile in zip(found.threshold_interval, (0.025, 0.975)):
        below, upto = (refitted < end - 1e-6).mean(), (refitted < end + 1e-6).mean()
        assert below - 0.02 <= percentile <= upto + 0.02
    assert found.threshold_interval[0] <= found.threshold <= found.threshold_interval[1]


@pytest.mark.slow
def test_cost_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 samples of 40 images, 90 to 99 of 100 intervals hold the cost of the world that they come from."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        missed, alarms = random.poisson(0.5, 40), random.poisson(1.5, 40)
        contents = [([(0, None)] * m, [(0, 0.9)] * a) for m, a in zip(missed, alarms)]
        low, high = evaluated(contents, costs=Costs(miss=4, false_alarm=1), thresholds={}, replicates=400).cost_interval
        held += low <= 4 * 0.5 + 1.5 <= high
    assert 0.90 <= held / 200 <= 0.99


# --- a threshold of 1 ------------------------------------------------------------------------------------------------

UNPAID = [([(0, 0.3), (1, 0.6)], [(0, 0.4), (0, 0.35)])] * 30  # a car costs two false alarms, so it is left


def test_where_nothing_pays_the_device_says_nothing_and_the_record_says_so():
    """The threshold is 1, all objects are missed, and a warning names the class; the class that pays is not named."""
    found = evaluated(UNPAID, costs=Costs(miss=1, false_alarm=1))
    car, person = found.classes["car"], found.classes["person"]
    assert (car.threshold, car.recall, car.precision, car.no_threshold_pays) == (1.0, 0.0, None, True)
    assert (car.cost_an_image, person.cost_an_image) == (1.0, 0.0)
    assert person.threshold == pytest.approx(0.6)
    assert not person.no_threshold_pays
    assert [line for line in found.warnings if "pays" in line] == [
        "no threshold pays for class car: the device says nothing of it"
    ]
    dear = evaluated(UNPAID, costs=Costs(miss=1, false_alarm=1, classes={"car": {"miss": 10}}))
    assert dear.classes["car"].threshold == pytest.approx(0.3)
    assert not any("pays" in line for line in dear.warnings)


def test_detections_of_confidence_1_cannot_be_silenced_and_are_named():
    """They are kept at a threshold of 1 and cost what they cost; the warning does not promise silence."""
    found = evaluated([([], [(0, 1.0)])] * 30, costs=Costs(miss=1, false_alarm=1))
    assert (found.classes["car"].threshold, found.classes["car"].cost_an_image) == (1.0, 1.0)
    assert any(line.endswith("nothing of it, but for detections of confidence 1") for line in found.warnings)
    paying = evaluated([([(0, 1.0)], [(0, 0.9)])] * 30, costs=Costs(miss=1, false_alarm=1)).classes["car"]
    assert (paying.threshold, paying.recall, paying.no_threshold_pays) == (1.0, 1.0, False)


@given(content_lists)
@settings(deadline=None)
def test_at_a_threshold_of_1_bands_and_blind_ones_are_the_misses(contents):
    """Bands tile up to 1; with the blind ones they hold every miss, by class and by image, and no hit."""
    found = evaluated(contents, thresholds={"car": 1.0, "person": 1.0})
    column = threshold_column(found.thresholds, NAMES)
    assert tile_bands(1.0)[-1] == (0.5, 1.0)
    for class_id, c in enumerate(found.classes.values()):
        scores = [s for objects, _ in contents for k, s in objects if k == class_id]
        assert sum(band.misses for band in c.bands) + c.blind == c.misses == sum(s != 1.0 for s in scores)
    by_hand = [sum(s != 1.0 for _, s in objects) for objects, _ in contents]
    assert misses_by_image(matches_of(contents), column).tolist() == by_hand
    assert out_of_reach(matches_of(contents), column, 0.05).sum() == sum(c.out_of_reach for c in found.classes.values())


@pytest.mark.parametrize("strategy", ["expected_misses", "rules"])
def test_suggestions_are_made_where_nothing_pays(strategy):
    """Misses of a class at 1 are expected and reached, rules end there, and the suggestion says what it is by."""
    contents = UNPAID + [([(0, 0.9)], []), ([], [(0, 0.9)] * 2)] * 5 + [([], [])] * 60
    matches, clusters = matches_of(contents), [str(n) for n in range(len(contents))]
    found = evaluated(contents, costs=Costs(miss=1, false_alarm=1))
    assert found.classes["car"].threshold == 1.0
    made = suggest(
        matches, clusters, found, budget=100, frames_a_day=1000, created_at=NOW, strategy=strategy, replicates=100
    )
    assert made.strategy == strategy
    assert made.settings.thresholds["car"] == 1.0
    assert made.forecast.share_with_miss.value > made.forecast.share_with_miss_random.value
    assert sum(band.misses for band in made.reach) == sum(c.misses for c in found.classes.values())
    assert made.reach[-1].high == 1.0
    assert made.criterion == "of least cost (1 a miss, 1 a false alarm)"
    assert "no threshold pays for class car: the device says nothing of it" in made.warnings
    if strategy == "expected_misses":
        assert made.settings.expected_misses.weights["car"][-1] > 0  # of the last bin, from 0.5 to 1
    assert all(rule.high <= 1.0 for rule in made.rules)


def test_rules_of_a_threshold_of_1_end_at_1():
    """None reaches beyond what a confidence can be, and the widest ends there."""
    highs = {rule.high for rule in candidate_rules(np.array([1.0]), 0.05)}
    assert max(highs) == 1.0
