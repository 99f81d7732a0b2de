"""What a demo remembers between calls: its arguments, the stages that ended, and what the device said of each day."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from tasks.core.entities import DeviceStatus, Record
from tasks.core.errors import AlreadyRunning, SettingsError
from tasks.core.settings.project import SuggestedStrategy

STATE_FILE = "demo.json"
DEMO_STRATEGY: SuggestedStrategy = "rules"  # what is to be seen is a suggestion that chooses frames
PROJECT_FILE = "project.json"  # the demo's project, for the pages and for other commands
LOCK_FILE = ".lock"


class DemoArguments(Record):
    """What chooses a demo's world."""

    seed: int = 0
    data: str = ""
    model: str = "stub"
    weights: str = ""
    quick: bool = False
    strategy: SuggestedStrategy = DEMO_STRATEGY

    def __str__(self) -> str:
        parts = [f"SEED={self.seed}"]
        parts += [f"DATA={self.data}"] if self.data else []
        parts += [f"MODEL={self.model}"] if self.model != "stub" else []
        parts += [f"WEIGHTS={self.weights}"] if self.weights else []
        parts += ["QUICK=1"] if self.quick else []
        parts += [f"STRATEGY={self.strategy}"] if self.strategy != DEMO_STRATEGY else []
        return " ".join(parts)


class DemoState(Record):
    """Stages by name with their seconds; the device's word at the end of each day, which counts from its start."""

    arguments: DemoArguments
    ended: dict[str, float] = {}
    days: tuple[DeviceStatus, ...] = ()
    final: DeviceStatus | None = None
    finished: bool = False

    def save(self, folder: Path) -> None:
        temporary = folder / f".{STATE_FILE}.tmp"
        temporary.write_bytes(self.to_json())
        os.replace(temporary, folder / STATE_FILE)


def open_state(folder: Path, arguments: DemoArguments) -> DemoState:
    """The state of the demo in `folder`: fresh, or where an interrupted one with the same arguments stopped."""
    path = folder / STATE_FILE
    if not path.exists():
        if folder.exists() and any(entry.name != LOCK_FILE for entry in folder.iterdir()):
            raise SettingsError(f"{folder}: is not empty and no demo: name another folder with FOLDER=")
        return DemoState(arguments=arguments)
    try:
        state = DemoState.model_validate_json(path.read_bytes())
    except ValidationError:
        raise SettingsError(f"{path}: is not readable as a demo's state: remove the folder {folder}") from None
    if state.finished:
        raise SettingsError(
            f"{folder}: holds a finished demo ({state.arguments}): look at {folder / 'page.html'}, "
            f"remove the folder, or name another with FOLDER="
        )
    if state.arguments != arguments:
        raise SettingsError(
            f"{folder}: holds an unfinished demo with {state.arguments}: call it with these, remove the folder, or "
            f"name another with FOLDER="
        )
    return state


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder to ourselves. Raises AlreadyRunning when another demo plays in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise SettingsError(
            f"{folder}: cannot be written ({error.strerror}): name another folder with FOLDER="
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"{folder}: another demo is running here: wait for it, or name another folder with FOLDER="
            ) from None
        yield
