"""What a project begins with: the newest release, the one that is installed, or what the device was started with."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.adapters.releases import InstalledRelease, installed_release
from tasks.collector.config import INSTALLED_FOLDER, CollectorConfig
from tasks.collector.runner import Runner, RunnerFactory
from tasks.collector.tally import Tally
from tasks.core.errors import ModelError, SettingsError

_PATIENCE_S = 3.0  # for the first answer about releases, when there is something to start with
_LOOK_UP_S = 0.2

if TYPE_CHECKING:
    from tasks.collector.orders import Orders


def installed_here(config: CollectorConfig) -> InstalledRelease | None:
    """The installed release, when it is one of this device's group."""
    if not config.follow_releases:
        return None
    installed = installed_release(Path(config.device.outbox) / INSTALLED_FOLDER)
    return installed if installed is not None and installed.release.group == config.device.group else None


def first_runner(
    config: CollectorConfig, orders: Orders | None, factory: RunnerFactory, tally: Tally, stop: threading.Event
) -> Runner:
    """What to begin with: the installed release, what we were given, or, having asked, nothing but the default.

    Raises ModelError or SettingsError for what was given.
    """
    given = config.model is not None or config.sampling is not None
    installed = _installed_runner(config, factory, tally)
    if orders is not None:
        # A recording would be over before the first answer, so it is waited for, but not for long.
        _wait_for(orders, _PATIENCE_S if installed or given else None, stop)
        newer = orders.take()
        if newer is not None:
            return newer
    return installed or factory.of_files(config.model, config.sampling)


def _installed_runner(config: CollectorConfig, factory: RunnerFactory, tally: Tally) -> Runner | None:
    installed = installed_here(config)
    if installed is None:
        return None
    try:
        return factory.of_release(installed)
    except (ModelError, SettingsError) as error:
        tally.error(f"release {installed.release.number}: {error}")
        return None


def _wait_for(orders: Orders, timeout: float | None, stop: threading.Event) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while not orders.asked_once.wait(_LOOK_UP_S):
        if stop.is_set() or (deadline is not None and time.monotonic() > deadline):
            return
