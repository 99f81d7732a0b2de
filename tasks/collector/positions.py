"""How far the recordings have been decided."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.collector.config import Position


class Positions:
    """The place in each camera's recording: a number, noted for every frame, and a record when it is asked for."""

    def __init__(self, sources: Mapping[str, str], before: Mapping[str, Position]) -> None:
        """sources: by camera. before: where the last run stood; what it knew of another source counts for nothing."""
        self._sources = dict(sources)
        self._before = dict(before)
        self._next: dict[str, int] = {}

    def advance(self, camera: str, index: int) -> None:
        """Frame `index` of a recording is decided."""
        self._next[camera] = index + 1

    def note_skipped(self, camera: str, skipped: Mapping[str, int]) -> None:
        """Bad images of the recording so far, which the next run must not count again."""
        position = self.of(camera)
        if position is not None:
            self._before[camera] = position.model_copy(update={"skipped_before": dict(skipped)})

    def forget(self, camera: str) -> None:
        """The recording came to its end: the next run begins it anew."""
        self._next.pop(camera, None)
        self._before.pop(camera, None)

    def has_decided(self, camera: str, index: int | None) -> bool:
        """Has this run decided frame `index`? None is the last frame of a run that read none."""
        return index is None or self._next.get(camera, 0) > index

    def of(self, camera: str) -> Position | None:
        """Where a camera's recording stands; None where nothing of it has been decided."""
        known, source = self._before.get(camera), self._sources.get(camera)
        if camera not in self._next or source is None:
            return known
        skipped = known.skipped_before if known is not None and known.source == source else {}
        return Position(source=source, next_index=self._next[camera], skipped_before=skipped)

    def all(self) -> dict[str, Position]:
        """By camera; those of cameras that this device no longer has are kept."""
        places = {camera: self.of(camera) for camera in {**self._before, **self._next}}
        return {camera: place for camera, place in places.items() if place is not None}
