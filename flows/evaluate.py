"""Model version x dataset version -> thresholds, bands and figures, with the pages that show them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.costs import cost_of
from tasks.adapters.report.in_the_field import field_sentence, field_title
from tasks.artifacts import picture, tell_markdown
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Evaluation
from tasks.core.field import FieldRecall
from tasks.core.settings import ProjectSettings
from tasks.evaluate import evaluate_split


@flow(name="evaluate", flow_run_name="evaluate {model_version} on {dataset_version}")
def evaluate(
    project: ProjectSettings, model_version: str, dataset_version: str, field: Sequence[FieldRecall] = ()
) -> tuple[Evaluation, Evaluation]:
    """Thresholds and bands from calibration; AP and recall at these thresholds on the newest test edition.

    field: what is known of the model in the field, to be shown beside them.
    """
    calibration = evaluate_split(project, model_version, dataset_version, "calibration", field=field)
    test = evaluate_split(project, model_version, dataset_version, "test", calibration.thresholds, field)
    tell(project, calibration, test, field)
    return calibration, test


def tell(
    project: ProjectSettings, calibration: Evaluation, test: Evaluation, field: Sequence[FieldRecall] = ()
) -> None:
    """The story of an evaluation in the Prefect UI."""
    lines = [
        f"# Model {calibration.model_version} on dataset {calibration.dataset_version}",
        "",
        f"On {test.images} test images: **AP50 {test.coco.get('AP50', 0):.3f}**, recall "
        f"{test.recall or 0:.3f}, precision {test.precision or 0:.3f} at the operating thresholds{cost_of(test)}.",
        "",
        *([f"Operating thresholds: {calibration.criterion}.", ""] if calibration.criterion else []),
        "| class | labelled | threshold | missed | blind | misses by band |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in calibration.classes.items():
        bands = ", ".join(f"{b.low:.3g}-{b.high:.3g}: {b.misses}" for b in figures.bands if b.misses)
        row = [name, figures.ground_truths, f"{figures.threshold:.2f}", figures.misses, figures.blind, bands or "none"]
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    if field:
        lines += ["", "## In the field", ""]
    for found in field:
        lines += [f"- {field_title(found)}. {field_sentence(found)}", *(f"  - {warning}" for warning in found.warnings)]
    lines += ["", *(f"- {warning}" for warning in calibration.warnings), "", plot_of(project, calibration)]
    tell_markdown(f"evaluation-{calibration.model_version}", "\n".join(lines), "Where the misses are")


def plot_of(project: ProjectSettings, evaluation: Evaluation) -> str:
    """The bands as a picture inside the markdown."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        path = Path(folder) / "bands.png"
        Central(project).bucket.download(layout.evaluation_file(evaluation.evaluation, path.name), path)
        return picture(path, "misses by confidence band")
