"""The plots of a report: that they show the figures, all of them, and legibly."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.adapters import report
from tasks.adapters.report import plots
from tasks.adapters.report.progress_plot import progress_plot
from tests.adapters.report_figures import CLASSES, beside, by_expected_misses, fabricated, suggested, told
from tests.adapters.written import assert_nothing_collides, assert_nothing_is_cut, texts_of


@pytest.mark.parametrize("names", [("car",), CLASSES, tuple(f"class number {i}" for i in range(24))])
def test_nothing_that_is_written_in_the_bands_plot_collides_or_is_cut(tmp_path, drawn, names):
    """With one class, with three and with 24 long names no two texts overlap and none leaves the picture."""
    evaluation, _ = fabricated(names, images=150)
    plots.bands_plot(evaluation, tmp_path / "bands.png")
    texts = texts_of(drawn[-1])
    assert_nothing_is_cut(drawn[-1], texts)
    assert_nothing_collides(texts)


def test_the_bands_plot_shows_every_miss_once(tmp_path, drawn):
    """The numbers in the cells of a class add up to its misses, and the total at the end of the row says the same."""
    evaluation, matches = fabricated(images=150)
    plots.bands_plot(evaluation, tmp_path / "bands.png")
    for name, of_class in evaluation.classes.items():
        assert sum(plots.cell_counts(of_class)) == of_class.misses
        rows = matches.truths.class_id == CLASSES.index(name)
        s = np.nan_to_num(matches.truths.confidence[rows], nan=-1)
        assert of_class.misses == (s < of_class.threshold).sum() > 0
    written = [text.get_text() for text in drawn[-1].axes[0].texts]
    for of_class in evaluation.classes.values():
        assert str(of_class.misses) in written
        assert any(text.startswith(f"of {of_class.ground_truths},") for text in written)


def test_precision_and_recall_equal_a_plain_count():
    """Every point of the curve equals precision and recall counted one threshold at a time."""
    _, matches = fabricated()
    for class_id in range(len(CLASSES)):
        recall, precision, threshold = plots.precision_recall_curve(matches, class_id)
        of_class = matches.detections.class_id == class_id
        truths = (matches.truths.class_id == class_id).sum()
        assert len(threshold) == of_class.sum() > 10
        for r, p, t in zip(recall, precision, threshold):
            kept = of_class & (matches.detections.confidence >= t)
            true = (kept & matches.detections.is_true).sum()
            assert (r, p) == pytest.approx((true / truths, true / kept.sum()))


def test_the_same_figures_give_the_same_bytes(tmp_path):
    """A plot of the same evaluation is the same file, so that a repeated upload is no new object."""
    evaluation, _ = fabricated()
    first = plots.bands_plot(evaluation, tmp_path / "a.png").read_bytes()
    assert plots.bands_plot(evaluation, tmp_path / "b.png").read_bytes() == first


@pytest.mark.parametrize("rules", [0, 1, 7])
def test_the_suggestion_plot_takes_any_number_of_rules(tmp_path, drawn, rules):
    """None, one or many rules: each is named with its counts, and nothing leaves the picture."""
    evaluation, _ = fabricated()
    report.suggestion_plot(suggested(rules), evaluation, tmp_path / "suggestion.png")
    texts = texts_of(drawn[-1])
    assert_nothing_is_cut(drawn[-1], texts)
    written = [text for text, _ in texts]
    assert sum(bool(re.fullmatch(r"\d+ of \d+", text)) for text in written) == rules
    assert ("no rule beats a random draw" in written) == (rules == 0)


@pytest.mark.parametrize("strategy", ["expected_misses", "random", "rules"])
def test_the_suggestion_plot_shows_where_the_misses_are_and_every_way(tmp_path, drawn, strategy):
    """Each band by its misses, what is out of a device's reach in words, and each way by its name and figures."""
    evaluation, _ = fabricated()
    rules = suggested(2).rules if strategy == "rules" else ()
    other = beside("expected_misses" if strategy == "rules" else "rules")
    made = by_expected_misses(strategy=strategy, rules=rules, alternatives=(other,))
    report.suggestion_plot(made, evaluation, tmp_path / "suggestion.png")
    texts = texts_of(drawn[-1])
    assert_nothing_is_cut(drawn[-1], texts)
    written = [text for text, _ in texts]
    assert {"Where the 52 misses are", "25  (48%)", "16  (31%)"} <= set(written)
    assert {"model saw nothing there", "2% to 5% sure: not kept", "model was 10% to 44% sure"} <= set(written)
    assert {other.way, "at random"} <= set(written)
    assert (made.way in written) is (strategy != "random" or made.way == "at random")
    assert ("41" in written) is (strategy != "random")  # of a hundred chosen images
    assert "8" in written  # of a hundred random ones
    assert sum(bool(re.fullmatch(r"\d+ of \d+", text)) for text in written) == len(rules)


def test_progress_needs_two_figures(tmp_path):
    """A run with a single known figure has no progress plot; with before and after there is one."""
    story = told(1)
    single = replace(story.rounds[0], ap50_before=None, recall_before=None)
    assert progress_plot(replace(story, rounds=[single]), tmp_path / "none.png") is None
    assert progress_plot(story, tmp_path / "progress.png") == tmp_path / "progress.png"
