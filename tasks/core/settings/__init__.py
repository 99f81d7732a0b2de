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
from tasks.core.settings.costs import ClassCosts, Costs
from tasks.core.settings.device import CameraSettings, DeviceSettings
from tasks.core.settings.labelling import LabellingSettings
from tasks.core.settings.project import (
    GateSettings,
    Probation,
    ProjectSettings,
    TrainingSettings,
)
from tasks.core.settings.sampling import (
    AnyStrategy,
    BatchingStrategy,
    ClassesBased,
    CloseToThreshold,
    DetectionsNumberBased,
    DuplicateRules,
    ExpectedMisses,
    Limit,
    Novelty,
    RandomSampling,
    SamplingSettings,
    Strategy,
    TrackGap,
    WindowType,
    load_sampling_settings,
)

__all__ = [
    "DEFAULT_THRESHOLD",
    "AnyStrategy",
    "BatchingStrategy",
    "CameraSettings",
    "ClassCosts",
    "ClassesBased",
    "CloseToThreshold",
    "Costs",
    "DetectionsNumberBased",
    "DeviceSettings",
    "DuplicateRules",
    "ExpectedMisses",
    "Fraction",
    "GateSettings",
    "LabellingSettings",
    "Limit",
    "Name",
    "Novelty",
    "Pixels",
    "Probation",
    "ProjectSettings",
    "RandomSampling",
    "SamplingSettings",
    "Settings",
    "Strategy",
    "Tag",
    "Thresholds",
    "TrackGap",
    "TrainingSettings",
    "WindowType",
    "load_sampling_settings",
    "validated",
]
