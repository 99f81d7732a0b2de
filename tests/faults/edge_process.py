"""A collector in a process of its own, on a camera that ticks like a clock and draws a picture for every frame.

    python -m tests.faults.edge_process CONFIG LOG FPS FRAMES

LOG takes the monotonic time of every frame that capture asked for, 8 bytes each. FRAMES is 0 for a live camera, else it
is a recording of so many frames, handed out at FPS.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from tasks.adapters.camera.source import ClosableSource
from tasks.collector import CollectorConfig, run_collector
from tasks.core.entities import Frame

HEIGHT, WIDTH, CELL = 80, 96, 8  # pixels; a picture is 10 kB as JPEG
START = datetime(2026, 5, 1, tzinfo=timezone.utc)
NOISE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


class Metronome(ClosableSource):
    """A frame every 1/fps s; a late one is not made up for."""

    def __init__(self, camera: str, fps: float, frames: int, log: Path) -> None:
        super().__init__(camera)
        self.is_live = not frames
        self._fps, self._frames = fps, frames
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __iter__(self) -> Iterator[Frame]:
        index, due = 0, time.monotonic()
        while (self.is_live or index < self._frames) and not self._closed.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            os.write(self._log, struct.pack("d", now))
            due = max(due + 1 / self._fps, now)
            at = datetime.now(timezone.utc) if self.is_live else START + timedelta(seconds=index / self._fps)
            yield Frame(picture(index), self.camera, at, index, "" if self.is_live else f"clip.mp4#{index}")
            index += 1


def picture(index: int) -> np.ndarray:
    """Noise, with the number of the frame in squares of black and white, so that no two are alike."""
    pixels = NOISE.copy()
    for bit in range(24):
        row, column = divmod(bit, WIDTH // CELL)
        pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255 * (index >> bit & 1)
    return pixels


if __name__ == "__main__":
    with suppress(PermissionError):
        os.nice(-10)  # what is measured is this process, not who else uses the machine
    config = CollectorConfig.model_validate_json(Path(sys.argv[1]).read_bytes())
    log, fps, frames = Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])

    def open_source(source, camera, *, start=None, time_scale=1.0, settings=None):
        return Metronome(camera, fps, frames, log)

    status = run_collector(
        **{name: getattr(config, name) for name in CollectorConfig.model_fields}, open_source=open_source
    )
    print(status.model_dump_json(), flush=True)
    os._exit(0)
