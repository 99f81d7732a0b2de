"""Costs as people write them: in a project, for all classes or for one, and what cannot be meant."""

import pytest

from tasks.core.errors import SettingsError
from tasks.core.settings import Costs, ProjectSettings, validated

PROJECT = {"project": "yard", "bucket": "file:///b", "classes": ["car", "truck"]}
NAN, INFINITE = float("nan"), float("inf")


def test_a_class_may_cost_otherwise():
    """What a class does not name is as for all; words say both."""
    costs = Costs(miss=10, false_alarm=1, classes={"truck": {"miss": 50}})
    assert costs.of("car") == (10, 1)
    assert costs.of("truck") == (50, 1)
    assert costs.in_words() == "10 a miss, 1 a false alarm; truck 50 and 1"


def test_a_project_has_costs_or_a_beta():
    """Without costs there are none; the beta that a project file shows, 1, is no second criterion."""
    assert validated(ProjectSettings, PROJECT, "P.yaml").costs is None
    given = {**PROJECT, "beta": 1.0, "costs": {"miss": 10, "false_alarm": 1, "classes": {"truck": {"miss": 50}}}}
    assert validated(ProjectSettings, given, "P.yaml").costs.of("truck") == (50, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"costs": {"miss": -1, "false_alarm": 1}}, "costs.miss: Input should be greater than or equal to 0"),
        ({"costs": {"miss": 1, "false_alarm": NAN}}, "costs.false_alarm: Input should be a finite number"),
        ({"costs": {"miss": INFINITE, "false_alarm": 1}}, "costs.miss: Input should be a finite number"),
        ({"costs": {"miss": 0, "false_alarm": 0}}, "costs: a miss and a false alarm that both cost 0"),
        ({"costs": {"miss": 1}}, "costs.false_alarm: Field required"),
        ({"costs": {"miss": 1, "false_alarm": 0, "classes": {"car": {"miss": 0}}}}, "costs: both costs of class 'car'"),
        ({"costs": {"miss": 1, "false_alarm": 1, "classes": {"lorry": {"miss": 2}}}}, "'lorry' is none of the classes"),
        ({"costs": {"miss": 1, "false_alarm": 1, "classes": {"car": {"miss": NAN}}}}, "costs.classes.car.miss: "),
        ({"costs": {"miss": 1, "false_alarm": 1}, "beta": 2}, "beta 2 and costs both say"),
        ({"costs": {"miss": 1, "false_alrm": 1}}, "costs.false_alrm: "),
        ({"costs": 10}, "costs: "),
    ],
)
def test_costs_that_cannot_be_meant_are_refused(given, message):
    """One line that names the file, the field, and what is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        validated(ProjectSettings, {**PROJECT, **given}, "P.yaml")
    assert str(caught.value).startswith("P.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
