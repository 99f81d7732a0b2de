"""The glossary: every noun that flows through the loop.

camera -> Frame -> Detections -> Sample -> outbox -> bucket -> Batch -> Label -> DatasetVersion -> Evaluation -> Band
-> Suggestion -> SamplingSettings -> back to the device; beside it DatasetVersion -> ModelVersion -> gate -> Release.

In memory: frozen dataclasses of numpy columns. Written for another process: pydantic records with a schema version.
Boxes are `xyxy` in absolute pixels everywhere inside; adapters convert.
"""

from tasks.core.entities.allocations import (
    Allocation,
    AllocationCell,
)
from tasks.core.entities.base import (
    STUB,
    Record,
    UtcTime,
    Xyxy,
    content_id,
    format_utc,
    read_tolerantly,
    sample_id_of,
    to_utc,
)
from tasks.core.entities.detections import (
    OBJECT_DETECTION,
    Detection,
    Detections,
    Frame,
    detection_records,
    detections_from_records,
)
from tasks.core.entities.drift import (
    CameraDrift,
    Drift,
    FigureDrift,
)
from tasks.core.entities.evaluations import (
    Alternative,
    Approval,
    Band,
    ClassEvaluation,
    Estimate,
    Evaluation,
    Forecast,
    Interval,
    Reach,
    Rule,
    Suggestion,
    Task,
    ThresholdsBy,
)
from tasks.core.entities.labels import (
    Batch,
    DatasetEntry,
    DatasetVersion,
    Label,
    LabelBox,
    Split,
)
from tasks.core.entities.models import (
    ModelVersion,
    Probe,
    ProbeFrame,
    Release,
    Tolerance,
    Verdict,
)
from tasks.core.entities.people import (
    AcceptedPredictions,
    Assignment,
    Gold,
    GoldLabel,
    TrialDecision,
)
from tasks.core.entities.samples import (
    Alert,
    DeviceStatus,
    Fault,
    Rates,
    Sample,
    TrafficRecord,
    Versions,
)
from tasks.core.entities.turns import (
    Turn,
)

__all__ = [
    "OBJECT_DETECTION",
    "STUB",
    "AcceptedPredictions",
    "Alert",
    "Allocation",
    "AllocationCell",
    "Alternative",
    "Approval",
    "Assignment",
    "Band",
    "Batch",
    "CameraDrift",
    "ClassEvaluation",
    "DatasetEntry",
    "DatasetVersion",
    "Detection",
    "Detections",
    "DeviceStatus",
    "Drift",
    "Estimate",
    "Evaluation",
    "Fault",
    "FigureDrift",
    "Forecast",
    "Frame",
    "Gold",
    "GoldLabel",
    "Interval",
    "Label",
    "LabelBox",
    "ModelVersion",
    "Probe",
    "ProbeFrame",
    "Rates",
    "Reach",
    "Record",
    "Release",
    "Rule",
    "Sample",
    "Split",
    "Suggestion",
    "Task",
    "ThresholdsBy",
    "Tolerance",
    "TrafficRecord",
    "TrialDecision",
    "Turn",
    "UtcTime",
    "Verdict",
    "Versions",
    "Xyxy",
    "content_id",
    "detection_records",
    "detections_from_records",
    "format_utc",
    "read_tolerantly",
    "sample_id_of",
    "to_utc",
]
