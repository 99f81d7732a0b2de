"""What people write: sampling settings, `configs/project.yaml` and `configs/device.yaml`, validated.

`SamplingSettings` is what a device obeys. Its vocabulary is that of Roboflow Inference's active learning, so that a
configuration exported from there loads unchanged; the fields that are ours come after it and have defaults. Every
field is explained in SAMPLING.md beside this file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tasks.core.errors import BandBelowFloor, SettingsError

Fraction = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=1)]
Thresholds = dict[str, Fraction]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9\-_:/.\[\]<>{}@]{1,64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")]

DEFAULT_THRESHOLD = 0.5  # the operating threshold of a class that has none of its own


class Settings(BaseModel):
    """Base of all settings: an unknown key is a typo, and a typo must not switch anything off in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


# --- sampling --------------------------------------------------------------------------------------------------------


WindowType = Literal["minutely", "hourly", "daily"]


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


AnyStrategy = Annotated[
    RandomSampling | CloseToThreshold | ClassesBased | DetectionsNumberBased, Field(discriminator="type")
]


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
    traffic_log_rate: Fraction = Field(0.1, description="share of frames whose confidences go to the traffic log")
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

    @property
    def exploration_strategy(self) -> RandomSampling | None:
        """The first `random` strategy without limits: its draw is the exploration draw e of every frame."""
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
        unknown = sorted(set(getattr(strategy, "selected_class_names", None) or ()) - set(class_names or ()))
        if unknown:
            warnings.append(f"{where}: strategy {strategy.name!r} selects classes that are not known: {unknown}")
    return settings, warnings


def _refuse_bands_below_floor(settings: SamplingSettings, where: str) -> list[str]:
    """Warnings of bands that the floor cuts; BandBelowFloor for one of which it leaves nothing."""
    floor, slack = settings.confidence_floor, 1e-9  # 0.15 - 0.1 is a hair below 0.05, and 0.2 + 0.1 one above 0.3
    warnings = []
    for strategy in settings.sampling_strategies:
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


# --- devices and projects --------------------------------------------------------------------------------------------


class CameraSettings(Settings):
    """One camera of a device."""

    name: Name
    source: str = Field(description="video file, folder of images, webcam number, or rtsp:// address")


class DeviceSettings(Settings):
    """`configs/device.yaml`: who a device is. Its orders come from releases, its secrets from the environment."""

    name: Name
    group: Name = "all"
    project: Name
    bucket: str = Field(description="file:///folder or s3://bucket/prefix")
    cameras: tuple[CameraSettings, ...] = ()
    outbox: str = Field("outbox", description="folder of the spool")
    outbox_megabytes: int = Field(1024, ge=1, description="hard cap of the spool, MB")
    segment_samples: int = Field(50, ge=1, description="samples a segment at most")
    segment_seconds: float = Field(30.0, gt=0, description="longest wait before a segment is committed, s")
    poll_seconds: float = Field(30.0, gt=0, description="how often the bucket is asked for a new release, s")
    status_seconds: float = Field(60.0, gt=0, description="how often the status is written, s")
    threads: int = Field(0, ge=0, description="threads of ONNX Runtime; 0: its own choice")


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


class LabellingSettings(Settings):
    """How labels are asked for."""

    interface: Literal["files"] = "files"
    folder: str = Field("labelling", description="where `files` puts batches and looks for labels")
    max_images: int = Field(500, ge=1, description="images a batch at most")


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
    first_model: str = Field("stub", description="ONNX file that devices run until the loop has trained one, or stub")
    budget_images_a_day: int = Field(
        200, ge=1, description="labels that people can make, images a day over all devices"
    )
    frames_a_day: int = Field(2_000_000, ge=1, description="frames a day over all devices, after duplicates")
    exploration: float = Field(0.2, gt=0, le=1, description="share of the budget drawn at random")
    beta: float = Field(1.0, gt=0, description="F-beta of the operating thresholds")
    minimum_labels: int = Field(50, ge=1, description="labelled training images before a first model is trained")
    new_labels: int = Field(50, ge=1, description="newly labelled images before it is trained again")
    approval: Literal["automatic", "manual"] = "manual"
    sampling: SamplingSettings = SamplingSettings(
        sampling_strategies=(RandomSampling(name="random", type="random", traffic_percentage=0.005),)
    )
    labelling: LabellingSettings = LabellingSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    review: bool = Field(True, description="keep a FiftyOne dataset in step")
    seed: int = 0


def validated(model: type[Any], data: Any, where: str) -> Any:
    """`data` as `model`; a SettingsError of one line that names `where`, the field and what is wrong with it."""
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where}: expected a mapping of settings, got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem_line(problem["type"], problem["loc"], problem["msg"], data) for problem in error.errors()]
        raise SettingsError(f"{where}: " + "; ".join(problems)) from None


def _problem_line(kind: str, location: Sequence[int | str], message: str, data: Any) -> str:
    """One problem that pydantic found, with the path of its field in front."""
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        location = (*location, "type")
        message = "Field required" if kind == "union_tag_not_found" else f"unknown type: {message}"
    path = _field_path(location, data)
    message = message.removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _field_path(location: Sequence[int | str], data: Any) -> str:
    """`sampling_strategies[1] 'hard': epsilon`, from pydantic's location and the data that it was found in."""
    path, here = "", data
    for part in location:
        if isinstance(part, str) and isinstance(here, Mapping) and part not in here and part == here.get("type"):
            continue  # pydantic names the member of a union, which is no field
        if isinstance(part, int):
            here = here[part] if isinstance(here, (list, tuple)) and part < len(here) else None
            name = here.get("name") if isinstance(here, Mapping) else None
            path += f"[{part}]" + (f" {name!r}" if isinstance(name, str) else "")
        else:
            here = here.get(part) if isinstance(here, Mapping) else None
            separator = "" if not path else ": " if path.endswith(("]", "'")) else "."
            path += f"{separator}{part}"
    return path
