"""The thread that runs the model, so that the main loop decides a frame while the model runs on the next one.

Python that follows a run of the model finds none of its code in the caches: NMS, sampling and bookkeeping, 0.1 ms when
repeated in a loop, took 0.5 ms after a run of 4.5 ms (measured).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from tasks.collector.ahead import Captured
from tasks.collector.capture import FrameQueue

_LOOK_UP_S = 0.2  # how long it waits for a frame, or for room, before it looks whether it is to end


class InferenceThread(threading.Thread):
    """Hands on all frames of the queue, in their order, each with the model's output where there is one."""

    def __init__(self, frames: FrameQueue, run_model: Callable[[Captured], None]) -> None:
        super().__init__(name="inference", daemon=True)
        self._frames = frames
        self._run_model = run_model
        self._done: queue.Queue[Captured | None] = queue.Queue(1)  # none: there are no more
        self._stopping = threading.Event()
        self.is_finished = False  # all frames were taken, and no more will come

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                captured = self._frames.get(_LOOK_UP_S)
                if captured is not None:
                    self._hand_on(self._with_output(captured))
                elif self._frames.is_finished:
                    return
        finally:
            self._hand_on(None)

    def get(self, timeout: float) -> Captured | None:
        """The next frame; None when none comes within `timeout` seconds, or ever."""
        if self.is_finished:
            return None
        try:
            captured = self._done.get(timeout=timeout)
        except queue.Empty:
            return None
        self.is_finished = captured is None
        return captured

    def stop(self) -> None:
        """Take no more frames, and do not wait for room for the one that was taken."""
        self._stopping.set()

    def _with_output(self, captured: Captured) -> Captured:
        try:
            self._run_model(captured)
        except Exception:  # noqa: BLE001 - must not die; the main loop tries again, meets the same, counts and reports it
            captured.ahead = None
        return captured

    def _hand_on(self, captured: Captured | None) -> None:
        while not self._stopping.is_set():
            try:
                self._done.put(captured, timeout=_LOOK_UP_S)
            except queue.Full:
                continue
            return
