"""Where the misses are, and what we propose to collect next."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.entities.base import Record, UtcTime
from tasks.core.settings import Costs, SamplingSettings, Thresholds
from tasks.core.settings.project import SuggestedStrategy

Interval = tuple[float, float]
WAYS: dict[SuggestedStrategy, str] = {
    "expected_misses": "by expected misses",
    "rules": "by rules",
    "random": "at random",
}
ThresholdsBy = Literal["unknown", "f_beta", "costs", "given", "top_class"]  # how operating thresholds came about
Task = Literal["detection", "classification", "segmentation", "keypoints"]


class Band(Record):
    """Misses of a class whose candidate detection has a confidence in `[low, high)`."""

    schema_version: int = Field(1, exclude=True)
    low: float
    high: float
    misses: int
    recall_lost: float = Field(description="misses / ground truths of the class")
    interval: Interval = Field(description="95% of recall_lost")


class ClassEvaluation(Record):
    """One class: what is seen, what is missed, and in which bands the misses lie."""

    schema_version: int = Field(1, exclude=True)
    ground_truths: int
    threshold: float
    threshold_interval: Interval
    precision: float | None
    recall: float | None
    recall_interval: Interval | None = None
    misses: int
    blind: int
    blind_localisation: int
    blind_classification: int
    blind_unseen: int
    out_of_reach: int = Field(0, description="misses that no rule on the device can see: blind, or below its floor")
    bands: tuple[Band, ...]
    ap50: float | None = None
    cost_an_image: float | None = Field(None, description="of its misses and false alarms at the threshold")
    cost_interval: Interval | None = None
    no_threshold_pays: bool = Field(False, description="every threshold that keeps a detection costs more than silence")


class Evaluation(Record):
    """The matching's outcome for a model version on a dataset version's split."""

    evaluation: str
    model_version: str = ""
    dataset_version: str = ""
    split: str = ""
    created_at: UtcTime
    task: Task = "detection"
    images: int
    clusters: int
    bootstrap_unit: Literal["cluster", "image"]
    confidence_floor: float = Field(0.05, description="of the devices: what they keep, and so what a rule can see")
    classes: dict[str, ClassEvaluation]
    recall: float | None = Field(None, description="pooled over classes, at the operating thresholds")
    recall_interval: Interval | None = None
    precision: float | None = None
    coco: dict[str, float]
    warnings: tuple[str, ...] = ()
    thresholds_by: ThresholdsBy = Field("unknown", description="unknown: of a version that did not write it down")
    beta: float | None = Field(None, description="of the F-beta that chose the thresholds")
    costs: Costs | None = Field(None, description="of misses and false alarms")
    cost_an_image: float | None = Field(None, description="of all classes, at the operating thresholds")
    cost_interval: Interval | None = None

    @property
    def criterion(self) -> str:
        """How the operating thresholds were chosen, in words; empty where it is unknown."""
        costs = self.costs.in_words() if self.costs else ""
        return {
            "f_beta": f"of best F{self.beta or 1:g}",
            "costs": f"of least cost ({costs})",
            "given": "given" + (f" (costs: {costs})" if costs else ""),
            "top_class": "none: the top class is the answer",
        }.get(self.thresholds_by, "")

    @property
    def thresholds(self) -> Thresholds:
        return {name: c.threshold for name, c in self.classes.items()}


class Estimate(Record):
    """A figure with its 95% interval."""

    schema_version: int = Field(1, exclude=True)
    value: float
    low: float
    high: float


class Rule(Record):
    """A close-to-threshold rule: at least `minimum_objects` detections of a class in `(low, high)`."""

    schema_version: int = Field(1, exclude=True)
    class_name: str
    low: float
    high: float
    minimum_objects: int = 1
    images: int = Field(description="calibration images that it matches")
    images_with_miss: int
    new_images: int = Field(description="those that no earlier rule matched")
    new_images_with_miss: int


class Forecast(Record):
    """What settings will bring, from cross-fitted scores and a cluster bootstrap.

    "Chosen" are the images that the settings keep for the sake of misses, by rules or by expected misses; the others
    are drawn at random.
    """

    schema_version: int = Field(1, exclude=True)
    images_a_day: Estimate = Field(description="all that the settings collect")
    images_a_day_random: Estimate = Field(description="those of them that are drawn at random: the exploration")
    share_with_miss: Estimate = Field(description="of the images that are chosen")
    share_with_miss_random: Estimate = Field(description="of images drawn at random: the base rate")
    misses_an_image: Estimate = Field(description="of the images that are chosen")
    misses_a_box: Estimate = Field(description="misses / ground truths of the images that are chosen")
    misses_reached: Estimate = Field(description="share of all misses that lie in images which may be chosen")
    misses_blind: Estimate = Field(description="share of all misses that no confidence rule can see")
    misses_collected: Estimate | None = Field(
        None, description="share of all misses that a day's images hold, those drawn at random included"
    )


class Reach(Record):
    """Misses whose candidate has a confidence in `[low, high)`, or that have none, and how many an image would show."""

    schema_version: int = Field(1, exclude=True)
    low: float | None = Field(description="none: blind, without a candidate")
    high: float | None
    misses: int = Field(description="in the calibration images")
    misses_an_image: float = Field(description="of the images that are chosen")
    misses_an_image_random: float = Field(description="of images drawn at random")


class Alternative(Record):
    """The same budget spent in another way, beside the one that a suggestion is for."""

    schema_version: int = Field(1, exclude=True)
    strategy: SuggestedStrategy
    settings: SamplingSettings
    forecast: Forecast
    probability: float = Field(0.0, description="of each rule's draw")
    rules: tuple[Rule, ...] = ()
    reach: tuple[Reach, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def way(self) -> str:
        """How images are chosen, in words."""
        return WAYS[self.strategy]


class Suggestion(Record):
    """Sampling settings that we propose, with the evidence for them. Bound to one model version."""

    suggestion: str
    created_at: UtcTime
    model_version: str
    evaluation: str
    budget_images_a_day: float
    frames_a_day: float
    probability: float = Field(description="of each rule's draw")
    rules: tuple[Rule, ...]
    settings: SamplingSettings
    forecast: Forecast
    diff: tuple[str, ...] = Field((), description="settings that change, 'field: old -> new'")
    warnings: tuple[str, ...] = ()
    strategy: SuggestedStrategy = Field("rules", description="how the settings choose images; random: they do not")
    reach: tuple[Reach, ...] = Field((), description="from the lowest confidence to the highest, the blind ones first")
    alternatives: tuple[Alternative, ...] = Field((), description="other ways to spend the budget")
    criterion: str = Field("", description="how the operating thresholds were chosen, in words")

    @property
    def chooses_by(self) -> SuggestedStrategy:
        """`strategy`; older records do not say that without a rule everything is drawn at random."""
        return "random" if self.strategy == "rules" and not self.rules else self.strategy

    @property
    def way(self) -> str:
        """How images are chosen, in words."""
        return WAYS[self.chooses_by]


class Approval(Record):
    """A person's word that suggested settings may go out."""

    suggestion: str
    approved_by: str
    approved_at: UtcTime
