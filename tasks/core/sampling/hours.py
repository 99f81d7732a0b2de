"""What the hours of a day are like: how many frames they have, and how many misses are expected in them.

Learned from the days before, so that a budget of images a day can be spread over hours that are still to come: a yard
that is empty from six in the evening must have spent it by then.
"""

from __future__ import annotations

from tasks.core.entities.base import Record

HOURS = 24
HOUR_SECONDS = 3600.0
NEWEST_SHARE = 0.5  # of the newest day in what is known of an hour
LEAST_SHARE = 0.05  # of an average hour, that every hour is planned with: what was empty may fill
RUN_SECONDS = 86400.0  # beyond which the past counts half


class HoursState(Record):
    """The hours of a day as JSON; None for an hour that has not been lived through."""

    frames: tuple[float | None, ...] = (None,) * HOURS
    misses: tuple[float | None, ...] = (None,) * HOURS
    hour: int | None = None
    is_whole: bool = False
    hour_frames: float = 0.0
    hour_misses: float = 0.0
    run_seconds: float = 0.0
    run_frames: float = 0.0
    run_misses: float = 0.0


class Hours:
    """Frames and expected misses in each hour of the day (UTC)."""

    def __init__(self, state: HoursState | None = None) -> None:
        state = state or HoursState()
        self._frames, self._misses = list(state.frames), list(state.misses)
        self.hour = state.hour  # the one that is going on, counted from 1970
        self._is_whole = state.is_whole  # whether it was entered at its beginning, or after an hour without frames
        self._hour_frames, self._hour_misses = state.hour_frames, state.hour_misses
        self._run_seconds, self._run_frames, self._run_misses = state.run_seconds, state.run_frames, state.run_misses

    def enter(self, hour: int) -> None:
        """The clock has come to an hour, counted from 1970: the last one is learned, those between had no frames."""
        if self.hour is not None and hour > self.hour:
            if self._is_whole:
                self._learn(self.hour, self._hour_frames, self._hour_misses)
            if hour - self.hour <= HOURS:  # a longer pause is another clock, or a holiday
                for skipped in range(self.hour + 1, hour):
                    self._learn(skipped, 0.0, 0.0)
        self._is_whole = self.hour is not None and hour > self.hour
        self.hour, self._hour_frames, self._hour_misses = hour, 0.0, 0.0

    def pass_time(self, seconds: float) -> None:
        """`seconds` of traffic go by."""
        self._run_seconds += seconds
        if self._run_seconds > RUN_SECONDS:
            self._run_seconds, self._run_frames, self._run_misses = (
                self._run_seconds / 2,
                self._run_frames / 2,
                self._run_misses / 2,
            )

    def add_frame(self) -> None:
        self._hour_frames += 1
        self._run_frames += 1

    def add_misses(self, expected: float) -> None:
        self._hour_misses += expected
        self._run_misses += expected

    @property
    def frames_a_day(self) -> float:
        """Frames that a day has; hours that are not known are like what has been seen."""
        return max(sum(self.frames()), self._usual_frames)

    @property
    def _usual_frames(self) -> float:
        """Frames an hour while there are any; at least one, and one a second where nothing is known."""
        if not self._run_seconds:
            return HOUR_SECONDS
        return max(1.0, max(1.0, self._run_frames - 1) / self._run_seconds * HOUR_SECONDS)

    def frames(self) -> list[float]:
        """(24,) the frames of each hour."""
        return [self._usual_frames if frames is None else frames for frames in self._frames]

    def weights(self) -> list[float]:
        """(24,) how the day's budget is spread over its hours: by the misses expected in them; any unit."""
        an_hour = self._run_misses / self._run_seconds * HOUR_SECONDS if self._run_seconds else 0.0
        expected = [an_hour if misses is None else misses for misses in self._misses]
        least = LEAST_SHARE * sum(expected) / HOURS
        return [max(misses, least) for misses in expected] if least else [1.0] * HOURS

    def state(self) -> HoursState:
        return HoursState(
            frames=tuple(self._frames),
            misses=tuple(self._misses),
            hour=self.hour,
            is_whole=self._is_whole,
            hour_frames=self._hour_frames,
            hour_misses=self._hour_misses,
            run_seconds=self._run_seconds,
            run_frames=self._run_frames,
            run_misses=self._run_misses,
        )

    def _learn(self, hour: int, frames: float, misses: float) -> None:
        row = hour % HOURS
        self._frames[row] = _blend(self._frames[row], frames)
        self._misses[row] = _blend(self._misses[row], misses)


def _blend(known: float | None, newest: float) -> float:
    return newest if known is None else known + NEWEST_SHARE * (newest - known)
