"""Real RTSP cameras for tests: started, killed, frozen; and whoever watches what comes of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGES = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly} python3-gi"
PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parent / "rtsp_server.py"
NOTICED_S, BACK_S = 10.0, 5.0  # the promise


def need_rtsp_server() -> None:
    """Skip where the system's Python has no RTSP server."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", code], capture_output=True, check=False).returncode:
        pytest.skip(f"no RTSP server: install the Debian packages {PACKAGES}")


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def until(condition: Callable[[], object], limit: float, what: str) -> float:
    """Seconds until something is so; fails after `limit`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit:
            pytest.fail(f"{what}: not within {limit:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


def held() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


class RtspCamera:
    """A server at one port, which can go away and come back as another."""

    def __init__(self, port: int | None = None, **options: str) -> None:
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self.start(**options)

    def start(self, **options: str) -> None:
        """options: of rtsp_server.py, by their names."""
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [PYTHON, str(SERVER), str(self.port), *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == b"ready"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RtspCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Watcher:
    """Iterates a source in a thread and remembers what came, and when."""

    def __init__(self, source, *, pause: float = 0.0) -> None:
        """pause: seconds that it takes over each frame."""
        self.source = source
        self.frames = []
        self.times: list[float] = []
        self._pause = pause
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        for frame in self.source:
            self.times.append(time.monotonic())
            self.frames.append(frame)
            time.sleep(self._pause)

    def sees(self, frames: int = 1, since: float = 0.0) -> bool:
        """Did so many frames come after a moment of the monotonic clock?"""
        return sum(at > since for at in self.times[-frames:]) >= frames

    def stop(self) -> float:
        """Close the source; seconds until the thread that iterates it has ended."""
        began = time.monotonic()
        self.source.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return time.monotonic() - began

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def drop(camera: RtspCamera, watcher: Watcher, way: str, away: float) -> tuple[float, float]:
    """Take a camera away for a while after that is noticed: seconds until it is noticed, and until it is seen again."""
    lost_before = watcher.source.skipped.get("connection_lost", 0)
    (camera.kill if way == "SIGKILL" else camera.freeze)()
    noticed = until(lambda: watcher.source.skipped.get("connection_lost", 0) > lost_before, 20, f"{way} noticed")
    assert not watcher.source.state().startswith("running")
    time.sleep(away)
    (camera.start if way == "SIGKILL" else camera.thaw)()
    back = time.monotonic()
    return noticed, until(lambda: watcher.sees(since=back), 30, f"back after {way}")
