"""YAML and JSON settings files -> validated settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.adapters.labels import read_dataset
from tasks.core.errors import SettingsError
from tasks.core.settings import DeviceSettings, ProjectSettings, SamplingSettings, load_sampling_settings, validated


def read_mapping(path: Path) -> Any:
    """The content of a YAML or JSON file; SettingsError with line and column when it is neither."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file: name an existing settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}): check the file") from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}: line {error.lineno}: is not JSON ({error.msg}): mend it there") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SettingsError(f"{path}: line {line}: is not YAML ({error.problem}): mend it there") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not YAML ({error}): mend it") from None


def read_project(path: Path) -> ProjectSettings:
    """`configs/project.yaml`; folders in it are relative to where the command runs."""
    project: ProjectSettings = validated(ProjectSettings, read_mapping(path), str(path))
    return project.model_copy(update={"bucket": bucket_url(project.bucket)})


def read_device(path: Path) -> DeviceSettings:
    """`configs/device.yaml`; folders in it are relative to where the command runs."""
    device: DeviceSettings = validated(DeviceSettings, read_mapping(path), str(path))
    return device.model_copy(update={"bucket": bucket_url(device.bucket)})


def read_sampling(path: Path) -> tuple[SamplingSettings, list[str]]:
    """Sampling settings, ours or Roboflow's, and what the user should know about them."""
    return load_sampling_settings(read_mapping(path), str(path))


def project_for_import(path: Path, dataset: Path, renames: Mapping[str, str], model: Path | None) -> None:
    """Write a project file with the classes of a dataset, for a user who has none yet."""
    names = [renames.get(name, name) for name in read_dataset(dataset).class_names]
    name = re.sub(r"[^a-z0-9]+", "-", dataset.resolve().name.lower()).strip("-") or "project"
    content = {"project": name[:63], "bucket": "bucket", "classes": list(dict.fromkeys(names))}
    if model is not None:
        content["first_model"] = str(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "# Made by edgeloop import. configs/project.yaml of edgeloop shows every field with its default.\n"
        + yaml.safe_dump(content, sort_keys=False)
    )


def bucket_url(bucket: str) -> str:
    """A plain folder as a `file://` URL; URLs stay as they are."""
    return bucket if "://" in bucket else Path(bucket).absolute().as_uri()
