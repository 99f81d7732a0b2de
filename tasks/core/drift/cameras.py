"""All cameras of a project at one look: which frames are compared with which, and what each camera's answer is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import numpy as np

from tasks.core.drift.blocks import Floats, Series
from tasks.core.drift.compare import ALPHA, FEWEST_FRAMES, MINIMUM_CHANGE, Comparison, compare, corrected
from tasks.core.drift.figures import AREA, areas_of, figures_of, in_order
from tasks.core.entities.drift import CameraDrift, FigureDrift
from tasks.core.entities.samples import Sample, TrafficRecord
from tasks.core.errors import NotEnoughData
from tasks.core.settings.base import Thresholds

REFERENCE_DAYS = 7.0  # after the model's first frame, where nobody says which reference
CLOCKS_APART = 3600.0  # s, of a device and of central

Name = tuple[str, str]  # device and camera
Period = tuple[datetime, datetime]


@dataclass
class CameraLog:
    """What devices wrote of a camera, in the order of writing: traffic, and samples of the random slice."""

    traffic: list[TrafficRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Windows:
    """reference: from, and up to. now: from, and to."""

    reference: Period
    now: Period

    def split(self, series: Series) -> tuple[Series, Series, Series]:
        """The frames of the reference, of now, and those between the two."""
        moments = series.seconds
        (start, end), (begin, last) = (tuple(map(datetime.timestamp, p)) for p in (self.reference, self.now))
        reference, now = (moments >= start) & (moments < end), (moments >= begin) & (moments <= last)
        return series[reference], series[now], series[(moments >= end) & (moments < begin)]


def leave_out_wrong_times(log: CameraLog, earliest: datetime, latest: datetime) -> None:
    """Traffic records with a time that cannot be right are left out and counted.

    That is one which goes back and forth against the others, and one before the model was made (`earliest`) or in the
    future of `latest`. Where most are, the camera has a time of its own, as a recording has, and only order counts.
    """
    seconds = times_of(log.traffic)
    ordered = in_order(seconds)
    possible = (seconds >= earliest.timestamp() - CLOCKS_APART) & (seconds <= latest.timestamp() + CLOCKS_APART)
    if 2 * np.count_nonzero(possible) <= len(seconds):
        possible[:] = True
    kept = ordered & possible
    if wrong := int(np.count_nonzero(~kept)):
        log.left_out["clock suspect"] = wrong
        log.traffic = [record for record, good in zip(log.traffic, kept) if good]


def windows_of(logs: Mapping[Name, CameraLog], days: float, reference: Period | None) -> Windows:
    """Now: the last `days` up to the newest frame of all cameras. Reference: as given, or the model's first days.

    Raises NotEnoughData when no frame lies before now, and when the given reference reaches into now.
    """
    seconds = np.concatenate([times_of(log.traffic) for log in logs.values()])
    if not len(seconds):
        raise NotEnoughData("no record of the traffic logs has a time that can be right: see the devices' clocks")
    first, last = moment_of(float(seconds.min())), moment_of(float(seconds.max()))
    try:
        begin = last - timedelta(days=days)
    except OverflowError:
        begin = first
    if reference is None:
        if first >= begin:
            held = (last - first).total_seconds() / 86_400
            raise NotEnoughData(
                f"the live model's traffic spans {held:.3g} days, no more than the last {days:g} days that are looked "
                f"at: wait, or look at less with --days"
            )
        reference = (first, min(begin, first + timedelta(days=REFERENCE_DAYS)))
    elif reference[1] > begin:
        raise NotEnoughData(
            f"the reference ends at {reference[1]:%Y-%m-%d %H:%M} UTC, after the last {days:g} days began "
            f"({begin:%Y-%m-%d %H:%M}): end it earlier or look at less with --days"
        )
    return Windows(reference, (begin, last))


def moment_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def times_of(records: Sequence[TrafficRecord] | Sequence[Sample]) -> Floats:
    return np.array([record.captured_at.timestamp() for record in records], np.float64)


def series_of(log: CameraLog, thresholds: Thresholds) -> dict[str, Series]:
    """All figures of a camera; area where samples of the random slice have it."""
    return {**figures_of(log.traffic, thresholds), AREA: areas_of(log.samples, thresholds).usable()}


@dataclass(frozen=True, slots=True)
class Judged:
    """corrected_alpha: what each p-value was held against."""

    cameras: tuple[CameraDrift, ...]
    corrected_alpha: float


def judge(
    series: Mapping[Name, Mapping[str, Series]],
    left_out: Mapping[Name, Mapping[str, int]],
    windows: Windows,
    *,
    alpha: float = ALPHA,
    minimum_change: float = MINIMUM_CHANGE,
    block_seconds: float | None = None,
    seed: int = 0,
) -> Judged:
    """Compare every figure of every camera that has enough frames in both windows, at `alpha` for all of them together.

    How many are tested follows from numbers of frames alone, never from what they show.
    """
    parts = {name: {f: windows.split(s) for f, s in figures.items()} for name, figures in series.items()}
    tested = sum(enough(before, now) for figures in parts.values() for before, now, _ in figures.values())
    each = corrected(alpha, tested)
    cameras = []
    for name, figures in sorted(parts.items()):
        compared = tuple(
            figure_drift(
                figure,
                compare(
                    before,
                    now,
                    alpha=each,
                    between=between,
                    block_seconds=block_seconds,
                    minimum_change=minimum_change,
                    seed=seed,
                ),
            )
            for figure, (before, now, between) in figures.items()
            if figure != AREA or enough(before, now)
        )
        bad = {"no number in it": unusable(series[name])}
        cameras.append(camera_drift(name, compared, {**left_out.get(name, {}), **{k: v for k, v in bad.items() if v}}))
    return Judged(tuple(cameras), each)


def enough(before: Series, now: Series) -> bool:
    return min(len(before.usable()), len(now.usable())) >= FEWEST_FRAMES


def unusable(figures: Mapping[str, Series]) -> int:
    """Frames whose confidences are no numbers; areas have none where nothing is seen, and that is well."""
    return max(len(s) - len(s.usable()) for figure, s in figures.items() if figure != AREA)


def camera_drift(name: Name, figures: Sequence[FigureDrift], left_out: Mapping[str, int]) -> CameraDrift:
    """The camera's answer, from those of its figures."""
    device, camera = name
    known = {"device": device, "camera": camera, "figures": tuple(figures), "left_out": dict(left_out)}
    answers = {figure.answer for figure in figures}
    if all(figure.now_frames == 0 for figure in figures) and max(f.reference_frames for f in figures) >= FEWEST_FRAMES:
        return CameraDrift(answer="silent", reason="it logs no frames any more", **known)
    if "changed" in answers:
        return CameraDrift(answer="changed", **known)
    if answers == {"too few"}:
        return CameraDrift(answer="too few", reason=figures[0].reason, **known)
    return CameraDrift(answer="same", **known)


def figure_drift(figure: str, found: Comparison) -> FigureDrift:
    """A comparison as it is stored."""
    test = found.test
    return FigureDrift(
        figure=figure,
        answer=found.answer,
        reference_frames=found.frames[0],
        now_frames=found.frames[1],
        needed_frames=found.needed,
        reason=found.reason,
        reference_blocks=found.blocks[0],
        now_blocks=found.blocks[1],
        block_seconds=found.block_seconds,
        matched_by_hour=found.by_hour,
        reference_mean=known(found.reference_mean),
        now_mean=known(found.now_mean),
        ks=test and test.statistic,
        ks_p_value=test and test.p_value,
        at=test and test.at,
        reference_share=test and test.reference_share,
        now_share=test and test.now_share,
        psi=test and test.psi,
        psi_p_value=test and test.psi_p_value,
        since=None if found.since is None else moment_of(found.since),
    )


def known(value: float) -> float | None:
    return value if math.isfinite(value) else None
