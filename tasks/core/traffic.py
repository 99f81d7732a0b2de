"""The traffic log: the confidences of some of the frames, kept or not, for suggestions and drift.

Which frames, and at which rate? A camera's log may grow by so many bytes a day, whatever its frame rate and however
many detections a frame has. The rate therefore follows the traffic: it is set from what was seen before the frame, is
written into its record, and whoever weighs each record by 1 / rate has a uniform sample of all frames after
duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from tasks.core.entities.base import Record
from tasks.core.entities.detections import Detections
from tasks.core.entities.samples import TrafficRecord
from tasks.core.settings import SamplingSettings

TRAFFIC_LOG = "traffic log"  # the name under which its draw is made, beside those of the strategies
CONFIDENCE_DIGITS = 4

DAY_SECONDS = 86400.0
MEGABYTE = 1e6
PLANNED = 0.9  # of the bytes of a day; the rest is for what the plan did not foresee
OPENING = 0.05  # of them, that a camera's first day spends at the full rate: a short recording is worth a look too
LEAST_PACE = 0.02  # of the usual bytes a second, when they are nearly used up: no frame is beyond reach
CATCH_UP = 1.5  # times the usual bytes a second, when the day began quietly
SHORTEST_REST = 600.0  # seconds of the day that are planned with at its end
REMEMBERED_FRAMES = 50.0  # that gap and size are averaged over
LONGEST_GAP = 3600.0
SHORTEST_GAP = 1e-4
GAP_JUMP = 10.0  # a pause counts as so many usual gaps at most

LINE_BYTES = 190  # of a record without detections and the camera's name
DETECTION_BYTES = 10  # of a confidence, and of the quotes and the comma around its class name
MAX_CAMERAS = 64
REMEMBERED_DAYS = 3


class CameraTraffic(Record):
    """What the log knows of a camera, as JSON.

    bytes: logged, by day. opening: bytes that may still go at the full rate. gap: mean seconds between frames. size:
    mean bytes of a record. frames: that the two are averages of, at most REMEMBERED_FRAMES.
    """

    schema_version: int = Field(1, exclude=True)
    bytes: dict[str, int] = {}
    opening: float = 0.0
    last: float = 0.0
    gap: float = 1.0
    size: float = 0.0
    frames: float = 0.0


TrafficState = dict[str, CameraTraffic]  # the camera that was logged last comes last


class _Camera:
    """`CameraTraffic`, counting."""

    __slots__ = ("bytes", "frames", "gap", "last", "opening", "size")

    def __init__(self, known: CameraTraffic) -> None:
        self.bytes = dict(known.bytes)
        self.opening, self.last, self.gap = known.opening, known.last, known.gap
        self.size, self.frames = known.size, known.frames

    def record(self) -> CameraTraffic:
        return CameraTraffic(
            bytes=self.bytes, opening=self.opening, last=self.last, gap=self.gap, size=self.size, frames=self.frames
        )

    def saw(self, time: float, size: float) -> None:
        """A frame at `time`, whose record would have about `size` bytes."""
        if self.frames and time >= self.last:
            gap = min(time - self.last, LONGEST_GAP, GAP_JUMP * self.gap if self.frames > 1 else LONGEST_GAP)
            self.gap = max(SHORTEST_GAP, self.gap + (gap - self.gap) / self.frames)
        self.last = time
        self.frames = min(self.frames + 1, REMEMBERED_FRAMES)
        self.size += (size - self.size) / self.frames


class TrafficLog:
    """Which frames are logged. The same settings, state and frames log the same, by the draws that it is given."""

    def __init__(self, settings: SamplingSettings, state: TrafficState | None = None) -> None:
        """state: an earlier `state()`."""
        self._full_rate = settings.traffic_log_rate
        self._cap = settings.traffic_log_megabytes * MEGABYTE
        self._cameras = {camera: _Camera(known) for camera, known in (state or {}).items()}
        self._class_names: tuple[str, ...] = ()
        self._detection_bytes = 0.0

    def record_of(
        self, camera: str, moment: datetime, detections: Detections, drawn: float, model_version: str
    ) -> TrafficRecord | None:
        """The record of a frame after duplicates, captured at `moment` (UTC); None when it is not logged.

        drawn: the frame's draw, a fraction in [0, 1). Every such frame must be shown, as the rate follows from them.
        """
        if not self._full_rate:
            return None
        known = self._cameras.get(camera) or self._begin(camera)
        rate = self._rate(known, moment)
        known.saw(moment.timestamp(), self._bytes_of(camera, detections))
        if drawn >= rate:
            return None
        record = TrafficRecord(
            camera=camera,
            captured_at=moment,
            rate=rate,
            model_version=model_version,
            class_names=tuple(detections.names),
            confidences=tuple(round(value, CONFIDENCE_DIGITS) for value in detections.confidence.tolist()),
        )
        return record if self._charge(known, moment, len(record.model_dump_json()) + 1) else None

    def state(self) -> TrafficState:
        """What a restart needs; its size is bounded."""
        return {camera: known.record() for camera, known in self._cameras.items()}

    def _begin(self, camera: str) -> _Camera:
        while len(self._cameras) >= MAX_CAMERAS:
            del self._cameras[next(iter(self._cameras))]
        self._cameras[camera] = _Camera(CameraTraffic(opening=OPENING * self._cap))
        return self._cameras[camera]

    def _rate(self, known: _Camera, moment: datetime) -> float:
        """What spends the rest of the day's bytes evenly over the rest of the day, from what was seen so far."""
        if known.opening > 0:
            return self._full_rate
        usual = PLANNED * self._cap / DAY_SECONDS
        rest = max(DAY_SECONDS - moment.timestamp() % DAY_SECONDS, SHORTEST_REST)
        left = PLANNED * self._cap - known.bytes.get(_day(moment), 0)
        pace = min(CATCH_UP * usual, max(LEAST_PACE * usual, left / rest))
        rate = pace * known.gap / max(known.size, 1.0)
        return self._full_rate if rate >= self._full_rate else float(f"{rate:.3g}")

    def _charge(self, known: _Camera, moment: datetime, size: int) -> bool:
        """Is there room for so many bytes? The cap is a promise; the rate only makes it rare that it is met."""
        day = _day(moment)
        used = known.bytes.pop(day, 0)
        fits = used + size <= self._cap
        known.bytes[day] = used + size if fits else used
        while len(known.bytes) > REMEMBERED_DAYS:
            del known.bytes[next(iter(known.bytes))]
        known.opening = max(0.0, known.opening - size)
        return fits

    def _bytes_of(self, camera: str, detections: Detections) -> float:
        """About how long the record of these would be."""
        if detections.class_names is not self._class_names:
            self._class_names = detections.class_names
            self._detection_bytes = DETECTION_BYTES + _mean_length(detections.class_names)
        return LINE_BYTES + len(camera) + len(detections) * self._detection_bytes


def _day(moment: datetime) -> str:
    return moment.date().isoformat()


def _mean_length(names: Sequence[str]) -> float:
    return sum(map(len, names)) / max(1, len(names))
