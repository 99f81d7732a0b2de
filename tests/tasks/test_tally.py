"""What a device says of itself: rates, faults, alerts, and figures that only ever grow."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, namedtuple
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.collector import alerts, figures, tally
from tasks.collector.figures import Faults, Monotone, RateMeter
from tasks.collector.logs import LOGGER
from tasks.collector.tally import Tally
from tasks.core.entities import DeviceStatus, read_tolerantly
from tasks.core.errors import BucketError
from tasks.core.settings import DeviceSettings, SamplingSettings
from tests.tasks.collecting import ROOT

CANARY = "canary-77aa"


@pytest.fixture
def device(tmp_path):
    return DeviceSettings(
        name="edge-1",
        project="yard",
        bucket=f"file://{tmp_path}/bucket",
        outbox=str(tmp_path),
        cameras=[{"name": "gate", "source": "clip.mp4"}],
        status_seconds=7,
    )


def names_of(status: DeviceStatus) -> list[str]:
    return [alert.name for alert in status.alerts]


def test_a_status_says_what_runs_and_how_it_is_doing(device):
    """Versions, memory, uptime, project and interval are those of this process and of the settings."""
    import onnxruntime

    status = Tally(device, None).status(provider="cpu", outbox_samples=3, outbox_bytes=2_000, outbox_oldest_seconds=5.0)
    assert (status.device, status.project, status.group, status.status_seconds) == ("edge-1", "yard", "all", 7)
    assert status.versions.onnxruntime == onnxruntime.__version__
    assert status.versions.provider == "cpu"
    assert status.versions.python.count(".") == 2
    assert status.versions.software
    assert status.versions.schema_version == status.schema_version
    assert 20e6 < status.memory_bytes < 20e9
    assert 0 <= status.uptime_seconds < 60
    assert (status.outbox_samples, status.outbox_bytes, status.outbox_oldest_seconds) == (3, 2_000, 5.0)
    assert status.outbox_cap_bytes == 1024 * 10**6
    assert status.alerts == ()


def test_a_status_survives_its_json_and_readers_one_version_apart(device):
    """As written it is read; one of the next version with more fields is read, and they are named; an older one too."""
    counted = Tally(device, None)
    counted.error("a fault")
    counted.alert(alerts.METADATA_EXPIRED, "expired yesterday")
    status = counted.status()
    assert read_tolerantly(DeviceStatus, status.to_json()) == (status, ())
    content = status.model_dump(mode="json")
    newer = {**content, "schema_version": status.schema_version + 1, "temperature": 61}
    newer["versions"] = {**content["versions"], "kernel": "6.1"}
    read, unknown = read_tolerantly(DeviceStatus, json.dumps(newer))
    assert set(unknown) == {"temperature", "versions.kernel"}
    assert (read.frames, read.alerts, read.errors) == (status.frames, status.alerts, status.errors)
    first = {"device", "group", "reported_at", "started_at", "frames", "kept", "schema_version"}
    older, unknown = read_tolerantly(DeviceStatus, json.dumps({k: v for k, v in content.items() if k in first}))
    assert unknown == ()
    assert (older.device, older.alerts, older.rates.frames_per_second) == ("edge-1", (), 0)


@given(st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 500)), min_size=1, max_size=60))
def test_rates_are_those_of_the_last_minute(steps):
    """Against the slow way: frames between now and the newest moment that is a minute old, by the time between them."""
    meter, now, frames = RateMeter(0, 0, 0, 100.0), 100.0, 0
    seen = [(now, frames)]
    for pause, more in steps:
        now, frames = now + pause, frames + more
        rates = meter.rates(frames, frames, 0, now)
        old_enough = [point for point in seen if now - point[0] >= 60] or seen[:1]
        since, then = old_enough[-1]
        assert rates.seconds == pytest.approx(now - since, abs=0.01)
        assert rates.frames_per_second == pytest.approx((frames - then) / (now - since), abs=0.01)
        assert rates.kept_per_hour == pytest.approx((frames - then) / (now - since) * 3600, abs=1)
        if now - seen[-1][0] >= 1:
            seen.append((now, frames))


@given(st.lists(st.tuples(st.booleans(), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))), max_size=30))
def test_counters_of_a_camera_that_is_opened_again_go_on(history):
    """Between two looks a part counts up, or begins anew with less: the total is the sum over all of its lives."""
    lives: list[Counter[str]] = [Counter()]
    monotone = Monotone(lambda: dict(lives[-1]))
    for begins_anew, more in history:
        if begins_anew:  # with less than before: a life that outgrows the last one between two looks looks like it
            last = lives[-1]
            lives.append(Counter({name: min(more.get(name, 0), last[name] - 1) for name in last if last[name]}))
        else:
            lives[-1].update(more)
        total = monotone.total()
        assert all(total[name] == sum(life[name] for life in lives) for name in "abc")


def test_a_part_that_begins_anew_is_added_to_what_it_had_counted():
    """3 skipped, opened again and 2 skipped: 5; what a restart counts again from below zero is no new life."""
    counts = {"corrupt": 3}
    monotone = Monotone(lambda: counts)
    assert monotone.total() == {"corrupt": 3}
    counts = {"corrupt": 2}
    assert monotone.total() == {"corrupt": 5}
    assert monotone.total() == {"corrupt": 5}
    counts = {"corrupt": 4, "lost": 1}
    assert monotone.total() == {"corrupt": 7, "lost": 1}
    counts = {"corrupt": -3}
    recording = Monotone(lambda: counts)
    assert [recording.total()["corrupt"], counts.update(corrupt=1), recording.total()["corrupt"]] == [-3, None, 1]


def test_faults_are_the_last_ten_and_a_repeated_one_is_counted():
    """The same message moves to the end with its count and its first time; the eleventh pushes the oldest out."""
    faults, noon = Faults(), datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    for n in range(12):
        faults.add(f"fault {n}", noon + timedelta(seconds=n))
    for n in range(3):
        faults.add("fault 5", noon + timedelta(minutes=1 + n))
    told = faults.all()
    assert [fault.message for fault in told] == [f"fault {n}" for n in (2, 3, 4, 6, 7, 8, 9, 10, 11, 5)]
    assert told[-1].count == 4
    assert told[-1].first_at == noon + timedelta(seconds=5)
    assert told[-1].at == noon + timedelta(minutes=3)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("s3://b/p/x: cannot be read: no answer within 8 s: check the network and the endpoint", "bucket unreachable"),
        ("s3://b/p/x: cannot be written: the connection failed (ReadTimeout)", "bucket unreachable"),
        ("s3://b/p/x: cannot be written: the server answers AccessDenied: give", "credentials refused"),
        ("s3://b/p/x: cannot be read: the server answers InvalidAccessKeyId: check", "credentials refused"),
        ("s3://b/p/x: cannot be read: the server answers ExpiredToken: check", "credentials refused"),
        ("s3://b/p/x: cannot be read: no credentials: set AWS_ACCESS_KEY_ID", "credentials refused"),
        ("s3://b/p/x: cannot be read: the server answers RequestTimeTooSkewed: this machine's", "clock suspect"),
        ("file:///b/p/x: cannot be written: Read-only file system", "bucket unreachable"),
    ],
)
def test_an_error_of_the_bucket_is_the_alert_that_says_whose_fault_it_is(device, message, name):
    """The network, the credentials or the clock; the error stands in the status too."""
    counted = Tally(device, None)
    counted.bucket_failed(BucketError(message))
    status = counted.status()
    assert names_of(status) == [name] or name == "clock suspect"
    assert message.startswith(status.last_error[:40])


def test_alerts_keep_the_time_since_when_and_end_with_their_cause(device, monkeypatch):
    """Raised again an alert keeps its beginning and takes the new message; cleared, it is gone."""
    now = [datetime(2026, 5, 1, 12, tzinfo=timezone.utc)]
    monkeypatch.setattr(tally, "utc_now", lambda: now[0])
    counted = Tally(device, None)
    counted._alerts._now = lambda: now[0]
    counted.bucket_failed(BucketError("no answer"))
    now[0] += timedelta(minutes=5)
    counted.bucket_failed(BucketError("still no answer"))
    counted.alert(alerts.METADATA_EXPIRED, "since yesterday")
    first, second = counted.status().alerts
    assert (first.name, first.message, first.since.minute) == ("bucket unreachable", "still no answer", 0)
    assert (second.name, second.since.minute) == ("metadata expired", 5)
    counted.bucket_answered()
    assert names_of(counted.status()) == ["metadata expired"]
    counted.set_alert(alerts.METADATA_EXPIRED, "")
    assert names_of(counted.status()) == []


def test_a_disk_and_an_outbox_that_fill_are_alerts(device, monkeypatch):
    """Less than 200 MB and 5% of the disk, more than 90% of the cap; both end when there is room again."""
    usage = namedtuple("usage", "total used free")
    free = [50 * 10**6]
    monkeypatch.setattr(alerts.shutil, "disk_usage", lambda folder: usage(10**10, 10**10 - free[0], free[0]))
    counted = Tally(device, None)
    assert names_of(counted.status(outbox_bytes=950 * 10**6)) == ["disk nearly full", "outbox nearly full"]
    free[0] = 10**9
    assert names_of(counted.status(outbox_bytes=10**6)) == []


def test_a_clock_that_jumps_is_an_alert(device, monkeypatch):
    """The wall clock moves by two hours between two statuses."""
    counted = Tally(device, None)
    assert names_of(counted.status()) == []
    counted._clock._wall = lambda: time.time() + 7200
    assert names_of(counted.status()) == ["clock suspect"]


def test_thresholds_that_cannot_be_right_are_an_alert(device):
    """For classes that the model does not have, or below the floor; sound ones end it."""
    settings = SamplingSettings(
        sampling_strategies=[{"type": "random", "name": "random"}],
        confidence_floor=0.1,
        thresholds={"car": 0.5, "truck": 0.05, "bus": 0.4},
    )
    counted = Tally(device, None)
    counted.judge_thresholds(settings, ("car", "truck"))
    (alert,) = counted.status().alerts
    assert alert.name == "bad thresholds"
    assert "does not have: bus" in alert.message
    assert "below the confidence floor of 0.1: truck" in alert.message
    counted.judge_thresholds(settings.model_copy(update={"thresholds": {"car": 0.5}}), ("car", "truck"))
    assert counted.status().alerts == ()


def test_what_another_part_finds_wrong_is_asked_for_with_each_status(device):
    """`check_also` raises and ends an alert as the part sees it."""
    found = {"metadata expired": "two days ago"}
    counted = Tally(device, None)
    counted.check_also(lambda: found)
    assert names_of(counted.status()) == ["metadata expired"]
    found["metadata expired"] = ""
    assert names_of(counted.status()) == []


def test_nothing_that_is_told_in_words_holds_a_secret(device, monkeypatch, caplog):
    """Errors, states of cameras, refusals, failed frames and alerts are redacted before they are kept or logged."""
    monkeypatch.setenv("GATE_PASSWORD", CANARY)
    counted = Tally(device, None)
    with caplog.at_level(logging.INFO, LOGGER):
        counted.error(f"first line {CANARY}\nsecond line")
        counted.camera("gate", f"unavailable: rtsp://viewer:{CANARY}@192.0.2.10")
        counted.refused(3, f"cannot be fetched with {CANARY}")
        counted.took_frame()
        counted.failed_frame("inference failed", f"of {CANARY}")
        counted.alert(alerts.CREDENTIALS_REFUSED, CANARY)
        counted.bucket_failed(BucketError(CANARY))
        with counted.survive("orders"):
            raise ValueError(CANARY)
        status = counted.status()
    assert CANARY not in status.model_dump_json() + caplog.text
    assert status.errors[0].message == "first line *** second line"
    assert status.cameras == {"gate": "unavailable: rtsp://***@192.0.2.10"}
    assert status.drops == {"inference failed": 1, "orders failed": 1}


def test_events_are_logged_once(device, caplog):
    """Start, a camera that goes and comes, a release, an alert and the end; a state that only counts on is no event."""
    counted = Tally(device, None)
    with caplog.at_level(logging.INFO, LOGGER):
        counted.status(release_number=2, model_version="abc")
        counted.camera("gate", "running")
        for second in range(11, 40):
            counted.camera("gate", f"no frame for {second} s: timed out")
            counted.status()
        counted.camera("gate", "running")
        counted.swapped("release 3, model def")
        counted.draining("told to stop")
        counted.status(finished=True)
        counted.status(finished=True)
    assert [record.getMessage() for record in caplog.records] == [
        "collecting: release 2, model abc, 1 cameras",
        "camera gate: running",
        "camera gate: no frame for 11 s: timed out",
        "camera gate: running",
        "in force: release 3, model def",
        "draining: told to stop",
        "ended: 0 frames decided, 0 kept, 0 uploaded, 0 wait",
    ]
    assert [record.levelname for record in caplog.records][2] == "WARNING"
    assert {record.about["device"] for record in caplog.records} == {"edge-1"}


def test_stages_are_timed_only_when_somebody_wants_to_know(device):
    """Off, nothing is made for a frame; on, the seconds of each stage are told."""
    counted = Tally(device, None)
    assert counted.timed("detection") is counted.timed("decision")
    told = []
    counted.on_latency = lambda stage, seconds: told.append((stage, seconds))
    with counted.timed("detection"):
        time.sleep(0.02)
    assert told[0][0] == "detection"
    assert 0.02 <= told[0][1] < 2


def test_memory_is_that_of_this_process():
    """Ten megabytes more are seen."""
    before = figures.resident_bytes()
    ballast = bytearray(64 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert figures.resident_bytes() - before > 40 * 2**20
    del ballast


def test_every_field_and_every_alert_is_explained():
    """WATCHING.md names each field of the status and each alert that is ever raised."""
    page = (ROOT / "tasks" / "collector" / "WATCHING.md").read_text()
    missing = [name for name in DeviceStatus.model_fields if f"`{name}`" not in page and name != "schema_version"]
    missing += [name for name in alerts.KNOWN if f"| `{name}` |" not in page]
    assert missing == []
    constants = {value for name, value in vars(alerts).items() if name.isupper() and isinstance(value, str)}
    assert constants == set(alerts.KNOWN)
