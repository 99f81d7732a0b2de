"""What is in force: a detector, the sampling settings, and the name under which samples remember them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import Prepared
from tasks.adapters.releases import InstalledRelease
from tasks.collector.embedding import Embedder, embedder_for
from tasks.core.entities import STUB, Detections, content_id
from tasks.core.errors import ModelError
from tasks.core.settings import DeviceSettings, Probation, RandomSampling, SamplingSettings

WITHOUT_ORDERS = SamplingSettings(sampling_strategies=(RandomSampling(name="random", type="random"),))


class AnyDetector(Protocol):
    """What the pipeline needs of a detector."""

    @property
    def model_version(self) -> str: ...

    @property
    def is_stub(self) -> bool: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def missing_classes(self) -> tuple[str, ...]: ...

    @property
    def provider(self) -> str: ...

    @property
    def passed_over(self) -> tuple[str, ...]: ...

    @property
    def batch(self) -> int: ...

    def detect(self, pixels: NDArray[np.uint8]) -> Detections: ...

    def prepare(self, pixels: NDArray[np.uint8]) -> Prepared: ...

    def run(self, prepared: Prepared) -> NDArray[np.float32]: ...

    def run_batch(self, prepared: Sequence[Prepared]) -> None: ...

    def detect_prepared(self, prepared: Prepared) -> Detections: ...

    def interrupt(self) -> None: ...

    interruptible: bool


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
        providers: Sequence[str],
        batch: int,
        embedding: str = "",
    ) -> AnyDetector: ...


@dataclass(frozen=True, slots=True)
class Runner:
    """One swap exchanges all of it at once.

    project_classes: where the detector sees more than the project's classes, because that is to be hidden.
    unseen_classes: what is to be hidden and the model cannot see. embedder: where `novelty` asks for one.
    """

    detector: AnyDetector
    settings: SamplingSettings
    project_classes: tuple[str, ...] | None = None
    unseen_classes: tuple[str, ...] = ()
    settings_version: str = ""
    release_number: int = 0
    on_probation: bool = False
    probation: Probation = field(default_factory=Probation)
    embedder: Embedder | None = None

    @property
    def model_version(self) -> str:
        return self.detector.model_version

    def of_the_project(self, detections: Detections) -> Detections:
        """Without those of classes that are only seen to be hidden."""
        names = self.project_classes
        if names is None:
            return detections
        ours = detections.class_id < len(names)
        return replace(detections[ours], class_names=names)

    def __str__(self) -> str:
        orders = f"release {self.release_number}" if self.release_number else "local settings"
        return f"{orders}, model {self.model_version}"


class RunnerFactory:
    """Opens runners for one project of a device: the same classes, threads and execution providers for each."""

    def __init__(
        self,
        open_detector: OpenDetector,
        *,
        project_classes: Sequence[str] | None,
        model_classes: Sequence[str] | str | None,
        threads: int,
        providers: Sequence[str] = ("cpu",),
        batch: int = 1,
        hidden_classes: Sequence[str] = (),
    ) -> None:
        """hidden_classes: what the device hides in its pictures, be they classes of the project or not."""
        self._open = open_detector
        self._project_classes = project_classes
        self._model_classes = model_classes
        self._threads = threads
        self._providers = tuple(providers)
        self._batch = batch
        self._hidden_classes = tuple(hidden_classes)

    @classmethod
    def for_device(
        cls,
        device: DeviceSettings,
        open_detector: OpenDetector,
        *,
        project_classes: Sequence[str] | None,
        model_classes: Sequence[str] | str | None,
    ) -> RunnerFactory:
        """As the device's own settings have it."""
        return cls(
            open_detector,
            project_classes=project_classes,
            model_classes=model_classes,
            threads=device.threads,
            providers=device.providers,
            batch=device.batch,
            hidden_classes=device.privacy.classes,
        )

    @property
    def project_classes(self) -> Sequence[str] | None:
        return self._project_classes

    @property
    def model_classes(self) -> Sequence[str] | str | None:
        return self._model_classes

    def of_release(self, installed: InstalledRelease) -> Runner:
        """Raises ModelError or SettingsError when the model cannot be opened here, or not see what is to be hidden, or
        has not the embedding that the settings ask for.
        """
        release = installed.release
        settings = release.settings
        if release.thresholds and not settings.thresholds:
            settings = settings.model_copy(update={"thresholds": release.thresholds})
        runner = Runner(
            *self._opened(
                installed.model,
                self._project_classes or release.class_names,
                self._model_classes or installed.model_classes,
                settings,
                release.nms_iou,
            ),
            settings_version=f"{release.group}/{release.number}",
            release_number=release.number,
            on_probation=installed.on_probation,
            probation=release.probation,
            embedder=embedder_for(settings, str(installed.model), release.model_version, self._threads),
        )
        runner.detector.interruptible = installed.on_probation
        if runner.unseen_classes and not runner.detector.is_stub:
            raise ModelError(
                f"{installed.model}: the model has no class {', '.join(runner.unseen_classes)}, which this device "
                f"hides: publish one that sees it, or change privacy.classes"
            )
        return runner

    def of_files(self, model: str | None, sampling: SamplingSettings | None) -> Runner:
        """A model and settings that the device was started with; the stub and 0.5% at random where they are missing."""
        settings = sampling or WITHOUT_ORDERS
        opened = self._opened(model or STUB, self._project_classes, self._model_classes, settings, nms_iou=0.6)
        return Runner(
            *opened,
            settings_version=content_id(settings.model_dump_json()),
            embedder=embedder_for(settings, model or STUB, opened[0].model_version, self._threads),
        )

    def _opened(
        self,
        model: str,
        classes: Sequence[str] | None,
        model_classes: Sequence[str] | str | None,
        settings: SamplingSettings,
        nms_iou: float,
    ) -> tuple[AnyDetector, SamplingSettings, tuple[str, ...] | None, tuple[str, ...]]:
        """The detector and, in a Runner's order, what goes with it.

        A detector leaves out what is no class of the project. What is to be hidden is therefore asked for, too.
        """
        also = [name for name in self._hidden_classes if classes is not None and name not in classes]
        output = settings.embedding_output
        asked = {"embedding": output} if output and model != STUB else {}
        detector = self._open(
            model,
            project_classes=[*classes, *also] if classes is not None else None,
            model_classes=model_classes,
            confidence_floor=settings.confidence_floor,
            nms_iou=nms_iou,
            threads=self._threads,
            providers=self._providers,
            batch=self._batch,
            **asked,
        )
        return detector, settings, tuple(classes) if classes is not None and also else None, self._unseen(detector)

    def _unseen(self, detector: AnyDetector) -> tuple[str, ...]:
        if not self._hidden_classes:
            return ()
        seen = set(detector.class_names) - set(detector.missing_classes)
        return tuple(name for name in self._hidden_classes if name not in seen)
