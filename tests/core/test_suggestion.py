"""Suggested settings and their forecast: worked out by hand, as properties, and in a world whose truth is known."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bands import evaluate, misses_by_image, threshold_column
from tasks.core.entities import Suggestion
from tasks.core.errors import DataError, NotEnoughData, SettingsError
from tasks.core.matching import match
from tasks.core.settings import CloseToThreshold, Limit, RandomSampling, SamplingSettings, load_sampling_settings
from tasks.core.suggestion import suggest
from tasks.core.suggestion.rules import CandidateRule, RuleSet, candidates_of_matches
from tests.core.suggestion_yard import (
    BLIND,
    EASY,
    HARD,
    NAMES,
    NOW,
    YARD,
    exploration_of,
    image,
    rules_of,
    suggested,
    traffic_of,
    world,
    worlds,
)


@given(worlds, st.sampled_from([5, 50, 400, 2000]), st.sampled_from([0.1, 0.2, 1.0]))
@settings(deadline=None, max_examples=40)
def test_every_suggestion_can_be_obeyed(contents, budget, exploration):
    """Whatever the images: settings that load without a warning, bound to the model, within the budget."""
    suggestion = suggested(contents, budget=budget, exploration=exploration, model_version="0123456789abcdef")
    loaded, warnings = load_sampling_settings(suggestion.settings.model_dump(), "suggestion", NAMES)
    assert (loaded, warnings) == (suggestion.settings, [])
    assert loaded.model_digest == "0123456789abcdef"
    assert loaded.thresholds == {"car": 0.5, "person": 0.5}
    assert len(rules_of(suggestion)) == len(suggestion.rules)
    share = min(1, budget / 1000)
    assert exploration_of(suggestion) == pytest.approx(share * (exploration if suggestion.rules else 1), rel=1e-5)
    for estimate in dict(suggestion.forecast).values():
        if estimate != 1:  # the schema version
            assert 0 <= estimate.low <= estimate.high
    assert suggestion.forecast.images_a_day.value <= 1000 * share * 1.001
    for rule in suggestion.rules:
        assert rule.new_images_with_miss <= rule.new_images <= rule.images
        assert rule.images_with_miss <= rule.images
        assert rule.low >= 0.05


@given(worlds, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_images_changes_nothing(contents, random):
    """Shuffled images and traffic give the same suggestion to the last digit."""
    clusters = [f"c{number // 2}" for number in range(len(contents))]
    order = random.sample(range(len(contents)), len(contents))
    log = list(traffic_of(contents))
    first = suggested(contents, clusters=clusters, traffic=log)
    second = suggested(
        [contents[i] for i in order], clusters=[clusters[i] for i in order], traffic=[log[i] for i in order]
    )
    assert first == second


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_the_rule_lies_where_the_misses_are():
    """Misses at 0.22 and false alarms at 0.4: one rule, around 0.22, that leaves 0.4 out."""
    suggestion = suggested(YARD)
    (rule,) = suggestion.rules
    assert (rule.class_name, rule.images, rule.images_with_miss) == ("car", 20, 20)
    assert rule.low < 0.22 < rule.high <= 0.4
    (strategy,) = rules_of(suggestion)
    assert abs(0.22 - strategy.threshold) < strategy.epsilon <= abs(0.4 - strategy.threshold)
    assert strategy.selected_class_names == ("car",)


def test_the_budget_is_split_between_rules_and_exploration():
    """100 of 1,000 frames with a fifth at random: 2% exploration, and the rules' 10% of frames at p = 0.8."""
    suggestion = suggested(YARD)
    assert exploration_of(suggestion) == 0.02
    assert suggestion.probability == pytest.approx(0.8, rel=1e-5)
    assert suggestion.forecast.images_a_day_random.value == pytest.approx(20)
    assert suggestion.forecast.images_a_day.value == pytest.approx(1000 * (1 - 0.98 * 0.92), rel=1e-4)


def test_exploration_comes_first_and_has_no_limits():
    """So that its images are not charged to the rules, and its probability is the same for every frame."""
    first, *others = suggested(YARD).settings.sampling_strategies
    assert isinstance(first, RandomSampling)
    assert (first.name, first.limits) == ("exploration", ())
    assert all(isinstance(other, CloseToThreshold) for other in others)


def test_limits_are_three_times_the_expected_images_of_the_strategy():
    """80 images a day: 240 a day and 10 an hour; over 4 devices 60 and 3; never below 1."""

    def limits(**options):
        return rules_of(suggested(YARD, **options))[0].limits

    assert limits() == (Limit(type="hourly", value=10), Limit(type="daily", value=240))
    assert limits(devices=4) == (Limit(type="hourly", value=3), Limit(type="daily", value=60))
    assert limits(budget=0.5) == (Limit(type="hourly", value=1), Limit(type="daily", value=2))


def test_the_traffic_decides_the_probability():
    """In traffic where a fifth instead of a tenth of frames match, half the probability spends the same."""
    log = list(traffic_of([HARD] * 20 + [EASY] * 80))
    suggestion = suggested(YARD, traffic=log)
    assert suggestion.probability == pytest.approx(0.4, rel=1e-5)
    assert not any("stand for the traffic" in warning for warning in suggestion.warnings)


def test_frames_logged_at_a_lower_rate_stand_for_more():
    """50 matching records at rate 1 and 50 others at rate 0.1: one frame in eleven matches."""
    log = [*traffic_of([HARD] * 50, rate=1.0), *traffic_of([EASY] * 50, rate=0.1)]
    assert suggested(YARD, traffic=log).probability == pytest.approx(0.08 * 11, rel=1e-5)


def test_traffic_of_another_model_is_left_out_and_counted():
    """Confidences do not carry over between model versions."""
    log = [*traffic_of([HARD] * 50, model_version="other"), *traffic_of([HARD, EASY] * 50, model_version="this")]
    suggestion = suggested(YARD, traffic=log, model_version="this")
    assert suggestion.probability == pytest.approx(0.16, rel=1e-5)
    assert any("50 records of other model versions" in warning for warning in suggestion.warnings)


def test_without_traffic_the_calibration_images_stand_for_it():
    """And the suggestion says so."""
    assert any("the calibration images stand for the traffic" in warning for warning in suggested(YARD).warnings)


def test_a_budget_above_the_traffic_is_capped():
    """More labels than frames: all frames, with a warning; and the rules cannot spend it."""
    suggestion = suggested(YARD, budget=5000)
    assert exploration_of(suggestion) == 0.2
    assert suggestion.probability == 1.0
    assert any("5000 images a day exceeds the 1000 frames" in warning for warning in suggestion.warnings)
    assert any("will not be spent in full" in warning for warning in suggestion.warnings)


def test_without_misses_everything_is_drawn_at_random():
    """Nothing missed, nothing to look for."""
    suggestion = suggested([EASY] * 100)
    assert (suggestion.rules, suggestion.probability, exploration_of(suggestion)) == ((), 0.0, 0.1)
    assert any("nothing was missed" in warning for warning in suggestion.warnings)
    assert any("whole budget is drawn at random" in warning for warning in suggestion.warnings)
    assert suggestion.forecast.share_with_miss.value == 0
    assert suggestion.forecast.misses_reached.high == 1  # of no misses at all, nothing is known


def test_misses_that_nothing_reveals_are_left_to_chance():
    """All misses blind, without any tell-tale detection: random at the full budget, and all of it out of reach."""
    suggestion = suggested([BLIND] * 20 + [EASY] * 80)
    assert (suggestion.rules, exploration_of(suggestion)) == ((), 0.1)
    assert any("all 20 misses are blind" in warning for warning in suggestion.warnings)
    assert (suggestion.forecast.misses_blind.value, suggestion.forecast.misses_reached.value) == (1.0, 0.0)
    assert suggestion.forecast.share_with_miss == suggestion.forecast.share_with_miss_random


def test_a_tell_tale_of_another_class_makes_a_rule():
    """A miss counts whatever its class: blind cars beside doubtful persons are found by the persons."""
    crowd = ([(0, None)], [(1, 0.28)])
    (rule,) = suggested([crowd] * 20 + [EASY] * 80).rules
    assert (rule.class_name, rule.images_with_miss) == ("person", 20)


def test_rules_that_only_match_what_all_images_show_are_no_rules():
    """A band that every image matches has exactly the base rate and is not taken."""
    suggestion = suggested([([(0, 0.9), (0, None)], [(0, 0.3)])] * 30 + [([(0, 0.9)], [(0, 0.3)])] * 30)
    assert suggestion.rules == ()


def test_one_image_gives_random_settings_and_says_that_little_is_known():
    """No rule can rest on one image, and no interval either."""
    suggestion = suggested([HARD])
    assert (suggestion.rules, exploration_of(suggestion)) == ((), 0.1)
    assert (suggestion.forecast.share_with_miss.low, suggestion.forecast.share_with_miss.high) == (0.0, 1.0)
    assert any("1 calibration images are few" in warning for warning in suggestion.warnings)


def test_no_image_is_not_enough():
    """Without a labelled image there is nothing to suggest from."""
    with pytest.raises(NotEnoughData, match="label 50 or more"):
        suggested([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "a budget of 0 images a day buys nothing"),
        ({"budget": float("nan")}, "budget"),
        ({"frames_a_day": 0}, "0 frames a day"),
        ({"exploration": 0}, "exploration 0 must be above 0"),
        ({"exploration": 1.5}, "at most 1"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(options, message):
    """With the number, and what to do about it."""
    with pytest.raises(SettingsError, match=message):
        suggested(YARD, **options)


def test_an_evaluation_of_other_images_is_refused():
    """Matches and evaluation must be of the same calibration set."""
    matches = match([image(*EASY)] * 3)
    evaluation = evaluate(matches, ["a", "b", "c"], NAMES, created_at=NOW, replicates=20)
    with pytest.raises(DataError, match="2 clusters and an evaluation of 3 images"):
        suggest(matches, ["a", "b"], evaluation, budget=1, frames_a_day=10, created_at=NOW)


def test_what_is_not_fitted_stays_as_it_is_in_force_and_the_diff_names_the_rest():
    """Image size, tags and batches survive; strategies and thresholds change, field by field."""
    current = SamplingSettings(
        sampling_strategies=(
            RandomSampling(name="exploration", type="random", traffic_percentage=0.005),
            RandomSampling(name="old", type="random", limits=(Limit(type="daily", value=5),)),
        ),
        tags=("yard",),
        max_image_size=(720, 1280),
        thresholds={"car": 0.4},
    )
    suggestion = suggested(YARD, current=current)
    assert (suggestion.settings.tags, suggestion.settings.max_image_size) == (("yard",), (720, 1280))
    assert "sampling_strategies.exploration.traffic_percentage: 0.005 -> 0.02" in suggestion.diff
    assert "thresholds.car: 0.4 -> 0.5" in suggestion.diff
    assert "thresholds.person: (absent) -> 0.5" in suggestion.diff
    assert any(
        line.startswith("sampling_strategies.old: {") and line.endswith("-> (absent)") for line in suggestion.diff
    )
    assert any(line.startswith("sampling_strategies.rule-1-car") for line in suggestion.diff)
    assert not any(line.startswith(("tags", "max_image_size")) for line in suggestion.diff)
    assert suggested(YARD).diff == ()
    assert suggested(YARD, current=suggestion.settings).diff == ()


def test_a_suggestion_is_named_by_its_content():
    """Another date leaves the id alone, another budget changes it; the record survives its JSON."""
    suggestion = suggested(YARD)
    assert suggested(YARD, created_at=NOW + timedelta(days=1)).suggestion == suggestion.suggestion
    assert suggested(YARD, budget=101).suggestion != suggestion.suggestion
    assert Suggestion.model_validate_json(suggestion.to_json()) == suggestion


def test_the_forecast_of_a_plain_world_is_what_one_counts():
    """Every hard image is matched and missed; a third of all misses are blind; 2 boxes an image that the rule keeps."""
    forecast = suggested(YARD).forecast
    assert forecast.share_with_miss.value == pytest.approx(1.0)
    assert forecast.share_with_miss_random.value == pytest.approx(30 / 200)
    assert forecast.misses_an_image.value == pytest.approx(1.0)
    assert forecast.misses_a_box.value == pytest.approx(0.5)
    assert forecast.misses_reached.value == pytest.approx(20 / 30)
    assert forecast.misses_blind.value == pytest.approx(10 / 30)


# --- a world whose truth is known ------------------------------------------------------------------------------------


def realised(suggestion, contents, random):
    """Share with a miss of a day's 100 images that the rules collect from fresh frames."""
    matches = match([image(*content) for content in contents])
    has_miss = misses_by_image(matches, threshold_column(suggestion.settings.thresholds, NAMES)) > 0
    rules = tuple(CandidateRule(NAMES.index(r.class_name), r.low, r.high, r.minimum_objects) for r in suggestion.rules)
    kept = RuleSet(rules, suggestion.probability).keeps(candidates_of_matches(matches, 0.05))
    return has_miss[random.choice(len(kept), 100, p=kept / kept.sum())].mean()


@pytest.mark.slow
def test_the_forecast_holds_what_a_fresh_day_brings():
    """In 40 worlds a rule lies at 0.15 to 0.3, the forecast holds the yield in 34 or more, and it beats chance."""
    held, better = 0, 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        suggestion = suggested(list(world(200, random)), seed=seed)
        assert any(rule.class_name == "car" and 0.1 <= rule.low < rule.high <= 0.4 for rule in suggestion.rules)
        share = realised(suggestion, list(world(1500, random)), random)
        forecast = suggestion.forecast
        held += forecast.share_with_miss.low <= share <= forecast.share_with_miss.high
        better += share > forecast.share_with_miss_random.high
    assert held >= 34
    assert better >= 36


@pytest.mark.slow
def test_the_realised_spend_is_the_budget():
    """On fresh frames of the same world, the rules and exploration keep the budget within 10% when the log is long."""
    random = np.random.default_rng(7)
    suggestion = suggested(list(world(200, random)), traffic=list(traffic_of(world(5000, random))))
    matches = match([image(*content) for content in world(5000, random)])
    rules = tuple(CandidateRule(NAMES.index(r.class_name), r.low, r.high, r.minimum_objects) for r in suggestion.rules)
    kept = RuleSet(rules, suggestion.probability).keeps(candidates_of_matches(matches, 0.05))
    spent = (1 - (1 - kept) * (1 - exploration_of(suggestion))).mean()
    assert spent == pytest.approx(0.1, rel=0.1)
