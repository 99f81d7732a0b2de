"""What people decide about labels, and what is known beforehand of what they should say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.entities.base import Record, UtcTime
from tasks.core.entities.labels import Label
from tasks.core.entities.samples import Sample


class GoldLabel(Record):
    """An image whose label is trusted: what others say of it measures them."""

    schema_version: int = Field(1, exclude=True)
    sample: Sample
    label: Label


class Gold(Record):
    """Labels of a batch that somebody vouched for. The newest record of a sample counts."""

    number: int = Field(ge=1)
    batch_id: str
    revision: int = Field(ge=1, description="of the labels of that batch")
    added_by: str
    added_at: UtcTime
    labels: tuple[GoldLabel, ...]


class TrialDecision(Record):
    """Whether a trial batch was accepted; made once, by a person or by its agreement with gold labels."""

    batch_id: str
    decision: Literal["accepted", "rejected"]
    by: str
    at: UtcTime
    note: str = Field("", max_length=500)
    agreement: float | None = Field(None, ge=0, le=1, description="F1 at IoU 0.5 with the gold labels, where known")


class Assignment(Record):
    """Who is asked to label a batch; mutable, the last word counts. An empty name: whoever comes."""

    batch_id: str
    assignee: str
    by: str
    at: UtcTime


class AcceptedPredictions(Record):
    """Labels of a batch that somebody took from a model in bulk."""

    batch_id: str
    revision: int = Field(ge=1, description="of the batch's labels, that they are in")
    by: str
    at: UtcTime
    above: float = Field(ge=0, le=1, description="confidence that every box is above")
    below_misses: float = Field(ge=0, description="expected misses that every image is below")
    images: tuple[str, ...] = Field(description="sample ids")
