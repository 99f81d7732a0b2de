"""What is known of a model in the field, for reports and programs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.entities import Estimate, Record, UtcTime


class FieldFigures(Record):
    """Recall and precision over all frames of a class, of a camera, or of everything, and what they rest on."""

    schema_version: int = Field(1, exclude=True)
    recall: Estimate | None = Field(None, description="None where no object was labelled")
    precision: Estimate | None = Field(None, description="None without a detection at or above the threshold")
    images: int = Field(0, description="labelled images; of a class those with an object or a detection of it")
    effective_images: float = Field(0.0, description="images of equal weight that would say as much")
    largest_weight: float = Field(0.0, description="share of all weights that the heaviest image has")
    objects: int = 0
    misses: int = 0
    detections: int = Field(0, description="at or above the operating thresholds")


class FieldRecall(Record):
    """One model version under one settings version in the field. `figures` is None where `refused` says why."""

    model_version: str
    settings_version: str
    first: UtcTime | None = Field(None, description="capture time of the first image that people were asked about")
    last: UtcTime | None = None
    asked: int = Field(0, description="images that people were asked about, in batches that they have begun")
    labelled: int = Field(0, description="of them; these the figures rest on")
    skipped: int = Field(0, description="of them, by people")
    waiting: int = Field(0, description="of them, not looked at yet")
    unusable: int = Field(0, description="of them, with a record or a label that cannot be used")
    frames: float = Field(0.0, description="frames that the labelled images stand for: the sum of the weights")
    figures: FieldFigures | None = None
    classes: dict[str, FieldFigures] = {}
    cameras: dict[str, FieldFigures] = Field({}, description="by device/camera")
    clusters: int = Field(0, description="camera x hour")
    bootstrap_unit: Literal["cluster", "image"] = "cluster"
    warnings: tuple[str, ...] = ()
    refused: str = Field("", description="why there are no figures")
