"""The thread that runs the model, so that a project decides a frame while the model runs on the next one.

Python that follows a run of the model finds none of its code in the caches: NMS, sampling and bookkeeping, 0.1 ms when
repeated in a loop, took 0.5 ms after a run of 4.5 ms (measured).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from tasks.collector.ahead import Captured
from tasks.collector.capture import FrameQueue

_LOOK_UP_S = 0.2  # how long it waits for a frame, or for room, before it looks whether it is to end


class InferenceThread(threading.Thread):
    """Hands on all frames of the queue, in their order, each with the model's output where there is one."""

    def __init__(
        self, frames: FrameQueue, run_model: Callable[[Sequence[Captured]], None], batch: Callable[[], int] = lambda: 1
    ) -> None:
        """run_model: on frames that waited at the same time. batch: how many of them at most, asked each time."""
        super().__init__(name="inference", daemon=True)
        self._frames = frames
        self._run_model = run_model
        self._batch = batch
        self._done: queue.Queue[Captured | None] = queue.Queue(1)  # none: there are no more
        self._stopping = threading.Event()
        self.is_finished = False  # all frames were taken, and no more will come

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                captured = self._frames.get(_LOOK_UP_S)
                if captured is not None:
                    self._run_on(self._together_with(captured))
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

    def _together_with(self, first: Captured) -> list[Captured]:
        """The frame, and those that wait now, of one camera after another."""
        together = [first]
        for _ in range(self._batch() - 1):
            captured = self._frames.get(0)
            if captured is None:
                break
            together.append(captured)
        return together

    def _run_on(self, together: list[Captured]) -> None:
        try:
            self._run_model(together)
        except Exception:  # noqa: BLE001 - must not die; whoever decides tries again, meets the same and reports it
            for captured in together:
                captured.ahead = None
        for captured in together:
            self._hand_on(captured)

    def _hand_on(self, captured: Captured | None) -> None:
        while not self._stopping.is_set():
            try:
                self._done.put(captured, timeout=_LOOK_UP_S)
            except queue.Full:
                continue
            return
