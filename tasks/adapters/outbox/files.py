"""Files that are whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from tasks.adapters.durable import sync_folder

TEMPORARY = ".tmp"


def write_durably(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace `path` by `data`: a reader, and with `sync` a power cut, sees the old content or the new one.

    The new name itself is durable after `sync_folder`. Raises OSError and leaves no temporary file.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def append_durably(path: Path, data: bytes) -> None:
    """Add `data` to a file, for good or not at all. Raises OSError."""
    with open(path, "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.fileno(), before)
            raise


def size_of(path: Path) -> int:
    """Bytes of a file; 0 when there is none, or the disk does not say."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def remove_temporary_files(folder: Path) -> int:
    """Remove what a killed process left half written; how many files that were."""
    leftovers = [path for path in folder.iterdir() if path.name.endswith(TEMPORARY) and path.name.startswith(".")]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def write_checked(path: Path, data: bytes) -> None:
    """`data` behind a first line that holds its sha256, durably."""
    write_durably(path, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    sync_folder(path.parent)


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote; None when there is no such file or its content is not what was written."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest().encode() == digest else None
