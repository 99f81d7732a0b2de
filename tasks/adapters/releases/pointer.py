"""What a device remembers of its releases: one small file, replaced atomically, that survives a crash at any instant.

{folder}/current.json    the release in force, the one before it, where its probation stands, and what was refused
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from tasks.adapters.outbox import read_checked, write_checked
from tasks.core.entities import Record, Release
from tasks.core.errors import BucketError

POINTER_FILE = "current.json"

ModelClasses = tuple[str, ...] | str | None


class Held(Record):
    """A release that is on the disk. The class names are those of a model file that has none itself."""

    release: Release
    model_classes: ModelClasses = None
    on_probation: bool = Field(True, description="it has not kept to its limits for long enough yet")


class Pointer(Record):
    """What `current.json` holds."""

    current: Held | None = None
    previous: Held | None = Field(None, description="what the device goes back to")
    running: bool = Field(False, description="a process began with what is held here and has not ended in order")
    deaths: int = Field(0, ge=0, description="processes that died within the current release's probation")
    refused_number: int = 0
    refused_reason: str = ""


def read_pointer(folder: Path) -> Pointer:
    """An empty one where there is none, or one of a version of this program that wrote other records."""
    data = read_checked(folder / POINTER_FILE)
    if data is None:
        return Pointer()
    try:
        return Pointer.model_validate_json(data)
    except ValidationError:
        return Pointer()  # the bucket still has the release


def write_pointer(folder: Path, pointer: Pointer) -> None:
    """Raises BucketError when the disk does not take it: what follows is tried again."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_checked(folder / POINTER_FILE, pointer.to_json())
    except OSError as error:
        raise BucketError(f"{folder}: cannot be written: {error.strerror or error}: free some space") from error
