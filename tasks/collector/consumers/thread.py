"""What every consumer is: a thread of its own with a bounded queue, which nothing that goes wrong outside ends."""

from __future__ import annotations

import errno
import threading
from abc import abstractmethod
from collections.abc import Callable

from tasks.collector.consumers.message import Seen
from tasks.collector.consumers.waiting import Waiting
from tasks.core.settings.device import ConsumerSettings

LOOK_UP_S = 0.2  # how long it waits for anything before it looks whether it is to end
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # after a failure, and at most
RUNNING = "running"


class ConsumerThread(threading.Thread):
    """Delivers messages in their order, each at most once unless the way out repeats it itself (MQTT with QoS 1).

    label: how drops and states name it. state: "running", or what is wrong with it.
    """

    def __init__(
        self,
        label: str,
        settings: ConsumerSettings,
        tell_drop: Callable[[str], None],
        tell_error: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"consumer-{label}", daemon=True)
        self.label = label
        self.state = "starting"
        self.sent = 0
        self._only_with_detections = settings.only_with_detections
        self._tell_drop = tell_drop
        self._tell_error = tell_error
        self._behind = "reader behind"  # why messages that had to make room did
        self._pause = FIRST_PAUSE_S
        self._finishing = threading.Event()
        self._abandoned = threading.Event()
        self._waiting = Waiting(settings.waiting_messages, lambda: self.count(self._behind))

    # --- for others --------------------------------------------------------------------------------------------------

    def tell(self, seen: Seen) -> None:
        """Never waits."""
        self._waiting.put(seen)

    def finish(self) -> None:
        """Deliver what waits, as far as that goes, and end."""
        self._finishing.set()

    def abandon(self) -> None:
        """End at once; what waits is counted and forgotten."""
        self._finishing.set()
        self._abandoned.set()
        self._forget_the_rest()

    # --- inside ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self._is_done():
            try:
                self._deliver_while_it_goes()
            except Exception as error:  # noqa: BLE001 - must not die: reported, and tried again later
                self.went_wrong(error)
                if self._finishing.wait(self._pause):
                    break
                self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        self._forget_the_rest()
        self._close()

    @abstractmethod
    def _deliver_while_it_goes(self) -> None:
        """Deliver for a while, at least one message where there is one. Raises what stops it, with nothing lost."""

    @abstractmethod
    def _close(self) -> None: ...

    def _is_done(self) -> bool:
        return self._abandoned.is_set() or (self._finishing.is_set() and not self._waiting)

    def next_message(self, timeout: float = LOOK_UP_S) -> Seen | None:
        """The next message that this consumer is to have; None when none comes in time, or the next is not for it."""
        seen = self._waiting.take(timeout)
        if seen is None or (self._only_with_detections and not seen.has_detections):
            return None
        try:
            seen.json()
        except ValueError:  # what is no message now would be none later, and would hold up all others
            self.count("not a valid message")
            return None
        return seen

    def count(self, why: str) -> None:
        self._tell_drop(f"message to {self.label} dropped, {why}")

    def goes_well(self) -> None:
        self.state, self._behind, self._pause = RUNNING, "reader behind", FIRST_PAUSE_S

    def went_wrong(self, error: Exception) -> None:
        """Report once for as long as it stays the same."""
        self._behind = self.reason(error)
        state = f"{self._behind}, trying again: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        if state != self.state:
            self.state = state
            self._tell_error(f"consumer {self.label}: {state}")

    def reason(self, error: Exception) -> str:
        """Why messages are lost while this error lasts, in few words that stay the same."""
        if isinstance(error, BrokenPipeError):
            return "reader gone"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "disk full"
        return "cannot be written" if isinstance(error, OSError) else "failed"

    def _forget_the_rest(self) -> None:
        for _ in range(self._waiting.close()):
            self.count("not sent when stopped")
