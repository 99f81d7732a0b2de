"""Which samples are already in the bucket: the memory that keeps a sample from being delivered twice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tasks.adapters.outbox.files import sync_folder, write_durably

_REMEMBERED = 20_000  # samples; at one a second, five hours of what a killed collector may decide again


class Delivered:
    """A text file of `sample_id origin` lines, appended durably and cut to its newest lines at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._origins: dict[str, str] = dict(_lines_of(path)[-_REMEMBERED:])
        write_durably(path, "".join(f"{i} {o}\n" for i, o in self._origins.items()).encode())
        sync_folder(path.parent)

    def origin_of(self, sample_id: str) -> str | None:
        """Which frame the delivered sample came from; None when none of that id is remembered."""
        return self._origins.get(sample_id)

    def add(self, origins: Iterable[tuple[str, str]]) -> None:
        """Remember samples as delivered, for good. Raises OSError when the disk does not take them."""
        new = dict(origins)
        self._origins.update(new)
        while len(self._origins) > 2 * _REMEMBERED:
            self._origins.pop(next(iter(self._origins)))
        with open(self._path, "ab") as file:
            file.write("".join(f"{i} {o}\n" for i, o in new.items()).encode())
            file.flush()
            os.fsync(file.fileno())


def _lines_of(path: Path) -> list[tuple[str, str]]:
    """The whole lines of the file; a line that a crash cut is left out."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return []
    fields = [line.split(" ") for line in text.split("\n")]
    return [(f[0], f[1]) for f in fields if len(f) == 2 and len(f[0]) == 20 and len(f[1]) == 16]
