"""What the collector logs: events without secrets, and never enough to fill a disk."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.collector.logs import HIDDEN, LOGGER, Redactor, Sparing, about, logger, start_logging
from tasks.core.settings import DeviceSettings

CANARY = "canary-5e1f"
DEVICE = DeviceSettings(name="edge-1", project="yard", bucket="file:///bucket")


@pytest.fixture
def restored():
    """Logging is the process's own: it is put back as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logger.level, sys.excepthook, threading.excepthook)
    yield
    root.handlers[:], level, ours, sys.excepthook, threading.excepthook = before
    root.setLevel(level)
    logger.setLevel(ours)
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    "text",
    [
        f"rtsp://viewer:{CANARY}@192.0.2.10:554/stream cannot be opened",
        f"rtsp://viewer:p@ss{CANARY}@192.0.2.10/stream",
        f"rtsp://{CANARY}@192.0.2.10/stream",
        f"GET https://store.example/a.jpg?X-Amz-Signature={CANARY}&X-Amz-Date=1 failed",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/2026, Signature={CANARY}",
        f"{{'authorization': 'Basic {CANARY}'}}",
        f"sent Bearer {CANARY}0123 and was refused",
        f'"password": "{CANARY}"',
        f"aws_secret_access_key={CANARY} aws_session_token: {CANARY}",
        f"x-api-key: {CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text):
    """User and password, queries, headers and assignments go, whether or not anybody knew the value."""
    hidden = Redactor()(text)
    assert CANARY not in hidden
    assert HIDDEN in hidden


def test_aws_key_ids_are_taken_out_and_what_is_none_stays():
    """Key ids go; digests, sample ids and addresses without a user stay readable."""
    redact = Redactor()
    assert redact("key AKIAIOSFODNN7EXAMPLE of ASIAIOSFODNN7EXAMPLE") == f"key {HIDDEN} of {HIDDEN}"
    for text in (
        "s3://fleet/yard/devices/edge-1/status.json: cannot be written: no answer within 8 s",
        "rtsp://192.0.2.10/stream: no frame for 12 s",
        f"model {'0f' * 8} with sha256 {'ab' * 32}",
        "camera gate: who@where wrote this",
    ):
        assert redact(text) == text


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "OUR_SECRET", "EDGELOOP_MQTT_PASSWORD", "SOME_TOKEN"])
def test_values_of_variables_named_like_secrets_are_taken_out_wherever_they_stand(monkeypatch, name):
    """Also where nothing around them gives them away, and percent-encoded; a value of one letter blackens nothing."""
    monkeypatch.setenv(name, f"{CANARY}/+ x")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    hidden = Redactor()(f"a broker said {CANARY}/+ x and {CANARY}%2F%2B%20x, again")
    assert hidden == f"a broker said {HIDDEN} and {HIDDEN}, again"


def test_the_secrets_that_a_device_names_are_taken_out(monkeypatch):
    """The key of the server, user and password of MQTT and what cameras' addresses name, under any name."""
    names = {"INFER": "of infer", "USER": "of mqtt user", "PASS": "of mqtt pass", "GATE_PW": "of the gate"}
    for name, value in names.items():
        monkeypatch.setenv(name, f"{CANARY} {value}")
    device = DeviceSettings(
        name="edge-1",
        project="yard",
        bucket="file:///bucket",
        cameras=[
            {"name": "gate", "source": "rtsp://viewer:${GATE_PW}@192.0.2.10/stream"},
            {"name": "dock", "source": f"rtsp://viewer:{CANARY}-plain@192.0.2.11/stream"},
        ],
        server={"key_environment": "INFER"},
        consumers=[{"type": "mqtt", "host": "broker", "user_environment": "USER", "password_environment": "PASS"}],
    )
    said = Redactor(device)(f"{[f'{CANARY} {value}' for value in names.values()]} and {CANARY}-plain")
    assert CANARY not in said


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=5, max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_no_known_secret_survives_any_surroundings(value, left, right):
    """Whatever the secret is made of and whatever stands around it, the line does not hold it."""
    value = value.replace("\0", "x").encode("utf-8", "replace").decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THE_SECRET", value)
        hidden = Redactor()(f"{left}{value}{right}")
    assert value not in hidden.replace(HIDDEN, "") or value in f"{left}{right}" or value in HIDDEN


def written(device: DeviceSettings, *calls) -> list[str]:
    stream = io.StringIO()
    start_logging(device, stream)
    for call in calls:
        call()
    return stream.getvalue().splitlines()


def test_events_are_lines_of_json_with_their_fields(restored, monkeypatch):
    """`at`, level, logger, message and what `about` says; a secret with a quotation mark does not survive the JSON."""
    secret = f'{CANARY}"\\ö'
    monkeypatch.setenv("THE_SECRET", secret)
    device = DEVICE.model_copy(update={"log_format": "json"})

    def fails():
        try:
            raise ValueError(f"with {secret}")
        except ValueError:
            logger.exception("it %s", "failed")

    lines = written(
        device,
        lambda: logger.info("camera gate: running", extra=about(event="camera", camera="gate", number=3, word=secret)),
        fails,
        lambda: logger.debug("not told"),
        lambda: logging.getLogger("some.library").warning("of a library"),
        lambda: logging.getLogger("some.library").info("not told either"),
    )
    camera, failed, library = map(json.loads, lines)
    assert camera["at"].endswith("Z")
    assert {**camera, "at": 0} == {
        "at": 0,
        "level": "info",
        "logger": LOGGER,
        "message": "camera gate: running",
        "event": "camera",
        "camera": "gate",
        "number": 3,
        "word": HIDDEN,
    }
    assert failed["message"] == "it failed"
    assert f"ValueError: with {HIDDEN}" in failed["error"]
    assert library["level"] == "warning"
    assert CANARY not in "".join(lines)


def test_events_are_readable_as_text(restored):
    """Time, level and message in one line."""
    (line,) = written(DEVICE, lambda: logger.info("camera gate: running"))
    assert line[10] == "T"
    assert line.endswith("Z info camera gate: running")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_a_thread_is_logged_without_secrets(restored, monkeypatch):
    """The traceback of a thread that died goes through the same handler."""
    monkeypatch.setenv("THE_SECRET", CANARY)

    def dies():
        thread = threading.Thread(target=lambda: 1 / 0 if len(CANARY) else 0, name=f"capture {CANARY}")
        thread.start()
        thread.join()

    lines = written(DEVICE, dies)
    assert f"capture {HIDDEN} ended by ZeroDivisionError" in lines[0]
    assert "ZeroDivisionError: division by zero" in lines[-1]


def a_record(message: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(LOGGER, level, "", 0, message, None, None)


def test_a_camera_that_is_dead_for_a_year_does_not_fill_a_disk():
    """A line at once, then after 1, 2, 4 ... and at last every 60 minutes, each with how many were held back."""
    now = [0.0]
    sparing = Sparing(lambda: now[0])
    told = []
    for second in range(0, 24 * 3600, 5):
        now[0] = float(second)
        record = a_record(f"camera gate: no frame for {second} s")
        if sparing.filter(record):
            told.append((second, record.getMessage()))
    assert [second // 60 for second, _ in told[:7]] == [0, 1, 3, 7, 15, 31, 63]
    assert len(told) < 35
    assert told[0][1] == "camera gate: no frame for 0 s"
    assert told[1][1] == "camera gate: no frame for 60 s (and 11 times since the last line)"
    gaps = [b - a for (a, _), (b, _) in pairwise(told)]
    assert max(gaps) == 3600


def test_a_storm_of_different_faults_is_held_to_one_line_a_minute():
    """After 100 warnings in a row there is room for one a minute; events are never held back, memory is bounded."""
    now = [0.0]
    sparing = Sparing(lambda: now[0])
    names = [f"fault {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(6000)]
    at_once = sum(sparing.filter(a_record(name)) for name in names[:3000])
    assert at_once == 100
    now[0] = 600.0
    assert sum(sparing.filter(a_record(name)) for name in names[3000:]) == 10
    assert all(sparing.filter(a_record("release 2 in force", logging.INFO)) for _ in range(500))
    assert len(sparing._faults) <= 201
