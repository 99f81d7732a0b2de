"""Releases: numbered by one winner, installed when they hold what they promise, refused with a reason otherwise."""

from __future__ import annotations

import importlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import (
    DeviceModel,
    Publisher,
    SigningKeys,
    ended,
    go_back,
    install,
    installed_release,
    latest_release,
    passed,
    read_release,
    refused,
    started,
)
from tasks.adapters.releases.signed import parsed_release
from tasks.core import layout
from tasks.core.entities import Release
from tasks.core.errors import BucketError, ReleaseRefused
from tasks.core.settings import Probation
from tests.adapters.models import constant_detector, sha256_of
from tests.adapters.released import BOX, Cut, a_model, a_release, cut_off, installed_now, kill_installations
from tests.adapters.s3 import fresh_s3_url
from tests.adapters.signing import publish, signing_keys, trusted


@pytest.fixture
def bucket(tmp_path):
    return Bucket(f"file://{tmp_path}/bucket", "yard")


@pytest.fixture(autouse=True)
def tried(monkeypatch) -> list[Release]:
    """The trial of models has tests of its own; here are those that would have been tried."""
    tried: list[Release] = []
    monkeypatch.setattr(
        importlib.import_module("tasks.adapters.releases.installing"),
        "smoke_test",
        lambda model, release, *more: tried.append(release),
    )
    return tried


def test_a_release_gets_the_next_number_of_its_group(bucket):
    """Numbers are consecutive within a group, name their predecessor, and groups do not share them."""
    first = publish(bucket, a_release(number=77, reason="one"))
    second = publish(bucket, a_release(number=77, reason="two"))
    other = publish(bucket, a_release(group="dock"))
    assert [(r.number, r.previous) for r in (first, second, other)] == [(1, 0), (2, 1), (1, 0)]
    assert latest_release(bucket, "all") == second
    assert latest_release(bucket, "all", after=2) is None
    assert latest_release(bucket, "nobody") is None
    assert read_release(bucket, "all", 1) == first


def test_a_repeated_publication_of_the_newest_release_writes_nothing(bucket):
    """A retried task gets the release that it had published; an older one again is a new number."""
    first, second = a_release(reason="one"), a_release(reason="two")
    publish(bucket, first)
    written = bucket.list()
    assert publish(bucket, first).number == 1
    assert bucket.list() == written
    assert publish(bucket, second).number == 2
    assert publish(bucket, first).number == 3


@pytest.mark.parametrize("step", range(6))
def test_a_publisher_that_dies_at_any_write_leaves_the_old_release_or_the_new_one(bucket, tmp_path, step):
    """After a crash before any of the writes devices see the old or the new release; calling it again completes it."""
    publish(bucket, a_release(reason="old"))
    wanted = a_release(reason="new")
    with suppress(Cut), cut_off(bucket, step):
        publish(bucket, wanted)
    folder = tmp_path / "installed"
    assert installed_now(bucket, wanted, folder).release.reason == ("new" if step == 5 else "old")
    assert publish(bucket, wanted).number == 2
    assert installed_now(bucket, wanted, folder).release.reason == "new"
    assert trusted(bucket, folder).newest("all") == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_publishers_that_race_all_get_a_number_of_their_own(request, tmp_path, kind):
    """Six publishers on machines of their own: each holds one number, every one is signed, devices see the newest."""
    opened = Bucket(fresh_s3_url(request) if kind == "s3" else f"file://{tmp_path}/b", "yard")
    barrier = threading.Barrier(6)
    ours = signing_keys()

    def race(writer):
        elsewhere = SigningKeys(tmp_path / f"{writer}", ours.project, ours.roots)
        elsewhere.folder.mkdir()
        for key in ours.folder.glob("*.pem"):
            (elsewhere.folder / key.name).write_bytes(key.read_bytes())
        barrier.wait()
        return Publisher(opened, elsewhere).publish(a_release(reason=f"writer {writer}"))

    with ThreadPoolExecutor(6) as pool:
        published = list(pool.map(race, range(6)))
    assert sorted(r.number for r in published) == list(range(1, 7))
    releases = trusted(opened, tmp_path / "installed")
    assert releases.newest("all") == 6
    for release in published:
        assert releases.release("all", release.number) == release
    assert Publisher(opened, ours).sign_again() == []
    opened.close()


def test_a_release_without_its_model_in_the_bucket_is_not_published(bucket, tmp_path):
    """Devices could not install it: the publisher is told to upload the model first, or the right one."""
    model = constant_detector(tmp_path / "m.onnx", [BOX])
    with pytest.raises(ReleaseRefused, match="upload the model before its release"):
        publish(bucket, a_release(model))
    bucket.put(layout.model_file(sha256_of(model)[:16], "model.onnx"), b"another")
    with pytest.raises(ReleaseRefused, match="is not the model of the release"):
        publish(bucket, a_release(model))
    assert latest_release(bucket, "all") is None


def test_the_list_that_devices_fetch_does_not_grow_for_ever(bucket, monkeypatch):
    """Only the newest releases of a group stay among the signed ones; older records stay in the bucket."""
    monkeypatch.setattr("tasks.adapters.releases.publish.KEPT_RELEASES", 3)
    for number in range(5):
        publish(bucket, a_release(reason=str(number)))
    publish(bucket, a_release(group="dock"))
    publisher = Publisher(bucket, signing_keys())
    assert [publisher.release("all", n).number for n in (3, 4, 5)] == [3, 4, 5]
    assert publisher.release("dock", 1).number == 1
    with pytest.raises(ReleaseRefused, match="not among the signed ones"):
        publisher.release("all", 2)
    assert read_release(bucket, "all", 2).number == 2


def test_an_installed_release_is_found_after_a_restart(bucket, tmp_path):
    """A restart finds the release that was fetched, verified and tried, and its model, without the bucket."""
    model = a_model(bucket, tmp_path)
    release = publish(bucket, a_release(model))
    installed = installed_now(bucket, release, tmp_path / "installed")
    assert Path(installed.model).read_bytes() == model.read_bytes()
    assert installed_release(tmp_path / "installed") == installed
    assert installed.release == release
    assert installed.on_probation
    assert installed_release(tmp_path / "nowhere") is None


def test_a_stub_release_needs_no_model(bucket, tmp_path):
    """Release 1 of a project is the stub: installed without a fetch."""
    installed = installed_now(bucket, publish(bucket, a_release()), tmp_path / "installed")
    assert installed.model == "stub"
    assert installed_release(tmp_path / "installed") == installed


def test_the_release_before_stays_and_can_be_gone_back_to(bucket, tmp_path):
    """Two models are kept, the third newest is removed, going back needs no bucket and says why for good."""
    folder = tmp_path / "installed"
    releases = []
    for confidence in (0.3, 0.5, 0.7):
        releases.append(publish(bucket, a_release(a_model(bucket, tmp_path, confidence))))
        installed_now(bucket, releases[-1], folder)
        passed(folder, releases[-1].number)
    assert {p.name for p in (folder / "models").iterdir()} == {r.model_version for r in releases[1:]}
    assert go_back(folder, from_number=2) is None
    back = go_back(folder, from_number=3, reason="it is slow")
    assert back.release == releases[1]
    assert not back.on_probation
    assert installed_release(folder) == back
    assert refused(folder) == (3, "it is slow")
    assert go_back(folder) is None
    assert installed_release(folder) is None


def test_a_release_that_was_not_proven_is_not_gone_back_to(bucket, tmp_path):
    """Release 3 comes while 2 is on probation: whoever leaves 3 is back at 1, which has passed its own."""
    folder = tmp_path / "installed"
    for reason in ("proven", "on probation", "newest"):
        release = publish(bucket, a_release(reason=reason))
        installed_now(bucket, release, folder)
        if release.number == 1:
            passed(folder, 1)
    assert go_back(folder, from_number=3).release.number == 1


def test_a_damaged_model_leads_back_to_the_release_before(bucket, tmp_path):
    """When the current model's file changes on the disk, a restart runs the previous release."""
    folder = tmp_path / "installed"
    first = installed_now(bucket, publish(bucket, a_release(a_model(bucket, tmp_path, 0.3))), folder)
    second = installed_now(bucket, publish(bucket, a_release(a_model(bucket, tmp_path, 0.5))), folder)
    Path(second.model).write_bytes(b"damaged")
    assert installed_release(folder).release == first.release


def test_a_process_that_dies_again_and_again_on_probation_goes_back(bucket, tmp_path):
    """Three deaths within the probation of release 2 send it back; an end in order, and deaths after it, count not."""
    folder = tmp_path / "installed"
    installed_now(bucket, publish(bucket, a_release(reason="good")), folder)
    passed(folder, 1)
    for _ in range(5):
        started(folder)  # and dies: release 1 is proven, so that this is not its fault
    installed_now(bucket, publish(bucket, a_release(reason="bad", probation=Probation(deaths=3))), folder)
    for _ in range(3):
        ended(folder)
        started(folder)
    started(folder)
    started(folder)
    assert installed_release(folder).release.number == 2
    started(folder)
    assert installed_release(folder).release.number == 1
    assert refused(folder) == (2, "the process died 3 times within its probation")


def test_class_names_come_from_the_release_when_the_file_has_none(bucket, tmp_path):
    """The signed release names the classes of a file without metadata; the device's own word goes first."""
    release = publish(bucket, a_release(a_model(bucket, tmp_path), model_classes=("car", "truck")))
    assert installed_now(bucket, release, tmp_path / "a").model_classes == ("car", "truck")
    told = DeviceModel(model_classes="coco80")
    assert installed_now(bucket, release, tmp_path / "b", device=told).model_classes == "coco80"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"class_names": ("boat",)}, "for the class list boat, this device's is truck, person"),
        ({"class_names": ("person", "truck")}, "class lists may only be appended to"),
        ({"sampling": {"model_digest": "0123456789abcdef"}}, "fitted to model 0123456789abcdef"),
        (
            {
                "sampling": {
                    "sampling_strategies": [
                        {
                            "type": "close_to_threshold",
                            "name": "c",
                            "threshold": 0.01,
                            "epsilon": 0.01,
                            "probability": 1,
                        }
                    ]
                }
            },
            "the detector keeps nothing below",
        ),
    ],
)
def test_orders_that_cannot_be_obeyed_are_refused_and_change_nothing(bucket, tmp_path, fields, reason):
    """Another class list, settings of another model or below the floor: refused, the old release stays."""
    folder = tmp_path / "installed"
    old = installed_now(bucket, publish(bucket, a_release()), folder)
    release = publish(bucket, a_release(a_model(bucket, tmp_path), **fields))
    with pytest.raises(ReleaseRefused, match=reason):
        installed_now(bucket, release, folder)
    assert installed_release(folder) == old


def test_a_model_version_that_is_not_the_digest_is_refused(bucket, tmp_path):
    """A release whose model version is another file's would fill one folder with two models."""
    model = a_model(bucket, tmp_path)
    bucket.upload(layout.model_file("0" * 16, "model.onnx"), model)
    release = publish(bucket, a_release(model, model_version="0" * 16))
    with pytest.raises(ReleaseRefused, match="not the beginning of its sha256"):
        installed_now(bucket, release, tmp_path / "installed")


def test_a_class_list_may_grow_and_be_gone_back_from(bucket, tmp_path):
    """A release may append classes to the device's list, and the next one may lack them again."""
    for names in (("truck",), ("truck", "person"), ("truck",)):
        release = publish(bucket, a_release(class_names=names))
        assert installed_now(bucket, release, tmp_path / "installed").release.class_names == names


def test_portable_settings_run_with_another_model(bucket, tmp_path):
    """Settings fitted to another model are obeyed when they say that they are portable."""
    settings = {"model_digest": "0123456789abcdef", "portable": True}
    release = publish(bucket, a_release(a_model(bucket, tmp_path), sampling=settings))
    assert installed_now(bucket, release, tmp_path / "installed").release == release


def test_new_settings_of_a_proven_model_need_no_second_trial(bucket, tmp_path, tried):
    """The subprocess is for models: a release of settings alone, of a model that runs here, is installed without it."""
    model, folder = a_model(bucket, tmp_path), tmp_path / "installed"
    installed_now(bucket, publish(bucket, a_release(model)), folder)
    installed_now(bucket, publish(bucket, a_release(model, reason="not proven yet")), folder)
    assert len(tried) == 2
    passed(folder, 2)
    installed_now(bucket, publish(bucket, a_release(model, sampling={"seed": 3})), folder)
    assert len(tried) == 2
    passed(folder, 3)
    installed_now(bucket, publish(bucket, a_release(model, nms_iou=0.5)), folder)
    assert len(tried) == 3


@pytest.mark.parametrize("change", [{"patience": 3}, {"sampling_strategies": [{"type": "clairvoyant", "name": "all"}]}])
def test_what_only_a_later_version_knows_is_refused_with_the_way_out(change):
    """A setting or a strategy that this version does not know: the reason names it, and says to upgrade."""
    record = a_release().model_dump(mode="json")
    record["settings"] |= change
    with pytest.raises(ReleaseRefused, match=r"asks for settings\..*: upgrade the device's software"):
        parsed_release(json.dumps(record).encode(), "all", record["number"])


def test_an_unreachable_bucket_is_no_refusal(bucket, tmp_path, monkeypatch):
    """A release that cannot be fetched now is tried again later: the error is a BucketError, not a refusal."""
    release = publish(bucket, a_release(a_model(bucket, tmp_path)))
    releases = trusted(bucket, tmp_path / "installed")
    releases.newest("all")

    def fail(path):
        raise BucketError("down")
        yield b""

    monkeypatch.setattr(bucket._store, "read", fail)
    with pytest.raises(BucketError, match="down"):
        install(releases, release, tmp_path / "installed")
    assert not any((tmp_path / "installed" / "models").iterdir())


@pytest.mark.slow
def test_a_kill_in_the_middle_of_an_installation_leaves_old_or_new(bucket, tmp_path):
    """SIGKILL at ten instants of an installation: a restart finds the old release or the new one, verified."""
    found = kill_installations(bucket, tmp_path, attempts=10, longest=0.3)
    assert 1 in found
