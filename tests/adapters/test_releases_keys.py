"""The keys that sign releases: made once, kept private, replaced while devices look on."""

from __future__ import annotations

import shutil
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import MetadataExpired, Publisher, TrustedReleases, create_keys, read_keys
from tasks.adapters.releases.metadata import LIFETIMES
from tasks.core import layout
from tasks.core.errors import ReleaseUntrusted, SettingsError
from tests.adapters.released import Cut, a_release, cut_off

ALL = frozenset({"root", "targets", "snapshot", "timestamp"})


@pytest.fixture
def bucket(tmp_path):
    return Bucket(f"file://{tmp_path}/bucket", "yard")


@pytest.fixture
def keys(tmp_path):
    return create_keys(tmp_path / "keys", "yard")


def device(bucket: Bucket, folder: Path, root: bytes) -> TrustedReleases:
    return TrustedReleases(bucket, folder, root)


def test_keys_are_private_and_never_overwritten(tmp_path, keys):
    """One file a key, readable by its owner alone; what is there is not replaced."""
    assert sorted(path.name.split("-")[0] for path in keys.folder.glob("*.pem")) == [
        "root",
        "snapshot",
        "targets",
        "timestamp",
    ]
    for path in keys.folder.glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    with pytest.raises(SettingsError, match="is there already"):
        create_keys(keys.folder, "yard")
    assert (keys.folder / "root.json").read_bytes() == keys.roots[-1]
    assert b"PRIVATE" not in keys.roots[-1]


def test_keys_that_others_may_read_are_refused(keys):
    """A private key that everybody can read is none."""
    next(keys.folder.glob("targets-*.pem")).chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_keys(keys.folder, "yard")


def test_a_folder_without_keys_says_how_to_make_them(tmp_path):
    """The message is the command."""
    with pytest.raises(SettingsError, match="edgeloop keys init --folder"):
        read_keys(tmp_path, "yard")


def test_no_private_key_ever_reaches_the_bucket(bucket, keys):
    """Of everything that publishing and rotation write, nothing holds a private key."""
    Publisher(bucket, keys).publish(a_release())
    Publisher(bucket, keys).replace_root(ALL)
    for path in Path(bucket.url.removeprefix("file://")).rglob("*"):
        assert not path.is_file() or b"PRIVATE" not in path.read_bytes()


def test_a_device_with_the_first_root_walks_to_the_third(bucket, tmp_path, keys):
    """Two rotations of every key later, an old device and one that never looked before follow the newest release."""
    first = keys.roots[0]
    publisher = Publisher(bucket, keys)
    publisher.publish(a_release(reason="one"))
    old = device(bucket, tmp_path / "old", first)
    assert old.newest("all") == 1
    for reason in ("two", "three"):
        keys = Publisher(bucket, read_keys(keys.folder, "yard")).replace_root(ALL)
        Publisher(bucket, keys).publish(a_release(reason=reason))
    assert keys.root.version == 3
    for folder in ("old", "never seen"):
        follower = device(bucket, tmp_path / folder, first)
        assert follower.newest("all") == 3
        assert follower.release("all", 3).reason == "three"
    assert old.newest("all") == 3
    assert device(bucket, tmp_path / "new", keys.roots[-1]).newest("all") == 3
    assert len(list(keys.folder.glob("*.pem"))) == 4


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_replaced_key_signs_nothing_that_devices_believe(bucket, tmp_path, keys, role):
    """After the rotation the stolen key is worth nothing, also on a device that has seen what it signed."""
    shutil.copytree(keys.folder, tmp_path / "stolen")
    publisher = Publisher(bucket, keys)
    publisher.publish(a_release(reason="one"))
    follower = device(bucket, tmp_path / "installed", keys.roots[0])
    assert follower.newest("all") == 1
    new = publisher.replace_root(frozenset({role}))
    assert follower.newest("all") == 1
    stolen = read_keys(tmp_path / "stolen", "yard")
    with pytest.raises(ReleaseUntrusted, match="is newer than the root"):
        Publisher(bucket, stolen).publish(a_release(reason="evil"))
    bucket.put(layout.tuf_timestamp(), b"{}")
    with pytest.raises(ReleaseUntrusted):
        follower.newest("all")
    assert Publisher(bucket, new).sign_again() == ["snapshot", "timestamp"]
    assert follower.newest("all") == 1


def test_a_new_root_needs_as_many_old_keys_as_the_threshold_says(bucket, tmp_path):
    """Two of three root keys, kept elsewhere: with one there is no new root, with two there is."""
    keys = create_keys(tmp_path / "keys", "yard", root_keys=3, threshold=2)
    publisher = Publisher(bucket, keys)
    publisher.publish(a_release())
    follower = device(bucket, tmp_path / "installed", keys.roots[0])
    assert follower.newest("all") == 1
    away = tmp_path / "safe"
    away.mkdir()
    for path in keys.folder.glob("root-*.pem"):
        path.rename(away / path.name)
    publisher.publish(a_release(reason="without any root key"))
    with pytest.raises(SettingsError, match="0 of the 2 root keys that a new root needs are here"):
        publisher.replace_root()
    lent = tmp_path / "lent"
    lent.mkdir()
    for path in sorted(away.glob("*.pem"))[:2]:
        shutil.copy2(path, lent)
    new = Publisher(bucket, read_keys(keys.folder, "yard")).replace_root(frozenset({"root"}), lent)
    assert new.root.version == 2
    assert len(list(lent.glob("root-*.pem"))) == 3
    assert list(keys.folder.glob("root-*.pem")) == []
    assert follower.newest("all") == 2


def test_an_expired_root_is_refused_until_it_is_renewed(bucket, tmp_path):
    """A year without a new root: refused; a renewed one is walked to, although the old one has ended."""
    past = datetime.now(timezone.utc) - LIFETIMES["root"] - timedelta(days=1)
    keys = create_keys(tmp_path / "keys", "yard", now=past)
    Publisher(bucket, keys).publish(a_release())
    follower = device(bucket, tmp_path / "installed", keys.roots[0])
    with pytest.raises(MetadataExpired, match="root"):
        follower.newest("all")
    Publisher(bucket, keys).replace_root()
    assert follower.newest("all") == 1


@pytest.mark.parametrize("step", range(6))
def test_a_rotation_that_is_cut_off_anywhere_is_gone_on_with(bucket, tmp_path, step):
    """Whichever write was the last, the next publication completes the rotation, and old devices follow."""
    keys = create_keys(tmp_path / "keys", "yard")
    Publisher(bucket, keys).publish(a_release(reason="one"))
    follower = device(bucket, tmp_path / "installed", keys.roots[0])
    assert follower.newest("all") == 1
    try:
        with cut_off(bucket, step):
            Publisher(bucket, keys).replace_root(ALL)
    except Cut:
        pass
    else:
        assert step == 5
    assert Publisher(bucket, read_keys(keys.folder, "yard")).publish(a_release(reason="two")).number == 2
    assert follower.newest("all") == 2
    assert follower.release("all", 2).reason == "two"


def test_signatures_are_renewed_by_the_day_and_not_by_the_call(bucket, keys):
    """Signing again writes nothing while everything is young, the timestamp a day later, and all before it ends."""
    now = datetime.now(timezone.utc)
    Publisher(bucket, keys, now=now).publish(a_release())
    assert Publisher(bucket, keys, now=now + timedelta(hours=20)).sign_again() == []
    assert Publisher(bucket, keys, now=now + timedelta(hours=30)).sign_again() == ["snapshot", "timestamp"]
    assert Publisher(bucket, keys, now=now + timedelta(hours=31)).sign_again() == []
    later = Publisher(bucket, keys, now=now + timedelta(days=100))
    assert later.sign_again() == ["targets", "snapshot", "timestamp"]
    assert later.sign_again() == []
