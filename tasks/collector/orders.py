"""The thread that asks the bucket for the next release, installs it, and lays it ready for the main loop."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import go_back, install, read_release
from tasks.collector.runner import Runner, RunnerFactory
from tasks.collector.tally import Tally
from tasks.core import layout
from tasks.core.errors import BucketError, ModelError, ReleaseRefused, SettingsError
from tasks.core.settings import DeviceSettings


class Orders(threading.Thread):
    """Polls for release n + 1. A refused release is reported once, not tried again, and the old one stays."""

    def __init__(
        self,
        device: DeviceSettings,
        bucket: Bucket,
        folder: Path,
        factory: RunnerFactory,
        tally: Tally,
        installed_number: int,
    ) -> None:
        super().__init__(name="orders", daemon=True)
        self._device = device
        self._bucket = bucket
        self._folder = folder
        self._factory = factory
        self._tally = tally
        self._number = installed_number
        self._next: Runner | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.asked_once = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            with self._tally.survive("orders"):
                self._ask()
            self.asked_once.set()
            self._stopping.wait(self._device.poll_seconds)

    def stop(self) -> None:
        self._stopping.set()

    def take(self) -> Runner | None:
        """The runner of a new release, once."""
        if self._next is None:  # looked at for every frame, so without the lock
            return None
        with self._lock:
            runner, self._next = self._next, None
        return runner

    def went_bad(self, runner: Runner, reason: str) -> None:
        """The main loop has gone back to the runner before `runner`: so does the next start, and it is not retried."""
        self._tally.refused(runner.release_number, reason)
        go_back(self._folder, runner.release_number)

    def _ask(self) -> None:
        known = max(self._number, self._tally.refused_number)
        try:
            number = self._bucket.latest_number(partial(layout.release, self._device.group), known)
        except BucketError as error:
            self._tally.error(str(error))
            return
        if number > known:
            self._install(number)

    def _install(self, number: int) -> None:
        try:
            release = read_release(self._bucket, self._device.group, number)
            installed = install(
                self._bucket,
                release,
                self._folder,
                project_classes=self._factory.project_classes,
                model_classes=self._factory.model_classes,
            )
            runner = self._factory.of_release(installed)
        except BucketError as error:
            self._tally.error(str(error))
        except ReleaseRefused as error:
            self._tally.refused(number, str(error))
        except (ModelError, SettingsError) as error:  # passed its smoke test and cannot be opened here
            self._tally.refused(number, str(error))
            go_back(self._folder, number)
        else:
            self._number = number
            with self._lock:
                self._next = runner
