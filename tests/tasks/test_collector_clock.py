"""Clocks that jump and settings that ask for too much: a collector goes on deciding, within its limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.bucket import Bucket
from tasks.collector import project, read_status, run_collector
from tasks.collector.clock import ClockWatch
from tasks.collector.config import read_state, write_state
from tasks.core.entities import Frame
from tasks.core.settings import SamplingSettings
from tests.tasks.collecting import a_device, a_folder, samples_of, sampling
from tests.tasks.sources import Paced

NOW = datetime(2026, 5, 1, 10, tzinfo=timezone.utc)


def limited(count: int, window: str = "daily") -> SamplingSettings:
    return SamplingSettings(
        sampling_strategies=[
            {
                "type": "random",
                "name": "random",
                "traffic_percentage": 1.0,
                "limits": [{"type": window, "value": count}],
            }
        ]
    )


class Live(Paced):
    """A live camera whose frames are captured at times that the test gives them, by their index."""

    def __init__(self, moment: Callable[[int], datetime], pause: float = 0.01) -> None:
        super().__init__(pause, is_live=True)
        self._moment = moment

    def __call__(self, source, name, **given):
        opened = super().__call__(source, name, **given)
        read, moment = opened.__iter__, self._moment

        class Dated(type(opened)):
            def __iter__(dated):
                for frame in read():
                    yield Frame(frame.pixels, frame.camera, moment(frame.index), frame.index)

        opened.__class__ = Dated
        return opened


# --- the clock -------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_or_begins_in_1970_is_suspect():
    """Steady or slewed clocks are trusted; a jump marks ten minutes, a clock before 2024 is never trusted."""
    now = {"wall": 1_800_000_000.0, "mono": 50.0}
    watch = ClockWatch(lambda: now["wall"], lambda: now["mono"])

    def after(seconds, jump=0.0):
        now["wall"] += seconds + jump
        now["mono"] += seconds
        return watch.is_suspect()

    assert not after(10)
    assert not after(10, jump=0.5)
    assert after(1, jump=7200)
    assert after(590)
    assert not after(20)
    assert after(1, jump=-7200)
    now["wall"] = 86_400.0
    assert ClockWatch(lambda: now["wall"], lambda: now["mono"]).is_suspect()


@given(runs=st.lists(st.integers(1, 400_000), min_size=1, max_size=6), known=st.booleans())
def test_a_device_without_a_date_counts_on_from_the_last_one(runs, known):
    """Started again and again in 1970, each time for some seconds: the time by which limits count never goes back, and
    all of it goes by; where a date was known before, it goes on from that one."""
    mono = {"now": 0.0}
    last = NOW if known else None
    seen: list[datetime] = []
    for seconds in runs:
        began = mono["now"]
        epoch = datetime.fromtimestamp(0, timezone.utc)
        watch = ClockWatch(lambda began=began: mono["now"] - began, lambda: mono["now"], last)
        for passed in (0, seconds):
            mono["now"] = began + passed
            seen.append(watch.counting_time(epoch + timedelta(seconds=passed)))
        last = watch.now()
    assert seen == sorted(seen)
    start = NOW if known else datetime.fromtimestamp(0, timezone.utc)
    assert seen[-1] == start + timedelta(seconds=sum(runs))


def test_a_clock_that_knows_the_date_is_counted_by():
    """Whatever was last known: after 2024 the frame's own time counts, also after a jump back."""
    watch = ClockWatch(last_known=NOW + timedelta(days=3))
    assert watch.counting_time(NOW) == NOW
    assert watch.counting_time(datetime(1970, 1, 1, tzinfo=timezone.utc)) >= NOW + timedelta(days=3)


@pytest.mark.slow
def test_a_device_that_begins_in_1970_each_time_is_not_silenced_by_that_day(tmp_path, frames, monkeypatch):
    """Ten samples a day, started on four days without a date: ten on each. Counted by the wall clock the first ten
    would have been the last. The samples keep the time of the wall clock, marked as suspect."""
    began = time.monotonic()
    monkeypatch.setattr(project, "ClockWatch", lambda **given: ClockWatch(lambda: time.monotonic() - began, **given))
    device = a_device(tmp_path, frames)
    given = {"sampling": limited(10), "follow_releases": False}
    kept = []
    for day in range(4):
        folder = a_folder(tmp_path / f"day{day}", 40)
        for path in folder.iterdir():  # pictures of its own, or they would be known already
            pixels = cv2.imread(str(path))
            pixels[-8:, :] = 60 * day
            cv2.imwrite(str(path.with_suffix(".png")), pixels)
        for path in folder.glob("*.jpg"):
            path.unlink()
        source = Live(lambda index: datetime(1970, 1, 1, 0, 0, index // 10, tzinfo=timezone.utc))
        today = device.model_copy(
            update={"cameras": tuple(c.model_copy(update={"source": str(folder)}) for c in device.cameras)}
        )
        status = run_collector(today, open_source=source, **given)
        kept.append(status.kept)
        state = read_state(tmp_path / "outbox")
        assert state.clock.year == 1970
        write_state(tmp_path / "outbox", state.model_copy(update={"clock": state.clock + timedelta(days=1)}))
    assert kept == [10, 10, 10, 10]
    samples = samples_of(Bucket(device.bucket, "yard"))
    assert len(samples) == 40
    assert {s.captured_at.date().isoformat() for s in samples} == {"1970-01-01"}
    assert all(s.clock_suspect for s in samples)


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2), None], ids=["+2 h", "-2 h", "1970"])
def test_a_jump_of_the_wall_clock_stops_no_camera_and_no_window(tmp_path, frames, jump):
    """In the middle of a stream, with an hourly limit that is used up: frames go on being decided, and the new hour
    has credits of its own; when the clock comes back the hour that was used up still is."""
    device = a_device(tmp_path, frames)

    def moment(index: int) -> datetime:
        if 15 <= index < 30:
            return NOW + jump if jump else datetime(1970, 1, 1, 1, tzinfo=timezone.utc)
        return NOW

    status = run_collector(device, sampling=limited(5, "hourly"), follow_releases=False, open_source=Live(moment))
    replaced = status.drops.get("live frame replaced by a newer one", 0)
    assert status.frames + replaced == 40
    assert status.kept == 10
    assert status.frames_lost == 0


@pytest.mark.slow
def test_a_suspect_clock_is_an_alert(tmp_path, frames, monkeypatch):
    """The wall clock jumps by two hours while a live camera is collected: samples from then on are marked, the status
    alerts, and none of the waits gets longer."""
    device, real, shift = a_device(tmp_path, frames), time.time, {"by": 0.0}
    monkeypatch.setattr(time, "time", lambda: real() + shift["by"])
    monkeypatch.setattr(project, "ClockWatch", lambda **given: ClockWatch(time.time, **given))
    source = Paced(0.05, is_live=True, at={12: lambda: shift.update(by=7200.0)})
    began = time.monotonic()
    status = run_collector(device, sampling=sampling(1.0), follow_releases=False, open_source=source)
    assert time.monotonic() - began < 20
    marks = [s.clock_suspect for s in sorted(samples_of(Bucket(device.bucket, "yard")), key=lambda s: s.captured_at)]
    assert marks == sorted(marks)
    assert 5 <= marks.count(False) <= 14
    assert marks.count(True) >= 15
    assert status.frames_lost == 0


# --- settings that would keep everything ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "recording"])
def test_settings_that_would_keep_everything_stay_within_the_cap(tmp_path, frames, monkeypatch, is_live):
    """Every frame is to be kept, at the best quality, and the bucket is away: the spool stays below its cap of 1 MB at
    every look, every frame is decided, and what was not kept is counted to the last sample."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    rng = np.random.default_rng(5)
    for path in frames.iterdir():
        cv2.imwrite(str(path), rng.integers(0, 255, (240, 320, 3), np.uint8).astype(np.uint8))
    device = a_device(tmp_path, frames, "s3://gone/p", outbox_megabytes=1)
    everything = sampling(1.0, jpeg_compression_level=100)
    looks: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            files = [path for path in (tmp_path / "outbox" / "samples").glob("*") if not path.name.startswith(".")]
            looks.append(sum(path.stat().st_size for path in files if path.exists()))

    threading.Thread(target=look, daemon=True).start()
    source = Paced(0.03, is_live=is_live)
    status = run_collector(device, sampling=everything, follow_releases=False, open_source=source)
    done.set()
    replaced = status.drops.get("live frame replaced by a newer one", 0)
    not_stored = sum(
        n for reason, n in status.drops.items() if "outbox at its cap" in reason or "disk behind" in reason
    )
    assert status.frames + replaced == 40
    assert replaced <= 10  # the camera is not held up, and the detector hardly
    assert status.frames_lost == 0
    assert status.kept == status.frames == status.outbox_samples + not_stored
    assert not_stored > 20
    assert status.outbox_bytes <= 1_000_000
    assert max(looks) <= 1_000_000
    assert any(alert.name == "outbox nearly full" for alert in status.alerts)
    assert read_status(device.outbox) == status
