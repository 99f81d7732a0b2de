"""Explain: what a device would decide of a recording, without a device. Nothing is kept, nothing leaves.

Whatever reads, sees, hashes and decides here is the collector's own, so that a replay on a desk and the device itself
agree on every frame. It needs no Prefect, and what a device has is enough; the picture needs matplotlib.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType

from tasks.adapters import camera
from tasks.adapters.detector import open_detector
from tasks.collector import ahead
from tasks.collector.ahead import Captured
from tasks.collector.keeping import hash_of, observation_of
from tasks.collector.runner import RunnerFactory
from tasks.core.entities import STUB, Frame
from tasks.core.errors import ImageUnreadable, ModelError, RecordInvalid, SettingsError, SourceUnavailable
from tasks.core.explain import Explained, Explainer, RecordedFrames, Timeline, Unseen, check_classes, line_of
from tasks.core.sampling import Observation
from tasks.core.settings import CameraSettings, DeviceSettings, SamplingSettings

ANSWERS, PICTURE = "answers.jsonl", "timeline.png"


class Recording:
    """The frames of a video or a folder, as the sampler of a device would be shown them.

    warnings: what the user should know of settings and model before the first frame. skipped: frames that could not be
    shown, by reason, and `last_error`, what was wrong with the last of them.
    """

    def __init__(
        self,
        camera_settings: CameraSettings,
        settings: SamplingSettings,
        *,
        device: DeviceSettings,
        where: str,
        model: str = STUB,
        project_classes: Sequence[str] | None = None,
        model_classes: Sequence[str] | str | None = None,
        start: datetime | None = None,
        for_other_settings: bool = False,
    ) -> None:
        """camera_settings: region, masks and frame rate hold for the recording as for the camera itself. device: its
        name, what it hides, and what its model runs on; the CPU where that is not here. where: the name of the
        settings, for messages. start: capture time of the first frame; by default that of the file.
        for_other_settings: hash every frame, whether or not these settings look for near-duplicates.

        Raises SourceUnavailable, ModelError, ClassesDoNotOverlap, and SettingsError for a camera that never ends.
        """
        self._camera, self._settings, self._device = camera_settings, settings, device.name
        self._hashes_all = for_other_settings
        source, name = camera_settings.source, camera_settings.name
        self._source = camera.open_source(source, name, start=start, settings=camera_settings)
        if self._source.is_live:
            self._source.close()
            raise SettingsError(f"{name}: is a live camera, which has no end: record it first, then explain the video")
        factory = RunnerFactory.for_device(
            device.model_copy(update={"providers": (*device.providers, "cpu")}),
            open_detector,
            project_classes=project_classes,
            model_classes=model_classes,
        )
        self._runner = factory.of_files(model, settings)
        self.warnings = self._warnings(where, model)
        self._failed: Counter[str] = Counter()
        self._last_failure = ""

    def __iter__(self) -> Iterator[tuple[Frame, Observation | Unseen]]:
        """Raises SourceUnavailable, or ModelError where that is why, when not one frame could be shown."""
        shown = 0
        for frame in self._source:
            observation = self._shown(frame)
            shown += isinstance(observation, Observation)
            yield frame, observation
        if not shown:
            why = self.last_error or "it has none"
            kind = ModelError if self._failed["inference failed"] else SourceUnavailable
            raise kind(f"{self._camera.source}: not one frame could be explained ({why}): check it")

    @property
    def skipped(self) -> dict[str, int]:
        return dict(Counter(self._source.skipped) + self._failed)

    @property
    def last_error(self) -> str:
        return self._last_failure or self._source.last_error

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    def _shown(self, frame: Frame) -> Observation | Unseen:
        """As the collector does: a frame that the model fails on is counted, and the next one comes."""
        try:
            observation = self._observation(Captured(frame, is_live=False))
        except (ImageUnreadable, ModelError) as error:
            self._failed["frame unreadable" if isinstance(error, ImageUnreadable) else "inference failed"] += 1
            self._last_failure = f"frame {frame.index}: {error}"
            return Unseen(frame.camera)
        if self._hashes_all and observation.image_hash is None:
            return replace(observation, image_hash=hash_of(frame.pixels))
        return observation

    def _observation(self, captured: Captured) -> Observation:
        """As the collector's pipeline makes it of a recording's frame."""
        runner = self._runner
        everything = ahead.detect(captured, runner.detector, embeds=runner.embedder is not None)
        detections, is_stub = runner.of_the_project(everything), runner.detector.is_stub
        observation = observation_of(captured.frame, detections, self._device, runner.settings, is_stub)
        if runner.embedder is not None:
            embedding = runner.embedder.of(captured)
            return replace(observation, embedding=embedding, embedder=runner.embedder.name)
        return observation

    def _warnings(self, where: str, model: str) -> list[str]:
        detector, settings = self._runner.detector, self._settings
        unseen = ", ".join(self._runner.unseen_classes)
        not_private = (
            [f"{model} cannot see {unseen}, which the device hides: it would keep no picture"] if unseen else []
        )
        if detector.is_stub:
            return not_private
        seen = [name for name in detector.class_names if name not in detector.missing_classes]
        warnings = not_private + check_classes(settings, seen, where, model)
        if detector.passed_over:
            instead = "; ".join(detector.passed_over)
            warnings.append(f"{instead}: {detector.provider} computes here, and may differ in the last digits")
        fitted_to = settings.model_digest
        if fitted_to and not settings.portable and fitted_to != detector.model_version:
            warnings.append(
                f"{where}: was fitted to model {fitted_to}, and {model} is {detector.model_version}: a device refuses "
                "the two together, and what follows says little"
            )
        return warnings


def explain_recording(
    recording: Recording, settings: SamplingSettings, *, seed: int | None = None, save: Path | None = None
) -> Iterator[Explained]:
    """Each frame's answer. save: a file for what the model saw, one JSON line a frame, as `explain_detections` reads.

    Raises SettingsError when that file cannot be written.
    """
    with ExitStack() as stack:
        lines = stack.enter_context(_Lines(save)) if save is not None else None
        yield from Explainer(settings, seed=seed).explain(_seen(recording, settings, lines))


def _seen(recording: Recording, settings: SamplingSettings, lines: _Lines | None) -> Iterator[Observation | Unseen]:
    for frame, observation in recording:
        if lines is not None and isinstance(observation, Observation):
            size = {"width": frame.width, "height": frame.height}
            lines.write(line_of(observation, **size, confidence_floor=settings.confidence_floor))
        yield observation


def explain_detections(
    detections: Path,
    settings: SamplingSettings,
    *,
    device: str = "",
    seed: int | None = None,
    on_error: Callable[[RecordInvalid], None],
    warn: Callable[[str], None],
) -> Iterator[Explained]:
    """Each frame's answer, of a file of JSON lines.

    on_error: is handed each line that cannot be read; the others are answered. warn: is told in the end of settings
    that ask for more than the file holds. Raises SettingsError for what is no such file.
    """
    explainer = Explainer(settings, device=device, seed=seed)
    try:
        with detections.open(encoding="utf-8") as lines:
            frames = RecordedFrames(lines, on_error)
            yield from explainer.explain(frames)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{detections}: cannot be read ({error}): name a file of JSON lines") from None
    floor = frames.confidence_floor
    if floor is not None and settings.confidence_floor < floor:
        warn(
            f"{detections}: holds detections from {floor:g} up alone, where the settings have a confidence_floor of "
            f"{settings.confidence_floor:g}: run the model anew to see the others"
        )


def write_explanation(explained: Iterable[Explained], out: Path | None, tell: Callable[[str], None]) -> Timeline:
    """Tell each answer as a JSON line; with `out`, a folder, write all that belongs to it to answers.jsonl there."""
    timeline = Timeline()
    with ExitStack() as stack:
        answers = stack.enter_context(_Lines(out / ANSWERS)) if out is not None else None
        for one in explained:
            timeline.add(one)
            tell(json.dumps(one.answer()))
            if answers is not None:
                answers.write(json.dumps(one.record()))
    return timeline


def draw_timeline(timeline: Timeline, settings: SamplingSettings, out: Path, title: str) -> str:
    """timeline.png in the folder `out`. Returns what is missing on this machine for it, empty where nothing is."""
    try:
        from tasks.adapters.report.explain_plot import explain_plot
    except ModuleNotFoundError as error:
        name = (error.name or "matplotlib").partition(".")[0]
        return f"{name} is not installed: no {PICTURE}; install edgeloop[central] for it"
    explain_plot(timeline, settings, out / PICTURE, title)
    return ""


class _Lines:
    """A file of lines, in a folder that is made for it; SettingsError where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise self._refused(error) from None

    def write(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise self._refused(error) from None

    def __enter__(self) -> _Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as problem:
            raise self._refused(problem) from None

    def _refused(self, error: OSError) -> SettingsError:
        return SettingsError(f"{self._path}: cannot be written ({error.strerror}): name another place")
