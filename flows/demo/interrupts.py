"""Ctrl-C that cannot be lost. A KeyboardInterrupt that comes while a library is being imported, or inside a callback of
one, may be swallowed there; the demo would play on. So an interrupt is repeated until the stage that it met has ended.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REPEAT_SECONDS = 2.0


class Interrupts:
    """SIGINT and SIGTERM as KeyboardInterrupt: once outside of stages, again and again inside of one."""

    def __init__(self) -> None:
        self.asked = False
        self._in_stage = threading.Event()

    def listen(self) -> None:
        """From now on. Also where the shell had told us to ignore Ctrl-C, as it does with background jobs."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    @contextmanager
    def obeyed(self) -> Iterator[None]:
        """A stage: it ends with KeyboardInterrupt when it was interrupted, whatever became of the exception inside."""
        self._in_stage.set()
        try:
            yield
        finally:
            self._in_stage.clear()
        if self.asked:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            threading.Thread(target=self._repeat, name="interrupts", daemon=True).start()
        raise KeyboardInterrupt

    def _repeat(self) -> None:
        pause = threading.Event()
        while not pause.wait(REPEAT_SECONDS):
            if self._in_stage.is_set():
                os.kill(os.getpid(), signal.SIGINT)


INTERRUPTS = Interrupts()
