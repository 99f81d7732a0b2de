"""What people say about samples, and the frozen data sets that are made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.entities.base import Record, UtcTime, Xyxy
from tasks.core.entities.samples import Sample

# labels: what the loop learns from. trial: a few images first, to see whether people label as they should.
# seeded-twin: images that measure, labelled once more with pre-annotations, to see what those change.
BatchPurpose = Literal["labels", "trial", "seeded-twin"]


class Batch(Record):
    """Samples that go to labelling together."""

    batch_id: str
    created_at: UtcTime
    class_names: tuple[str, ...]
    class_list_version: int = 1
    samples: tuple[Sample, ...]
    unseeded: tuple[str, ...] = Field(
        (), description="sample ids to label without pre-annotations: test and calibration"
    )
    origin: Literal["devices", "import"] = "devices"
    probability_offered: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        {}, description="sample id -> how likely it was to come into this batch; 1 for one that is not named"
    )
    drawn_from: tuple[str, ...] = Field((), description="batches that its samples were drawn from, where they were")
    purpose: BatchPurpose = Field("labels", description="what its labels are for; those of other kinds never train")
    gold: tuple[str, ...] = Field(
        (), description="sample ids whose label is known: what people say of them only measures people"
    )
    after: str = Field("", description="the trial batch that must be accepted before this one is offered")
    assignee: str = Field("", description="who is asked to label it; empty: whoever comes")
    priority: float = Field(
        0.0, ge=0, description="expected misses for each box to draw, by the model that was live; best offered first"
    )


class LabelBox(Record):
    """A person's box."""

    schema_version: int = Field(1, exclude=True)
    class_name: str
    xyxy: Xyxy
    crowd: bool = False


class Label(Record):
    """What a person said about one image. No boxes and status `done` is a label too: reviewed and found empty."""

    sample_id: str
    status: Literal["done", "skipped"] = "done"
    boxes: tuple[LabelBox, ...] = ()
    annotator: str
    labelled_at: UtcTime
    seeded: bool = Field(False, description="the person saw pre-annotations")
    seeded_by: str = Field("", description="pre-annotator whose boxes these were; empty: the device's model")
    corrections: int = Field(0, description="boxes added, removed, moved or renamed against the pre-annotations")
    origin: Literal["human", "model"] = Field("human", description="model: predictions that were accepted in bulk")
    reason: str = Field("", max_length=200, description="why it was skipped, in the words of who did")
    lead_seconds: float | None = Field(None, ge=0, description="time that the person spent on the image, s")


Split = Literal["train", "calibration", "test", "excluded"]


class DatasetEntry(Record):
    """One labelled image of a dataset version: a row of its manifest."""

    sample: Sample
    label: Label
    batch_id: str
    revision: int
    split: Split
    edition: int = Field(0, description="the test edition that this image entered with; 0 outside the test split")
    cluster: str = Field(description="camera x hour, or the image where there is neither")
    source_group: str = Field("", description="augmented copies of one photograph share it")
    image_key: str
    probability_offered: float = Field(
        1.0, gt=0, le=1, description="how likely the sample was to be offered for labelling, once it was delivered"
    )


class DatasetVersion(Record):
    """Frozen labelled samples with their splits. The entries are in the manifest."""

    dataset_version: str
    created_at: UtcTime
    class_names: tuple[str, ...]
    class_list_version: int = 1
    fingerprint: str = Field(description="sha256 over images, labels and splits")
    counts: dict[str, int] = Field(description="images by split")
    boxes: dict[str, int] = Field(description="boxes by split")
    batches: dict[str, int] = Field(description="batch id -> label revision")
    by_model: int = Field(0, description="training images whose label is a prediction that was accepted in bulk")
    test_edition: int = 0
    test_is_random: bool = Field(True, description="False for an imported test split: a legacy edition")
    excluded: dict[str, int] = Field({}, description="images left out of training, by reason")
    previous: str = ""
