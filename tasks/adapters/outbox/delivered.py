"""Which samples are already in the bucket: the memory that keeps a sample from being delivered twice."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tasks.adapters.durable import sync_folder
from tasks.adapters.outbox.files import append_durably, write_durably

_REMEMBERED = 20_000  # samples; at one a second, five hours of what a killed collector may decide again


class Delivered:
    """A text file of `sample_id origin` lines, appended durably and cut to its newest lines now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._origins: dict[str, str] = dict(_lines_of(path)[-_REMEMBERED:])
        self._lines = 0
        self._before = b""  # goes before the next line
        self._rewrite()

    def origin_of(self, sample_id: str) -> str | None:
        """Which frame the delivered sample came from; None when none of that id is remembered."""
        return self._origins.get(sample_id)

    def add(self, origins: Iterable[tuple[str, str]]) -> None:
        """Remember samples as delivered, for good. Raises OSError when the disk does not take them."""
        new = dict(origins)
        self._origins.update(new)
        append_durably(self._path, self._before + _text_of(new.items()))
        self._before = b""
        self._lines += len(new)
        if self._lines > 2 * _REMEMBERED:
            self._origins = dict(islice(self._origins.items(), max(0, len(self._origins) - _REMEMBERED), None))
            self._rewrite()

    def _rewrite(self) -> None:
        """Cut the file to what is remembered. On a full disk it stays: it says the same, at greater length."""
        self._lines = len(self._origins)
        try:
            write_durably(self._path, _text_of(self._origins.items()))
            sync_folder(self._path.parent)
        except OSError:
            self._before = b"\n"  # its last line may have been cut


def _text_of(origins: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{sample_id} {origin}\n" for sample_id, origin in origins).encode()


def _lines_of(path: Path) -> list[tuple[str, str]]:
    """The whole lines of the file; a line that a crash cut is left out."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return []
    fields = [line.split(" ") for line in text.split("\n")]
    return [(f[0], f[1]) for f in fields if len(f) == 2 and len(f[0]) == 20 and len(f[1]) == 16]
