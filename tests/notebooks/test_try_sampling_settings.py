"""The notebook runs from its first cell to its last, and what it keeps of a run can be published."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOK = NOTEBOOKS / "try_sampling_settings.ipynb"
FEW_SEEDS = ("SEEDS = 20", "SEEDS = 3")


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    """All code cells, one after the other as a reader runs them, with fewer seeds; what they have defined."""
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    names: dict[str, Any] = {}
    with pyplot.rc_context():
        for number, cell in enumerate(cells("code")):
            source = "".join(cell["source"]).replace(*FEW_SEEDS)
            exec(compile(source, f"cell {number}", "exec"), names)
    return names


@pytest.mark.slow
def test_the_notebook_runs_and_its_story_is_true(monkeypatch, tmp_path):
    """Expected misses find more than chance, every budget is kept, and the forecast holds what came true."""
    names = run(monkeypatch, tmp_path)
    played, forecast = names["played"], names["forecast"]
    budget = names["BUDGET"] * len(names["stream"])
    assert list(played.index) == ["random", "0.3 to 0.5", "expected misses", "rules"]
    assert played["images"].between(0.7 * budget, 1.3 * budget).all()
    assert played.loc["expected misses", "with a miss"] > played.loc["random", "with a miss"]
    assert forecast["inside"].all()


def test_what_the_notebook_keeps_of_a_run_is_small_and_whole():
    """Every code cell was run in order without an error, nothing names a machine, and a reader's clone stays small."""
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert not re.search(r"/(tmp|home|root|work|Users)/", NOTEBOOK.read_text())
    assert FEW_SEEDS[0] in NOTEBOOK.read_text()
    assert NOTEBOOK.stat().st_size < 300_000
    assert (NOTEBOOKS / "three_yards.zip").stat().st_size < 800_000
