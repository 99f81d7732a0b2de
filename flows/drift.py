"""`edgeloop drift`: has what the cameras see changed since the live model came into force? Without labels."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tasks.core.errors import SettingsError

if TYPE_CHECKING:
    from tasks.core.entities import CameraDrift, Drift, FigureDrift

DRIFT = 1  # exit code when a camera has changed or fallen silent


def drift(
    config: Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")] = Path(
        "configs/project.yaml"
    ),
    days: Annotated[float, typer.Option(help="length of the last window, days")] = 1.0,
    reference: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="FROM..TO in UTC, e.g. 2026-05-01..2026-05-08; default: the live model's first days"),
    ] = None,
    block_seconds: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="stretches of video that are exchanged; default: as long as frames resemble each other"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the record as it is stored, for programs")] = False,
    plot: Annotated[bool, typer.Option(help="draw the figures, and frames before and after")] = True,
) -> None:
    """What has changed at each camera, by how much and since when. Exit code 1 for drift or a silent camera, else 0."""
    from tasks.adapters.config import read_project
    from tasks.drift import draw, look_for_drift, tell_event

    if block_seconds is not None and not 0.1 <= block_seconds <= 86_400:
        raise SettingsError(f"--block-seconds {block_seconds:g}: give 0.1 to 86400 s")
    project = read_project(config)
    look = look_for_drift.fn(project, days, period_of(reference) if reference else None, block_seconds)
    tell_event(project, look.drift)
    if as_json:
        print(look.drift.to_json().decode())
    else:
        print("\n".join(story(look.drift)))
    if plot:
        print(f"plot: {draw(project, look)}", file=sys.stderr if as_json else sys.stdout)
    if look.drift.found:
        raise typer.Exit(DRIFT)


def period_of(text: str) -> tuple[datetime, datetime]:
    """`FROM..TO` in UTC."""
    from tasks.core.entities import to_utc

    first, _, last = text.partition("..")
    try:
        start, end = (to_utc(datetime.fromisoformat(part.strip().replace("Z", "+00:00"))) for part in (first, last))
    except ValueError:
        raise SettingsError(
            f"--reference {text!r}: write two times in UTC, e.g. 2026-05-01..2026-05-08T12:00"
        ) from None
    if start >= end:
        raise SettingsError(f"--reference {text!r}: its end is not after its beginning")
    return start, end


# --- what it says ----------------------------------------------------------------------------------------------------


def story(drift: Drift) -> list[str]:
    """A look as a person reads it, a line a camera and one for each figure that changed."""
    lines = [
        f"Look {drift.number}: model {drift.model_version}, "
        f"{drift.now_from:%Y-%m-%d %H:%M} to {drift.now_to:%Y-%m-%d %H:%M} UTC "
        f"against {drift.reference_from:%Y-%m-%d %H:%M} to {drift.reference_to:%Y-%m-%d %H:%M}"
    ]
    for camera in drift.cameras:
        lines.append(camera_line(camera))
        lines += [f"  {figure_line(figure, drift.corrected_alpha)}" for figure in camera.changed]
        lines += [f"  left out: {number:,} records, {reason}" for reason, number in camera.left_out.items()]
    lines += [f"left out: {warning}" for warning in drift.warnings]
    return lines


def camera_line(camera: CameraDrift) -> str:
    if camera.answer == "too few":
        needed = max((figure.needed_frames for figure in camera.figures), default=0)
        return f"{camera.name}: no answer, {camera.reason}; about {needed:,} frames of now would do"
    if camera.answer == "silent":
        return f"{camera.name}: SILENT, {camera.reason}"
    if camera.answer == "changed":
        return f"{camera.name}: CHANGED, {', '.join(figure.figure for figure in camera.changed)}"
    frames = max(figure.now_frames for figure in camera.figures)
    told = ", ".join(figure.figure for figure in camera.figures if figure.answer == "same")
    unsure = [f"; no answer for {f.figure}, {f.reason or 'too few'}" for f in camera.figures if f.answer == "too few"]
    return f"{camera.name}: no drift{f' of {told}' if unsure else ''} in {frames:,} frames" + "".join(unsure)


def figure_line(figure: FigureDrift, alpha: float) -> str:
    name, p_value = ("Kolmogorov-Smirnov", figure.ks_p_value or 0.0)
    if (figure.psi_p_value or 0.0) < p_value:
        name, p_value = "PSI", figure.psi_p_value or 0.0
    return (
        f"{figure.figure}: mean {figure.reference_mean or 0:.3g} -> {figure.now_mean or 0:.3g}; up to {figure.at:.3g} "
        f"were {figure.reference_share or 0:.0%} of frames, now {figure.now_share or 0:.0%}; since about "
        f"{figure.since:%Y-%m-%d %H:%M} UTC; {name} p = {p_value:.2g} (alarm at {alpha:.2g})"
    )


def headline(drift: Drift) -> str:
    """What a turn's report says in one line; empty where nothing needs anybody."""
    parts = [
        f"{camera.name} " + (", ".join(figure.figure for figure in camera.changed) or "silent")
        for camera in drift.cameras
        if camera.is_trouble
    ]
    return f"drift (look {drift.number}): {'; '.join(parts)}; edgeloop drift shows it" if parts else ""
