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
    from tasks.core.settings import CameraSettings, DeviceSettings, SamplingSettings
    from tasks.explain import Recording

DEVICE, CAMERA = "device", "camera"  # where nothing names them, as `edgeloop collect` calls them
SOME_FAILED = 2  # exit code when lines of a file could not be read

SettingsFile = Annotated[Path, typer.Option("--settings", help="sampling settings, ours or Roboflow's (JSON or YAML)")]
Source = Annotated[Optional[str], typer.Argument(help="video or folder of images")]  # noqa: UP045
Lines = Annotated[Optional[Path], typer.Option(help="in its place: what a model saw, one JSON line a frame")]  # noqa: UP045
Model = Annotated[str, typer.Option(help="ONNX file, or stub")]
Classes = Annotated[str, typer.Option(help="the project's classes, comma separated; empty: those of the model")]
ModelClasses = Annotated[str, typer.Option(help="class names of a model without metadata: coco80 or a list")]
Device = Annotated[Optional[str], typer.Option(help="name of the device: draws follow from it (default: device)")]  # noqa: UP045
Config = Annotated[Optional[Path], typer.Option(help="a device's settings: its camera's region, masks, rate")]  # noqa: UP045
Camera = Annotated[Optional[str], typer.Option(help="name of the camera: draws follow from it (default: camera)")]  # noqa: UP045
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
    config: Config = None,
    camera: Camera = None,
    frame_rate: FrameRate = None,
    start: Start = "",
    seed: Seed = None,
    out: Out = None,
    save_detections: Saved = None,
) -> None:
    """Say for each frame whether it would be kept, and why. The same files give the same answer, here and on a device.

    With --config, a recording is looked at as that device's camera is: the one that is named, or its only one. Without
    a video or a folder it is the camera's own. One JSON line a frame on stdout; the last line on stderr counts them.
    """
    from tasks.adapters.config import read_sampling

    if all(given is None for given in (source, config, detections)) or None not in (source, detections):
        raise SettingsError("explain: name a video or a folder, or a file of --detections, and not both")
    of_recordings = {
        "config": config is not None,
        "model": model != "stub",
        "classes": classes,
        "model-classes": model_classes,
        "camera": camera is not None,
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

    if config is None:
        of_device = device_of(source or "", device or DEVICE, camera or CAMERA, frame_rate)
        looked_at = of_device.cameras[0]
    else:
        refuse_what_it_says(config, {"device": device, "frame-rate": frame_rate})
        of_device, looked_at = configured(config, camera, source)
    with Recording(
        looked_at,
        sampling,
        device=of_device,
        where=str(settings),
        model=model,
        project_classes=tuple(classes.split(",")) if classes else None,
        model_classes=listed(model_classes),
        start=moment_of(start),
        for_other_settings=save_detections is not None,
    ) as recording:
        explain_frames(
            recording, sampling, seed, out, save_detections, f"{Path(looked_at.source).name}, {Path(model).name}"
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


def device_of(source: str, name: str, camera: str, frame_rate: float | None) -> DeviceSettings:
    """A device with one camera, as its settings would have it: refused is what they refuse."""
    from tasks.core.settings import DeviceSettings, validated

    cameras = [{"name": camera, "source": source, "frame_rate": frame_rate}]
    given = {"name": name, "project": "default", "bucket": "none", "cameras": cameras}
    settings: DeviceSettings = validated(DeviceSettings, given, "edgeloop explain")
    return settings


def refuse_what_it_says(config: Path, options: Mapping[str, object]) -> None:
    for option, given in options.items():
        if given is not None:
            raise SettingsError(f"--{option}: {config} says it; leave it out, or write it there")


def configured(config: Path, name: str | None, source: str | None) -> tuple[DeviceSettings, CameraSettings]:
    """A device and one of its cameras, its only one where none is named; source: a recording in the camera's place."""
    from tasks.adapters.config import read_device

    settings = read_device(config)
    named = [one for one in settings.cameras if name is None or one.name == name]
    if len(named) != 1:
        known = ", ".join(one.name for one in settings.cameras) or "none"
        wrong = f"there is no camera {name!r}" if name is not None else "--camera: say which"
        raise SettingsError(f"{config}: {wrong}; its cameras: {known}")
    camera = named[0]
    return settings, camera if source is None else camera.model_copy(update={"source": source})


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
