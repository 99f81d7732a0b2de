"""The notebook runs from its first cell to its last, and the plots it keeps say what its tables say."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOK = NOTEBOOKS / "read_an_evaluation.ipynb"
PLOTS = 4


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_notebook_runs_and_its_tables_agree(monkeypatch, tmp_path):
    """Misses by candidate, by kind and by size are the same misses; every plot is drawn."""
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    shown: list[int] = []

    def show() -> None:
        shown.extend(pyplot.get_fignums())
        pyplot.close("all")

    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(pyplot, "show", show)
    names: dict[str, Any] = {}
    with pyplot.rc_context():
        for number, cell in enumerate(cells("code")):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert len(shown) == PLOTS
    evaluation, kinds, sizes = names["evaluation"], names["kinds"], names["sizes"]
    misses = sum(one.misses for one in evaluation.classes.values())
    assert names["is_missed"].sum() == misses
    assert names["blind"] + names["counts"].sum() == misses
    assert kinds.to_numpy().sum() == misses
    assert round((sizes["objects"] * sizes["missed"]).sum()) == misses
    assert names["beyond"].sum() == sum(one.out_of_reach for one in evaluation.classes.values())


def test_what_the_notebook_keeps_of_a_run_is_small_and_whole():
    """Every code cell was run in order without an error, nothing names a machine, and a reader's clone stays small."""
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PLOTS
    assert not re.search(r"/(tmp|home|root|work|Users)/", NOTEBOOK.read_text())
    assert NOTEBOOK.stat().st_size < 300_000
