"""`configs/device.yaml`: who a device is, what it looks at, what it tells, and what never leaves it.

Everything here is local: its orders (model, thresholds, sampling settings) come from releases, its secrets from the
environment. Privacy masks and the cap of the outbox cannot be changed from outside.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.core.settings.base import Fraction, Name, Settings

Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "coreml"]
Environment = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Region(Settings):
    """A rectangle of a camera's picture, in fractions of its width and height from the top left corner."""

    left: Fraction = 0.0
    top: Fraction = 0.0
    right: Fraction = 1.0
    bottom: Fraction = 1.0

    @model_validator(mode="after")
    def _has_an_area(self) -> Region:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError("left must be below right, and top below bottom")
        return self


class CameraSettings(Settings):
    """One camera of a device."""

    name: Name
    source: str = Field(description="video file, folder of images, webcam number, or rtsp:// address")
    frame_rate: float | None = Field(None, gt=0, description="frames a second at most; none: as many as it gives")
    region: Region | None = Field(None, description="the part that is looked at; none: all of it")
    masks: tuple[Region, ...] = Field((), description="parts that are hidden before anything sees or stores them")
    open_timeout_seconds: float = Field(10.0, gt=0, le=120, description="longest wait for a live camera to answer, s")
    read_timeout_seconds: float = Field(5.0, gt=0, le=120, description="longest wait for its next frame, s")


class PrivacySettings(Settings):
    """What is hidden in every picture before it is written to the disk, beside the cameras' own masks."""

    classes: tuple[str, ...] = Field((), description="classes of the model whose boxes are hidden, from the floor up")
    method: Literal["blur", "black"] = "blur"
    margin: float = Field(0.1, ge=0, le=1, description="of a box's width and height, hidden around it")


class ConsumerSettings(Settings):
    """What all consumers have in common."""

    only_with_detections: bool = Field(False, description="leave out frames in which nothing reaches its threshold")
    waiting_messages: int = Field(1000, ge=1, le=100_000, description="that wait at most; the oldest makes room")


class JsonLinesConsumer(ConsumerSettings):
    """Detections as JSON lines, to standard output or to a file that is replaced when it is full."""

    type: Literal["stdout", "file"]
    path: str = Field("", description="of the file")
    megabytes: int = Field(100, ge=1, description="of a file, after which it is put aside and a new one begun")
    files: int = Field(3, ge=1, le=100, description="that are put aside; the oldest goes")

    @model_validator(mode="after")
    def _file_has_a_path(self) -> JsonLinesConsumer:
        if (self.type == "file") != bool(self.path):
            raise ValueError("path: a file needs one, and standard output has none")
        return self


class MqttConsumer(ConsumerSettings):
    """Detections as messages to an MQTT broker; user and password come from the environment."""

    type: Literal["mqtt"]
    host: str = Field(min_length=1)
    port: int = Field(1883, ge=1, le=65535)
    topic: str = Field("edgeloop/{device}/{camera}", min_length=1, description="{device}, {project}, {camera}")
    qos: Literal[0, 1] = 0
    tls: bool = False
    certificate_authority: str = Field("", description="PEM file that the broker's certificate is checked against")
    user_environment: Environment = "EDGELOOP_MQTT_USER"
    password_environment: Environment = "EDGELOOP_MQTT_PASSWORD"

    @model_validator(mode="after")
    def _topic_can_be_published_to(self) -> MqttConsumer:
        rest = self.topic
        for name in ("{device}", "{project}", "{camera}"):
            rest = rest.replace(name, "")
        if self.topic.startswith("$") or any(c in "{}+#" or not c.isprintable() for c in rest):
            raise ValueError(
                "topic: takes {device}, {project} and {camera}, does not begin with $, and has no wildcard + or #"
            )
        return self


Consumer = Annotated[JsonLinesConsumer | MqttConsumer, Field(discriminator="type")]


class ServerSettings(Settings):
    """`POST /infer`: for applications that bring their own frames. What passes is sampled like a camera's frames."""

    host: str = "127.0.0.1"
    port: Port = Field(8670, description="0: a free one, which the status names")
    camera: Name = Field("http", description="the camera name of frames that name none")
    key_environment: Environment = Field("EDGELOOP_INFER_KEY", description="variable that holds the key to ask for")
    megabytes: float = Field(10.0, gt=0, le=100, description="of a request at most")
    megapixels: float = Field(12.0, gt=0, le=50, description="of an image at most; twice as many wait at most")
    waiting_frames: int = Field(8, ge=1, le=64, description="that wait for the model at most; more are refused")
    timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="longest wait for a request to arrive, and then for its answer, s"
    )


class MetricsSettings(Settings):
    """Prometheus metrics over HTTP."""

    host: str = "127.0.0.1"
    port: Port = 8671


class PipelineSettings(Settings):
    """A further project that looks at cameras of this device, with releases and a quota of its own."""

    project: Name
    group: Name = "all"
    bucket: str = Field(description="file:///folder or s3://bucket/prefix")
    cameras: tuple[Name, ...] = Field((), description="names of the device's cameras; none: all of them")
    outbox_megabytes: int = Field(1024, ge=1, description="hard cap of its spool, MB")
    trusted_root: str = Field("", description="root.json of that project's signing keys, as of the device")


class DeviceSettings(Settings):
    """`configs/device.yaml`: who a device is. Its orders come from releases, its secrets from the environment."""

    name: Name
    group: Name = "all"
    project: Name
    bucket: str = Field(description="file:///folder or s3://bucket/prefix")
    cameras: tuple[CameraSettings, ...] = ()
    pipelines: tuple[PipelineSettings, ...] = Field((), description="further projects on the same cameras")
    trusted_root: str = Field(
        "", description="root.json of the project's signing keys; without it no release is obeyed"
    )
    outbox: str = Field("outbox", description="folder of the spool")
    outbox_megabytes: int = Field(1024, ge=1, description="hard cap of the spool, MB")
    segment_samples: int = Field(50, ge=1, description="samples a segment at most")
    segment_seconds: float = Field(30.0, gt=0, description="longest wait before a segment is committed, s")
    poll_seconds: float = Field(30.0, gt=0, description="how often the bucket is asked for a new release, s")
    status_seconds: float = Field(60.0, gt=0, description="how often the status is written, s")
    threads: int = Field(0, ge=0, description="threads of ONNX Runtime; 0: its own choice")
    providers: tuple[Provider, ...] = Field(
        ("cpu",), min_length=1, description="of ONNX Runtime, the first that is there"
    )
    batch: int = Field(1, ge=1, le=64, description="frames of different cameras that the model sees at once, at most")
    privacy: PrivacySettings = PrivacySettings()
    consumers: tuple[Consumer, ...] = Field((), description="who is told what the model sees")
    server: ServerSettings | None = Field(None, description="takes frames over HTTP; none: no server")
    metrics: MetricsSettings | None = Field(None, description="Prometheus metrics; none: no server")
    log_format: Literal["text", "json"] = "text"

    @model_validator(mode="after")
    def _names_are_unique(self) -> DeviceSettings:
        _refuse_repeated("cameras", [camera.name for camera in self.cameras])
        _refuse_repeated("pipelines", [self.project, *(pipeline.project for pipeline in self.pipelines)])
        return self

    @model_validator(mode="after")
    def _pipelines_name_cameras(self) -> DeviceSettings:
        known = {camera.name for camera in self.cameras}
        for pipeline in self.pipelines:
            unknown = sorted(set(pipeline.cameras) - known)
            if unknown:
                raise ValueError(f"pipelines: project {pipeline.project} names unknown cameras {unknown}")
        return self

    def of_each_project(self) -> tuple[DeviceSettings, ...]:
        """The settings as each project of this device sees them: its own group, bucket, cameras, cap and spool.

        The first is the device's own; the spools of the others lie in folders below its spool.
        """
        return (
            self.model_copy(update={"pipelines": ()}),
            *(
                self.model_copy(
                    update={
                        "project": pipeline.project,
                        "group": pipeline.group,
                        "bucket": pipeline.bucket,
                        "cameras": tuple(c for c in self.cameras if not pipeline.cameras or c.name in pipeline.cameras),
                        "pipelines": (),
                        "outbox": f"{self.outbox}/projects/{pipeline.project}",
                        "outbox_megabytes": pipeline.outbox_megabytes,
                        "trusted_root": pipeline.trusted_root,
                    }
                )
                for pipeline in self.pipelines
            ),
        )


def _refuse_repeated(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: {name!r} is used {names.count(name)} times")
