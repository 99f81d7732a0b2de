"""The report of a `collect` run: every project of the device, and nothing that stops when Prefect is away."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flows.collect import stop_drained
from tasks import collect as stage
from tasks.collect import Progress, report_rows, sentence_of, statuses_of
from tasks.collector import CollectorConfig, collector_pid, read_status, start_detached, stop_collector
from tasks.collector.spooler import write_status
from tasks.core.entities import Alert, DeviceStatus, Rates
from tests.tasks.collecting import a_device, a_folder, sampling

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


def a_status(project: str = "yard", **fields) -> DeviceStatus:
    return DeviceStatus(
        **{"device": "edge-1", "group": "all", "project": project, "reported_at": NOON, "started_at": NOON, **fields}
    )


def test_every_project_has_a_column_and_the_window_its_own_lines():
    """Counters of the run, what this window brought, cameras, alerts; what a project does not know stays empty."""
    before = [a_status(frames=100, kept=4)]
    after = [
        a_status(
            frames=160,
            kept=7,
            kept_by_strategy={"random": 7},
            drops={"no strategy matched": 153},
            release_number=3,
            outbox_samples=2,
            outbox_bytes=1_500_000,
            outbox_cap_bytes=1_024_000_000,
            outbox_oldest_seconds=42.0,
            cameras={"gate": "running"},
            alerts=(Alert(name="bucket unreachable", since=NOON, message="no answer"),),
            refused_release="4: outputs differ",
            last_error="no answer",
            swaps=("frame 8: release 3",),
        ),
        a_status("dock", frames=30, cameras={"gate": "running"}),
    ]
    rows = {row["figure"]: (row["yard"], row["dock"]) for row in report_rows(before, after, "attached")}
    assert rows["collector"] == ("attached", "attached")
    assert rows["release"] == ("3", "none yet")
    assert rows["frames decided"] == (160, 30)
    assert rows["frames decided in this window"] == (60, 30)
    assert rows["kept in this window"] == (3, 0)
    assert rows["kept by random"] == (7, "")
    assert rows["dropped: no strategy matched"] == (153, "")
    assert rows["waiting in the outbox"][0] == "2, 1.5 of 1,024 MB, the oldest for 42 s"
    assert rows["camera gate"] == ("running", "running")
    assert rows["alert: bucket unreachable"] == ("since 2026-05-01 12:00:00: no answer", "")
    assert rows["release refused"] == ("4: outputs differ", "")
    assert rows["last error"] == ("no answer", "")
    assert next(iter(rows)) == "collector"


def test_a_run_that_began_within_the_window_counts_from_zero():
    """A collector that was restarted has other counters: the difference would be negative."""
    after = [a_status(frames=10, kept=1, started_at=NOON + timedelta(minutes=5))]
    rows = {row["figure"]: row["yard"] for row in report_rows([a_status(frames=500, kept=20)], after, "restarted")}
    assert (rows["frames decided in this window"], rows["kept in this window"]) == (10, 1)


def test_the_words_of_all_projects_are_found_where_they_lie(tmp_path):
    """The device's own first; one that has not said a word yet is left out."""
    pipelines = [{"project": name, "bucket": "file:///bucket"} for name in ("dock", "lane")]
    device = a_device(tmp_path, "0", pipelines=pipelines)
    for settings in device.of_each_project()[:2]:
        folder = tmp_path / settings.outbox
        folder.mkdir(parents=True)
        write_status(folder, a_status(settings.project))
    assert [status.project for status in statuses_of(device)] == ["yard", "dock"]


def test_progress_that_cannot_be_told_costs_one_try_in_ten_minutes(tmp_path, monkeypatch):
    """An API that is away raises after a while: the window goes on, and the next try is far off."""
    device, tries, now = a_device(tmp_path, "0"), [], [0.0]

    def away(*arguments, **fields):
        tries.append(now[0])
        raise RuntimeError("no API")

    monkeypatch.setattr(stage, "create_progress_artifact", away)
    monkeypatch.setattr(stage.time, "monotonic", lambda: now[0])
    progress = Progress("collect-edge-1-window")
    for second in range(3600):
        now[0] = float(second)
        progress.tell(second / 3600, device)
    assert tries == [60.0, 660.0, 1260.0, 1860.0, 2460.0, 3060.0]


def test_progress_is_one_artifact_that_is_updated(tmp_path, monkeypatch):
    """Created once, updated each minute with what each project has done, and a last time at the end."""
    told, now = [], [0.0]
    device = a_device(tmp_path, "0")
    (tmp_path / "outbox").mkdir()
    write_status(tmp_path / "outbox", a_status(frames=8120, kept=31, rates=Rates(frames_per_second=14.2)))
    monkeypatch.setattr(stage, "create_progress_artifact", lambda share, **f: told.append(("create", share)) or "id")
    monkeypatch.setattr(
        stage, "update_progress_artifact", lambda key, share, description: told.append((key, share, description))
    )
    monkeypatch.setattr(stage.time, "monotonic", lambda: now[0])
    progress = Progress("collect-edge-1-window")
    for second in range(200):
        now[0] = float(second)
        progress.tell(second / 200, device)
    progress.tell(1.0, device, is_last=True)
    text = "yard: 8,120 frames decided (14.2/s), 31 kept, 0 wait"
    assert told == [("create", 30.0), ("id", 60.0, text), ("id", 90.0, text), ("id", 100.0, text)]
    assert sentence_of(a_status()) == "yard: 0 frames decided (0.0/s), 0 kept, 0 wait"


@pytest.mark.slow
def test_cancelling_a_run_stops_the_collector_drained(tmp_path):
    """The hook takes the device from the run's parameters, as Prefect stores them; what was kept is delivered."""

    class Run:
        parameters: dict

    device = a_device(tmp_path, a_folder(tmp_path / "frames", 40))
    start_detached(CollectorConfig(device=device, sampling=sampling(1.0), follow_releases=False, follow=True))
    run = Run()
    run.parameters = {"device": device.model_dump(mode="json"), "window_seconds": 60}
    try:
        stop_drained(None, run, None)
        assert collector_pid(device.outbox) is None
    finally:
        stop_collector(device.outbox)
    status = read_status(device.outbox)
    assert status.finished
    assert status.outbox_samples == 0
    assert status.uploaded == status.kept == status.frames
