"""What the collector's process logs: events as text or JSON lines, without secrets, never enough to fill a disk.

    start_logging(device)                                   # once, in the collector's own process
    logger.info("camera gate: running", extra=about(event="camera", camera="gate"))

Everything that a handler writes goes through `Redactor`, and what repeats goes through `Sparing`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote, unquote, urlsplit

from tasks.adapters.secrets import known_secrets, names_in, secret
from tasks.core.entities import format_utc
from tasks.core.settings import DeviceSettings

LOGGER = "edgeloop.collector"
HIDDEN = "***"

logger = logging.getLogger(LOGGER)
logger.addHandler(logging.NullHandler())  # whoever wants to hear it configures logging

_SHORTEST_SECRET = 5  # characters; `on` and `1` in a variable named like a secret must not blacken every line
_FIRST_SILENCE_S, _LONGEST_SILENCE_S = 60.0, 3600.0  # between two lines of the same fault
_FAULTS_KNOWN = 200
_BURST, _REFILL_S = 100, 60.0  # lines of warnings in a row, and how long until there is room for another
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), by)
    for pattern, by in (
        (r"""([a-z][a-z0-9+.\-]*://)[^/\s?#"'<>]*@""", rf"\1{HIDDEN}@"),
        (r"""(://[^\s?"'<>]*\?)[^\s"'<>)]+""", rf"\1{HIDDEN}"),
        (r"""((?:proxy-)?authorization["']?\s*[:=]\s*)[^\r\n]+""", rf"\1{HIDDEN}"),
        (r"""\b((?:bearer|basic)\s+)[a-z0-9+/=._~\-]{8,}""", rf"\1{HIDDEN}"),
        (r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b", HIDDEN),
        (
            r"""((?:password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]id)?)["']?\s*[:=]\s*["']?)[^\s"',;&]+""",
            rf"\1{HIDDEN}",
        ),
    )
)


class Redactor:
    """Takes secrets out of a text: what looks like one, and the values of those that this process knows.

    Hidden are the user and password of an address, its query, `Authorization` headers, AWS keys, `password=...` and
    the like; and, wherever they stand, the secrets of the environment and of systemd (`known_secrets`), those that
    `device` names, and the passwords in its cameras' addresses. Values of under 5 characters are not looked for.
    """

    def __init__(self, device: DeviceSettings | None = None) -> None:
        values = known_secrets() | (set(_secrets_of(device)) if device else set())
        forms = {form for value in values for form in (value, quote(value, safe=""), unquote(value))}
        wanted = sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, wanted))) if wanted else None

    def __call__(self, text: str) -> str:
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        for pattern, by in _RULES:
            text = pattern.sub(by, text)
        return text


def _secrets_of(device: DeviceSettings) -> Iterable[str]:
    names = {device.server.key_environment} if device.server else set()
    for consumer in device.consumers:
        if consumer.type == "mqtt":
            names |= {consumer.password_environment, consumer.user_environment}
    for camera in device.cameras:
        names |= names_in(camera.source)
        if "@" in camera.source and (password := _password_of(camera.source)):
            yield password
    for name in names:
        if value := secret(name):
            yield value


def _password_of(address: str) -> str | None:
    try:
        return urlsplit(address).password
    except ValueError:
        return None


class Sparing(logging.Filter):
    """Lets a fault through once, then every minute, and in the end every hour, with how often it came in between.

    Two lines are of the same fault when they differ in digits alone. Warnings and worse of all kinds together are held
    to a burst of 100 and one a minute after that. What is less than a warning is not held back, but for cameras that
    come and go.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: OrderedDict[str, tuple[float, float, int]] = OrderedDict()  # next line at, silence, held back
        self._room = float(_BURST)
        self._refilled = clock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING and getattr(record, "about", {}).get("event") != "camera":
            return True
        message = record.getMessage()
        with self._lock:
            held_back = self._held_back(f"{record.name} {re.sub('[0-9]+', '#', message)}")
        if held_back:
            record.msg, record.args = f"{message} (and {held_back} times since the last line)", None
        return held_back is not None

    def _held_back(self, fault: str) -> int | None:
        """How many lines of this fault were held back before this one; None: so is this one."""
        now = self._clock()
        due, silence, count = self._faults.pop(fault, (now, _FIRST_SILENCE_S / 2, 0))
        if now - due > _LONGEST_SILENCE_S:  # long gone, so it is a new one
            silence = _FIRST_SILENCE_S / 2
        is_told = now >= due and self._has_room(now)
        if is_told:
            silence = min(silence * 2, _LONGEST_SILENCE_S)
            self._faults[fault] = (now + silence, silence, 0)
        else:
            self._faults[fault] = (due, silence, count + 1)
        if len(self._faults) > _FAULTS_KNOWN:
            self._faults.popitem(last=False)
        return count if is_told else None

    def _has_room(self, now: float) -> bool:
        self._room = min(float(_BURST), self._room + (now - self._refilled) / _REFILL_S)
        self._refilled = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


class TextLines(logging.Formatter):
    """`2026-05-01T12:00:00.000Z warning camera gate: no frame for 12 s`, and below it a traceback, if any."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(f"{_time_of(record)} {record.levelname.lower()} {super().format(record)}")


class JsonLines(logging.Formatter):
    """One JSON object a record: at, level, logger, message, what `about` says, and error, the traceback."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(self._hidden(line), ensure_ascii=False, default=str)

    def _hidden(self, value: Any) -> Any:
        """Before it is JSON: a quotation mark in a secret would be written in another way."""
        if isinstance(value, Mapping):
            return {str(name): self._hidden(part) for name, part in value.items()}
        if isinstance(value, (bool, int, float)) or value is None:
            return value
        return self._redact(str(value))


def about(**fields: Any) -> dict[str, Any]:
    """The `extra` of a log call: fields of its JSON line."""
    return {"about": fields}


def start_logging(device: DeviceSettings, stream: TextIO | None = None) -> None:
    """Send what this process logs to `stream` (stderr), as `device.log_format` says: our events, others' warnings.

    For the collector's own process: it takes the place of whatever handlers the root logger had, and what ends a
    thread or the process unexpectedly is logged as well.
    """
    redact = Redactor(device)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(redact) if device.log_format == "json" else TextLines(redact))
    handler.addFilter(Sparing())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logger.setLevel(logging.INFO)
    sys.excepthook = _log_end_of_process
    threading.excepthook = _log_end_of_thread


def _log_end_of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("ended by %s", kind.__name__, exc_info=(kind, error, trace), extra=about(event="crash"))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    error = ended.exc_value or ended.exc_type()
    name = ended.thread.name if ended.thread else "a thread"
    exc_info = (ended.exc_type, error, ended.exc_traceback)
    logger.critical("%s ended by %s", name, ended.exc_type.__name__, exc_info=exc_info, extra=about(event="crash"))


def _time_of(record: logging.LogRecord) -> str:
    return format_utc(datetime.fromtimestamp(record.created, timezone.utc))
