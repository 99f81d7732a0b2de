"""Settings of Roboflow Inference decide here as they do there: the rows of `conformance_tables` and `_settings`."""

import json
import re
from pathlib import Path

import pytest

from tasks.core.errors import SettingsError
from tasks.core.explain import Explainer, RecordedFrames
from tasks.core.settings import load_sampling_settings
from tests.conftest import edgeloop
from tests.core.conformance_settings import LOADS_UNCHANGED, REFUSALS
from tests.core.conformance_tables import TABLES

SAMPLING_PAGE = Path(__file__).parents[2] / "tasks" / "core" / "SAMPLING.md"
ROWS = [
    pytest.param(row, id=f"{what.split(',')[0][:48]}-{number}")
    for what, rows in TABLES.items()
    for number, row in enumerate(rows, start=1)
]


def settings_of(row):
    return {"sampling_strategies": list(row.strategies), **row.others}


def explained(row):
    """What `edgeloop explain --out` writes for each frame."""
    settings, _ = load_sampling_settings(settings_of(row), "S.json")
    return [one.record() for one in Explainer(settings).explain(RecordedFrames(map(json.dumps, row.frames)))]


def judge(row, answers):
    assert [answer["strategy"] for answer in answers] == list(row.charged), [answer["reason"] for answer in answers]
    assert [answer["kept"] for answer in answers] == [charged is not None for charged in row.charged]
    if row.matched is not None:
        assert [answer["matched"] for answer in answers] == [list(names) for names in row.matched]
    if row.batches is not None:
        assert [answer["batch"] for answer in answers] == list(row.batches)
    assert answers[-1]["reason"].startswith(row.reason)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_tables_is_decided_as_it_says(row):
    """Which strategy each frame is charged to, into which batch, and why not."""
    judge(row, explained(row))


@pytest.mark.slow
@pytest.mark.parametrize("what", [what for what in TABLES if re.search("floats|limits count|back|Monday|asked", what)])
def test_the_command_answers_as_its_tables_say(tmp_path, what):
    """The last row of a table, through files and the real `edgeloop explain`."""
    row = TABLES[what][-1]
    (tmp_path / "S.json").write_text(json.dumps(settings_of(row)))
    (tmp_path / "D.jsonl").write_text("".join(json.dumps(frame) + "\n" for frame in row.frames))
    done = edgeloop("explain", "--settings", "S.json", "--detections", "D.jsonl", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    judge(row, answers)
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [[answer[key] for key in line] for line, answer in zip(shown, answers)] == [list(s.values()) for s in shown]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: "-".join(refusal.words)[:60])
def test_settings_that_roboflow_would_not_obey_are_refused_in_one_line(refusal):
    """The strategy and the field are named, and the file."""
    with pytest.raises(SettingsError) as error:
        load_sampling_settings(refusal.settings, "S.json")
    line = str(error.value)
    assert line.startswith("S.json: ")
    assert "\n" not in line
    assert all(word in line for word in refusal.words), line


@pytest.mark.parametrize("settings", LOADS_UNCHANGED)
def test_a_configuration_of_theirs_loads_unchanged(settings):
    """Nothing is warned of, and what it says is what is in force."""
    loaded, warnings = load_sampling_settings(settings, "S.json")
    assert warnings == []
    in_force = loaded.model_dump(mode="json")
    for key, value in settings.items():
        if key == "sampling_strategies":
            for ours, theirs in zip(in_force[key], value, strict=True):
                assert ours | theirs == ours
        elif isinstance(value, dict):
            assert in_force[key] | value == in_force[key]
        else:
            assert in_force[key] == value


def test_every_difference_of_a_row_is_listed_on_the_page():
    """What we decide otherwise than Roboflow, somebody who reads SAMPLING.md knows."""
    table = SAMPLING_PAGE.read_text().split("## Where we differ from Roboflow on purpose")[1]
    listed = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")}
    rows = [row for rows in TABLES.values() for row in rows]
    differences = {one.differs for one in (*rows, *REFUSALS) if one.differs}
    assert len(differences) >= 7
    assert differences <= {text for cell in listed for text in (cell, *cell.split("; "))}
