"""Simulated sources of frames: a camera of the yard, and a folder of photographs replayed as a stream.

    yard://?seed=3&camera=0&day_frames=500&days=2&drift_from=1.5
    replay:///folder?seed=3&camera=0&cameras=2&splits=train,val&day_frames=200

Both also take
    clock=/path/clock.json   wait for the world's clock (`clock`) before each frame
    first=500                begin at this frame: where an interrupted stream goes on
    pace=20                  at most so many frames a second, to be watched

A camera's day of 24 hours has `day_frames` frames, from 2026-01-01T00:00Z or from `start`.
"""

from __future__ import annotations

import math
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.camera.images import SUFFIXES, ImageRefused, read_image
from tasks.adapters.camera.source import ClosableSource
from tasks.adapters.simulation.clock import WorldClock
from tasks.adapters.simulation.world import YardWorld, layout
from tasks.adapters.simulation.yard import render
from tasks.core.entities import Frame, to_utc
from tasks.core.errors import SettingsError, SourceUnavailable

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY_SECONDS = 86_400.0

_SHARED = {"seed", "camera", "day_frames", "clock", "first", "pace"}
_YARD_OPTIONS = _SHARED | {"days", "drift_from"}
_REPLAY_OPTIONS = _SHARED | {"cameras", "splits", "laps"}

Number = TypeVar("Number", int, float)


def open_source(
    source: str, camera: str, *, start: datetime | None = None, time_scale: float | None = None
) -> YardCamera | ReplayedFolder:
    """Open yard:// or replay://; `camera` is the name that frames carry, `start` the capture time of frame 0.

    time_scale stretches the time between two photographs; the yard has its own days and leaves it aside. Raises
    SourceUnavailable for a folder without pictures, SettingsError for an option that is unknown or no number.
    """
    scheme, _, rest = source.partition("://")
    path, _, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = {"yard": _YARD_OPTIONS, "replay": _REPLAY_OPTIONS}.get(scheme)
    if known is None:
        raise SourceUnavailable(f"camera {camera}: {source} is no simulated camera: use yard:// or replay:///folder")
    unknown = sorted(set(options) - known)
    if unknown:
        raise SettingsError(f"camera {camera}: {source}: unknown option {unknown[0]!r}: use {', '.join(sorted(known))}")
    opened = to_utc(start or START)
    if scheme == "yard":
        return _open_yard(options, camera, source, opened)
    scale = 1.0 if time_scale is None else time_scale
    return ReplayedFolder(Path(path), camera, options, source, opened, scale)


def _open_yard(options: Mapping[str, str], camera: str, source: str, start: datetime) -> YardCamera:
    drift = options.get("drift_from", "1.5")
    world = YardWorld(
        seed=_number(options, "seed", 0, int, source),
        day_frames=_number(options, "day_frames", 500, int, source),
        days=_number(options, "days", 0.0, float, source) if "days" in options else None,
        drift_from=None if drift == "never" else _number(options, "drift_from", 1.5, float, source),
        first_hour=start.hour + start.minute / 60 + start.second / 3600,
    )
    return YardCamera(world, _number(options, "camera", 0, int, source), camera, options, source, start)


def _number(
    options: Mapping[str, str], name: str, default: Number, kind: Callable[[str], Number], source: str
) -> Number:
    try:
        value = kind(options[name]) if name in options else default
    except ValueError:
        value = kind("-1")
    if not math.isfinite(value) or value < 0:
        raise SettingsError(f"{source}: {name}={options[name]!r} is no number from 0 up: correct it")
    return value


class SimulatedSource(ClosableSource):
    """Frames by index, each not before the world's clock allows it, and no faster than `pace`."""

    def __init__(self, camera: str, options: Mapping[str, str], source: str) -> None:
        super().__init__(camera)
        self._clock = WorldClock(options["clock"]) if options.get("clock") else None
        self._first = _number(options, "first", 0, int, source)
        self._frames_a_second = _number(options, "pace", 0.0, float, source)

    @property
    @abstractmethod
    def frames(self) -> int | None:
        """Frames until the stream ends; None: it does not."""

    @abstractmethod
    def frame(self, index: int) -> Frame | None:
        """One frame; None where it cannot be read, which is counted in `skipped`."""

    def __iter__(self) -> Iterator[Frame]:
        due = time.monotonic()
        for index in count(self._first) if self.frames is None else range(self._first, self.frames):
            if self._clock is not None and not self._clock.wait_for(index, self._closed):
                return
            if self._frames_a_second > 0:
                self._closed.wait(max(0.0, due - time.monotonic()))
                due = max(due, time.monotonic()) + 1 / self._frames_a_second
            if self._closed.is_set():
                return
            frame = self.frame(index)
            if frame is not None:
                yield frame


class YardCamera(SimulatedSource):
    """One of the yard's cameras. Frame.source is `yard-{camera}#{index}`, by which the annotator finds the truth."""

    def __init__(
        self,
        world: YardWorld,
        number: int,
        camera: str,
        options: Mapping[str, str],
        source: str,
        start: datetime = START,
    ) -> None:
        super().__init__(camera, options, source)
        layout(world, number)  # refuses a camera that the yard does not have
        self.world = world
        self.number = number
        self._start = start

    @property
    def frames(self) -> int | None:
        return self.world.frames

    def frame(self, index: int) -> Frame:
        """The frame of an index, rendered."""
        captured_at = to_utc(self._start + timedelta(seconds=index * DAY_SECONDS / self.world.day_frames))
        pixels = render(self.world, self.number, index)
        return Frame(pixels, self.camera, captured_at, index, f"yard-{self.number}#{index}")


class ReplayedFolder(SimulatedSource):
    """The pictures of a folder and its subfolders in seeded order. Frame.source is the file's name.

    Options: `splits=train,val` takes only pictures below folders of these names; of `cameras=n` each, with its own
    `camera=i`, shows every n-th picture, so that several cameras share a folder; `day_frames` is how many make a
    day (by default all of them); `laps=2` goes through them again. Labels are never read.

    skipped: `empty`, `corrupt`, `oversized`, `unreadable` and `duplicate_name`.
    """

    def __init__(
        self, folder: Path, camera: str, options: Mapping[str, str], source: str, start: datetime, time_scale: float
    ) -> None:
        super().__init__(camera, options, source)
        if not (math.isfinite(time_scale) and time_scale > 0):
            raise SettingsError(f"time_scale is {time_scale}: set it above 0")
        number, cameras = _number(options, "camera", 0, int, source), _number(options, "cameras", 1, int, source)
        if number >= cameras:
            raise SettingsError(f"{source}: camera={number} of cameras={cameras}: they count from 0")
        splits = {name for name in options.get("splits", "").split(",") if name}
        pictures = self._distinct(_pictures(folder, splits, camera))
        order = np.random.default_rng(_number(options, "seed", 0, int, source)).permutation(len(pictures))
        self.paths = [pictures[i] for i in order][number::cameras]
        self._seconds = DAY_SECONDS / max(1, _number(options, "day_frames", len(self.paths), int, source)) * time_scale
        self._laps = max(1, _number(options, "laps", 1, int, source))
        self._start = start

    @property
    def frames(self) -> int:
        return len(self.paths) * self._laps

    def frame(self, index: int) -> Frame | None:
        """The picture at a place of the stream."""
        path = self.paths[index % len(self.paths)]
        try:
            pixels: NDArray[np.uint8] = read_image(path)
        except ImageRefused as error:
            self._skip(error.reason, str(error))
            return None
        captured_at = to_utc(self._start + timedelta(seconds=index * self._seconds))
        return Frame(pixels, self.camera, captured_at, index, path.name)

    def _distinct(self, paths: list[Path]) -> list[Path]:
        """Names tell pictures apart, so of two that share a name the second is left out."""
        distinct: dict[str, Path] = {}
        for path in paths:
            if path.name in distinct:
                self._skip("duplicate_name", f"{path}: another picture has this name too: rename it")
            else:
                distinct[path.name] = path
        return list(distinct.values())


def _pictures(folder: Path, splits: set[str], camera: str) -> list[Path]:
    """All pictures below a folder, sorted, so that the order depends on the seed alone."""
    if not folder.is_dir():
        raise SourceUnavailable(f"camera {camera}: there is no folder {folder}: check the path")
    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES) and (not splits or splits & set(Path(parent).relative_to(folder).parts))
    ]
    if not found:
        where = f" in {', '.join(sorted(splits))}" if splits else ""
        raise SourceUnavailable(f"camera {camera}: there is no picture below {folder}{where}: put JPEG or PNG files in")
    return sorted(found)
