"""The messages that wait for one consumer: a bounded queue in which the oldest makes room."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from tasks.collector.consumers.message import Seen


class Waiting:
    """`put` never waits. dropped: called for each message that had to make room, outside of the lock."""

    def __init__(self, limit: int, dropped: Callable[[], None]) -> None:
        self._limit = limit
        self._dropped = dropped
        self._changed = threading.Condition()
        self._messages: deque[Seen] = deque()
        self._closed = False

    def put(self, seen: Seen) -> None:
        """At the end; the oldest one goes where there is no room. A closed queue takes nothing, and counts it."""
        with self._changed:
            has_room = len(self._messages) < self._limit
            if not self._closed:
                if not has_room:
                    self._messages.popleft()
                self._messages.append(seen)
                self._changed.notify()
            is_dropped = self._closed or not has_room
        if is_dropped:
            self._dropped()

    def put_back(self, seen: Seen) -> None:
        """To the front, what was taken and could not be delivered; it is the oldest, so it goes where it lacks room."""
        with self._changed:
            has_room = len(self._messages) < self._limit and not self._closed
            if has_room:
                self._messages.appendleft(seen)
        if not has_room:
            self._dropped()

    def take(self, timeout: float) -> Seen | None:
        """The oldest; None when none comes within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._messages and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            return self._messages.popleft() if self._messages else None

    def close(self) -> int:
        """Take no more and forget what waits; how many those were."""
        with self._changed:
            self._closed = True
            count = len(self._messages)
            self._messages.clear()
            self._changed.notify_all()
        return count

    def __len__(self) -> int:
        return len(self._messages)
