"""YAML and JSON settings files -> validated settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tasks.core.errors import SettingsError
from tasks.core.settings import DeviceSettings, ProjectSettings, SamplingSettings, load_sampling_settings, validated

# PyYAML raises more than its own errors, on an impossible date or a broken `!!int`; JSON on a number without end.
NOT_READABLE = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)


def read_mapping(path: Path) -> Any:
    """The content of a YAML or JSON file; SettingsError with line and column when it is neither."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file: name an existing settings file") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): name a settings file") from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}: line {error.lineno}: is not JSON ({error.msg}): mend it there") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SettingsError(f"{path}: line {line}: is not YAML ({error.problem}): mend it there") from None
    except NOT_READABLE as error:
        raise SettingsError(f"{path}: cannot be understood ({error}): mend it") from None


def read_project(path: Path) -> ProjectSettings:
    """`configs/project.yaml`; folders in it are relative to where the command runs."""
    project: ProjectSettings = validated(ProjectSettings, read_mapping(path), str(path))
    return project.model_copy(update={"bucket": bucket_url(project.bucket)})


def read_device(path: Path) -> DeviceSettings:
    """`configs/device.yaml`; folders in it are relative to where the command runs."""
    device: DeviceSettings = validated(DeviceSettings, read_mapping(path), str(path))
    pipelines = tuple(each.model_copy(update={"bucket": bucket_url(each.bucket)}) for each in device.pipelines)
    return device.model_copy(update={"bucket": bucket_url(device.bucket), "pipelines": pipelines})


def read_sampling(path: Path) -> tuple[SamplingSettings, list[str]]:
    """Sampling settings, ours or Roboflow's, and what the user should know about them."""
    return load_sampling_settings(read_mapping(path), str(path))


def bucket_url(bucket: str) -> str:
    """A plain folder as a `file://` URL; URLs stay as they are."""
    if "://" in bucket:
        return bucket
    if re.match(r"(file|s3|https?):", bucket):
        raise SettingsError(f"bucket {bucket!r}: write file:///absolute/folder, s3://bucket/prefix or a plain folder")
    return Path(bucket).expanduser().absolute().as_uri()
