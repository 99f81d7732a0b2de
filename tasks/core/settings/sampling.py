"""`SamplingSettings`: what a device obeys when it decides which frames to keep.

Its vocabulary is that of Roboflow Inference's active learning, so that a configuration exported from there loads
unchanged; the fields that are ours come after it and have defaults. SAMPLING.md explains every field.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.core.errors import BandBelowFloor
from tasks.core.settings.base import DEFAULT_THRESHOLD, Fraction, Pixels, Settings, Tag, Thresholds, validated

WindowType = Literal["minutely", "hourly", "daily"]

BACKBONE = "backbone"  # as an embedding: the features of the detector's own model
MISS_BINS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # lower edges; each ends at the next one, or at the class's threshold


class Limit(Settings):
    """At most `value` samples of a strategy in each calendar window (UTC); 0 keeps none."""

    type: WindowType
    value: int = Field(ge=0)


class Strategy(Settings):
    """What every strategy carries."""

    name: str = Field(min_length=1, max_length=256)
    tags: tuple[Tag, ...] = ()
    limits: tuple[Limit, ...] = Field((), description="every one of them must have room")


class RandomSampling(Strategy):
    """A seeded draw below `traffic_percentage`, a fraction of all frames from 0 to 1 (the name is Roboflow's)."""

    type: Literal["random"]
    traffic_percentage: Fraction = 0.005

    @property
    def probability(self) -> float:
        """What its draw must stay below, under the name that the other strategies have for it."""
        return self.traffic_percentage


class CloseToThreshold(Strategy):
    """Enough detections with `abs(confidence - threshold) < epsilon`, then a draw."""

    type: Literal["close_to_threshold"]
    threshold: Fraction
    epsilon: Fraction
    probability: Fraction
    selected_class_names: tuple[str, ...] | None = None
    minimum_objects_close_to_threshold: int = Field(1, ge=1)
    only_top_classes: bool = True


class ClassesBased(Strategy):
    """Classification: the top class is one of the selected ones, then a draw."""

    type: Literal["classes_based"]
    selected_class_names: tuple[str, ...]
    probability: Fraction


class DetectionsNumberBased(Strategy):
    """Strictly `more_than < number of detections < less_than`, then a draw."""

    type: Literal["detections_number_based"]
    probability: Fraction
    more_than: int | None = Field(None, ge=0)
    less_than: int | None = Field(None, ge=0)
    selected_class_names: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _some_number_fits(self) -> DetectionsNumberBased:
        if self.more_than is not None and self.less_than is not None and self.more_than >= self.less_than:
            raise ValueError(f"more_than ({self.more_than}) must be below less_than ({self.less_than})")
        return self


class ExpectedMisses(Strategy):
    """The frames in which the model is expected to have missed most objects, as many as the budget has room for.

    A frame's expected misses are the sum, over its detections below their class's operating threshold, of the weight of
    their class and confidence bin. The rate is tracked on the device, so that `images_a_day` are kept, `exploration` of
    them drawn at random from all frames.
    """

    type: Literal["expected_misses"]
    weights: dict[str, tuple[Fraction, ...]] = Field(
        description="by class name, one a bin: the share of such detections that are real objects"
    )
    bins: tuple[Fraction, ...] = Field(MISS_BINS, min_length=1, description="lower edges of the bins, ascending")
    minimum_expected_misses: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="what a frame must exceed, until the device has seen its traffic"
    )
    tie_probability: Fraction = Field(1.0, description="of a frame with exactly that many, until then")
    images_a_day: float = Field(gt=0, allow_inf_nan=False, description="this device's budget, exploration included")
    exploration: Fraction = Field(0.2, description="share of the budget that is drawn at random from all frames")
    allow_no_exploration: bool = False

    @model_validator(mode="after")
    def _each_bin_has_a_weight(self) -> ExpectedMisses:
        if any(low >= high for low, high in pairwise(self.bins)):
            raise ValueError(f"bins must ascend, got {list(self.bins)}")
        for name, weights in self.weights.items():
            if len(weights) != len(self.bins):
                raise ValueError(f"weights: {name!r} has {len(weights)} for {len(self.bins)} bins")
        return self

    @model_validator(mode="after")
    def _explores(self) -> ExpectedMisses:
        if self.exploration == 0 and not self.allow_no_exploration:
            raise ValueError(
                "exploration: without it misses that no confidence reveals stay unseen and recall cannot be estimated; "
                "set allow_no_exploration: true to do so all the same"
            )
        return self


class TrackGap(Strategy):
    """An object is seen, then not, then seen again: the first frame without it, then a draw.

    Detections of a class at or above its operating threshold are sightings; a sighting at least `minimum_iou` with
    another is of the same object. Decided when the object is seen again, 1 to `gap_frames` frames later.
    """

    type: Literal["track_gap"]
    selected_class_names: tuple[str, ...] | None = None
    gap_frames: int = Field(ge=1, le=3, description="that an object may be absent; as many pictures a camera may wait")
    minimum_iou: float = Field(gt=0, le=1, description="IoU from which on two boxes show the same object")
    probability: Fraction


class Novelty(Strategy):
    """Farther than `minimum_distance` from every frame of its camera that was kept lately, then a draw.

    The distance is 1 - cosine similarity of two embeddings: 0 for the same direction, 1 for unrelated ones.
    """

    type: Literal["novelty"]
    embedding: str = Field(
        BACKBONE,
        pattern=r"^(backbone|.+\.onnx)$",
        max_length=1024,
        description="'backbone': an output of the detector's own model; else an ONNX file on the device",
    )
    output_name: str = Field("embedding", min_length=1, max_length=256, description="the output that is the embedding")
    minimum_distance: float = Field(ge=0, le=2, allow_inf_nan=False)
    probability: Fraction
    remembered_frames: int = Field(16, ge=1, le=64, description="last kept frames of a camera that it is held against")


AnyStrategy = Annotated[
    RandomSampling | CloseToThreshold | ClassesBased | DetectionsNumberBased | ExpectedMisses | TrackGap | Novelty,
    Field(discriminator="type"),
]
_ONCE = {
    "expected_misses": "there is one budget",
    "track_gap": "a frame is asked of once when an object is seen again",
    "novelty": "a frame has one embedding",
}


class BatchingStrategy(Settings):
    """How kept frames are grouped for labelling: `prefix`, or `prefix_YYYY_MM_DD` (today, Monday, the 1st; UTC)."""

    batches_name_prefix: str = Field("batch", min_length=1, max_length=256)
    recreation_interval: Literal["never", "daily", "weekly", "monthly"] = "never"
    max_batch_images: int | None = Field(
        None, ge=1, description="of this device; the exploration draw is outside of it"
    )


class DuplicateRules(Settings):
    """When a frame counts as a near-duplicate of one that was kept from the same camera."""

    enabled: bool = False
    cooldown_seconds: float = Field(0.0, ge=0, description="no second sample of a camera within this time")
    maximum_hash_distance: int = Field(10, ge=0, le=256, description="bits of the 256-bit difference hash")
    remembered_frames: int = Field(
        8, ge=1, le=64, description="last kept frames of a camera that a frame is held against"
    )
    samples_of_an_object: int | None = Field(
        4, ge=1, description="a day, that an object of one camera, class and place earns; none: any number"
    )
    object_iou: float = Field(0.7, gt=0, le=1, description="IoU from which on two boxes are the same place")


class SamplingSettings(Settings):
    """What a device obeys when it decides which frames to keep."""

    enabled: bool = True
    persist_predictions: bool = True
    sampling_strategies: tuple[AnyStrategy, ...] = Field((), description="at least one, unless enabled is false")
    batching_strategy: BatchingStrategy = BatchingStrategy()
    max_image_size: tuple[Pixels, Pixels] | None = Field(
        None, description="height, width; shrinks only, keeps the aspect"
    )
    jpeg_compression_level: int = Field(95, ge=1, le=100)
    tags: tuple[Tag, ...] = ()
    target_workspace: str | None = Field(None, description="read, not used: samples go to the device's bucket")
    target_project: str | None = Field(None, description="read, not used: samples go to the device's project")

    # Ours, beyond Roboflow's vocabulary.
    schema_version: int = 1
    seed: int = Field(0, ge=0)
    confidence_floor: Fraction = Field(0.05, description="the lowest confidence that decoding and NMS keep")
    thresholds: Thresholds = Field({}, description="operating threshold by class name")
    duplicates: DuplicateRules = DuplicateRules()
    traffic_log_rate: Fraction = Field(0.1, description="share of frames whose confidences are logged, at most")
    traffic_log_megabytes: float = Field(1.0, gt=0, description="of log a camera and day, at most, MB")
    model_digest: str = Field("", description="model version that these settings were fitted to; empty: any")
    portable: bool = Field(False, description="allow another model than `model_digest`")

    @model_validator(mode="after")
    def _something_is_sampled(self) -> SamplingSettings:
        if self.enabled and not self.sampling_strategies:
            raise ValueError("sampling_strategies: at least one strategy is needed, or enabled: false")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> SamplingSettings:
        names = [s.name for s in self.sampling_strategies]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"sampling_strategies: the name {name!r} is used {names.count(name)} times")
        return self

    @model_validator(mode="after")
    def _one_of_a_kind(self) -> SamplingSettings:
        for kind, because in _ONCE.items():
            names = [s.name for s in self.sampling_strategies if s.type == kind]
            if len(names) > 1:
                raise ValueError(f"sampling_strategies: {kind} can be used once, not as {names}: {because}")
        return self

    @property
    def expected_misses(self) -> ExpectedMisses | None:
        """The strategy that keeps the budget."""
        return next((s for s in self.sampling_strategies if isinstance(s, ExpectedMisses)), None)

    @property
    def track_gap(self) -> TrackGap | None:
        return next((s for s in self.sampling_strategies if isinstance(s, TrackGap)), None)

    @property
    def novelty(self) -> Novelty | None:
        return next((s for s in self.sampling_strategies if isinstance(s, Novelty)), None)

    @property
    def embedding_output(self) -> str:
        """The output of the detector's own model that `novelty` needs; empty where it needs none."""
        novelty = self.novelty
        return novelty.output_name if novelty is not None and novelty.embedding == BACKBONE else ""

    @property
    def exploration_strategy(self) -> RandomSampling | ExpectedMisses | None:
        """Whose draw is the exploration draw e of every frame: `expected_misses`, with a share of its budget.

        Without it, or where it has no exploration, the first `random` strategy without limits.
        """
        budget = self.expected_misses
        if budget is not None and budget.exploration > 0:
            return budget
        return next((s for s in self.sampling_strategies if isinstance(s, RandomSampling) and not s.limits), None)


def load_sampling_settings(
    data: Mapping[str, Any], where: str, class_names: Collection[str] | None = None
) -> tuple[SamplingSettings, list[str]]:
    """Validate settings of ours or of Roboflow; the second part are warnings for the user.

    With `class_names`, the project's, selected classes that it does not know are warned of. Raises SettingsError
    naming `where` and the field; BandBelowFloor when a band lies wholly below the floor.
    """
    settings: SamplingSettings = validated(SamplingSettings, data, where)
    warnings = _refuse_bands_below_floor(settings, where)
    if not settings.duplicates.enabled and settings.duplicates.cooldown_seconds:
        warnings.append(f"{where}: duplicates.cooldown_seconds has no effect while duplicates.enabled is false")
    for strategy in settings.sampling_strategies if class_names is not None else ():
        selected = strategy.weights if isinstance(strategy, ExpectedMisses) else _selected(strategy)
        unknown = sorted(set(selected) - set(class_names or ()))
        if unknown:
            warnings.append(f"{where}: strategy {strategy.name!r} selects classes that are not known: {unknown}")
    return settings, warnings


def _selected(strategy: Strategy) -> Collection[str]:
    return getattr(strategy, "selected_class_names", None) or ()


def _refuse_misses_below_floor(strategy: ExpectedMisses, settings: SamplingSettings, where: str) -> Iterable[str]:
    """A class whose threshold is at or below the floor has no expected misses; where all are, it is an error."""
    floor, thresholds = settings.confidence_floor, settings.thresholds
    weighted = [name for name, weights in strategy.weights.items() if any(weights)]
    below = sorted(name for name in weighted if thresholds.get(name, DEFAULT_THRESHOLD) <= floor)
    if len(below) == len(weighted):
        reason = f"the thresholds of {below} are not above the floor {floor:.4g}" if below else "no weight is above 0"
        raise BandBelowFloor(
            f"{where}: strategy {strategy.name!r} can never expect a miss, as {reason}: lower confidence_floor or fit "
            "the weights again"
        )
    if below:
        yield f"{where}: strategy {strategy.name!r} expects no misses of {below}, whose thresholds are at the floor"


def _refuse_bands_below_floor(settings: SamplingSettings, where: str) -> list[str]:
    """Warnings of bands that the floor cuts; BandBelowFloor for one of which it leaves nothing."""
    floor, slack = settings.confidence_floor, 1e-9  # 0.15 - 0.1 is a hair below 0.05, and 0.2 + 0.1 one above 0.3
    warnings: list[str] = []
    for strategy in settings.sampling_strategies:
        if isinstance(strategy, ExpectedMisses):
            warnings += _refuse_misses_below_floor(strategy, settings, where)
        if not isinstance(strategy, CloseToThreshold):
            continue
        low, high = max(0.0, strategy.threshold - strategy.epsilon), strategy.threshold + strategy.epsilon
        band = f"{where}: strategy {strategy.name!r} asks for confidences from {low:.4g} to {high:.4g}"
        if high <= floor + slack:
            raise BandBelowFloor(
                f"{band}, but the detector keeps nothing below {floor:.4g}: raise the band or lower confidence_floor"
            )
        if strategy.epsilon == 0:
            warnings.append(f"{band}, strictly between the two, so it can never match: raise epsilon")
        elif low < floor - slack:
            warnings.append(
                f"{band}, but the detector keeps nothing below {floor:.4g}: that part of the band stays empty"
            )
    return warnings
