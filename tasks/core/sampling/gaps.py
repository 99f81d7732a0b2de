"""Gaps in tracks: an object is seen, then not, then seen again. The frame without it holds a miss that no confidence
rule can see.

What is seen are detections of the selected classes at or above their operating threshold. One that is only a candidate,
below its threshold, is not handed to anybody: the object is missed in that frame, and counts as absent.

Let an object be seen in frame t - 1 with box y, and again in frame T with box x, its gap the frames t to T - 1, at most
`gap_frames` of them. With m for `minimum_iou`, and boxes of one class only:

    IoU(x, y) >= m, and no box z in a frame of the gap has IoU >= m with x, y, or the box in between at that frame

where x is, of several boxes, the one that overlaps y most, and the box in between lies on the line from y to x, for
cameras and objects that move. Of the gap the first frame, t, is asked for: the others show the same. Whether an object
is lost is known at t, and only then the frame is open; it is settled when an object that was lost in it is seen again,
or at T = t + gap_frames.

Objects that have earned their samples are passed over by what was known before the draws of frame t.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from tasks.core.boxes import iou_matrix
from tasks.core.entities.detections import Detections
from tasks.core.sampling.observation import DETECTION_TASKS, Decision, Observation
from tasks.core.sampling.strategies import recorded_confidence
from tasks.core.settings import DEFAULT_THRESHOLD, SamplingSettings, TrackGap

MAX_CAMERAS = 64  # whose objects are followed

Booleans = NDArray[np.bool_]
PassOver = Callable[[Detections], "Booleans | None"]  # (n,) which of these objects have earned their samples


@dataclass(frozen=True, slots=True)
class Sightings:
    """The objects seen in one frame. xyxy: (n, 4) float64. class_id: (n,)."""

    xyxy: NDArray[np.float64]
    class_id: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_id)

    def __getitem__(self, rows: Booleans) -> Sightings:
        return Sightings(self.xyxy[rows], self.class_id[rows])

    def same_as(self, others: Sightings, minimum_iou: float) -> Booleans:
        """(n, m): which boxes overlap so far that they show one object."""
        overlap = iou_matrix(self.xyxy, others.xyxy) >= minimum_iou
        return np.asarray(overlap & (self.class_id[:, None] == others.class_id))


_NOTHING = Sightings(np.zeros((0, 4)), np.zeros(0, np.int64))


@dataclass(slots=True)
class OpenFrame:
    """A frame in which objects were lost, until it is settled.

    moment: of the frame. lost: with the boxes of the frame before. decision: the frame's own, made right after it was
    opened. seen_since: in this frame and those after it.
    """

    observation: Observation
    moment: datetime
    lost: Sightings
    decision: Decision | None = None
    seen_since: list[Sightings] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ended:
    """A frame that is open no more. missing: the objects whose gap it begins, where they would have been in it; none
    where no object came back, or nobody can know.
    """

    frame: OpenFrame
    missing: Detections | None = None
    seen_again_in: str = ""


@dataclass(slots=True)
class _Track:
    """What is followed of one camera. index: of its last frame."""

    last: Sightings
    index: int | None
    open: deque[OpenFrame] = field(default_factory=deque)

    def all_ended(self) -> list[Ended]:
        ended = [Ended(frame) for frame in self.open]
        self.open.clear()
        return ended


class TrackGaps:
    """Follows the objects of each camera. Nothing of it outlives a restart: the pixels do not, either."""

    def __init__(self, strategy: TrackGap, settings: SamplingSettings) -> None:
        self._strategy = strategy
        self._thresholds = settings.thresholds
        self._tracks: dict[str, _Track] = {}
        self._class_names: tuple[str, ...] | None = None
        self._is_selected: Booleans = np.zeros(0, np.bool_)
        self._operating: NDArray[np.float64] = np.zeros(0)

    def follow(self, observation: Observation, moment: datetime, passes_over: PassOver) -> list[Ended]:
        """Take the next frame of its camera: which of the frames before are settled by it?

        Where an object is lost in this frame it is open from now on, until `opened` is told its decision.
        """
        if observation.is_stub or observation.task not in DETECTION_TASKS:
            return self._lose_track(observation.camera)
        seen = self._sightings(observation.detections)
        track = self._tracks.pop(observation.camera, None)
        ended = self._make_room() if track is None else []
        if track is None or not _follows(track.index, observation.index):
            ended += track.all_ended() if track is not None else []
            self._tracks[observation.camera] = _Track(seen, observation.index)
            return ended
        self._tracks[observation.camera] = track
        ended += self._seen_again(track, seen, observation.frame)
        self._open(track, seen, observation, moment, passes_over)
        track.last, track.index = seen, observation.index
        return ended

    def opened(self, observation: Observation, decision: Decision) -> bool:
        """Is the frame that was taken last open, now that it has been decided? A near-duplicate is not asked for."""
        track = self._tracks.get(observation.camera)
        if track is None or not track.open or track.open[-1].decision is not None:
            return False
        if decision.is_repeat:
            track.open.pop()
            return False
        track.open[-1].decision = decision
        return True

    def end(self, camera: str | None = None) -> list[Ended]:
        """Nothing is followed any further, of one camera or of all: what is open ends."""
        cameras = list(self._tracks) if camera is None else [camera]
        return [ended for one in cameras for ended in self._lose_track(one)]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _lose_track(self, camera: str) -> list[Ended]:
        track = self._tracks.pop(camera, None)
        return track.all_ended() if track is not None else []

    def _make_room(self) -> list[Ended]:
        """For one more camera: the one that was longest silent is followed no further."""
        return self._lose_track(next(iter(self._tracks))) if len(self._tracks) >= MAX_CAMERAS else []

    def _sightings(self, detections: Detections) -> Sightings:
        if not len(detections):
            return _NOTHING
        if detections.class_names is not self._class_names and detections.class_names != self._class_names:
            self._lay_out(detections.class_names)
        class_id = detections.class_id
        rows = self._is_selected[class_id] & (recorded_confidence(detections) >= self._operating[class_id])
        return Sightings(detections.xyxy[rows].astype(np.float64), class_id[rows])

    def _lay_out(self, class_names: tuple[str, ...]) -> None:
        selected = self._strategy.selected_class_names
        self._class_names = class_names
        self._is_selected = np.array([selected is None or name in selected for name in class_names], np.bool_)
        self._operating = np.array([self._thresholds.get(name, DEFAULT_THRESHOLD) for name in class_names])

    def _seen_again(self, track: _Track, seen: Sightings, frame: str) -> list[Ended]:
        """The open frames that are settled by what is seen in this one."""
        ended, still_open = [], deque[OpenFrame]()
        for waiting in track.open:
            rows, missing = self._missing(waiting, seen)
            waiting.lost = waiting.lost[~rows]
            waiting.seen_since.append(seen)
            if missing is not None:
                ended.append(Ended(waiting, missing, frame))
            elif not len(waiting.lost) or len(waiting.seen_since) > self._strategy.gap_frames:
                ended.append(Ended(waiting))
            else:
                still_open.append(waiting)
        track.open = still_open
        return ended

    def _missing(self, waiting: OpenFrame, seen: Sightings) -> tuple[Booleans, Detections | None]:
        """Which of the lost objects are seen again, and those of them that a gap lies between, in its first frame."""
        again = waiting.lost.same_as(seen, self._strategy.minimum_iou)
        rows: Booleans = np.asarray(again.any(axis=1))
        if not rows.any():
            return rows, None
        before = waiting.lost[rows]
        overlap = np.where(again, iou_matrix(waiting.lost.xyxy, seen.xyxy), -1.0)[rows]
        after = Sightings(seen.xyxy[overlap.argmax(axis=1)], before.class_id)
        absent = self._are_absent(before, after, waiting.seen_since)
        if not absent.any():
            return rows, None
        share = 1 / (len(waiting.seen_since) + 1)
        boxes = (before.xyxy + (after.xyxy - before.xyxy) * share)[absent].astype(np.float32)
        names = waiting.observation.detections.class_names
        return rows, Detections(boxes, np.zeros(len(boxes), np.float32), before.class_id[absent], names)

    def _are_absent(self, before: Sightings, after: Sightings, gap: list[Sightings]) -> Booleans:
        """(n,) objects that none of the frames of the gap shows where they will be, or are on their way.

        Where they were none does, or they would have been seen again by then.
        """
        absent = np.ones(len(before), np.bool_)
        for step, seen in enumerate(gap, start=1):
            if len(seen):
                between = before.xyxy + (after.xyxy - before.xyxy) * (step / (len(gap) + 1))
                for boxes in (after, Sightings(between, before.class_id)):
                    absent &= ~boxes.same_as(seen, self._strategy.minimum_iou).any(axis=1)
        return absent

    def _open(
        self, track: _Track, seen: Sightings, observation: Observation, moment: datetime, passes_over: PassOver
    ) -> None:
        """Are objects lost in this frame, that the one before shows and that have not earned their samples?"""
        if not len(track.last):
            return
        is_seen: Booleans = np.asarray(track.last.same_as(seen, self._strategy.minimum_iou).any(axis=1))
        lost = track.last[~is_seen]
        if not len(lost):
            return
        names = observation.detections.class_names
        shown = Detections(lost.xyxy.astype(np.float32), np.zeros(len(lost), np.float32), lost.class_id, names)
        earned = passes_over(shown)
        lost = lost if earned is None else lost[~earned]
        if len(lost):
            track.open.append(OpenFrame(observation, moment, lost, seen_since=[seen]))


def _follows(before: int | None, index: int | None) -> bool:
    """No frame was lost between the two."""
    return before is None or index is None or index == before + 1
