"""What people write: sampling settings, `configs/project.yaml` and `configs/device.yaml`, validated."""

from tasks.core.settings.base import (
    DEFAULT_THRESHOLD,
    Fraction,
    Name,
    Pixels,
    Settings,
    Tag,
    Thresholds,
    validated,
)
from tasks.core.settings.device import CameraSettings, DeviceSettings
from tasks.core.settings.project import GateSettings, LabellingSettings, ProjectSettings, TrainingSettings
from tasks.core.settings.sampling import (
    AnyStrategy,
    BatchingStrategy,
    ClassesBased,
    CloseToThreshold,
    DetectionsNumberBased,
    DuplicateRules,
    ExpectedMisses,
    Limit,
    RandomSampling,
    SamplingSettings,
    Strategy,
    WindowType,
    load_sampling_settings,
)

__all__ = [
    "DEFAULT_THRESHOLD",
    "AnyStrategy",
    "BatchingStrategy",
    "CameraSettings",
    "ClassesBased",
    "CloseToThreshold",
    "DetectionsNumberBased",
    "DeviceSettings",
    "DuplicateRules",
    "ExpectedMisses",
    "Fraction",
    "GateSettings",
    "LabellingSettings",
    "Limit",
    "Name",
    "Pixels",
    "ProjectSettings",
    "RandomSampling",
    "SamplingSettings",
    "Settings",
    "Strategy",
    "Tag",
    "Thresholds",
    "TrainingSettings",
    "WindowType",
    "load_sampling_settings",
    "validated",
]
