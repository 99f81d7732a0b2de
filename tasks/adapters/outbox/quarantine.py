"""What turned out corrupt, put aside for people to look at, within a share of the outbox's cap."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class Quarantine:
    """A folder of at most `limit` bytes; the oldest files make room. `drops` counts what comes and what goes."""

    def __init__(self, folder: Path, limit: int, drops: Counter[str]) -> None:
        """Raises OSError when the folder cannot be used."""
        self.folder = folder
        self._limit = limit
        self._drops = drops
        folder.mkdir(parents=True, exist_ok=True)
        self.used_bytes = sum(path.stat().st_size for path in folder.iterdir())
        self._trim()

    def take(self, paths: Iterable[Path]) -> int:
        """Put the files of one sample aside; the bytes that stay where they are, because the disk lets nothing move."""
        self._drops["quarantined, corrupt"] += 1
        left = sum(self._take_one(path) for path in paths)
        self._trim()
        return left

    def _take_one(self, path: Path) -> int:
        try:
            size = path.stat().st_size
        except OSError:
            return 0
        place = self.folder / path.name
        try:
            earlier = place.stat().st_size if place.exists() else 0
            os.replace(path, place)
        except OSError:
            self._drops["corrupt file left in its place, disk error"] += 1
            return size
        self.used_bytes += size - earlier
        return 0

    def _trim(self) -> None:
        if self.used_bytes <= self._limit:
            return
        with suppress(OSError):  # what cannot be removed now is tried again with the next file
            for path in sorted(self.folder.iterdir(), key=lambda p: p.stat().st_mtime):
                size = path.stat().st_size
                path.unlink()
                self.used_bytes -= size
                self._drops["removed from quarantine, no room"] += 1
                if self.used_bytes <= self._limit:
                    return
