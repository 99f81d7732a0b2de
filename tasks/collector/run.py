"""`run_collector`: the collector in the foreground, until its recordings end or it is told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

from tasks.adapters import camera
from tasks.adapters.detector import open_detector
from tasks.collector.capture import OpenSource
from tasks.collector.collector import Collector
from tasks.collector.config import CollectorConfig
from tasks.collector.runner import OpenDetector
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings, SamplingSettings


def run_collector(
    device: DeviceSettings,
    *,
    model: str | None = None,
    sampling: SamplingSettings | None = None,
    project_classes: Sequence[str] | None = None,
    model_classes: Sequence[str] | str | None = None,
    max_frames: int | None = None,
    follow_releases: bool = True,
    follow: bool = False,
    start: datetime | None = None,
    time_scale: float = 1.0,
    stop: threading.Event | None = None,
    on_progress: Callable[[DeviceStatus], None] | None = None,
    open_source: OpenSource = camera.open_source,
    open_detector: OpenDetector = open_detector,
) -> DeviceStatus:
    """Collect until the recordings end, `max_frames` are decided, `stop` is set or a signal comes; the last status.

    model, sampling: what is in force until there is a release; the stub and 0.5% at random by default. project_classes:
    by default the release's, else the model's own. model_classes: names of a model file without metadata. These four
    are for the device's own project; the others have releases. max_frames: of each project. follow: go on when the
    recordings have ended, and do not read them again after a restart. start, time_scale: capture times of recordings.
    on_progress: called with each project's status, about once a second. What comes back is the own project's.

    A run that was killed is gone on with: its counters, its place in recordings, its sampler. A run that ended in order
    leaves its place where `max_frames` or a stop cut a recording short.

    In the main thread SIGTERM and SIGINT drain it within 10 s. Raises AlreadyRunning when another process collects for
    this outbox, SettingsError and ModelError for what it was given, and SourceUnavailable when no camera can be opened;
    a bucket that is away raises nothing, ever.
    """
    config = CollectorConfig(
        device=device,
        model=model,
        sampling=sampling,
        project_classes=None if project_classes is None else tuple(project_classes),
        model_classes=model_classes
        if model_classes is None or isinstance(model_classes, str)
        else tuple(model_classes),
        max_frames=max_frames,
        follow_releases=follow_releases,
        follow=follow,
        start=start,
        time_scale=time_scale,
    )
    stop = stop or threading.Event()
    with _signals_set(stop):
        return Collector(
            config, stop=stop, on_progress=on_progress, open_source=open_source, open_detector=open_detector
        ).run()


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, where signals can be had: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
