"""Messages to an MQTT broker (3.1.1), through paho-mqtt.

One thread does all of it: connecting, publishing and paho's own work on the socket (`Client.loop`). With paho's thread
beside ours its queue of outgoing packets would grow without bound while a broker takes nothing, and an exception in it
would end the connection for good, in silence.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTv311, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from tasks.collector.consumers.message import Seen
from tasks.collector.consumers.thread import LOOK_UP_S, ConsumerThread
from tasks.core.settings.device import MqttConsumer

KEEPALIVE_S = 15  # a broker that is silent for twice as long counts as away
CONNECT_S = 5.0
UNANSWERED = 20  # messages of QoS 1 on their way; each is held until the broker has acknowledged it


class MqttThread(ConsumerThread):
    """Publishes for as long as it lives; a broker that is away is tried again for ever, ever more slowly."""

    def __init__(
        self,
        label: str,
        settings: MqttConsumer,
        tell_drop: Callable[[str], None],
        tell_error: Callable[[str], None],
        *,
        client_id: str,
        secret_of: Callable[[str], str | None],
    ) -> None:
        """client_id: unique at the broker, which ends the older of two connections with the same one.

        secret_of: gives user and password by the names that the settings have for them; none: there is no such secret.
        """
        super().__init__(label, settings, tell_drop, tell_error)
        self._settings = settings
        self._client_id = client_id
        self._user = secret_of(settings.user_environment)
        self._password = secret_of(settings.password_environment)
        self._client: Client | None = None
        self._unanswered: set[int] = set()  # ids of messages that are not written (QoS 0) or acknowledged (QoS 1) yet
        self._refusal = ""
        self._behind = "broker away"

    # --- one connection ----------------------------------------------------------------------------------------------

    def _deliver_while_it_goes(self) -> None:
        """From connecting to losing the connection, or being done."""
        client = self._connected()
        self.goes_well()
        while not self._is_done():
            has_room = not client.want_write() and len(self._unanswered) < UNANSWERED
            seen = self.next_message() if has_room else None
            if seen is not None:
                self._publish(client, seen)
            self._work(client, 0.0 if has_room else LOOK_UP_S)

    def _is_done(self) -> bool:
        return super()._is_done() and (self._abandoned.is_set() or not self._unanswered)

    def _connected(self) -> Client:
        """Raises OSError when the broker does not answer, or refuses."""
        client = self._client = self._client or self._new_client()
        self._refusal = ""
        client.connect(self._settings.host, self._settings.port, keepalive=KEEPALIVE_S)
        deadline = time.monotonic() + CONNECT_S
        while not client.is_connected():
            self._work(client, LOOK_UP_S)
            if time.monotonic() > deadline or self._abandoned.is_set():
                raise TimeoutError(f"{self._address}: connected, but no MQTT broker answers")
        return client

    def _work(self, client: Client, wait: float) -> None:
        """Let paho read, write and keep the connection alive, waiting for the socket for `wait` seconds at most."""
        result = client.loop(wait)
        if self._refusal:
            raise ConnectionRefusedError(f"{self._address}: {self._refusal}")
        if result is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost()
            raise ConnectionError(f"{self._address}: {error_string(result)}")

    def _publish(self, client: Client, seen: Seen) -> None:
        topic = (
            self._settings.topic.replace("{device}", seen.device)
            .replace("{project}", seen.project)
            .replace("{camera}", seen.camera)
        )
        info = client.publish(topic, seen.json(), qos=self._settings.qos)
        if info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS:
            if not info.is_published():
                self._unanswered.add(info.mid)
            self.sent += 1
        elif self._settings.qos:
            self._unanswered.add(info.mid)  # paho holds it and sends it after the next connection
            self.sent += 1
        else:
            self._waiting.put_back(seen)

    def _lost(self) -> None:
        """Messages of QoS 0 that were not written go with their connection; those of QoS 1 are sent again by paho."""
        if not self._settings.qos:
            for _ in range(len(self._unanswered)):
                self.count("connection lost")
            self._unanswered.clear()

    # --- the client --------------------------------------------------------------------------------------------------

    def _new_client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, self._client_id, clean_session=True, protocol=MQTTv311)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(UNANSWERED)
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._settings.tls:
            client.tls_set_context(ssl.create_default_context(cafile=self._settings.certificate_authority or None))
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        return client

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refusal = f"the broker refuses: {reason}"

    def _on_publish(self, client: Client, data: Any, message: int, reason: Any, properties: Any) -> None:
        self._unanswered.discard(message)

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def reason(self, error: Exception) -> str:
        if isinstance(error, ConnectionRefusedError) and self._refusal:
            return "refused by the broker"
        return "broker away" if isinstance(error, OSError) else "failed"

    def _close(self) -> None:
        for _ in range(len(self._unanswered)):
            self.count("not acknowledged when stopped")
        if self._client is not None:
            self._client.disconnect()
