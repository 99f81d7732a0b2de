"""`labelling` of `configs/project.yaml`: where people label, what they are asked, and when what they say counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tasks.core.settings.base import DEFAULT_THRESHOLD, Fraction, Settings

SkipReason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class LabellingSettings(Settings):
    """How labels are asked for."""

    interface: Literal["fiftyone", "files", "labelstudio"] = Field(
        "fiftyone", description="fiftyone: the App (edgeloop review); files: folders and zips; labelstudio: a server"
    )
    folder: str = Field("labelling", description="where `files` puts batches and looks for labels")
    max_images: int = Field(500, ge=1, description="images a batch at most, gold samples aside")
    annotations: int = Field(1, ge=1, le=100, description="people who label the same image, each for themselves")
    near_duplicates: bool = Field(
        True, description="leave out what repeats an image of the same camera and batch; never of the random slice"
    )
    maximum_hash_distance: int = Field(
        4, ge=0, le=256, description="bits of the 256-bit difference hash up to which an image repeats another"
    )
    skip_reasons: tuple[SkipReason, ...] = Field(
        ("too dark or blurred", "classes cannot be told apart", "not a picture of this place"),
        description="reasons for a skip that people can choose from; others can be written",
    )
    twice_share: Fraction = Field(
        0.1,
        description="share of the test and calibration images that are labelled once more, with pre-annotations, to "
        "measure what those change; these labels measure nothing else",
    )
    gold_share: Fraction = Field(
        0.05, description="gold samples mixed into a batch, as a share of its images, where there are any"
    )
    trial_images: int = Field(
        0, ge=0, description="images of a trial batch, accepted before others are offered; 0: none"
    )
    trial_agreement: Fraction = Field(
        0.9, description="F1 at IoU 0.5 with the gold labels, from which on a trial is accepted by itself"
    )
    pre_annotator: str = Field(
        "production",
        min_length=1,
        description="whose boxes people begin with. production: the device's own detections; a path to an .onnx "
        "detector, or to a .pt of ultralytics' YOLOE or YOLO-World, which is asked for the project's class names",
    )
    pre_annotator_confidence: Fraction = Field(
        DEFAULT_THRESHOLD, description="from which on boxes of a pre-annotator other than production are shown"
    )
    done_share: float = Field(
        1.0, gt=0, le=1, description="a batch ends when this share of its images is labelled or skipped"
    )
    done_images: int | None = Field(None, ge=1, description="or when so many of its images are labelled; none: never")
    deadline_days: float | None = Field(
        None, gt=0, le=3650, description="or so many days after it was offered; none: it has all the time"
    )
    remind_after_days: float | None = Field(
        3.0, gt=0, le=3650, description="days without a new label after which a reminder goes out; none: never"
    )
    late_days: float = Field(
        30.0, ge=0, le=3650, description="days after the end of a batch on which labels of it are still taken in"
    )
    labelstudio_url: str = Field("http://127.0.0.1:8080", description="the server of `labelstudio`")
    webhook_url: str = Field(
        "",
        pattern=r"^(https?://[^\s@]+)?$",
        description="address of `edgeloop wait --listen`, which Label Studio calls when somebody has labelled, with "
        "EDGELOOP_WEBHOOK_TOKEN; empty: nobody is called",
    )
    labelstudio_token_file: str = Field(
        "labelstudio/token",
        description="file, readable by you alone, of the personal access token, where "
        "EDGELOOP_LABELSTUDIO_TOKEN is not set; `edgeloop labelstudio up` writes it",
    )
