"""What a look for drift found, camera by camera and figure by figure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.entities.base import Record, UtcTime


class FigureDrift(Record):
    """One figure of a camera, now against the reference."""

    schema_version: int = Field(1, exclude=True)
    figure: str = Field(description="maximum confidence, detections, mass below the threshold or area")
    answer: Literal["same", "changed", "too few"]
    reference_frames: int
    now_frames: int
    needed_frames: int = Field(0, description="of now, that an answer takes; 0: there are enough")
    reason: str = Field("", description="why there is no answer")
    reference_blocks: int = 0
    now_blocks: int = 0
    block_seconds: float = Field(0.0, description="length of the stretches that were exchanged, s")
    matched_by_hour: bool = Field(False, description="hours of the day were compared with the same hours")
    reference_mean: float | None = None
    now_mean: float | None = None
    ks: float | None = Field(None, description="Kolmogorov-Smirnov: share of frames that lie elsewhere, at least")
    ks_p_value: float | None = None
    at: float | None = Field(None, description="value where the cumulative shares differ most")
    reference_share: float | None = Field(None, description="of frames up to `at`")
    now_share: float | None = None
    psi: float | None = None
    psi_p_value: float | None = None
    since: UtcTime | None = Field(None, description="when it began, an estimate; only where it has changed")


class CameraDrift(Record):
    """A camera of a device. silent: it has frames in the reference and none now."""

    schema_version: int = Field(1, exclude=True)
    device: str
    camera: str
    answer: Literal["same", "changed", "too few", "silent"]
    reason: str = Field("", description="why there is no answer, or since when it is silent")
    left_out: dict[str, int] = Field({}, description="records that were not used, by reason")
    figures: tuple[FigureDrift, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.device}/{self.camera}"

    @property
    def is_trouble(self) -> bool:
        return self.answer in ("changed", "silent")

    @property
    def changed(self) -> tuple[FigureDrift, ...]:
        return tuple(figure for figure in self.figures if figure.answer == "changed")


class Drift(Record):
    """A look at all cameras that run the live model: the reference's frames against those of the last window."""

    number: int = Field(ge=1)
    created_at: UtcTime
    model_version: str
    release_number: int
    reference_from: UtcTime
    reference_to: UtcTime
    now_from: UtcTime
    now_to: UtcTime
    alpha: float = Field(description="false alarms a look, over all cameras and figures")
    corrected_alpha: float = Field(description="what each p-value is held against (Bonferroni)")
    minimum_change: float = Field(description="share of frames that must lie elsewhere")
    cameras: tuple[CameraDrift, ...]
    warnings: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Is there a camera that changed or fell silent?"""
        return any(camera.is_trouble for camera in self.cameras)
