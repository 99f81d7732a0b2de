"""Suggesting expected misses: worked out by hand, as properties, and in worlds whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bands import evaluate, misses_by_image
from tasks.core.entities import Detections, Suggestion
from tasks.core.errors import DataError
from tasks.core.matching import match
from tasks.core.matching.classes_of_images import ClassifiedImage, match_classes
from tasks.core.sampling.observation import CLASSIFICATION, Observation
from tasks.core.sampling.strategies import StrategyTable
from tasks.core.settings import ExpectedMisses, Limit, RandomSampling, SamplingSettings, load_sampling_settings
from tasks.core.suggestion import suggest
from tasks.core.suggestion.evidence import calibration_set
from tasks.core.suggestion.misses import Minimum, cross_fitted_misses, minimum_for
from tasks.core.suggestion.rules import candidates_of_matches
from tasks.core.suggestion.weights import expected_misses, fit_weights
from tests.core.suggestion_yard import (
    ALARM,
    BLIND,
    EASY,
    HARD,
    NAMES,
    NOW,
    YARD,
    exploration_of,
    image,
    suggested,
    traffic_of,
    worlds,
)

SHARES = ("share_with_miss", "share_with_miss_random", "misses_a_box", "misses_reached", "misses_blind")


def by_misses(contents, **options) -> Suggestion:
    return suggested(contents, strategy="expected_misses", **options)


def strategy_of(suggestion) -> ExpectedMisses:
    return suggestion.settings.expected_misses


# --- properties ------------------------------------------------------------------------------------------------------


@given(worlds, st.sampled_from([5, 50, 400, 2000]), st.sampled_from([0.1, 0.2, 1.0]))
@settings(deadline=None, max_examples=25)
def test_every_suggestion_can_be_obeyed(contents, budget, exploration):
    """Whatever the images: settings that load without a warning, bound to the model, and figures that can be."""
    made = by_misses(contents, budget=budget, exploration=exploration, model_version="0123456789abcdef", devices=4)
    loaded, warnings = load_sampling_settings(made.settings.model_dump(), "suggestion", NAMES)
    assert (loaded, warnings) == (made.settings, [])
    assert (loaded.model_digest, loaded.thresholds) == ("0123456789abcdef", {"car": 0.5, "person": 0.5})
    strategy = strategy_of(made)
    assert (strategy is None) == (made.strategy == "random")
    if strategy is not None:
        assert strategy.images_a_day == pytest.approx(min(budget, 1000) / 4)
        assert 0 <= strategy.tie_probability <= 1
        assert all(0 <= weight <= 1 for weights in strategy.weights.values() for weight in weights)
    for forecast in (made.forecast, *(way.forecast for way in made.alternatives)):
        for field in (*SHARES, "misses_collected"):
            estimate = getattr(forecast, field)
            assert 0 <= estimate.low <= estimate.high <= 1
            assert 0 <= estimate.value <= 1
        assert forecast.images_a_day.value <= min(budget, 1000) * 1.001
        assert forecast.misses_collected.value <= 1


@given(worlds, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_the_order_of_images_changes_nothing(contents, random):
    """Shuffled images and traffic give the same suggestion to the last digit."""
    clusters = [f"c{number // 2}" for number in range(len(contents))]
    order = random.sample(range(len(contents)), len(contents))
    log = list(traffic_of(contents, rate=0.3))
    again = {
        "clusters": [clusters[i] for i in order],
        "traffic": [log[i] for i in random.sample(range(len(log)), len(log))],
    }
    assert by_misses(contents, clusters=clusters, traffic=log) == by_misses([contents[i] for i in order], **again)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, 0.5, 1.1]), st.sampled_from([1.0, 2.0, 10.0])), min_size=1, max_size=30
    ),
    st.floats(1e-6, 1),
)
@settings(deadline=None)
def test_the_minimum_spends_the_share_as_far_as_there_are_misses_to_expect(frames, share):
    """By weight the share is kept, or all that expect a miss: those that expect most, and none that expects nothing."""
    misses, weight = np.array([m for m, _ in frames]), np.array([w for _, w in frames])
    minimum = minimum_for(misses, weight, share)
    kept = minimum.keeps(misses)
    assert ((kept >= 0) & (kept <= 1)).all()
    assert not kept[misses == 0].any()
    doubtful = weight[misses > 0].sum() / weight.sum()
    assert kept @ weight / weight.sum() == pytest.approx(min(share, doubtful), rel=1e-5)
    if kept.any():
        least = misses[kept > 0].min()
        assert (kept[misses > least] == 1).all()


def test_a_frame_at_the_minimum_draws_and_one_without_misses_never_does():
    """Above 1, at it, below it; and a minimum of 0 keeps everything but the frames without any."""
    frames = np.array([1.5, 1.0, 0.5, 0.0])
    assert Minimum(1.0, 0.25).keeps(frames).tolist() == [1.0, 0.25, 0.0, 0.0]
    assert Minimum(0.0, 1.0).keeps(frames).tolist() == [1.0, 1.0, 1.0, 0.0]


@given(worlds)
@settings(deadline=None, max_examples=25)
def test_no_image_is_scored_by_weights_that_know_its_labels(contents):
    """The cross-fitted m of each image is that of weights fitted to the other folds, one by one."""
    matches = match([image(*content) for content in contents])
    clusters = [f"c{number // 2}" for number in range(len(contents))]
    thresholds = {"car": 0.5, "person": 0.5}
    evaluation = evaluate(matches, clusters, NAMES, thresholds=thresholds, created_at=NOW, replicates=20)
    calibration = calibration_set(matches, clusters, evaluation, replicates=20, seed=0)
    found = cross_fitted_misses(calibration)
    limits = np.array([0.5, 0.5])
    for number in range(len(contents)):
        others = calibration.fold != calibration.fold[number]
        weights = np.round(fit_weights(matches, others, limits, NAMES, 0.05), 4)
        assert found[number] == expected_misses(candidates_of_matches(matches, 0.05), weights, limits, 0.05)[number]


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_the_strategy_of_a_plain_world_is_what_one_counts():
    """All 20 detections at 0.22 are real, none of 30 at 0.4: m is 1 in a tenth of the frames, of which 8 in 10 go."""
    made = by_misses(YARD)
    (strategy,) = made.settings.sampling_strategies
    assert strategy == strategy_of(made)
    assert strategy.weights == {"car": (0, 0, 0, 1, 0, 0), "person": (0, 0, 0, 1, 0, 0)}
    assert (strategy.minimum_expected_misses, strategy.tie_probability) == (1.0, 0.8)
    assert (strategy.images_a_day, strategy.exploration) == (100, 0.2)
    assert strategy.limits == (Limit(type="daily", value=300),)
    assert (made.strategy, made.way, made.rules) == ("expected_misses", "by expected misses", ())


def test_the_forecast_of_a_plain_world_is_what_one_counts():
    """Every chosen image has its one miss among two boxes; a third of all misses are blind."""
    forecast = by_misses(YARD).forecast
    assert forecast.share_with_miss.value == pytest.approx(1.0)
    assert forecast.share_with_miss_random.value == pytest.approx(30 / 200)
    assert forecast.misses_an_image.value == pytest.approx(1.0)
    assert forecast.misses_a_box.value == pytest.approx(0.5)
    assert forecast.misses_reached.value == pytest.approx(20 / 30)
    assert forecast.misses_blind.value == pytest.approx(10 / 30)
    kept = 1 - 0.98 * 0.2  # of the reachable misses, by choice or at random
    assert forecast.misses_collected.value == pytest.approx((20 * kept + 10 * 0.02) / 30, rel=1e-4)
    assert forecast.images_a_day.value == 100
    assert forecast.images_a_day_random.value == pytest.approx(20)


def test_where_the_misses_are_and_what_an_image_shows_of_them():
    """Ten blind ones, which the choice leaves out, and twenty between 0.2 and 0.3, one in every chosen image."""
    reach = {(row.low, row.high): row for row in by_misses(YARD).reach if row.misses}
    blind, seen = reach[None, None], reach[0.2, 0.3]
    assert (blind.misses, blind.misses_an_image, blind.misses_an_image_random) == (10, 0, 0.05)
    assert (seen.misses, seen.misses_an_image, seen.misses_an_image_random) == (20, 1, 0.1)


@given(worlds)
@settings(deadline=None, max_examples=20)
def test_every_miss_is_in_one_band(contents):
    """The bands and the blind ones hold all misses once."""
    made = by_misses(contents)
    matches = match([image(*content) for content in contents])
    misses = misses_by_image(matches, np.array([0.5, 0.5]))
    assert sum(row.misses for row in made.reach) == misses.sum()
    assert sum(row.misses_an_image_random for row in made.reach) == pytest.approx(misses.mean(), abs=1e-5)
    assert sum(row.misses_an_image for row in made.reach) == pytest.approx(
        made.forecast.misses_an_image.value, abs=1e-4
    )


def test_one_suggestion_shows_every_way():
    """The one that was asked for, and the others beside it, with the same figures whichever is chosen."""
    made = {way: suggested(YARD, strategy=way) for way in ("expected_misses", "rules", "random")}
    for way, suggestion in made.items():
        assert suggestion.strategy == way
        others = {other.strategy: other for other in suggestion.alternatives}
        assert set(others) == {"expected_misses", "rules"} - {way}
        for name, other in others.items():
            assert (other.forecast, other.settings) == (made[name].forecast, made[name].settings)
            assert (other.rules, other.reach, other.probability) == (
                made[name].rules,
                made[name].reach,
                made[name].probability,
            )
    assert exploration_of(made["random"]) == 0.1
    assert made["random"].forecast.share_with_miss == made["random"].forecast.share_with_miss_random


def test_the_budget_is_shared_by_the_devices():
    """100 images a day over 4 devices are 25 each, with a limit of three times that."""
    strategy = strategy_of(by_misses(YARD, devices=4))
    assert (strategy.images_a_day, strategy.limits) == (25, (Limit(type="daily", value=75),))


def test_the_minimum_is_that_of_the_traffic():
    """Where a fifth instead of a tenth of frames expects a miss, 4 in 10 of them are enough; rates weigh."""
    log = list(traffic_of([HARD] * 20 + [EASY] * 80))
    assert strategy_of(by_misses(YARD, traffic=log)).tie_probability == pytest.approx(0.4)
    log = [*traffic_of([HARD] * 50, rate=1.0), *traffic_of([EASY] * 50, rate=0.1)]
    assert strategy_of(by_misses(YARD, traffic=log)).tie_probability == pytest.approx(0.08 * 11)


def test_the_diff_names_what_changes():
    """Field by field, against the settings in force; none against itself."""
    random = RandomSampling(name="random", type="random", traffic_percentage=0.1)
    current = SamplingSettings(sampling_strategies=(random,), tags=("yard",), thresholds={"car": 0.4})
    made = by_misses(YARD, current=current)
    assert made.settings.tags == ("yard",)
    assert "thresholds.car: 0.4 -> 0.5" in made.diff
    assert any(line.startswith("sampling_strategies.random: {") for line in made.diff)
    later = by_misses(YARD, current=made.settings, budget=50)
    assert "sampling_strategies.expected-misses.images_a_day: 100.0 -> 50.0" in later.diff
    assert by_misses(YARD, current=made.settings).diff == ()


def test_a_suggestion_of_an_earlier_version_can_still_be_read():
    """Without strategy, reach and other ways it is one of rules, or at random where it has none."""
    made = suggested(YARD)
    new = {"strategy", "reach", "alternatives"}
    earlier = Suggestion.model_validate(
        made.model_dump(exclude={**dict.fromkeys(new, True), "forecast": {"misses_collected"}})
    )
    assert (earlier.strategy, earlier.chooses_by, earlier.alternatives) == ("rules", "rules", ())
    assert earlier.forecast.misses_collected is None
    assert earlier.model_copy(update={"rules": ()}).chooses_by == "random"
    assert Suggestion.model_validate_json(made.to_json()) == made


# --- too little to go by ---------------------------------------------------------------------------------------------


def test_without_a_doubtful_detection_everything_is_drawn_at_random():
    """Nothing missed, or all misses blind: no frame is expected to hold one, and the suggestion says so."""
    for contents, words in (
        ([EASY] * 100, "nothing was missed"),
        ([BLIND] * 20 + [EASY] * 80, "all 20 misses are blind"),
    ):
        made = by_misses(contents)
        assert (made.strategy, strategy_of(made), exploration_of(made)) == ("random", None, 0.1)
        assert any(words in warning for warning in made.warnings)
        assert any("the whole budget is drawn at random" in warning for warning in made.warnings)
    assert made.forecast.misses_blind.value == 1
    assert made.forecast.misses_collected.value == pytest.approx(0.1)


def test_false_alarms_alone_expect_no_miss():
    """Doubtful detections that are never objects weigh nothing."""
    assert by_misses([ALARM] * 50 + [BLIND] * 10).strategy == "random"


def test_a_budget_above_the_traffic_is_capped():
    """More labels than frames: every doubtful frame, and a warning that the rest cannot be spent."""
    made = by_misses(YARD, budget=5000)
    strategy = strategy_of(made)
    assert (strategy.images_a_day, strategy.minimum_expected_misses) == (1000, 0)
    assert made.forecast.images_a_day.value == pytest.approx(1000 * (1 - 0.8 * 0.9))
    assert any("5000 images a day exceeds the 1000 frames" in warning for warning in made.warnings)
    assert any("will not be spent in full" in warning for warning in made.warnings)


def test_a_budget_that_is_all_exploration_chooses_nothing():
    """With exploration 1 there is nothing to choose, and nobody is told otherwise."""
    made = by_misses(YARD, exploration=1.0)
    assert (made.strategy, exploration_of(made)) == ("random", 0.1)


def test_one_image_tells_nothing_of_others():
    """No fold is left to fit to, so intervals reach from nothing to everything."""
    made = by_misses([HARD])
    assert (made.forecast.share_with_miss.low, made.forecast.share_with_miss.high) == (0, 1)
    assert any("1 calibration images are few" in warning for warning in made.warnings)


def test_classes_of_which_nothing_is_known_are_named():
    """Without a labelled object, and with labelled ones that no detection took, whose threshold no F can place."""
    unlabelled = by_misses(YARD)
    assert any("no labelled object of person" in warning for warning in unlabelled.warnings)
    unseen = by_misses([*YARD, ([(1, None)], [])])
    assert any("no true detection of person" in warning for warning in unseen.warnings)
    assert not any("no labelled object" in warning for warning in unseen.warnings)


def test_two_models_in_one_log_are_refused_unless_the_evaluation_says_which_one():
    """Confidences do not carry over: without a digest nobody can tell which records to leave out."""
    log = [*traffic_of([HARD] * 5, model_version="a"), *traffic_of([EASY] * 5, model_version="b")]
    with pytest.raises(DataError, match=r"of 2 models \('a', 'b'\)"):
        by_misses(YARD, traffic=log)
    made = by_misses(YARD, traffic=log, model_version="a")
    assert any("5 records of other model versions" in warning for warning in made.warnings)


def test_a_choice_that_is_no_better_than_chance_is_said_to_be_none():
    """Where doubtful detections stand in images without misses as often as in others."""
    alarm = ([(0, 0.9)], [(1, 0.2)])
    made = by_misses([BLIND] * 150 + [alarm] * 48 + [HARD] * 2)
    assert made.strategy == "expected_misses"
    assert any("no better than chance" in warning for warning in made.warnings)
    assert not any("no better than chance" in warning for warning in by_misses(YARD).warnings)


def test_a_budget_too_small_to_be_seen_in_the_images_is_told_from_the_ten_best():
    """1 frame in 2,500, of 200 images: ten are scored, lifted by what the traffic expects of its best, with a word."""
    rich = ([(0, 0.9), (0, 0.22), (0, 0.24), (0, 0.26)], [])
    log = list(traffic_of([rich] * 10 + [HARD] * 500 + [EASY] * 1490))
    made = by_misses([*YARD[:-4], *[rich] * 4], traffic=log, budget=0.5)
    assert any("fewer than 10 of the calibration images" in warning for warning in made.warnings)
    ten = by_misses([*YARD[:-4], *[rich] * 4], traffic=log, budget=62.5)  # five in a hundred, ten of the images
    assert made.forecast.misses_an_image.value > 1.5 * ten.forecast.misses_an_image.value
    assert 0 < made.forecast.misses_collected.value < 0.02


# --- classification --------------------------------------------------------------------------------------------------


def test_of_a_classifier_the_top_class_is_no_doubtful_detection():
    """Half of the images whose second class has 0.25 are of that class: m is its weight, as the device has it too."""
    doubtful, sure = np.array([0.7, 0.25]), np.array([0.95, 0.05])
    results = [ClassifiedImage(doubtful, np.array([n % 2])) for n in range(40)]
    results += [ClassifiedImage(sure, np.array([0]))] * 160
    matches = match_classes(results, top_only=True)
    clusters = [f"c{number // 2}" for number in range(200)]
    evaluation = evaluate(matches, clusters, NAMES, created_at=NOW, replicates=50, task="classification")
    made = suggest(
        matches, clusters, evaluation, budget=100, frames_a_day=1000, created_at=NOW, strategy="expected_misses"
    )
    weights = strategy_of(made).weights
    assert weights["person"][3] == 0.5
    device = StrategyTable(made.settings, NAMES)
    for probability, expected in ((doubtful, 0.5), (sure, weights["person"][1])):
        detections = Detections(np.zeros((2, 4), np.float32), probability, np.array([0, 1]), NAMES)
        observation = Observation("f", "d", "c", NOW, detections, task=CLASSIFICATION, top_classes=("car",))
        assert device.look(observation).expected_misses == expected
    assert made.forecast.share_with_miss.value == pytest.approx(0.5, abs=0.15)
    assert made.forecast.share_with_miss_random.value == pytest.approx(0.1)
    assert sum(row.misses for row in made.reach) == 20
