"""How a user arrives: a labelled dataset in, and a first evaluation of the model that is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from prefect import flow

from flows.evaluate import evaluate
from tasks.artifacts import tell_markdown
from tasks.core.entities import DatasetVersion, Evaluation, Turn
from tasks.core.settings import ProjectSettings
from tasks.import_dataset import Imported, take_in_dataset
from tasks.redeploy import import_model
from tasks.retrain import build_dataset, lacking_splits
from tasks.turn import check_bucket, open_turn, save_turn


@flow(name="import", flow_run_name="import {dataset}")
def import_dataset(
    project: ProjectSettings, dataset: Path, model: Path | None, renames: Mapping[str, str]
) -> list[str]:
    """Samples, labels and a dataset version; with a model its thresholds, bands and figures. What to tell the user."""
    model_version = import_model(project, model).model_version if model else ""  # first: a wrong file is soon mended
    check_bucket(project)
    imported = take_in_dataset(project, dataset, dict(renames))
    turn = open_turn(project)
    revisions = turn.batches | imported.revisions
    version = build_dataset(project, revisions, turn.dataset_version)
    remember(project, turn, revisions, version, f"imported {dataset.name}: {imported.images} images")
    lines = told(imported)
    counts = ", ".join(f"{n} {split}" for split, n in sorted(version.counts.items()))
    lines.append(f"dataset version {version.dataset_version}: {counts}; test edition {version.test_edition}")
    if not version.test_is_random:
        lines.append(
            "the test edition is a legacy one: not random, so its figures hold for this dataset, not for the field"
        )
    if model_version:
        lines += first_evaluation(project, model_version, version.dataset_version)
    tell_markdown(f"import-{project.project}", "\n".join(f"- {line}" for line in lines), "What was imported")
    return lines


def remember(
    project: ProjectSettings, turn: Turn, revisions: Mapping[str, int], version: DatasetVersion, done: str
) -> None:
    """The import as a turn of its own, or as part of the one that was cut off. A new dataset makes figures stale."""
    changes: dict[str, object] = {"batches": dict(revisions), "done": (*turn.done, done)}
    if version.dataset_version != turn.dataset_version:
        changes |= {"dataset_version": version.dataset_version, "evaluation": "", "test_evaluation": ""}
    save_turn(project, turn.model_copy(update=changes | {"finished_at": datetime.now(timezone.utc)}))


def told(imported: Imported) -> list[str]:
    splits = ", ".join(f"{n} {split}" for split, n in sorted(imported.by_split.items()))
    lines = [f"imported {imported.images} images with {imported.boxes} boxes ({splits})"]
    lines += [f"left out: {n} x {reason}" for reason, n in imported.left_out.items()]
    return lines + [f"  {line}" for line in imported.report[:10]]


def first_evaluation(project: ProjectSettings, model_version: str, dataset_version: str) -> list[str]:
    """What the model does on the dataset, where it has images to measure on."""
    if lacking := lacking_splits(project, dataset_version):
        return [f"not evaluated: {lacking}; a dataset brings them along as its validation and test splits"]
    return figures(*evaluate(project, model_version, dataset_version))


def figures(calibration: Evaluation, test: Evaluation) -> list[str]:
    on_test = {"AP50": test.coco["AP50"], "recall": test.recall, "precision": test.precision}
    told = [f"{name} {'unknown' if value is None or value < 0 else f'{value:.3f}'}" for name, value in on_test.items()]
    lines = [f"model {test.model_version} on {test.images} test images: {', '.join(told)}"]
    lines += [f"  {warning}" for warning in test.warnings]
    for name, found in calibration.classes.items():
        worst = max(found.bands, key=lambda band: band.misses, default=None)
        band = f", most in {worst.low:.3g} to {worst.high:.3g} ({worst.misses})" if worst and worst.misses else ""
        lines.append(
            f"{name}: {found.misses} of {found.ground_truths} missed on calibration at threshold "
            f"{found.threshold:.2f}{band}; {found.blind} blind"
        )
    return lines
