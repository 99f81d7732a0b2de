"""Prometheus metrics: what a real scrape of a real collector sees."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tasks.collector import alerts, run_collector
from tasks.collector.config import CollectorState
from tasks.collector.metrics import start_metrics
from tasks.collector.tally import Tally
from tasks.core.settings import DeviceSettings
from tests.tasks.collecting import ROOT, a_device, sampling
from tests.tasks.sources import Paced


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a scrape by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def of(metric: str, /, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return (f"edgeloop_{metric}", tuple(sorted(labels.items())))


def a_tally(tmp_path, project: str = "yard", before: CollectorState | None = None) -> Tally:
    settings = DeviceSettings(name="edge-1", project=project, bucket=f"file://{tmp_path}/b", outbox=str(tmp_path))
    return Tally(settings, before)


def on(tmp_path, port: int = 0) -> DeviceSettings:
    return DeviceSettings(name="edge-1", project="yard", bucket=f"file://{tmp_path}/b", metrics={"port": port})


def test_a_scrape_has_the_figures_of_every_project(tmp_path):
    """Counters, gauges, cameras and alerts of two projects stand side by side; an alert that is not up is 0."""
    yard, dock = a_tally(tmp_path), a_tally(tmp_path, "dock")
    for n in range(7):
        yard.took_frame()
        yard.decided("kept" if n < 2 else "not matched", "random" if n < 2 else None)
    yard.camera("gate", "running")
    yard.camera("north", "no frame for 12 s: timed out")
    yard.alert(alerts.BUCKET_UNREACHABLE, "no answer")
    yard.committed_segment(1, 2)
    yard.status(release_number=4, outbox_samples=3, outbox_bytes=512, outbox_oldest_seconds=9.5, provider="cpu")
    dock.status()
    with closing(start_metrics(on(tmp_path), lambda: [yard, dock])) as server:
        seen = scrape(server.port)
    assert seen[of("frames_total", project="yard")] == 7
    assert seen[of("frames_total", project="dock")] == 0
    assert seen[of("kept_total", project="yard", strategy="random")] == 2
    assert seen[of("dropped_total", project="yard", reason="not matched")] == 5
    assert seen[of("uploaded_total", project="yard")] == 2
    assert seen[of("segments_total", project="yard")] == 1
    assert seen[of("outbox_samples", project="yard")] == 3
    assert seen[of("outbox_bytes", project="yard")] == 512
    assert seen[of("outbox_oldest_seconds", project="yard")] == 9.5
    assert seen[of("release_number", project="yard")] == 4
    assert seen[of("camera_up", project="yard", camera="gate")] == 1
    assert seen[of("camera_up", project="yard", camera="north")] == 0
    assert seen[of("alert", project="yard", name="bucket unreachable")] == 1
    assert seen[of("alert", project="yard", name="clock suspect")] == 0
    assert seen[of("memory_bytes")] > 20e6
    assert seen[of("status_age_seconds", project="yard")] < 5
    infos = [dict(labels) for (name, labels) in seen if name == "edgeloop_info"]
    assert [(i["device"], i["project"], i["provider"]) for i in infos] == [
        ("edge-1", "yard", "cpu"),
        ("edge-1", "dock", ""),
    ]


def test_counters_begin_at_zero_with_the_process(tmp_path):
    """A run that was cut off is gone on with in the status; for Prometheus the process is a new one."""
    before = CollectorState(
        started_at="2026-05-01T12:00:00Z",
        frames=100,
        kept=9,
        kept_by_strategy={"random": 9},
        drops={"not matched": 91},
        uploaded=5,
        committed=2,
    )
    resumed = a_tally(tmp_path, before=before)
    resumed.took_frame()
    resumed.decided("kept", "random")
    resumed.committed_segment(3, 4)
    status = resumed.status()
    with closing(start_metrics(on(tmp_path), lambda: [resumed])) as server:
        seen = scrape(server.port)
    assert (status.frames, status.kept, status.uploaded) == (101, 10, 9)
    assert seen[of("frames_total", project="yard")] == 1
    assert seen[of("kept_total", project="yard", strategy="random")] == 1
    assert seen[of("dropped_total", project="yard", reason="not matched")] == 0
    assert seen[of("uploaded_total", project="yard")] == 4
    assert seen[of("segments_total", project="yard")] == 1


def test_latencies_are_measured_while_metrics_are_on(tmp_path):
    """Each timed stage is one observation; a project that is begun anew is measured from the next scrape on."""
    now = [a_tally(tmp_path)]
    server = start_metrics(on(tmp_path), lambda: now)
    for _ in range(3):
        with now[0].timed("detection"):
            pass
    now[0] = a_tally(tmp_path)
    scrape(server.port)
    with now[0].timed("decision"):
        pass
    seen = scrape(server.port)
    server.close()
    assert seen[of("stage_seconds_count", project="yard", stage="detection")] == 3
    assert seen[of("stage_seconds_count", project="yard", stage="decision")] == 1
    assert seen[of("stage_seconds_bucket", project="yard", stage="detection", le="+Inf")] == 3
    assert now[0].on_latency is None
    with pytest.raises(urllib.error.URLError):
        scrape(server.port)


def test_a_port_that_is_taken_stops_nothing(tmp_path):
    """It is an alert in the status of every project, and the collector goes on."""
    counted = a_tally(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with closing(start_metrics(on(tmp_path, port), lambda: [counted])) as server:
            assert server.port is None
    (alert,) = counted.status().alerts
    assert alert.name == "metrics not served"
    assert f"127.0.0.1:{port}: Address already in use" in alert.message


def test_metrics_that_are_off_load_nothing(tmp_path):
    """Without `metrics` the library is not even imported, and no port is opened."""
    code = (
        "import sys; from tasks.collector.metrics import start_metrics; "
        "from tasks.core.settings import DeviceSettings; "
        "server = start_metrics(DeviceSettings(name='d', project='p', bucket='file:///b'), lambda: []); "
        "server.close(); "
        "print(server.port, 'prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None False"


@pytest.mark.slow
def test_a_collector_that_runs_can_be_scraped(tmp_path, frames):
    """While it decides frames counters grow and latencies are there; the server ends with it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    device = a_device(tmp_path, frames, metrics={"port": port})
    stop, seen = threading.Event(), []

    def look(status):
        if 5 < status.frames < 40 and not status.finished:
            seen.append(scrape(port))
        if len(seen) == 2:
            stop.set()

    run_collector(
        device,
        sampling=sampling(1.0),
        follow_releases=False,
        on_progress=look,
        stop=stop,
        open_source=Paced(0.12),
    )
    first, second = seen
    assert first[of("frames_total", project="yard")] < second[of("frames_total", project="yard")]
    for stage in ("detection", "decision"):
        assert second[of("stage_seconds_count", project="yard", stage=stage)] > 5
    assert second[of("camera_up", project="yard", camera="gate")] == 1
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_every_metric_is_explained(tmp_path):
    """WATCHING.md names each metric that a scrape shows."""
    page = (ROOT / "tasks" / "collector" / "WATCHING.md").read_text()
    counted = a_tally(tmp_path)
    counted.camera("gate", "running")
    counted.status()
    with closing(start_metrics(on(tmp_path), lambda: [counted])) as server:
        names = {name for name, _ in scrape(server.port)}
    parts = {
        name.removesuffix(end)
        for name in names
        for end in ("_bucket", "_count", "_sum", "_created")
        if name.endswith(end)
    }
    plain = {name for name in names if not name.endswith(("_bucket", "_count", "_sum", "_created"))} | parts
    short = {name: name.removeprefix("edgeloop_outbox") for name in plain}
    assert [name for name in sorted(plain) if f"`{name}`" not in page and f"`{short[name]}`" not in page] == []
