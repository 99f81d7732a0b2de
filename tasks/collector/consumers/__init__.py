"""Who is told what the model sees, frame by frame: JSON lines and MQTT. CONSUMERS.md says what they can rely on.

    consumers = Consumers(device, tally.drop, tally.error)
    consumers.start()
    consumers.tell(frame, detections, settings.thresholds, model_version)      # never waits
    consumers.stop(timeout=2)

One `Consumers` for a device, also where it serves several projects: two of them would share files and MQTT client ids.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from tasks.adapters.secrets import secret
from tasks.collector.consumers.lines import LinesThread
from tasks.collector.consumers.message import Message, Seen, at_or_above, message_of
from tasks.collector.consumers.thread import ConsumerThread
from tasks.core.entities import Detections, Frame
from tasks.core.settings import DeviceSettings, Thresholds
from tasks.core.settings.device import JsonLinesConsumer, MqttConsumer

__all__ = ["Consumers", "Message", "at_or_above", "message_of"]


class Consumers:
    """All consumers of a device, each a thread with a bounded queue of its own."""

    def __init__(
        self,
        settings: DeviceSettings,
        tell_drop: Callable[[str], None],
        tell_error: Callable[[str], None] = lambda message: None,
        *,
        secret_of: Callable[[str], str | None] = secret,
        stdout: int = 1,
    ) -> None:
        """tell_drop: called with the reason for every message that is lost. tell_error: with one line when a consumer
        begins to fail. secret_of: gives users and passwords by their names. stdout: descriptor of `type: stdout`.
        """
        self._device = settings.name
        self._project = settings.project
        self._threads: list[ConsumerThread] = []
        seen: Counter[str] = Counter()
        for number, consumer in enumerate(settings.consumers, 1):
            seen[consumer.type] += 1
            label = consumer.type if seen[consumer.type] == 1 else f"{consumer.type} {seen[consumer.type]}"
            if isinstance(consumer, JsonLinesConsumer):
                self._threads.append(LinesThread(label, consumer, tell_drop, tell_error, stdout))
            else:
                client_id = f"edgeloop-{settings.project}-{settings.name}-{number}"
                self._threads.append(_mqtt(label, consumer, tell_drop, tell_error, client_id, secret_of))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def tell(
        self, frame: Frame, detections: Detections, thresholds: Thresholds, model_version: str, project: str = ""
    ) -> None:
        """Hand a frame's detections, from the floor up, to every consumer; never waits, and keeps no pixels.

        thresholds: the operating thresholds in force. project: whose model it was, where a device has several.
        """
        if not self._threads:
            return
        seen = Seen(
            device=self._device,
            project=project or self._project,
            camera=frame.camera,
            captured_at=frame.captured_at,
            index=frame.index,
            source=frame.source,
            size=(frame.height, frame.width),
            detections=detections,
            thresholds=thresholds,
            model_version=model_version,
        )
        for thread in self._threads:
            thread.tell(seen)

    def states(self) -> dict[str, str]:
        """How each consumer is: "running", "starting", or what is wrong with it."""
        return {thread.label: thread.state for thread in self._threads}

    def sent(self) -> dict[str, int]:
        """Messages that each consumer has taken."""
        return {thread.label: thread.sent for thread in self._threads}

    def stop(self, timeout: float) -> bool:
        """Deliver what waits within `timeout` seconds in all; what is left is counted. True when all threads ended."""
        deadline = time.monotonic() + timeout
        started = [thread for thread in self._threads if thread.is_alive()]
        for thread in started:
            thread.finish()
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [thread for thread in started if thread.is_alive()]
        for thread in late:
            thread.abandon()
        for thread in late:
            thread.join(0.5)
        return not late


def _mqtt(
    label: str,
    settings: MqttConsumer,
    tell_drop: Callable[[str], None],
    tell_error: Callable[[str], None],
    client_id: str,
    secret_of: Callable[[str], str | None],
) -> ConsumerThread:
    from tasks.collector.consumers.mqtt import MqttThread  # 9 MB and 0.2 s, for those who use it

    return MqttThread(label, settings, tell_drop, tell_error, client_id=client_id, secret_of=secret_of)
