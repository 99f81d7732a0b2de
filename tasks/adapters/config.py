"""YAML and JSON settings files -> validated settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

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


def bucket_url(bucket: str) -> str:
    """A plain folder as a `file://` URL; URLs stay as they are."""
    return bucket if "://" in bucket else Path(bucket).absolute().as_uri()
