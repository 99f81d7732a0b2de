"""What is in force: a detector, the sampling settings, and the name under which samples remember them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import Prepared
from tasks.adapters.releases import InstalledRelease
from tasks.core.entities import STUB, Detections, Probation, content_id
from tasks.core.settings import RandomSampling, SamplingSettings

WITHOUT_ORDERS = SamplingSettings(sampling_strategies=(RandomSampling(name="random", type="random"),))


class AnyDetector(Protocol):
    """What the pipeline needs of a detector."""

    @property
    def model_version(self) -> str: ...

    @property
    def is_stub(self) -> bool: ...

    def detect(self, pixels: NDArray[np.uint8]) -> Detections: ...

    def prepare(self, pixels: NDArray[np.uint8]) -> Prepared: ...

    def run(self, prepared: Prepared) -> NDArray[np.float32]: ...

    def detect_prepared(self, prepared: Prepared) -> Detections: ...


class OpenDetector(Protocol):
    """How a detector is opened: `detector.open_detector`, or a test's."""

    def __call__(
        self,
        model: str | Path,
        *,
        project_classes: Sequence[str] | None,
        model_classes: Sequence[str] | str | None,
        confidence_floor: float,
        nms_iou: float,
        threads: int,
    ) -> AnyDetector: ...


@dataclass(frozen=True, slots=True)
class Runner:
    """One swap exchanges all of it at once."""

    detector: AnyDetector
    settings: SamplingSettings
    settings_version: str
    release_number: int = 0
    on_probation: bool = False
    probation: Probation = Probation()

    @property
    def model_version(self) -> str:
        return self.detector.model_version

    def __str__(self) -> str:
        orders = f"release {self.release_number}" if self.release_number else "local settings"
        return f"{orders}, model {self.model_version}"


class RunnerFactory:
    """Opens runners for one device: the same classes and threads for each."""

    def __init__(
        self,
        open_detector: OpenDetector,
        *,
        project_classes: Sequence[str] | None,
        model_classes: Sequence[str] | str | None,
        threads: int,
    ) -> None:
        self._open = open_detector
        self._project_classes = project_classes
        self._model_classes = model_classes
        self._threads = threads

    @property
    def project_classes(self) -> Sequence[str] | None:
        return self._project_classes

    @property
    def model_classes(self) -> Sequence[str] | str | None:
        return self._model_classes

    def of_release(self, installed: InstalledRelease) -> Runner:
        """Raises ModelError or SettingsError when the model cannot be opened here."""
        release = installed.release
        settings = release.settings
        if release.thresholds and not settings.thresholds:
            settings = settings.model_copy(update={"thresholds": release.thresholds})
        detector = self._open(
            installed.model,
            project_classes=self._project_classes or release.class_names,
            model_classes=self._model_classes or installed.model_classes,
            confidence_floor=settings.confidence_floor,
            nms_iou=release.nms_iou,
            threads=self._threads,
        )
        version = f"{release.group}/{release.number}"
        return Runner(detector, settings, version, release.number, installed.on_probation, release.probation)

    def of_files(self, model: str | None, sampling: SamplingSettings | None) -> Runner:
        """A model and settings that the device was started with; the stub and 0.5% at random where they are missing."""
        settings = sampling or WITHOUT_ORDERS
        detector = self._open(
            model or STUB,
            project_classes=self._project_classes,
            model_classes=self._model_classes,
            confidence_floor=settings.confidence_floor,
            nms_iou=0.6,
            threads=self._threads,
        )
        return Runner(detector, settings, content_id(settings.model_dump_json()))
