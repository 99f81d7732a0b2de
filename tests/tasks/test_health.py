"""The collector's word to its service manager, and what others may conclude from its status."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timezone
from itertools import count

import pytest

from tasks.adapters.service import notify
from tasks.collector.health import SILENT_SECONDS, STUCK_SECONDS, Watchdog, problem_of
from tasks.core.entities import DeviceStatus
from tasks.core.settings import CameraSettings, DeviceSettings

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """What systemd has at its end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield end


def words(manager: socket.socket) -> list[str]:
    heard = []
    for _ in count():
        try:
            heard.append(manager.recv(4096).decode())
        except BlockingIOError:
            return heard
    return heard


def a_status(frames: int, camera: str = "running", project: str = "yard") -> DeviceStatus:
    return DeviceStatus(
        device="gate-1", group="all", project=project, reported_at=NOW, started_at=NOW, frames=frames,
        cameras={"north": camera},
    )  # fmt: skip


def test_without_a_service_manager_nothing_is_said(monkeypatch):
    """Started by hand, the collector finds nobody to tell, and goes on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    assert not notify("READY=1")


def test_it_is_ready_once_and_then_alive(manager):
    """systemd hears READY at the first status, and a sign of life at each."""
    watchdog = Watchdog(())
    watchdog.saw(a_status(1))
    watchdog.saw(a_status(2))
    heard = words(manager)
    assert [word.split("\n")[0] for word in heard] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    assert "2 frames decided" in heard[-1]


def test_frames_that_come_and_are_not_decided_stop_the_signs_of_life(manager):
    """A model that hangs while its camera runs is found after two minutes; a camera that is away is nobody's fault."""
    now = [0.0]
    stuck, blind = Watchdog((), clock=lambda: now[0]), Watchdog((), clock=lambda: now[0])
    for now[0] in (0.0, STUCK_SECONDS / 2, STUCK_SECONDS + 1):
        words(manager)
        stuck.saw(a_status(7))
    assert words(manager) == []
    for now[0] in (0.0, STUCK_SECONDS / 2, STUCK_SECONDS + 1):
        words(manager)
        blind.saw(a_status(7, camera="no frame for 12 s: connection lost"))
    assert words(manager) != []


def test_one_stuck_project_of_two_is_enough(manager):
    """While another project of the device goes on, a hanging one still has the collector started anew."""
    now = [0.0]
    watchdog = Watchdog((), clock=lambda: now[0])
    for step, now[0] in enumerate((0.0, STUCK_SECONDS / 2, STUCK_SECONDS + 1)):
        watchdog.saw(a_status(step, project="yard"))
        words(manager)
        watchdog.saw(a_status(7, project="people"))
    assert words(manager) == []


def test_a_camera_that_gives_a_frame_every_ten_minutes_is_not_stuck(manager):
    """How long nothing may be decided follows the slowest camera's own rate."""
    now = [0.0]
    watchdog = Watchdog((CameraSettings(name="north", source="0", frame_rate=1 / 600),), clock=lambda: now[0])
    for now[0] in (0.0, 500.0, 900.0):
        words(manager)
        watchdog.saw(a_status(7))
    assert words(manager) != []


def test_the_health_of_a_device_is_one_line(tmp_path):
    """No collector, no word, and a word that is too old are each told with what to do."""
    from tasks.adapters.outbox import DeviceLock

    device = DeviceSettings(name="gate-1", project="yard", bucket="file:///b", outbox=str(tmp_path))
    assert "no collector runs here" in problem_of(device)
    with DeviceLock(tmp_path):
        assert "has not said a word yet" in problem_of(device)
        status = tmp_path / "status.json"
        status.write_bytes(a_status(1).to_json())
        assert problem_of(device) == ""
        long_ago = status.stat().st_mtime - SILENT_SECONDS - 5
        os.utime(status, (long_ago, long_ago))
        assert "has been silent" in problem_of(device)
