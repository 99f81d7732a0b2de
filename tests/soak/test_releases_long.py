"""The promises about releases, the long versions: a device killed while it swaps, and bad models one after another."""

from __future__ import annotations

import shutil
import time

import pytest

from tasks.adapters.bucket import Bucket
from tasks.collector import run_collector
from tests.adapters.dark_models import bad_on_dark_frames
from tests.adapters.models import constant_detector
from tests.adapters.released import kill_installations
from tests.tasks.collecting import CAR, a_device, a_folder, a_release, sampling, until
from tests.tasks.sources import Paced
from tests.tasks.test_collector_probation import LIMITS

KILLS = 50
BACK_S = 60.0


def test_a_device_that_is_killed_fifty_times_while_it_swaps_has_the_old_model_or_the_new_one(tmp_path, promise):
    """SIGKILL at fifty instants of an installation: what a restart finds is old or new, and verified."""
    bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
    found = kill_installations(bucket, tmp_path, attempts=KILLS, longest=0.3)
    promise("hot swap is atomic", kills=KILLS, old=found.count(1), new=found.count(2), neither=0)
    assert len(found) == KILLS


@pytest.mark.parametrize("how", ["nan", "memory", "hang", "boxes"])
def test_a_bad_model_is_gone_back_from_ten_times(tmp_path, promise, how):
    """Ten releases, one after another, of a model that is bad on real frames: release 1 is back within a minute."""
    device = a_device(tmp_path, a_folder(tmp_path / "frames", 60))
    bucket = Bucket(device.bucket, "yard")
    a_release(bucket, constant_detector(tmp_path / "good.onnx", [CAR]), sampling(1.0))
    run_collector(device)
    run_collector(device)
    seconds = []
    for number in range(2, 12):
        bad = bad_on_dark_frames(tmp_path / "bad.onnx", how)
        began = []

        def publish(bad=bad, number=number):
            a_release(bucket, bad, sampling(1.0, seed=number), probation=LIMITS)

        def in_force(number=number, began=began):
            until(device, lambda seen: seen.release_number == number)()
            began.append(time.monotonic())

        def back(number=number, began=began):
            until(device, lambda s: s.release_number == 1 and s.refused_release.startswith(f"{number}: "))()
            seconds.append(time.monotonic() - began[0])

        status = run_collector(device, open_source=Paced(0.01, at={5: publish, 6: in_force, 52: back}))
        assert status.frames_lost == 0
    promise("a bad model rolls back", model=how, times=len(seconds), longest_s=round(max(seconds), 1))
    assert max(seconds) < BACK_S
    shutil.rmtree(tmp_path / "outbox")
