"""Prometheus metrics of a device, over HTTP on loopback. Nothing of the library is loaded when they are off.

    with closing(start_metrics(device, lambda: [project.tally for project in projects])):
        ...                                        # curl http://127.0.0.1:8671/metrics

Counters begin at 0 with each process, as Prometheus expects of them, though a run that was cut off is gone on with:
what it had counted after its last state is counted again, and a counter that went back a little would look like one
that began anew. Everything but the latencies comes from the last status, at most a second old, so a scrape takes no
lock of the collector. WATCHING.md lists every metric.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tasks.collector import alerts
from tasks.collector.logs import about, logger
from tasks.collector.tally import OnLatency, Tally
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings
from tasks.core.settings.device import MetricsSettings

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, Metric

_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Tallies = Callable[[], Sequence[Tally]]


class Closable(Protocol):
    """What `start_metrics` gives back; closing it ends the server, if there is one."""

    port: int | None

    def close(self) -> None: ...


class _Off:
    """No server."""

    port: int | None = None

    def close(self) -> None:
        """Nothing to end."""


def start_metrics(device: DeviceSettings, tallies: Tallies) -> Closable:
    """Serve the metrics of a device's projects, when `device.metrics` asks for it.

    tallies: those of the projects as they are now; one that is begun anew has another. port 0 takes a free one:
    `.port` of what comes back. A port that cannot be had stops nothing: it is an alert.
    """
    if device.metrics is None:
        return _Off()
    try:
        return _Server(device.metrics, tallies)
    except OSError as error:
        where = f"{device.metrics.host}:{device.metrics.port}"
        for tally in tallies():
            tally.alert(alerts.METRICS_NOT_SERVED, f"{where}: {error.strerror or error}: choose another metrics.port")
        return _Off()


class _Server:
    """The HTTP server, with a registry of its own."""

    def __init__(self, where: MetricsSettings, tallies: Tallies) -> None:
        from prometheus_client import CollectorRegistry, Histogram, start_http_server

        registry = CollectorRegistry(auto_describe=False)
        latency = Histogram(
            "edgeloop_stage_seconds",
            "Time that a stage of the pipeline takes for a frame",
            ("project", "stage"),
            registry=registry,
            buckets=_BUCKETS_S,
        )
        self._tallies = tallies
        self._observers: dict[str, OnLatency] = {}
        self._latency = latency
        registry.register(_Figures(self._watched))
        self._server, self._thread = start_http_server(where.port, where.host, registry)
        self.port: int | None = self._server.server_port
        self._watched()
        logger.info("metrics at http://%s:%d/metrics", where.host, self.port, extra=about(event="start"))

    def _watched(self) -> Sequence[Tally]:
        """The tallies as they are now; each tells us its latencies from now on."""
        tallies = self._tallies()
        for tally in tallies:
            tally.on_latency = self._observers.setdefault(tally.project, self._observer(tally.project))
        return tallies

    def _observer(self, project: str) -> OnLatency:
        observe = {stage: self._latency.labels(project, stage).observe for stage in ("detection", "decision")}
        return lambda stage, seconds: observe[stage](seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for tally in self._tallies():
            tally.on_latency = None


class _Figures:
    """What a scrape is answered with, from the last status of each project."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        told = [(tally, status) for tally in self._tallies() if (status := tally.latest) is not None]
        yield from self._of_the_process([status for _, status in told])
        yield from self._counters(told)
        yield from _gauges([status for _, status in told])

    def _of_the_process(self, statuses: Sequence[DeviceStatus]) -> Iterator[Metric]:
        names = ("device", "project", "group", "software", "python", "onnxruntime", "provider", "model")
        info = _gauge("edgeloop_info", "1; what runs, as labels", names)
        for s in statuses:
            v = s.versions
            of_model = (v.software, v.python, v.onnxruntime, v.provider, s.model_version)
            info.add_metric((s.device, s.project, s.group, *of_model), 1)
        yield info
        start = _gauge("edgeloop_start_time_seconds", "When the process started, Unix time", ())
        start.add_metric((), self._started)
        yield start
        memory = _gauge("edgeloop_memory_bytes", "Resident memory of the process", ())
        memory.add_metric((), max((status.memory_bytes for status in statuses), default=0))
        yield memory

    def _counters(self, told: Sequence[tuple[Tally, DeviceStatus]]) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        frames = CounterMetricFamily("edgeloop_frames", "Frames decided", labels=("project",))
        kept = CounterMetricFamily("edgeloop_kept", "Frames kept", labels=("project", "strategy"))
        drops = CounterMetricFamily("edgeloop_dropped", "Frames or samples not kept", labels=("project", "reason"))
        uploaded = CounterMetricFamily("edgeloop_uploaded", "Samples delivered", labels=("project",))
        segments = CounterMetricFamily("edgeloop_segments", "Segments committed", labels=("project",))
        for tally, status in told:
            project, before = status.project, tally.resumed
            frames.add_metric((project,), status.frames - (before.frames if before else 0))
            uploaded.add_metric((project,), status.uploaded - (before.uploaded if before else 0))
            segments.add_metric((project,), status.segments - (before.committed if before else 0))
            for strategy, count in status.kept_by_strategy.items():
                already = before.kept_by_strategy.get(strategy, 0) if before else 0
                kept.add_metric((project, strategy), count - already)
            for reason, count in status.drops.items():
                already = before.drops.get(reason, 0) if before else 0
                drops.add_metric((project, reason), max(0, count - already))
        yield from (frames, kept, drops, uploaded, segments)


def _gauges(statuses: Sequence[DeviceStatus]) -> Iterator[Metric]:
    figures: Mapping[str, tuple[str, Callable[[DeviceStatus], float]]] = {
        "frames_per_second": ("Frames decided a second, last minute", lambda s: s.rates.frames_per_second),
        "frames_lost": ("Frames that were read but not decided", lambda s: s.frames_lost),
        "outbox_samples": ("Samples that wait for the bucket", lambda s: s.outbox_samples),
        "outbox_bytes": ("Bytes of the outbox", lambda s: s.outbox_bytes),
        "outbox_cap_bytes": ("Cap of the outbox", lambda s: s.outbox_cap_bytes),
        "outbox_oldest_seconds": ("Age of what waits longest", lambda s: s.outbox_oldest_seconds),
        "release_number": ("Release in force; 0: none", lambda s: s.release_number),
        "release_refused": ("1 when a release was refused", lambda s: bool(s.refused_release)),
        "on_probation": ("1 while a release is on probation", lambda s: bool(s.probation)),
        "status_age_seconds": ("Age of these figures", lambda s: max(0.0, time.time() - s.reported_at.timestamp())),
    }
    for name, (text, figure) in figures.items():
        gauge = _gauge(f"edgeloop_{name}", text, ("project",))
        for status in statuses:
            gauge.add_metric((status.project,), float(figure(status)))
        yield gauge
    yield from _states(statuses)


def _states(statuses: Sequence[DeviceStatus]) -> Iterator[Metric]:
    camera_up = _gauge("edgeloop_camera_up", "1 while a camera gives frames, or has ended", ("project", "camera"))
    alert = _gauge("edgeloop_alert", "1 while an alert is up", ("project", "name"))
    for status in statuses:
        for camera in status.cameras:
            camera_up.add_metric((status.project, camera), float(status.is_up(camera)))
        up = {a.name for a in status.alerts}
        for name in sorted(up.union(alerts.KNOWN)):
            alert.add_metric((status.project, name), float(name in up))
    yield from (camera_up, alert)


def _gauge(name: str, text: str, labels: Sequence[str]) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, labels=labels)
