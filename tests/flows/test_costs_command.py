"""Costs of misses and false alarms on the command line, from COCO files to settings that devices obey."""

import json

import pytest

from flows.costs import costs_of
from tasks.core.errors import SettingsError
from tasks.evaluate import evaluate_files
from tasks.suggest import suggest_from_files
from tests.conftest import edgeloop
from tests.flows.test_cli import FRAME, coco_pair, one_line_error, write


def evaluated(tmp_path, *options):
    truth, seen = coco_pair(tmp_path)
    out = tmp_path / "evaluation"
    done = edgeloop("evaluate", "--ground-truth", truth, "--predictions", seen, "--out", out, *options, cwd=tmp_path)
    return done, out


@pytest.mark.slow
def test_costs_choose_the_thresholds_from_evaluation_to_settings(tmp_path):
    """Dear misses lower thresholds; a class that nothing pays for is named, has 1, and explain obeys the settings."""
    done, out = evaluated(tmp_path, "--miss-cost", 20, "--false-alarm-cost", 1, "--class-cost", "bus=0:1")
    assert done.returncode == 0, done.stderr
    assert "thresholds: of least cost (20 a miss, 1 a false alarm; bus 0 and 1); cost an image " in done.stdout
    assert "no threshold pays for class bus: the device says nothing of it" in done.stderr
    record = json.loads((out / "evaluation.json").read_text())
    assert (record["thresholds_by"], record["costs"]["miss"], record["classes"]["bus"]["threshold"]) == ("costs", 20, 1)
    bus = record["classes"]["bus"]
    assert bus["blind"] + sum(band["misses"] for band in bus["bands"]) == bus["misses"] == bus["ground_truths"]
    low, high = record["cost_interval"]
    assert low <= record["cost_an_image"] <= high
    page = (out / "report.html").read_text()
    assert "of least cost (20 a miss" in page
    assert "No threshold pays for class bus: the device says nothing of it" in page
    assert "Cost an image" in page

    def suggest(*options):
        settings = tmp_path / "S.json"
        common = ("suggest", "--evaluation", out, "--budget", 100, "--frames", 5000, "--out", settings)
        done = edgeloop(*common, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done, settings, json.loads(settings.read_text())["thresholds"]

    done, settings, thresholds = suggest("--strategy", "expected_misses")
    assert thresholds == {name: of_class["threshold"] for name, of_class in record["classes"].items()}
    assert "of least cost (20 a miss" in done.stdout
    frame = write(tmp_path / "D.jsonl", json.dumps(FRAME) + "\n")
    assert edgeloop("explain", "--settings", settings, "--detections", frame, cwd=tmp_path).returncode == 0

    done, _, others = suggest("--miss-cost", 1, "--false-alarm-cost", 1)
    assert others["bus"] < 1
    assert others["car"] >= thresholds["car"]
    assert "of least cost (1 a miss, 1 a false alarm)" in done.stdout


@pytest.mark.slow
def test_costs_that_cannot_be_meant_are_one_line(tmp_path):
    """The command ends with the line, and nothing is written."""
    both = ("--miss-cost", 10, "--false-alarm-cost", 1)
    for options, told in (
        (("--miss-cost", "nan", "--false-alarm-cost", 1), "costs.miss: Input should be a finite number"),
        ((*both, "--class-cost", "lorry=1:1"), "'lorry' is none of the classes (car, bus)"),
    ):
        done, out = evaluated(tmp_path, *options)
        assert told in one_line_error(done), options
        assert not out.exists()


def test_both_commands_refuse_the_same_costs(tmp_path):
    """Negative, both 0, unknown class, or with another beta: evaluate and suggest name the field."""
    evaluate_files(*coco_pair(tmp_path), tmp_path / "evaluation")
    refused = [
        ({"miss": -1, "false_alarm": 1}, "costs.miss: Input should be greater than or equal to 0"),
        ({"miss": 0, "false_alarm": 0}, "both cost 0"),
        ({"miss": 1, "false_alarm": 1, "classes": {"lorry": {"miss": 2}}}, "'lorry' is none of the classes"),
    ]
    for costs, told in refused:
        with pytest.raises(SettingsError, match=told):
            evaluate_files(*coco_pair(tmp_path), tmp_path / "other", costs=costs)
        with pytest.raises(SettingsError, match=f"edgeloop suggest: .*{told}"):
            suggest_from_files(tmp_path / "evaluation", 10, 1000, None, costs=costs)
    with pytest.raises(SettingsError, match="leave one of them out"):
        evaluate_files(*coco_pair(tmp_path), tmp_path / "other", beta=2, costs={"miss": 1, "false_alarm": 1})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((10, None, None), "belong together"),
        ((None, 1, None), "belong together"),
        ((None, None, ["bus=1:2"]), "belong together"),
        ((10, 1, ["bus"]), "class=miss:false-alarm"),
        ((10, 1, ["bus=1"]), "class=miss:false-alarm"),
        ((10, 1, ["bus=a:b"]), "class=miss:false-alarm"),
        ((10, 1, ["=1:2"]), "class=miss:false-alarm"),
    ],
)
def test_options_that_are_no_costs_say_how_to_write_them(options, told):
    """Half of a pair, or a class without its two costs."""
    with pytest.raises(SettingsError, match=told):
        costs_of(*options)


def test_options_become_costs():
    """None without options; a class may have the signs of the notation in its name."""
    assert costs_of(None, None, None) is None
    assert costs_of(10, 1, ["a=b:c=50:2"]) == {
        "miss": 10,
        "false_alarm": 1,
        "classes": {"a=b:c": {"miss": 50.0, "false_alarm": 2.0}},
    }
