"""The thread that asks the bucket for the next release, installs it, and lays it ready for the main loop.

A release that is refused is reported once and not tried again, and the one in force stays. What cannot be had or
believed now (no link, metadata that expired, a file that is not what was signed) is reported and asked for again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import (
    DeviceModel,
    MetadataExpired,
    TrustedReleases,
    ended,
    go_back,
    install,
    installed_release,
    passed,
    refuse,
    refused,
    started,
)
from tasks.collector import alerts
from tasks.collector.probation import ProbationWatch
from tasks.collector.runner import Runner, RunnerFactory
from tasks.collector.tally import Tally
from tasks.core.errors import BucketError, ModelError, ReleaseRefused, ReleaseUntrusted, SettingsError
from tasks.core.settings import DeviceSettings

_LOOK_UP_S = 0.5  # how often the probation is looked at
_LONGEST_PAUSE_S = 3600.0  # before a release that could not be fetched is tried again


class Orders(threading.Thread):
    """Polls for a newer release. A thread of its own, but for what says otherwise."""

    def __init__(
        self,
        device: DeviceSettings,
        bucket: Bucket,
        folder: Path,
        factory: RunnerFactory,
        tally: Tally,
        installed_number: int,
        fallback: Callable[[], Runner] | None = None,
    ) -> None:
        """fallback: what is in force when there is no release to go back to; the stub by default."""
        super().__init__(name="orders", daemon=True)
        self._device = device
        self._bucket = bucket
        self._folder = folder
        self._factory = factory
        self._tally = tally
        self._number = installed_number
        self._fallback = fallback or (lambda: factory.of_files(None, None))
        self._watch: ProbationWatch | None = None
        self._trusted: TrustedReleases | None = None
        self._next: Runner | None = None
        self._has_passed: int | None = None
        self._pauses: dict[int, float] = {}  # by release that could not be fetched, s
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.asked_once = threading.Event()
        self._begin()

    def run(self) -> None:
        next_poll = time.monotonic()
        while not self._stopping.is_set():
            with self._tally.survive("orders"):
                self._look_after_probation()
            if time.monotonic() >= next_poll:
                with self._tally.survive("orders"):
                    self._ask()
                self.asked_once.set()
                next_poll = time.monotonic() + self._device.poll_seconds
            self._stopping.wait(min(_LOOK_UP_S, max(0.0, next_poll - time.monotonic())))

    # --- for the main loop -------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The run ends in order. Nothing that a release does from here on counts against it."""
        self._stopping.set()
        with self._tally.survive("orders"):
            self._note_passed()
            ended(self._folder)

    def take(self) -> Runner | None:
        """The runner of a new release, once."""
        if self._next is None:  # looked at for every frame, so without the lock
            return None
        with self._lock:
            runner, self._next = self._next, None
        return runner

    def watch_over(self, watch: ProbationWatch) -> None:
        """Look after a model that hangs: the main loop would wait for it."""
        self._watch = watch

    def passed(self, runner: Runner) -> None:
        """A release has kept to its limits. Written by this thread: the main loop does not wait for the disk."""
        self._has_passed = runner.release_number

    def went_bad(self, runner: Runner, reason: str, before: Runner | None) -> Runner:
        """What is in force instead of a release that failed its probation: here, after a restart, and for good.

        before: what was in force before it, where that is still open.
        """
        bad = runner.release_number
        self._tally.refused(bad, reason)
        try:
            go_back(self._folder, bad, reason)
        except BucketError as error:  # the disk is full: going back must not wait for it
            self._tally.error(str(error))
        installed = installed_release(self._folder)
        if installed is None or installed.release.number == bad:
            return replace(before, on_probation=False) if before is not None else self._fallback()
        if before is not None and before.release_number == installed.release.number:
            return replace(before, on_probation=installed.on_probation)
        try:
            return self._factory.of_release(installed)
        except (ModelError, SettingsError) as error:
            self._tally.error(f"release {installed.release.number}: {error}")
            return self._fallback()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Note that a process begins, and say what the processes before it have come to."""
        try:
            started(self._folder)
        except BucketError as error:
            self._tally.error(str(error))
        number, reason = refused(self._folder)
        if number > self._tally.refused_number:
            self._tally.refused(number, reason)

    def _look_after_probation(self) -> None:
        self._note_passed()
        watch = self._watch
        if watch is None:
            return
        if (reason := watch.hang(time.monotonic())) is not None and (runner := watch.runner) is not None:
            # Gone back from on the disk first: whoever starts a process that cannot be freed anew finds the one before.
            with self._tally.survive("going back"):
                go_back(self._folder, runner.release_number, reason)
            watch.condemn(reason)
            runner.detector.interrupt()

    def _note_passed(self) -> None:
        number, self._has_passed = self._has_passed, None
        if number is not None:
            passed(self._folder, number)

    def _ask(self) -> None:
        try:
            trusted = self._trusted = self._trusted or self._opened()
        except SettingsError as error:
            self._tally.alert(alerts.RELEASES_NOT_FOLLOWED, f"releases are not followed: {error}")
            return
        known = max(self._number, self._tally.refused_number)
        try:
            number = trusted.newest(self._device.group)
        except BucketError as error:
            self._tally.bucket_failed(error)
        except MetadataExpired as error:
            self._tally.alert(alerts.METADATA_EXPIRED, str(error))
        except ReleaseUntrusted as error:
            self._tally.alert(alerts.RELEASES_NOT_TRUSTED, str(error))
        else:
            self._tally.clear(alerts.METADATA_EXPIRED)
            if number <= known:
                self._tally.clear(alerts.RELEASES_NOT_TRUSTED)
            elif number not in self._pauses or time.monotonic() >= self._not_before:
                self._install(trusted, number)

    def _opened(self) -> TrustedReleases:
        if not self._device.trusted_root:
            raise SettingsError("no trusted_root: copy root.json of the project's keys to this device and name it")
        path = Path(self._device.trusted_root)
        try:
            root = path.read_bytes()
        except OSError as error:
            raise SettingsError(f"trusted_root {path}: cannot be read: {error.strerror or error}") from None
        trusted = TrustedReleases(self._bucket, self._folder, root)
        self._tally.clear(alerts.RELEASES_NOT_FOLLOWED)
        return trusted

    def _install(self, trusted: TrustedReleases, number: int) -> None:
        on_device = DeviceModel(self._factory.project_classes, self._factory.model_classes, self._device.providers)
        try:
            installed = install(trusted, trusted.release(self._device.group, number), self._folder, on_device)
            runner = self._factory.of_release(installed)
        except BucketError as error:
            self._tally.error(f"release {number}: {error}")
            self._pause_before(number)
        except ReleaseUntrusted as error:
            self._tally.alert(alerts.RELEASES_NOT_TRUSTED, str(error))
            self._pause_before(number)
        except ReleaseRefused as error:
            self._refuse(number, str(error))
        except (ModelError, SettingsError) as error:  # passed its smoke test and cannot be opened here
            self._refuse(number, str(error))
            go_back(self._folder, number, str(error))
        else:
            self._tally.clear(alerts.RELEASES_NOT_TRUSTED)
            self._number = number
            with self._lock:
                self._next = runner

    def _refuse(self, number: int, reason: str) -> None:
        self._tally.refused(number, reason)
        refuse(self._folder, number, reason)

    def _pause_before(self, number: int) -> None:
        """A model is large and a link may be paid for by the byte: ever longer pauses between attempts."""
        pause = min(self._pauses.get(number, self._device.poll_seconds) * 2, _LONGEST_PAUSE_S)
        self._pauses = {number: pause}
        self._not_before = time.monotonic() + pause
