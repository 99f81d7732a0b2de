"""Frames in which an object was lost: their pixels wait until it is known whether the object is seen again.

Few wait at a time: as many of a camera as a gap may have frames, three at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from tasks.collector.keeping import Kept, frame_id
from tasks.core.sampling import Settled

_SILENT_S = 60.0  # a live camera that gave no frame for so long ends its gaps


@dataclass(frozen=True, slots=True)
class Released:
    """A frame that waits no longer, with its last decision."""

    kept: Kept
    is_live: bool


class HeldFrames:
    """By camera and frame. Used by the main loop alone."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[Kept, bool, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, kept: Kept, *, is_live: bool) -> None:
        """kept: what the sample is made of, if the frame is kept in the end."""
        self._held[kept.frame.camera, frame_id(kept.frame)] = kept, is_live, time.monotonic()

    def release(self, settled: Settled) -> Released | None:
        """None for a frame that is not held."""
        known = self._held.pop((settled.camera, settled.frame), None)
        if known is None:
            return None
        kept, is_live, _ = known
        return Released(replace(kept, decision=settled.decision), is_live)

    def silent_cameras(self) -> list[str]:
        """Live cameras whose frames wait for long. A recording may take its time."""
        oldest = time.monotonic() - _SILENT_S
        return list(dict.fromkeys(camera for (camera, _), (_, live, at) in self._held.items() if live and at < oldest))
