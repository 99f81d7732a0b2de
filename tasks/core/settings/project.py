"""`configs/project.yaml`: what is looked for, where the truth lies, and how each stage of the loop behaves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.core.settings.base import Fraction, Name, Settings
from tasks.core.settings.costs import Costs
from tasks.core.settings.labelling import LabellingSettings
from tasks.core.settings.sampling import RandomSampling, SamplingSettings

SuggestedStrategy = Literal["expected_misses", "rules", "random"]  # how suggested settings choose images
DEFAULT_STRATEGY: SuggestedStrategy = "random"


class TrainingSettings(Settings):
    """How a model is trained; the names are ultralytics' own."""

    model: str = Field("yolo11n.yaml", description="architecture, when there are no weights to start from")
    weights: str = Field("", description="checkpoint that the first model is trained from")
    epochs: int = Field(50, ge=1)
    imgsz: int = Field(640, ge=32, multiple_of=32, description="pixels")
    batch: int = Field(16, ge=1)
    lr0: float = Field(0.001, gt=0)
    optimizer: str = "AdamW"
    freeze: int = Field(0, ge=0, description="layers kept as they are, from the first")
    patience: int = Field(100, ge=0, description="epochs without progress before it stops")
    seed: int = 0
    device: str = Field("", description="cpu, 0, mps; empty: a GPU when there is one")
    workers: int = Field(2, ge=0)
    embedding: bool = Field(True, description="the backbone's features as a second output, for `novelty`")
    licence: str = Field("AGPL-3.0", description="licence of the weights that come out")
    extra: dict[str, Any] = Field({}, description="further ultralytics settings, passed through")


class GateSettings(Settings):
    """When a model may replace another (EVALUATION: gate)."""

    minimum_ap50: Fraction = Field(0.3, description="the first model's AP50 must be above it, at the lower bound")
    ap50_margin: float = Field(0.01, description="AP50 may not be worse than this, at the lower bound")
    recall_margin: float = Field(0.01, description="replace: recall may not be worse than this, at the lower bound")
    class_margin: float = Field(0.03, description="recall of a class may not be worse than this, at the lower bound")
    class_minimum_boxes: int = Field(300, ge=1, description="test boxes from which on a class can block by its bound")
    replicates: int = Field(1000, ge=100)


class Probation(Settings):
    """What a new release must keep to on a device's own frames; the device goes back by itself where it does not."""

    frames: int = Field(100, ge=1, description="of the device, over all cameras, that it lasts")
    error_rate: float = Field(0.05, gt=0, le=1, description="share of `frames` whose failure ends it")
    latency_factor: float | None = Field(
        5.0, gt=1, description="times the model's median time a frame before; none: any"
    )
    latency_seconds: float | None = Field(
        None, gt=0, description="median time of the model a frame at most, s; none: any"
    )
    least_detections: float = Field(0.0, ge=0, description="a frame, from the confidence floor up, in the mean")
    most_detections: float = Field(250.0, gt=0, description="a frame, from the confidence floor up, in the mean")
    hang_seconds: float = Field(20.0, gt=0, description="longest wait for the model's answer on one frame, s")
    deaths: int = Field(3, ge=1, description="ends of the whole process, other than in order, that end it")


class ProjectSettings(Settings):
    """`configs/project.yaml`: what is looked for, where the truth lies, and how each stage of the loop behaves."""

    project: Name
    bucket: str = Field(description="file:///folder or s3://bucket/prefix")
    group: Name = Field("all", description="device group that this project releases to")
    work: str = Field("work", description="local folder for caches and training runs; may be deleted between turns")
    classes: tuple[str, ...] = Field(min_length=1)
    class_list_version: int = Field(1, ge=1)
    model_classes: str | tuple[str, ...] | None = Field(
        None, description="class names of a model file without metadata: coco80 or a list"
    )
    signing_keys: str = Field("keys", description="local folder of the keys that sign releases; never in the bucket")
    first_model: str = Field("stub", description="ONNX file that devices run until the loop has trained one, or stub")
    budget_images_a_day: int = Field(
        200, ge=1, description="labels that people can make, images a day over all devices"
    )
    labels_a_week: int | None = Field(
        None, ge=2, description="labels that people can make a week, drawn from what was collected; none: all of it"
    )
    frames_a_day: int = Field(2_000_000, ge=1, description="frames a day over all devices, after duplicates")
    exploration: float = Field(0.2, gt=0, le=1, description="share of the budget drawn at random")
    suggested_strategy: SuggestedStrategy = Field(
        DEFAULT_STRATEGY, description="how suggestions spend the budget; the other ways are shown beside it"
    )
    beta: float = Field(1.0, gt=0, description="F-beta of the operating thresholds")
    costs: Costs | None = Field(
        None, description="of a miss and of a false alarm; operating thresholds are then those of least cost"
    )
    minimum_labels: int = Field(50, ge=1, description="labelled training images before a first model is trained")
    new_labels: int = Field(50, ge=1, description="newly labelled images before it is trained again")
    approval: Literal["automatic", "manual"] = "manual"
    sampling: SamplingSettings = SamplingSettings(
        sampling_strategies=(RandomSampling(name="random", type="random", traffic_percentage=0.005),)
    )
    labelling: LabellingSettings = LabellingSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    probation: Probation = Probation()
    review: bool = Field(True, description="keep a FiftyOne dataset in step")
    seed: int = 0

    @model_validator(mode="after")
    def _costs_fit(self) -> ProjectSettings:
        if self.costs is None:
            return self
        if self.beta != ProjectSettings.model_fields["beta"].default:
            raise ValueError(
                f"beta {self.beta:g} and costs both say how operating thresholds are chosen: leave one of them out"
            )
        if unknown := [name for name in self.costs.classes if name not in self.classes]:
            raise ValueError(
                f"costs.classes: {', '.join(map(repr, unknown))} is none of the classes ({', '.join(self.classes)})"
            )
        return self
