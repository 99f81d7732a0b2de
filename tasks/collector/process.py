"""The collector as a process of its own, in its own session: it outlives whoever started it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from tasks.adapters.outbox import holder_of, starting, write_durably
from tasks.collector.config import STATUS_FILE, CollectorConfig, who_runs
from tasks.core.entities import DeviceStatus
from tasks.core.errors import SettingsError

CONFIG_FILE = "collector.json"
LOG_FILE = "collector.log"
_SAYS_WHO_IT_IS_S = 2.0  # after it has taken its folder
_START_S = 30.0  # until a started collector holds its lock; importing takes a second, on a busy machine several


def start_detached(config: CollectorConfig) -> int:
    """Start a collector that does not end with this process; its process id.

    When one already collects for this outbox with this configuration, that one's id: the caller attaches. One with
    another configuration, or of another version, is stopped, drained, and started anew. Raises SettingsError with the
    last line of its log when it does not come up, when the one that runs does not end, and for a consumer that writes
    to standard output: a process of its own has none.
    """
    if any(consumer.type == "stdout" for consumer in config.device.consumers):
        raise SettingsError(
            f"device {config.device.name}: a collector that runs apart has no standard output: make it a consumer of "
            f"type file, or run `edgeloop edge run`"
        )
    folder = Path(config.device.outbox).absolute()
    device = config.device.model_copy(update={"outbox": str(folder)})
    config = CollectorConfig.model_validate_json(config.model_copy(update={"device": device}).model_dump_json())
    with starting(folder):
        return _start(folder, config)


def _start(folder: Path, config: CollectorConfig) -> int:
    holder = holder_of(folder)
    if holder is not None:
        if _runs_with(folder, holder, config):
            return holder
        if not stop_collector(folder):
            raise SettingsError(f"{folder}: the collector with process id {holder} does not end: end it by hand")
    write_durably(folder / CONFIG_FILE, config.model_dump_json(indent=1).encode())
    before = _written_at(folder / STATUS_FILE)
    pid = _spawn(folder)
    try:
        _wait_until_it_runs(folder, pid, before)
    except SettingsError:
        other = holder_of(folder)  # a service manager may have been quicker
        if other is not None and _runs_with(folder, other, config):
            return other
        raise
    return pid


def _runs_with(folder: Path, holder: int, config: CollectorConfig) -> bool:
    """Was the collector `holder` started with this configuration? It says so right after it has taken the folder."""
    deadline = time.monotonic() + _SAYS_WHO_IT_IS_S
    while True:
        running = who_runs(folder)
        if running is not None and running.pid == holder:
            return running.config == config
        if time.monotonic() > deadline or holder_of(folder) != holder:
            return False
        time.sleep(0.05)


def collector_pid(outbox: str | Path) -> int | None:
    """Process id of the collector of this outbox; None when there is none."""
    return holder_of(Path(outbox))


def read_status(outbox: str | Path) -> DeviceStatus | None:
    """What the collector of this outbox last said of itself, about a second ago; None before its first word."""
    try:
        return DeviceStatus.model_validate_json((Path(outbox) / STATUS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def stop_collector(outbox: str | Path, timeout: float = 12.0) -> bool:
    """Ask the collector of this outbox to drain and end; True when it has gone within `timeout` seconds."""
    pid = collector_pid(outbox)
    if pid is None:
        return True
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if collector_pid(outbox) != pid:
            return True
        time.sleep(0.05)
    return False


def _spawn(folder: Path) -> int:
    """A process in a session of its own, which writes to a log and shares no file with this one."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "tasks.collector", "--config", str(folder / CONFIG_FILE)],
            {**os.environ, "PYTHONPATH": path},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)


def _wait_until_it_runs(folder: Path, pid: int, before: float) -> None:
    """Until the collector has written a status, has ended, or holds the device and takes long over its first orders."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if holder_of(folder) == pid and _written_at(folder / STATUS_FILE) > before:
            return
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if os.waitstatus_to_exitcode(status) == 0:  # so short a run that it is over already
                return
            lines = (folder / LOG_FILE).read_text(errors="replace").strip().splitlines()
            raise SettingsError(f"{folder}: the collector ended at once: {lines[-1] if lines else 'no message'}")
        time.sleep(0.05)
    if holder_of(folder) != pid:
        raise SettingsError(f"{folder}: the collector did not start within {_START_S:.0f} s: read {folder / LOG_FILE}")


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime_ns / 1e9
    except OSError:
        return 0.0
