"""How one number of labels is shared out, and why."""

from __future__ import annotations

from pydantic import Field

from tasks.core.entities.base import Record, UtcTime


class AllocationCell(Record):
    """The labels of one camera, strategy and confidence band. An empty name stands for all of them taken together."""

    schema_version: int = Field(1, exclude=True)
    camera: str = Field("", description="'device/camera'")
    strategy: str = ""
    band: str = Field("", description="of the most confident detection below its class's threshold")
    exploration: bool = Field(False, description="the random slice of all cameras")
    images: int = Field(0, description="labelled ones that the yield was measured on")
    boxes: int = Field(0, description="in them: objects and false alarms, all that a person had to look at")
    missed: int = Field(0, description="objects in them that people added")
    false_alarms: int = Field(0, description="detections in them that people removed")
    measured: float | None = Field(
        None, description="corrections for the work of an average image, recent ones weigh more; none: no labels"
    )
    interval: tuple[float, float] | None = Field(None, description="95% of `measured`")
    shrunk: float = Field(0.0, description="`measured`, drawn towards the mean of all cells")
    share: float = Field(0.0, description="of the labels that exploration leaves, before the supply caps it")
    supply: int | None = Field(None, description="images that it can deliver; none: not known")
    labels: int = 0
    reason: str = ""

    @property
    def corrections(self) -> int:
        return self.missed + self.false_alarms


class Allocation(Record):
    """One number of labels over all cells, as it was shared out."""

    number: int = Field(ge=1)
    created_at: UtcTime
    labels: int = Field(ge=1, description="that were to be shared out")
    exploration: float = Field(description="least share of them for the random slice")
    floor: float = Field(description="of an equal share, that every cell keeps")
    swing: float = Field(description="times a cell's share of an earlier week, that it may grow or shrink by")
    half_life_weeks: float = Field(description="after which a label says half as much of its cell's yield")
    weeks_back: float | None = Field(None, description="that labels were looked at; none: all")
    together: str = Field("", description="what was taken together because the labels are few; empty: nothing")
    mean_yield: float | None = Field(None, description="corrections for the work of an average image; none: no labels")
    prior_images: float | None = Field(
        None, description="average images that the mean counts as in every cell; none: it counts alone"
    )
    dispersion: float = Field(1.0, description="variance of an image's corrections over their mean, 1 for Poisson")
    cells: tuple[AllocationCell, ...]
    warnings: tuple[str, ...] = ()
    drawn_from: tuple[str, ...] = Field(
        (), description="batches whose samples took part in the draw; none: only a plan"
    )
    batches: tuple[str, ...] = Field((), description="batches of what was drawn, to be labelled")

    @property
    def handed_out(self) -> int:
        return sum(cell.labels for cell in self.cells)
