"""Reports of thresholds by costs: what they were chosen by, what an image costs, and classes that nothing pays for."""

from dataclasses import replace

import pytest

from tasks.adapters import report
from tasks.adapters.report import plots, sentences
from tasks.collector.consumers.message import at_or_above
from tasks.core.settings import Costs, SamplingSettings
from tests.adapters.report_figures import by_expected_misses, fabricated
from tests.core.test_bands import image

DEAR_ALARMS = Costs(miss=1, false_alarm=1, classes={"person": {"miss": 0}})


@pytest.mark.slow
def test_a_page_says_by_which_costs_its_thresholds_were_chosen(tmp_path):
    """The criterion, the cost an image, a column of costs and the silent class; plots are drawn up to 1."""
    evaluation, matches = fabricated(costs=DEAR_ALARMS)
    assert evaluation.classes["person"].threshold == 1.0
    suggestion = by_expected_misses(criterion=evaluation.criterion)
    page = report.evaluation_report(evaluation, matches, tmp_path, suggestion=suggestion).read_text()
    assert "Operating thresholds: of least cost (1 a miss, 1 a false alarm; person 0 and 1)." in page
    assert "No threshold pays for class person: the device says nothing of it." in page
    assert "<th>cost an image</th>" in page
    assert f"<dd>{sentences.cost_text(evaluation)[0]}<small>" in page
    table = report.class_table(evaluation)
    assert table.loc["person", "cost_an_image"] == evaluation.classes["person"].cost_an_image
    assert {"cost_low", "cost_high"} <= set(table.columns)


def test_without_costs_a_page_speaks_of_none(tmp_path):
    """Thresholds of best F1 are named; there is no cost and no column for it."""
    evaluation, matches = fabricated(images=20)
    page = report.evaluation_report(evaluation, matches, tmp_path).read_text()
    assert "Operating thresholds: of best F1." in page
    assert "cost an image" not in page.lower()
    old = evaluation.model_copy(update={"thresholds_by": "unknown", "beta": None})
    assert old.criterion == ""


def test_a_class_that_nothing_pays_for_is_said_to_be_silent():
    """In words before its misses; the words of the others do not change."""
    evaluation, _ = fabricated(costs=DEAR_ALARMS)
    told = sentences.class_sentence("person", evaluation.classes["person"], 0.05)
    assert told.startswith("No threshold pays for class 'person': the device says nothing of it. Of ")
    assert not sentences.class_sentence("pallet", evaluation.classes["pallet"], 0.05).startswith("No threshold")


def test_a_threshold_of_1_lies_at_the_end_of_the_bands():
    """It is drawn inside of the plot."""
    assert plots.band_position(1.0) == len(plots.EDGES) - 1


def test_a_device_hands_out_nothing_below_a_threshold_of_1():
    """Settings take it, and only a detection of confidence 1 reaches it."""
    settings = SamplingSettings.model_validate({"enabled": False, "thresholds": {"container": 1.0}})
    found = replace(image([(0, 0.999), (0, 1.0)]).detections, class_names=("container", "pallet"))
    assert at_or_above(found, settings.thresholds).confidence.tolist() == [1.0]
