"""Choosing rules, their probability and their scores, against slow references straight from the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bands import evaluate
from tasks.core.matching import match
from tasks.core.suggestion.evidence import calibration_set
from tasks.core.suggestion.rules import (
    CandidateRule,
    Candidates,
    RuleSet,
    candidate_rules,
    choose_rules,
    draw_probability,
    match_rules,
)
from tasks.core.suggestion.scores import cross_fit
from tests.core.suggestion_yard import ALARM, EASY, HARD, NAMES, NOW, image, worlds


def as_candidates(contents, weight=None):
    seen = [(i, c, s) for i, (objects, alarms) in enumerate(contents) for c, s in [*objects, *alarms] if s is not None]
    image, class_id, confidence = np.array(seen, np.float64).reshape(-1, 3).T
    weight = np.ones(len(contents)) if weight is None else np.array(weight, np.float64)
    return Candidates(image.astype(int), class_id.astype(int), confidence, weight)


def slow_choice(rules, contents, has_miss, share):
    """The rules that the page's greedy search takes."""

    def matches(rule, content):
        seen = [s for c, s in [*content[0], *content[1]] if s is not None and c == rule.class_id]
        return sum(abs(s - rule.threshold) < rule.epsilon for s in seen) >= rule.minimum_objects

    by_rule = [{i for i, content in enumerate(contents) if matches(rule, content)} for rule in rules]
    missed = {i for i, miss in enumerate(has_miss) if miss}
    n, base = len(contents), len(missed) / len(contents)
    chosen, covered = [], set()
    while len(covered) / n <= 1.2 * share:
        ranking = []
        for row, images in enumerate(by_rule):
            new = images - covered
            if len(new) >= 3 and len(new) >= 0.01 * n and len(new & missed) * n > len(missed) * len(new):
                ranking.append((-(len(new & missed) + 10 * base) / (len(new) + 10), -len(new), row))
        if not ranking:
            break
        chosen.append(min(ranking)[2])
        covered |= by_rule[chosen[-1]]
    return chosen


@given(worlds, st.floats(0.01, 1))
@settings(deadline=None, max_examples=60)
def test_rules_are_chosen_as_the_page_says(contents, share):
    """The greedy search takes the same rules in the same order as a search with sets."""
    has_miss = np.array([any(s is None or s < 0.4 for _, s in objects) for objects, _ in contents])
    candidates = as_candidates(contents)
    rules = candidate_rules(np.array([0.4, 0.2]), 0.05)
    matched = match_rules(rules, candidates)
    assert choose_rules(matched, has_miss, matched, candidates, share) == slow_choice(rules, contents, has_miss, share)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([1.0, 2.0, 10.0])), min_size=1, max_size=40),
    st.floats(1e-6, 1),
)
@settings(deadline=None)
def test_the_probability_spends_the_budget(frames, share):
    """p solves mean(1 - (1 - p)^k) = share over weighted frames, and is 1 only where the rules match too little."""
    k, weight = np.array([k for k, _ in frames]), np.array([w for _, w in frames])
    p = draw_probability(k, as_candidates([((), ())] * len(frames), weight), share)
    spent = float((weight * (1 - (1 - p) ** k)).sum() / weight.sum())
    matched = float((weight * (k > 0)).sum() / weight.sum())
    assert 0 < p <= 1
    if matched > share:
        assert spent == pytest.approx(share, rel=1e-4)
    else:
        assert (p, spent) == (1.0, pytest.approx(matched))


@given(st.lists(st.floats(0.005, 1), min_size=1, max_size=4), st.floats(0.01, 0.6))
@settings(deadline=None)
def test_no_rule_reaches_below_the_floor_or_far_above_the_threshold(thresholds, floor):
    """Every candidate rule lies within the floor and the threshold plus 0.05, and takes 1 to 3 objects."""
    rules = candidate_rules(np.array(thresholds), floor)
    assert len(set(rules)) == len(rules)
    for rule in rules:
        assert floor <= rule.low < rule.high <= thresholds[rule.class_id] + 0.05
        assert rule.minimum_objects in (1, 2, 3)
        assert rule.threshold - rule.epsilon == pytest.approx(rule.low, abs=1e-9)
        assert rule.threshold + rule.epsilon == pytest.approx(rule.high, abs=1e-9)


def test_a_second_rule_is_added_up_to_a_fifth_above_the_budget():
    """A first rule that matches 20 of 100 frames leaves room at a budget of 17%, as 20 <= 20.4, and none at 16%."""
    contents = [([(0, 0.12)], [])] * 20 + [([(1, 0.12)], [])] * 10 + [EASY] * 70
    has_miss = np.arange(100) < 30
    candidates = as_candidates(contents)
    matched = match_rules([CandidateRule(0, 0.1, 0.2, 1), CandidateRule(1, 0.1, 0.2, 1)], candidates)
    assert choose_rules(matched, has_miss, matched, candidates, 0.17) == [0, 1]
    assert choose_rules(matched, has_miss, matched, candidates, 0.16) == [0]


def test_no_image_is_scored_by_rules_that_saw_its_cluster():
    """Every image is held out exactly once, with all of its cluster, and only the held-out ones are scored."""
    contents = [HARD, ALARM, EASY] * 40
    clusters = [f"cluster {number // 4}" for number in range(120)]
    matches = match([image(*content) for content in contents])
    evaluation = evaluate(matches, clusters, NAMES, created_at=NOW, replicates=20)
    calibration = calibration_set(matches, clusters, evaluation, replicates=20, seed=0)
    fitted_on = []

    def fit(images):
        """A rule that matches everything, with another probability for each fold."""
        fitted_on.append(images)
        return RuleSet((CandidateRule(0, 0.0, 1.0, 1),), len(fitted_on) / 10)

    scores = cross_fit(calibration, fit)
    assert len(fitted_on) == 5
    assert (np.sum(fitted_on, axis=0) == 4).all()
    for number, images in enumerate(fitted_on, start=1):
        assert not {clusters[i] for i in np.flatnonzero(images)} & {clusters[i] for i in np.flatnonzero(~images)}
        assert scores.kept[~images] == pytest.approx(number / 10)


def test_candidate_rules_use_the_grid_and_the_threshold():
    """Of a threshold of 0.2176 and a floor of 0.1, the edges .1, .15, .2, .218 and .25 are left: ten intervals."""
    rules = candidate_rules(np.array([0.2176]), 0.1)
    assert {edge for rule in rules for edge in (rule.low, rule.high)} == {0.1, 0.15, 0.2, 0.218, 0.25}
    assert len(rules) == 10 * 3


@given(worlds, st.floats(0, 1))
@settings(deadline=None)
def test_credit_adds_up_to_what_the_rules_keep(contents, probability):
    """The first rule whose draw succeeds is credited, so the credited shares add up to the share that is kept."""
    rules = RuleSet(
        (CandidateRule(0, 0.1, 0.3, 1), CandidateRule(0, 0.2, 0.5, 1), CandidateRule(1, 0.05, 0.4, 1)), probability
    )
    candidates = as_candidates(contents)
    credited = rules.credited(candidates)
    assert credited.sum() == pytest.approx(candidates.share(rules.keeps(candidates)))
    first = candidates.share(match_rules(rules.rules, candidates)[0]) * probability
    assert credited[0] == pytest.approx(first)


def test_edges_are_strict_as_on_the_device():
    """A confidence on an edge is outside; between the edges it is inside."""
    rule = CandidateRule(0, 0.25, 0.75, 1)
    contents = [([(0, s)], []) for s in (0.25, 0.2500001, 0.5, 0.7499999, 0.75)]
    assert match_rules([rule], as_candidates(contents)).tolist() == [[False, True, True, True, False]]
