"""Near-duplicates: frames that show nothing that a recently kept frame of the same camera does not show.

Two views must agree, the picture's difference hash and the detections' signature: the hash alone would throw away
a small new object, which hardly changes a picture of 17 x 16 pixels; the signature alone would throw away what the
model does not see.

Static objects: a thing that stays where it is earns a few samples a day and no more, also when light and weather change
the picture around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.boxes import iou_matrix
from tasks.core.entities.base import Record, UtcTime, Xyxy
from tasks.core.entities.detections import Detections
from tasks.core.settings import DuplicateRules

PLACE = 32  # pixels a cell; a few pixels of the model's input, about what a still box jitters by
MAX_CAMERAS = 64  # whose kept frames and objects are remembered
MAX_OBJECTS = 64  # of a camera and day, that have earned samples

COOLDOWN = "cooldown"
NEAR_DUPLICATE = "near-duplicate"


def difference_hash(gray_small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """256-bit difference hash of a picture: is each pixel brighter than its left neighbour?

    gray_small: (16, 17) grey levels, the picture shrunk by area averaging. Returns (32,) uint8, 8 bits each, row by
    row. Source: the dHash of N. Krawetz, "Kind of Like That" (2013), with 16 x 16 instead of 8 x 8 bits.
    """
    if gray_small.shape != (16, 17):
        raise ValueError(f"a difference hash needs (16, 17) grey levels, got {gray_small.shape}")
    return np.packbits(gray_small[:, 1:] > gray_small[:, :-1])


def hamming(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Bits in which two hashes of equal length differ."""
    return (_bits_of(a) ^ _bits_of(b)).bit_count()


def _bits_of(image_hash: NDArray[np.uint8]) -> int:
    return int.from_bytes(image_hash.tobytes(), "big")


def signature(detections: Detections, confidence_floor: float = 0.0) -> NDArray[np.int64]:
    """Class and coarse place of the detections at or above the floor.

    Returns (n, 3) int64: class id, column and row of the cell of PLACE x PLACE pixels that holds the box's centre,
    sorted, so that equal sights give equal arrays.
    """
    seen = detections.confidence >= np.asarray(confidence_floor, detections.confidence.dtype)
    xyxy = detections.xyxy[seen].reshape(-1, 4)
    centres = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    cells = np.column_stack([detections.class_id[seen], np.floor(centres / PLACE)]).astype(np.int64)
    return cells[np.lexsort(cells.T[::-1])]


def signatures_agree(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    """Do two signatures, (n, 3) and (m, 3), show the same objects?

    One to one: every object has a partner of its own in the other, of its class, in the same or a neighbouring cell. A
    box that jitters across the border of a cell is no new object; one that appears while another leaves is.
    """
    if len(a) != len(b) or not np.array_equal(a[:, 0], b[:, 0]):  # sorted by class, so this compares the counts
        return False
    if np.array_equal(a, b):
        return True
    near = np.abs(a[:, None, 1:] - b[None, :, 1:]).max(axis=2) <= 1
    near &= a[:, None, 0] == b[None, :, 0]
    if not (near.any(axis=1).all() and near.any(axis=0).all()):
        return False
    return _can_be_paired([np.flatnonzero(row).tolist() for row in near])


def _can_be_paired(near: Sequence[Sequence[int]]) -> bool:
    """Has every row a column of its own among those that it names? By augmenting paths (H. W. Kuhn, 1955)."""
    row_of: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in near[row]:
            if column not in tried:
                tried.add(column)
                if column not in row_of or place(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(near)))


class KeptFrame(Record):
    """What is remembered of a kept frame, as JSON."""

    schema_version: int = Field(1, exclude=True)
    frame: str
    captured_at: UtcTime
    image_hash: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="64 hex; none: no pixels were hashed")
    signature: tuple[tuple[int, int, int], ...] = ()


RecentState = dict[str, tuple[KeptFrame, ...]]  # camera -> its last kept frames, the newest last


@dataclass(frozen=True, slots=True)
class _Sight:
    """A kept frame in memory: what `KeptFrame` says, ready to be compared."""

    frame: str
    captured_at: datetime
    bits: int | None  # of its hash
    signature: NDArray[np.int64]

    @classmethod
    def of(cls, kept: KeptFrame) -> _Sight:
        bits = None if kept.image_hash is None else int(kept.image_hash, 16)
        cells = np.array(kept.signature, np.int64).reshape(-1, 3)
        return cls(kept.frame, kept.captured_at, bits, cells)

    def record(self) -> KeptFrame:
        return KeptFrame(
            frame=self.frame,
            captured_at=self.captured_at,
            image_hash=None if self.bits is None else f"{self.bits:064x}",
            signature=tuple(map(tuple, self.signature.tolist())),
        )


@dataclass(frozen=True, slots=True)
class Repeat:
    """Why a frame shows nothing new. kind: COOLDOWN or NEAR_DUPLICATE. detail: which frame it repeats, and by what."""

    kind: str
    detail: str


class RecentFrames:
    """The last kept frames of each camera."""

    def __init__(self, rules: DuplicateRules, confidence_floor: float, state: RecentState | None = None) -> None:
        """confidence_floor: from where on a detection belongs to the signature. state: an earlier `state()`."""
        self._rules = rules
        self._floor = confidence_floor
        self._frames = {camera: tuple(map(_Sight.of, kept)) for camera, kept in (state or {}).items()}

    def repeat(
        self, camera: str, moment: datetime, image_hash: NDArray[np.uint8] | None, detections: Detections
    ) -> Repeat | None:
        """Why the frame repeats a kept one: the cooldown first, then hash and signature; None when it does not.

        Without a hash nothing can be told apart, so that only the cooldown speaks.
        """
        recent = self._frames.get(camera, ()) if self._rules.enabled else ()
        if not recent:
            return None
        # A clock that was set back must not silence a camera until it has caught up, hence the 0.
        elapsed = (moment - recent[-1].captured_at).total_seconds()
        if 0 <= elapsed < self._rules.cooldown_seconds:
            return Repeat(
                COOLDOWN, f"{elapsed:g} s after frame {recent[-1].frame!r}, of {self._rules.cooldown_seconds:g} s"
            )
        return self._near_duplicate(recent, image_hash, detections) if image_hash is not None else None

    def _near_duplicate(
        self, recent: Sequence[_Sight], image_hash: NDArray[np.uint8], detections: Detections
    ) -> Repeat | None:
        bits, cells = _bits_of(image_hash), None
        for kept in reversed(recent):
            if kept.bits is None:
                continue
            distance = (bits ^ kept.bits).bit_count()
            if distance > self._rules.maximum_hash_distance:
                continue
            cells = signature(detections, self._floor) if cells is None else cells
            if signatures_agree(cells, kept.signature):
                return Repeat(
                    NEAR_DUPLICATE,
                    f"of frame {kept.frame!r}, {distance} of 256 bits apart (up to "
                    f"{self._rules.maximum_hash_distance} count as equal) with the same detections",
                )
        return None

    def remember(
        self,
        camera: str,
        frame: str,
        moment: datetime,
        image_hash: NDArray[np.uint8] | None,
        detections: Detections,
    ) -> None:
        """Take note of a kept frame; the oldest of its camera, and of too many cameras, is forgotten."""
        if not self._rules.enabled:
            return
        bits = None if image_hash is None else _bits_of(image_hash)
        sight = _Sight(frame, moment, bits, signature(detections, self._floor))
        recent = (*self._frames.pop(camera, ()), sight)
        self._frames[camera] = recent[-self._rules.remembered_frames :]
        while len(self._frames) > MAX_CAMERAS:
            del self._frames[next(iter(self._frames))]

    def state(self) -> RecentState:
        """What a restart needs; the camera that kept a frame last comes last."""
        return {camera: tuple(sight.record() for sight in recent) for camera, recent in self._frames.items()}


class SeenObject(Record):
    """An object that earned samples, as JSON."""

    schema_version: int = Field(1, exclude=True)
    class_id: int
    xyxy: Xyxy
    samples: int


class CameraObjects(Record):
    """What earned samples of a camera on one day (UTC), as JSON."""

    schema_version: int = Field(1, exclude=True)
    day: str
    objects: tuple[SeenObject, ...]


ObjectsState = dict[str, CameraObjects]


class StaticObjects:
    """How many samples each object of a camera, class and place has earned today."""

    def __init__(self, rules: DuplicateRules, state: ObjectsState | None = None) -> None:
        """state: an earlier `state()`."""
        self._rules = rules
        self._cameras = dict(state or {})
        self._boxes: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        for camera in self._cameras:
            self._note_used_up(camera)

    @property
    def _is_on(self) -> bool:
        return self._rules.enabled and self._rules.samples_of_an_object is not None

    def are_used_up(self, camera: str, moment: datetime) -> bool:
        """Has any object of the camera earned its samples of the day?"""
        return camera in self._boxes and self._cameras[camera].day == _day(moment)

    def used_up(self, camera: str, moment: datetime, detections: Detections) -> NDArray[np.bool_] | None:
        """(n,) the detections of objects that have earned their samples of the day; None where there are none."""
        if not self.are_used_up(camera, moment) or not len(detections):
            return None
        class_id, boxes = self._boxes[camera]
        same = iou_matrix(detections.xyxy, boxes) >= self._rules.object_iou
        rows = (same & (detections.class_id[:, None] == class_id)).any(axis=1)
        return np.asarray(rows) if rows.any() else None

    def earned(self, camera: str, moment: datetime, detections: Detections) -> None:
        """A sample was kept for the sake of these. Of too many, the object that earned least is forgotten."""
        if not self._is_on:
            return
        today = self._cameras.pop(camera, None)
        objects = list(today.objects) if today is not None and today.day == _day(moment) else []
        places = self._places(objects, detections)
        for row in {place for place in places if place is not None}:  # two boxes on one object count once
            objects[row] = objects[row].model_copy(update={"samples": objects[row].samples + 1})
        for place, class_id, xyxy in zip(places, detections.class_id.tolist(), detections.xyxy.tolist()):
            if place is None:
                objects.append(SeenObject(class_id=class_id, xyxy=tuple(xyxy), samples=1))
        while len(objects) > MAX_OBJECTS:
            objects.pop(min(range(len(objects)), key=lambda row: objects[row].samples))
        self._cameras[camera] = CameraObjects(day=_day(moment), objects=tuple(objects))
        self._note_used_up(camera)
        while len(self._cameras) > MAX_CAMERAS:
            oldest = next(iter(self._cameras))
            del self._cameras[oldest]
            self._boxes.pop(oldest, None)

    def state(self) -> ObjectsState:
        """What a restart needs; the camera that kept a frame last comes last."""
        return dict(self._cameras)

    def _places(self, objects: Sequence[SeenObject], detections: Detections) -> list[int | None]:
        """For each detection the object that it overlaps most, of its class; None where it is a new one."""
        if not objects or not len(detections):
            return [None] * len(detections)
        iou = iou_matrix(detections.xyxy, [known.xyxy for known in objects])
        iou[detections.class_id[:, None] != np.array([known.class_id for known in objects])] = 0.0
        best = iou.argmax(axis=1)
        same = iou[np.arange(len(best)), best] >= self._rules.object_iou
        return [int(row) if is_same else None for row, is_same in zip(best, same)]

    def _note_used_up(self, camera: str) -> None:
        """Lay out the objects that have earned their samples, for the frames to come."""
        most = self._rules.samples_of_an_object
        used_up = [known for known in self._cameras[camera].objects if most is not None and known.samples >= most]
        if used_up and self._is_on:
            class_id = np.array([known.class_id for known in used_up], np.int64)
            self._boxes[camera] = class_id, np.array([known.xyxy for known in used_up], np.float64)
        else:
            self._boxes.pop(camera, None)


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
