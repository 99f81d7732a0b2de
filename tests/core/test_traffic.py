"""The traffic log keeps to its bytes whatever the traffic is, and weighted by its rates it is a uniform sample."""

import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from tasks.core.entities import Detections, TrafficRecord
from tasks.core.sampling import Observation, Sampler
from tasks.core.settings import SamplingSettings, validated
from tasks.core.suggestion.rules import candidates_of_traffic
from tasks.core.traffic import CONFIDENCE_DIGITS, TrafficLog

MIDNIGHT = datetime(2026, 1, 5, tzinfo=timezone.utc)
NAMES = ("car", "person", "truck")
RANDOM = {"name": "rnd", "type": "random", "traffic_percentage": 0.1}


def settings_of(megabytes=1.0, rate=0.1, **others):
    data = {"sampling_strategies": [RANDOM], "traffic_log_megabytes": megabytes, "traffic_log_rate": rate, **others}
    return validated(SamplingSettings, data, "S.json")


def seen(confidences, class_id=None):
    confidence = np.sort(np.array(confidences, np.float32))[::-1]
    n = len(confidence)
    classes = np.zeros(n, np.int64) if class_id is None else np.array(class_id, np.int64)
    return Detections(np.zeros((n, 4), np.float32), confidence, classes, NAMES)


class Logged:
    """A log that draws by numpy, its records and its bytes by day."""

    def __init__(self, seed=0, state=None, **settings):
        self.log, self.rng = TrafficLog(settings_of(**settings), state), np.random.default_rng(seed)
        self.records = []

    def see(self, seconds, detections, camera="gate"):
        moment = MIDNIGHT + timedelta(seconds=round(seconds, 3))
        record = self.log.record_of(camera, moment, detections, self.rng.random(), "0123456789abcdef")
        if record is not None:
            self.records.append(record)
        return record

    def bytes_of_day(self, day=0, camera="gate"):
        wanted = (MIDNIGHT + timedelta(days=day)).date()
        lines = [
            r.model_dump_json() + "\n" for r in self.records if (r.captured_at.date(), r.camera) == (wanted, camera)
        ]
        return sum(map(len, lines))


# name: seconds between frames and detections a frame, by the second of the day; a tenth of a megabyte a day
TRAFFIC = {
    "a frame each ten seconds": lambda t: (10.0, 5),
    "busy by day": lambda t: (1.0, 30) if 6 <= t / 3600 < 18 else (20.0, 1),
    "three hundred detections": lambda t: (4.0, 300),
    "a burst at noon": lambda t: (0.05, 100) if 43200 <= t < 43800 else (20.0, 3),
    "only the evening": lambda t: (2.0, 20) if t > 72000 else (600.0, 0),
}


@pytest.mark.parametrize("traffic", TRAFFIC)
def test_a_day_fits_into_its_bytes_and_uses_them(traffic):
    """Two days of each: never a byte over the cap, and at least a quarter of it although it comes unforeseen."""
    log, lots = Logged(megabytes=0.1), {n: seen(np.linspace(0.05, 0.9, n)) for n in (0, 1, 3, 5, 20, 30, 100, 300)}
    time = 0.0
    while time < 2 * 86400:
        gap, n = TRAFFIC[traffic](time % 86400)
        log.see(time, lots[n])
        time += gap
    for day in (0, 1):
        assert 25_000 <= log.bytes_of_day(day) <= 100_000
        assert max(1 / record.rate for record in log.records) < 1e5  # no frame speaks for all the others


def test_each_camera_has_its_own_bytes():
    """A camera that is logged to its cap takes nothing from another."""
    log, many, few = Logged(megabytes=0.05), seen(np.linspace(0.05, 0.9, 100)), seen([0.3])
    for second in range(0, 86400, 10):
        log.see(second, many, "busy")
        log.see(second, few, "quiet")
    for camera in ("busy", "quiet"):
        assert 25_000 <= log.bytes_of_day(camera=camera) <= 50_000


def test_the_cap_holds_against_any_estimate():
    """Frames that come in a jam, a thousand in a millisecond, on a log that thinks them rare."""
    log = Logged(megabytes=0.02, rate=1.0)
    for second in range(0, 43200, 60):
        log.see(second, seen([]))
    for _ in range(1000):
        log.see(43200.0, seen(np.linspace(0.05, 0.9, 200)))
    assert log.bytes_of_day() <= 20_000


def test_weighted_counts_agree_with_the_truth():
    """Over 40 logs of traffic that changes by the hour, sums weighted by 1 / rate are right on average, to 3 errors."""
    errors = []
    for seed in range(40):
        world, log, truth = np.random.default_rng(1000 + seed), Logged(seed, megabytes=0.02), np.zeros(3)
        time = 0.0
        while time < 43200:
            is_busy = int(time // 3600) % 3 == 1
            confidences = world.uniform(0.05, 0.95, world.poisson(12 if is_busy else 1))
            truth += [1, len(confidences), (confidences < 0.3).sum()]
            log.see(time, seen(confidences))
            time += world.exponential(10 if is_busy else 40)
        sums = sum(np.array([1, len(r.confidences), sum(c < 0.3 for c in r.confidences)]) / r.rate for r in log.records)
        errors.append(sums / truth - 1)
    errors = np.array(errors)
    assert (np.abs(errors.mean(axis=0)) <= 3 * errors.std(axis=0, ddof=1) / len(errors) ** 0.5).all(), errors.mean(
        axis=0
    )
    assert (errors.std(axis=0) < 0.35).all()


def test_central_weighs_the_records_as_they_say():
    """A record logged at rate r stands for 1 / r frames; one of before, with six digits, is read like a new one."""
    log = Logged(megabytes=0.01)
    for second in range(0, 7200, 5):
        log.see(second, seen([0.71234567, 0.3], [2, 0]))
    old = TrafficRecord.model_validate_json(
        '{"schema_version":1,"camera":"gate","captured_at":"2026-01-05T00:00:00.000Z","rate":0.1,'
        '"model_version":"0123456789abcdef","class_names":["car"],"confidences":[0.712346]}'
    )
    records = [*log.records, old]
    candidates = candidates_of_traffic(records, NAMES, 0.05)
    assert candidates.weight.tolist() == [1 / r.rate for r in records]
    assert {r.rate for r in records} - {0.1} != set()  # the rate has adapted
    assert records[0].class_names == ("truck", "car")
    assert records[0].confidences == (round(0.71234567, CONFIDENCE_DIGITS), 0.3)


def test_a_short_recording_is_logged_at_the_full_rate():
    """A camera's first records are not thinned for a day that the recording does not have."""
    log = Logged(rate=0.5)
    for frame in range(100):
        log.see(frame / 30, seen([0.4]))
    assert {r.rate for r in log.records} == {0.5}
    assert len(log.records) == pytest.approx(50, abs=20)


@pytest.mark.parametrize("jump", [-7200, -20000 * 86400, 7200, 30 * 86400])
def test_a_clock_that_jumps_neither_empties_nor_silences_the_log(jump):
    """In every hour, before, during and after the jump, some frames are logged, and never more than the cap."""
    log, hours, lot = Logged(megabytes=0.1), np.zeros(9), seen(np.linspace(0.05, 0.9, 20))
    for second in range(0, 9 * 3600, 2):
        hours[second // 3600] += log.see(second + (jump if 3 <= second / 3600 < 6 else 0), lot) is not None
    assert hours.min() >= 2
    assert hours[1:].max() <= 40


def test_the_clock_of_each_frame_may_be_its_cameras():
    """Frames of 200 cameras leave a bounded state."""
    log = Logged()
    for camera in range(200):
        log.see(camera, seen([0.4]), f"camera-{camera}")
    assert len(log.log.state()) == 64


def test_a_restart_and_a_replay_log_the_same_frames():
    """By the sampler's seeded draws: the same frames again, and the same when it is rebuilt from JSON in between."""
    rules = settings_of(megabytes=0.02, rate=0.5)

    def logged(restart_every):
        sampler, records = Sampler(rules, "pi"), []
        for number in range(3000):
            if number % restart_every == restart_every - 1:
                sampler = Sampler(rules, "pi", json.loads(json.dumps(sampler.state())))
            moment = MIDNIGHT + timedelta(seconds=number * 5)
            x = Observation(f"f{number}", "pi", "gate", moment, seen([0.4] * (number % 7)))
            records.append(sampler.traffic_record(x, sampler.decide(x), "m"))
        return records

    straight = logged(restart_every=10**9)
    assert straight == logged(restart_every=10**9) == logged(restart_every=170)
    assert sum(record is not None for record in straight) > 10


def test_stubs_and_duplicates_are_not_logged():
    """A stub's confidences mean nothing, and a repeat is no frame of its own, also when exploration keeps it."""
    rules = settings_of(rate=1.0, duplicates={"enabled": True, "cooldown_seconds": 10})
    sampler = Sampler(rules, "pi")
    repeats = []
    for number in range(300):
        x = Observation(f"f{number}", "pi", "gate", MIDNIGHT + timedelta(seconds=number), seen([0.4]))
        decision = sampler.decide(x)
        assert (sampler.traffic_record(x, decision, "m") is None) == decision.is_repeat
        repeats.append((decision.is_repeat, decision.kept))
    assert (True, True) in repeats
    stub = Observation("s", "pi", "gate", MIDNIGHT + timedelta(days=1), seen([0.4]), is_stub=True)
    assert sampler.traffic_record(stub, sampler.decide(stub), "stub") is None


def test_a_rate_of_0_switches_the_log_off():
    """Nothing is logged and nothing is remembered."""
    log = Logged(rate=0.0)
    assert log.see(0, seen([0.4])) is None
    assert log.log.state() == {}
