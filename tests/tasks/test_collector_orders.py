"""The collector and its releases: followed while it runs, swapped between two frames, refused with a reason."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tasks import signing
from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import Publisher, create_keys, latest_release
from tasks.collector import alerts, run_collector
from tasks.core import layout
from tasks.core.entities import STUB
from tasks.core.errors import ReleaseRefused
from tasks.core.settings import SamplingSettings
from tests.adapters.models import constant_detector, nan_detector, sha256_of
from tests.tasks.collecting import (
    CAR,
    TRUCK,
    a_device,
    a_release,
    samples_of,
    sampling,
    unpublished,
    until,
)
from tests.tasks.sources import Paced
from tests.tasks.stages import a_project


def test_a_release_is_in_force_from_the_first_frame_when_it_is_there(tmp_path, frames):
    """A device that finds release 1 at its start collects by it, and a restart without the bucket does too."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    release = a_release(bucket, constant_detector(tmp_path / "m.onnx", [CAR]), sampling(1.0))
    status = run_collector(device, max_frames=5)
    assert (status.release_number, status.settings_version) == (1, "all/1")
    assert {s.settings_version for s in samples_of(bucket)} == {"all/1"}
    assert {s.model_version for s in samples_of(bucket)} == {release.model_version}
    elsewhere = a_device(tmp_path, frames, f"file://{tmp_path}/frames/0000.png/not-a-folder")
    status = run_collector(elsewhere, max_frames=5)
    assert (status.release_number, status.model_version, status.frames) == (1, release.model_version, 5)
    assert status.outbox_samples == 5


def test_a_release_of_another_group_is_none_of_ours(tmp_path, frames):
    """Orders follow the group; without any the device begins with the stub and the default settings."""
    device = a_device(tmp_path, frames, group="dock")
    a_release(Bucket(device.bucket, "yard"), settings=sampling(1.0))
    status = run_collector(device)
    assert (status.release_number, status.model_version, status.frames) == (0, STUB, 40)


@pytest.mark.slow
def test_a_hot_swap_loses_no_frame(tmp_path, frames):
    """Release 2 is published while the recording runs: each frame is decided once, by one of the two, in order."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    first = a_release(bucket, constant_detector(tmp_path / "1.onnx", [CAR]), sampling(1.0))
    second = constant_detector(tmp_path / "2.onnx", [CAR, TRUCK])
    source = Paced(
        0.02,
        at={
            5: lambda: a_release(bucket, second, sampling(1.0, jpeg_compression_level=60)),
            30: until(device, lambda status: status.release_number == 2),
        },
    )
    status = run_collector(device, open_source=source)
    samples = sorted(samples_of(bucket), key=lambda s: s.captured_at)
    versions = [s.settings_version for s in samples]
    switch = versions.index("all/2")
    assert (status.frames, status.frames_lost, status.kept) == (40, 0, 40)
    assert len(samples) == 40
    assert 5 <= switch < 40
    assert versions == ["all/1"] * switch + ["all/2"] * (40 - switch)
    assert [len(s.detections) for s in samples] == [1] * switch + [2] * (40 - switch)
    assert {s.model_version for s in samples[:switch]} == {first.model_version}
    assert status.swaps == (f"frame {switch}: release 2, model {sha256_of(second)[:16]}",)


@pytest.mark.slow
def test_a_refused_release_is_reported_once_and_the_old_one_stays(tmp_path, frames):
    """A model that gives NaN is refused in its smoke test; the reason is in the status; release 3 is taken after it."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0))
    good = constant_detector(tmp_path / "good.onnx", [CAR])
    seen = []
    source = Paced(
        at={
            3: lambda: a_release(bucket, nan_detector(tmp_path / "nan.onnx")),
            20: until(device, lambda status: status.refused_release),
            21: lambda: a_release(bucket, good, sampling(1.0)),
            30: until(device, lambda status: status.release_number == 3),
        },
    )
    status = run_collector(device, open_source=source, on_progress=seen.append)
    assert status.refused_release.startswith("2: ")
    assert "NaN" in status.refused_release
    assert [s.split(": ")[1].split(",")[0] for s in status.swaps] == ["release 3"]
    assert any(s.release_number == 1 and s.refused_release for s in seen)
    assert (status.frames, status.frames_lost, status.release_number) == (40, 0, 3)


@pytest.mark.slow
def test_new_settings_are_in_force_between_two_frames_or_refused_with_a_reason(tmp_path, frames):
    """While it runs: settings that cannot be obeyed and another class list are refused, good ones come into force."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=sampling(1.0))
    band = {"type": "close_to_threshold", "name": "low", "threshold": 0.01, "epsilon": 0.01, "probability": 1}
    refusals = []

    def note_refusal(number):
        def noted():
            status = until(device, lambda seen: seen.refused_release.startswith(f"{number}: "))()
            refusals.append((status.release_number, status.refused_release))

        return noted

    source = Paced(
        at={
            3: lambda: a_release(bucket, settings=SamplingSettings(sampling_strategies=[band])),
            6: note_refusal(2),
            9: lambda: a_release(bucket, settings=sampling(1.0), class_names=("truck", "car")),
            12: note_refusal(3),
            15: lambda: a_release(bucket, settings=sampling(0.0)),
            18: until(device, lambda status: status.release_number == 4),
        }
    )
    status = run_collector(device, open_source=source)
    assert [number for number, _ in refusals] == [1, 1]
    assert "the detector keeps nothing below 0.05" in refusals[0][1]
    assert "for the class list truck, car, this device's is car, truck" in refusals[1][1]
    assert (status.frames, status.settings_version) == (40, "all/4")
    versions = [s.settings_version for s in samples_of(bucket)]
    assert set(versions) == {"all/1"}
    assert 15 <= len(versions) <= 18 + 2  # the model is a few frames ahead of the decision


@pytest.mark.slow
def test_going_back_is_one_command(tmp_path, frames):
    """`edgeloop release back` brings the orders of release 1 under number 3, and the running device has them."""
    device = a_device(tmp_path, frames, trusted_root=str(tmp_path / "keys" / "root.json"))
    project = a_project(tmp_path)
    keys = create_keys(Path(project.signing_keys), "yard")
    bucket = Bucket(device.bucket, "yard")
    for strategy in (sampling(1.0), sampling(0.25)):
        Publisher(bucket, keys).publish(unpublished(settings=strategy))
    source = Paced(
        at={
            3: lambda: signing.back(project, "all"),
            20: until(device, lambda status: status.release_number == 3),
        }
    )
    status = run_collector(device, open_source=source)
    assert (status.release_number, status.frames) == (3, 40)
    assert {"all/2", "all/3"} >= {s.settings_version for s in samples_of(bucket)}
    assert latest_release(bucket, "all").settings == sampling(1.0)
    with pytest.raises(ReleaseRefused, match="release 1 was the first"):
        signing.back(project, "all")
    assert signing.back(project, "all", to=2).settings == sampling(0.25)


def test_without_a_trusted_root_no_release_is_followed_and_the_status_says_so(tmp_path, frames):
    """The device runs with the model that it was given, and tells why it does not look further."""
    device = a_device(tmp_path, frames, trusted_root="")
    a_release(Bucket(device.bucket, "yard"), settings=sampling(1.0))
    given = constant_detector(tmp_path / "given.onnx", [CAR])
    status = run_collector(device, model=str(given), sampling=sampling(0.0))
    assert (status.release_number, status.model_version) == (0, sha256_of(given)[:16])
    assert [alert.message for alert in status.alerts if alert.name == alerts.RELEASES_NOT_FOLLOWED] == [
        "releases are not followed: no trusted_root: copy root.json of the project's keys to this device and name it"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["expired", "replayed", "unsigned"])
def test_metadata_that_cannot_be_believed_leaves_the_current_model_in_force_and_alerts(tmp_path, frames, how):
    """Expired, replayed or unsigned: the release in force stays, an alert says why, and ends when all is well again."""
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    model = constant_detector(tmp_path / "m.onnx", [CAR])
    a_release(bucket, settings=sampling(1.0))
    before = bucket.get(layout.tuf_timestamp())
    a_release(bucket, model, sampling(1.0))
    run_collector(device, max_frames=3)
    name, said = alerts.RELEASES_NOT_TRUSTED, ""
    if how == "expired":
        old = datetime.now(timezone.utc) - timedelta(days=20)
        a_release(bucket, settings=sampling(0.5), now=old)
        name, said = alerts.METADATA_EXPIRED, "run a turn on central"
    elif how == "replayed":
        bucket.put(layout.tuf_timestamp(), before)
        said = "older than what this device has seen"
    else:
        newest = bucket.get(layout.tuf_timestamp())
        bucket.put(layout.tuf_timestamp(), re.sub(rb'("sig": *")', rb"\g<1>00", newest))
        said = "not signed by the project's keys"
    told = []

    def note(status):
        told.append((status.release_number, {alert.name: alert.message for alert in status.alerts}))

    source = Paced(
        at={
            3: until(device, lambda status: any(a.name == name for a in status.alerts)),
            20: lambda: a_release(bucket, settings=sampling(1.0)),
            30: until(device, lambda status: not any(a.name == name for a in status.alerts)),
        }
    )
    status = run_collector(device, open_source=source, on_progress=note)
    alerted = [(number, messages[name]) for number, messages in told if name in messages]
    assert {number for number, _ in alerted} == {2}
    assert said in alerted[0][1]
    assert (status.release_number, status.alerts) == (4 if how == "expired" else 3, ())


@pytest.mark.slow
def test_limits_go_on_counting_across_a_swap_and_a_restart(tmp_path, frames):
    """Ten samples a day is ten, however often the settings are published again or the collector is started."""
    limited = SamplingSettings(
        sampling_strategies=[
            {
                "type": "random",
                "name": "random",
                "traffic_percentage": 1.0,
                "limits": [{"type": "daily", "value": 10}],
            }
        ]
    )
    device = a_device(tmp_path, frames)
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, settings=limited)
    source = Paced(
        at={
            4: lambda: a_release(bucket, settings=limited, reason="again"),
            12: until(device, lambda status: status.release_number == 2),
        }
    )
    start = datetime(2026, 5, 1, 10)
    first = run_collector(device, open_source=source, start=start, max_frames=20)
    second = run_collector(device, start=start)
    assert first.release_number == 2
    assert first.kept + second.kept == 10
