"""A project file made from a labelled dataset, for a user who has none yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from tasks.adapters.labels import read_dataset
from tasks.core.errors import SettingsError


def project_for_import(
    path: Path,
    dataset: Path,
    renames: Mapping[str, str],
    model: Path | None,
    model_classes: str | tuple[str, ...] | None = None,
) -> None:
    """Write a project file with the classes of a dataset, for a user who has none yet.

    Raises LabelsInvalid for a folder that is no dataset and SettingsError where the file cannot be written.
    """
    names = [renames.get(name, name) for name in read_dataset(dataset).class_names]
    name = re.sub(r"[^a-z0-9]+", "-", dataset.resolve().name.lower())[:63].strip("-") or "project"
    content = {"project": name, "bucket": "bucket", "classes": list(dict.fromkeys(names))}
    if model is not None:
        content["first_model"] = str(model)
    if model_classes:
        content["model_classes"] = model_classes if isinstance(model_classes, str) else list(model_classes)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"# Made by edgeloop import. configs/project.yaml of edgeloop shows every field with its default.\n{text}",
            encoding="utf-8",
        )
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error.strerror}): name another --config") from None
