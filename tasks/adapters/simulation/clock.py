"""The world's clock: a small file that says how many frames each camera may have given so far.

Whoever tells the story moves it; sources wait for it. So a day can pass, night can fall while people label, and every
run sees the same frames whatever the machine's speed.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import SettingsError

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ClockReading:
    """frames: how many frames each camera may have given. ended: no more will come."""

    frames: int = 0
    ended: bool = False


class WorldClock:
    """The clock file `{"frames": n, "ended": false}`; written atomically, only ever forwards."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> ClockReading:
        """What the file says; before the first frame where there is none. SettingsError for a file that is no clock."""
        try:
            content = json.loads(self.path.read_text())
            return ClockReading(int(content["frames"]), bool(content.get("ended", False)))
        except FileNotFoundError:
            return ClockReading()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(
                f'clock {self.path}: expected a JSON object such as {{"frames": 500}}: delete the file to start again'
            ) from None

    def advance_to(self, frames: int) -> None:
        """Let every camera give its frames 0 to `frames` - 1. An earlier moment changes nothing."""
        now = self.read()
        self._write(ClockReading(max(now.frames, frames), now.ended))

    def end(self) -> None:
        """Sources end once they have given what the clock allows."""
        self._write(ClockReading(self.read().frames, ended=True))

    def wait_for(self, index: int, stop: threading.Event) -> bool:
        """Block until frame `index` may be given: True; False when the world has ended before it or `stop` was set."""
        while not stop.is_set():
            now = self.read()
            if index < now.frames:
                return True
            if now.ended:
                return False
            stop.wait(POLL_SECONDS)
        return False

    def _write(self, reading: ClockReading) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.write_text(json.dumps({"frames": reading.frames, "ended": reading.ended}))
        os.replace(draft, self.path)
