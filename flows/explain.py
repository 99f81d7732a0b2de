"""`edgeloop explain`: what a device would keep of a recording, and why, frame by frame."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from pydantic import TypeAdapter, ValidationError

from tasks.core.errors import RecordInvalid, SettingsError

if TYPE_CHECKING:
    from tasks.core.explain import Explained, Timeline
    from tasks.core.settings import CameraSettings, SamplingSettings
    from tasks.explain import Recording

DEVICE, CAMERA = "device", "camera"  # as `edgeloop collect` calls them
SOME_FAILED = 2  # exit code when lines of a file could not be read

SettingsFile = Annotated[Path, typer.Option("--settings", help="sampling settings, ours or Roboflow's (JSON or YAML)")]
Source = Annotated[Optional[str], typer.Argument(help="video or folder of images")]  # noqa: UP045
Lines = Annotated[Optional[Path], typer.Option(help="in its place: what a model saw, one JSON line a frame")]  # noqa: UP045
Model = Annotated[str, typer.Option(help="ONNX file, or stub")]
Classes = Annotated[str, typer.Option(help="the project's classes, comma separated; empty: those of the model")]
ModelClasses = Annotated[str, typer.Option(help="class names of a model without metadata: coco80 or a list")]
Device = Annotated[Optional[str], typer.Option(help="name of the device: draws follow from it (default: device)")]  # noqa: UP045
Camera = Annotated[str, typer.Option(help="name of the camera: draws follow from it")]
FrameRate = Annotated[Optional[float], typer.Option(help="frames a second at most, as of a device's camera")]  # noqa: UP045
Start = Annotated[str, typer.Option(help="capture time of the first frame, 2026-01-01T00:00:00Z; empty: the file's")]
Seed = Annotated[Optional[int], typer.Option(help="instead of the seed in the settings")]  # noqa: UP045
Out = Annotated[Optional[Path], typer.Option(help="folder for answers.jsonl and timeline.png")]  # noqa: UP045
Saved = Annotated[Optional[Path], typer.Option(help="file for what the model saw, to be read as --detections")]  # noqa: UP045


def explain(
    settings: SettingsFile,
    source: Source = None,
    detections: Lines = None,
    model: Model = "stub",
    classes: Classes = "",
    model_classes: ModelClasses = "",
    device: Device = None,
    camera: Camera = CAMERA,
    frame_rate: FrameRate = None,
    start: Start = "",
    seed: Seed = None,
    out: Out = None,
    save_detections: Saved = None,
) -> None:
    """Say for each frame whether it would be kept, and why. The same files give the same answer, here and on a device.

    One JSON line a frame on stdout; the last line on stderr counts them.
    """
    from tasks.adapters.config import read_sampling

    if (source is None) == (detections is None):
        raise SettingsError("explain: name a video or a folder, or a file of --detections, and not both")
    of_recordings = {
        "model": model != "stub",
        "classes": classes,
        "model-classes": model_classes,
        "camera": camera != CAMERA,
        "frame-rate": frame_rate is not None,
        "start": start,
        "save-detections": save_detections is not None,
    }
    for option, is_given in of_recordings.items():
        if detections is not None and is_given:
            raise SettingsError(
                f"--{option}: is for a video or a folder; leave it out, the lines of --detections say it"
            )
    sampling, warnings = read_sampling(settings)
    for line in warnings:
        warn(line)
    if detections is not None:
        explain_file(detections, sampling, device or "", seed, out)
        return
    from tasks.explain import Recording

    with Recording(
        camera_of(source or "", camera, frame_rate, device or DEVICE),
        sampling,
        device=device or DEVICE,
        where=str(settings),
        model=model,
        project_classes=tuple(classes.split(",")) if classes else None,
        model_classes=listed(model_classes),
        start=moment_of(start),
        for_other_settings=save_detections is not None,
    ) as recording:
        explain_frames(
            recording, sampling, seed, out, save_detections, f"{Path(source or '').name}, {Path(model).name}"
        )


def explain_file(detections: Path, sampling: SamplingSettings, device: str, seed: int | None, out: Path | None) -> None:
    from tasks.explain import explain_detections

    bad = 0

    def pass_over(error: RecordInvalid) -> None:
        nonlocal bad
        bad += 1
        warn(f"{detections}: {error}")

    answers = explain_detections(detections, sampling, device=device, seed=seed, on_error=pass_over, warn=warn)
    timeline = show(answers, sampling, out, detections.name)
    warn(timeline.summary() + (f"; {bad:,} lines could not be read" if bad else ""))
    if bad:
        raise typer.Exit(SOME_FAILED)


def explain_frames(
    recording: Recording, sampling: SamplingSettings, seed: int | None, out: Path | None, save: Path | None, title: str
) -> None:
    from tasks.explain import explain_recording

    for line in recording.warnings:
        warn(line)
    timeline = show(explain_recording(recording, sampling, seed=seed, save=save), sampling, out, title)
    if recording.last_error:
        warn(f"passed over {counted(recording.skipped)}; the last one: {recording.last_error}")
    warn(timeline.summary())


def show(explained: Iterator[Explained], sampling: SamplingSettings, out: Path | None, title: str) -> Timeline:
    """Answers to stdout as they come, and to the folder `out` with their picture."""
    from tasks.explain import draw_timeline, write_explanation

    timeline = write_explanation(explained, out, print)
    sys.stdout.flush()
    if out is not None and len(timeline):
        missing = draw_timeline(timeline, sampling, out, title)
        if missing:
            warn(f"--out {out}: {missing}")
    return timeline


def camera_of(source: str, name: str, frame_rate: float | None, device: str) -> CameraSettings:
    """The camera as a device's settings would have it: refused is what they refuse."""
    from tasks.core.settings import DeviceSettings, validated

    camera = {"name": name, "source": source, "frame_rate": frame_rate}
    given = {"name": device, "project": "default", "bucket": "none", "cameras": [camera]}
    settings: DeviceSettings = validated(DeviceSettings, given, "edgeloop explain")
    return settings.cameras[0]


def moment_of(text: str) -> datetime | None:
    if not text:
        return None
    from tasks.core.entities.base import UtcTime

    try:
        moment: datetime = TypeAdapter(UtcTime).validate_python(text)
    except ValidationError:
        raise SettingsError(f"--start {text!r}: is no time: write it as 2026-01-01T00:00:00Z") from None
    return moment


def listed(names: str) -> str | tuple[str, ...] | None:
    """`coco80`, a list of names, or nothing."""
    if not names:
        return None
    return names if names == "coco80" else tuple(names.split(","))


def counted(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in skipped.items())


def warn(line: str) -> None:
    print(f"edgeloop: {line}", file=sys.stderr)
