"""Drift: what devices log now against what they logged when the live model was new, without labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

from prefect import task
from prefect.events import emit_event
from prefect.settings import get_current_settings

from tasks.adapters.numbered import Logged, NumberedLog
from tasks.adapters.releases import latest_release
from tasks.adapters.report.drift_plot import Shown, drift_plot
from tasks.central import Central
from tasks.core import drift, layout
from tasks.core.drift import CameraLog, Name, Period, Series, Windows
from tasks.core.entities import STUB, Drift, Release, Sample, TrafficRecord
from tasks.core.errors import DataError, NotEnoughData, ObjectMissing, SettingsError
from tasks.core.settings import ProjectSettings
from tasks.retries import may_pass

EVENT = "edgeloop.drift.detected"
BETWEEN_OBJECTS = 300  # read of the time between the windows, which only says since when
MOST_WARNINGS = 10
FRAMES_SHOWN = 3  # before, and as many after
LONGEST = 10_000.0  # days


@dataclass(frozen=True)
class Look:
    """What was found, and the figures and samples that it was found in."""

    drift: Drift
    windows: Windows
    series: Mapping[Name, Mapping[str, Series]]
    logs: Mapping[Name, CameraLog]


@task(task_run_name="look for drift", retries=2, retry_delay_seconds=[1, 10], retry_condition_fn=may_pass)
def look_for_drift(
    project: ProjectSettings,
    days: float = 1.0,
    reference: Period | None = None,
    block_seconds: float | None = None,
) -> Look:
    """Compare the last `days` of every camera with a reference, by default the live model's first days; stored.

    block_seconds: length of the stretches of video that are exchanged, instead of what the frames ask for. Raises
    NotEnoughData where nothing can be compared at all; a single camera without an answer is told in its own line.
    """
    if not 0 < days < LONGEST:
        raise SettingsError(f"--days {days:g}: give the length of the last window in days, above 0")
    central, moment = Central(project), datetime.now(timezone.utc)
    release = model_in_force(central)
    logs, warnings = read_logs(central, release, days, reference)
    for log in logs.values():
        drift.leave_out_wrong_times(log, model_created(central, release.model_version), moment)
    windows = drift.windows_of(logs, days, reference)
    series = {name: drift.series_of(log, release.thresholds) for name, log in logs.items()}
    left_out = {name: log.left_out for name, log in logs.items()}
    judged = drift.judge(series, left_out, windows, block_seconds=block_seconds, seed=project.seed)
    made = Drift(
        number=1,
        created_at=moment,
        model_version=release.model_version,
        release_number=release.number,
        reference_from=windows.reference[0],
        reference_to=windows.reference[1],
        now_from=windows.now[0],
        now_to=windows.now[1],
        alpha=drift.ALPHA,
        corrected_alpha=judged.corrected_alpha,
        minimum_change=drift.MINIMUM_CHANGE,
        cameras=judged.cameras,
        warnings=tuple(warnings[:MOST_WARNINGS]),
    )
    return Look(store(central, made), windows, series, logs)


def model_in_force(central: Central) -> Release:
    release = latest_release(central.bucket, central.project.group)
    if release is None or release.model_version == STUB:
        raise NotEnoughData(
            f"devices of group {central.project.group} run no model yet, so nothing can drift: release one first"
        )
    return release


def model_created(central: Central, version: str) -> datetime:
    """No frame that it saw is older."""
    try:
        return central.model(version).created_at
    except ObjectMissing:
        return datetime(1970, 1, 2, tzinfo=timezone.utc)


def store(central: Central, made: Drift) -> Drift:
    """Under the next number that nobody else has taken."""
    return central.bucket.append_record(layout.drift, lambda number: made.model_copy(update={"number": number}))


def tell_event(project: ProjectSettings, made: Drift) -> bool:
    """`edgeloop.drift.detected`, for automations; only for drift, and only where there is a Prefect server.

    Best effort: what counts is the record in the bucket. True when the event was handed over.
    """
    if not made.found or not has_server():
        return False
    cameras = {c.name: [f.figure for f in c.changed] or [c.answer] for c in made.cameras if c.is_trouble}
    return (
        emit_event(
            EVENT,
            {"prefect.resource.id": f"edgeloop.project.{project.project}", "prefect.resource.name": project.project},
            payload={
                "number": made.number,
                "model_version": made.model_version,
                "cameras": cameras,
                "record": Central(project).bucket.url_of(layout.drift(made.number)),
            },
        )
        is not None
    )


def has_server() -> bool:
    """Is there a Prefect server to tell? None is started for an event."""
    return bool(get_current_settings().api.url)


# --- what devices wrote ----------------------------------------------------------------------------------------------


def read_logs(
    central: Central, release: Release, days: float, reference: Period | None
) -> tuple[dict[Name, CameraLog], list[str]]:
    """The live model's traffic and random samples by camera, and a line for each object that was left out."""
    logs: dict[Name, CameraLog] = {}
    warnings: list[str] = []
    others: set[str] = set()
    for device in central.devices():
        traffic = NumberedLog(central.bucket, partial(layout.traffic, device), TrafficRecord, release.model_version)
        for record in read_windows(traffic, days, reference):
            logs.setdefault((device, record.camera), CameraLog()).traffic.append(record)
        samples = NumberedLog(central.bucket, partial(layout.segment, device), Sample, release.model_version)
        for sample in read_windows(samples, days, reference) if any(d == device for d, _ in logs) else ():
            if sample.random_slice and not sample.clock_suspect and (device, sample.camera) in logs:
                logs[device, sample.camera].samples.append(sample)
        warnings += [*traffic.problems, *samples.problems]
        others |= traffic.others
    if not logs:
        raise NotEnoughData(no_traffic(release, others))
    return logs, warnings


def read_windows(log: NumberedLog[Logged], days: float, reference: Period | None) -> list[Logged]:
    """A short log whole; of a long one the reference, the last window, and some of what lies between."""
    if log.is_short():
        return log.window()
    span = log.span()
    if span is None:
        return []
    first, last = span
    begin = max(first, last - timedelta(days=days))
    start, end = reference or (first, first + timedelta(days=drift.REFERENCE_DAYS))
    end = min(end, begin)
    return log.window(start, end) + log.window(end, begin, most=BETWEEN_OBJECTS) + log.window(begin)


def no_traffic(release: Release, others: Collection[str]) -> str:
    held = ", ".join(sorted(others))
    return (
        f"no device has logged traffic of the live model {release.model_version} (release {release.number}); the "
        f"newest logs are {f'of model {held}' if held else 'empty'}: wait until devices run it, and see that "
        f"traffic_log_rate is above 0"
    )


# --- pictures --------------------------------------------------------------------------------------------------------


def draw(project: ProjectSettings, look: Look) -> Path:
    """The plot of a look, with frames before and after of the cameras that changed; below the project's work folder."""
    central = Central(project)
    changed = [camera for camera in look.drift.cameras if camera.answer == "changed"]
    frames = {camera.name: shown_frames(central, look, (camera.device, camera.camera)) for camera in changed}
    series = {
        "/".join(name): {figure: reference_and_now(look.windows, s) for figure, s in figures.items()}
        for name, figures in look.series.items()
    }
    return drift_plot(look.drift, series, frames, central.work / "drift" / f"{look.drift.number:06d}.png")


def reference_and_now(windows: Windows, series: Series) -> tuple[Series, Series]:
    reference, now, _ = windows.split(series)
    return reference, now


def shown_frames(central: Central, look: Look, name: Name) -> tuple[list[Shown], list[Shown]]:
    """Some random samples of the reference and of now, evenly spaced; an image that cannot be used is passed over."""
    found: tuple[list[Shown], list[Shown]] = ([], [])
    for shown, period in zip(found, (look.windows.reference, look.windows.now)):
        samples = [s for s in look.logs[name].samples if period[0] <= s.captured_at <= period[1]]
        for sample in evenly(samples, FRAMES_SHOWN):
            try:
                shown.append(Shown(sample, central.images.pixels_of(sample)))
            except (DataError, ObjectMissing):
                continue
    return found


def evenly(samples: list[Sample], number: int) -> list[Sample]:
    """At most `number` of them, spread over their time, the middle ones of equal parts."""
    parts = min(number, len(samples))
    return [samples[(2 * part + 1) * len(samples) // (2 * parts)] for part in range(parts)]
