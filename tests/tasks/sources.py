"""Sources for the collector's tests: real ones, paced by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tasks.adapters import camera


class Paced:
    """Opens a real source and lets a frame go every `pause` seconds; `at` is called when a frame index is reached."""

    def __init__(
        self, pause: float = 0.0, *, is_live: bool = False, at: Mapping[int, Callable[[], object]] | None = None
    ):
        self.pause, self.is_live, self.at = pause, is_live, dict(at or {})

    def __call__(self, source, name, *, start, time_scale, settings=None):
        opened = camera.open_source(source, name, start=start, time_scale=time_scale, settings=settings)
        read = opened.__iter__

        class Slow(type(opened)):
            def __iter__(slow):
                for frame in read():
                    time.sleep(self.pause)
                    if frame.index in self.at:
                        self.at[frame.index]()
                    yield frame

        opened.__class__ = Slow
        opened.is_live = self.is_live
        return opened
