"""What somebody who can write to the bucket, and has none of the keys, can make a device believe: nothing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import MetadataExpired, Publisher, TrustedReleases, create_keys, read_keys
from tasks.adapters.releases.metadata import parse
from tasks.adapters.releases.trusted import TRUSTED_FILE
from tasks.core import layout
from tasks.core.entities import Release
from tasks.core.errors import BucketError, ReleaseRefused, ReleaseUntrusted, SettingsError
from tests.adapters.models import constant_detector
from tests.adapters.released import BOX, a_model, a_release, upload
from tests.adapters.s3 import fresh_s3_url
from tests.adapters.signing import publish, signing_keys, trusted, trusted_root

TIMESTAMP = layout.tuf_timestamp()


class Victim:
    """A device that follows releases 1 and 2 of a bucket that somebody else may write to."""

    def __init__(self, tmp_path: Path) -> None:
        self.bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
        self.folder = tmp_path / "installed"
        self.model = a_model(self.bucket, tmp_path)
        self.first = publish(self.bucket, a_release(reason="one"))
        self.old = {key: self.bucket.get(key) for key in self.bucket.list()}
        self.second = publish(self.bucket, a_release(self.model, reason="two"))
        self.device = trusted(self.bucket, self.folder)
        assert self.device.newest("all") == 2

    def restarted(self) -> TrustedReleases:
        return trusted(self.bucket, self.folder)

    def everything_is_refused(self, match: str, error: type[Exception] = ReleaseUntrusted) -> None:
        """By the device as it runs, and after a restart."""
        for device in (self.device, self.restarted()):
            with pytest.raises(error, match=match):
                device.newest("all")

    def all_is_well_again(self, number: int = 3) -> None:
        """The next honest publication is followed."""
        publish(self.bucket, a_release(reason="three"))
        assert self.device.newest("all") == number
        assert self.restarted().newest("all") == number


@pytest.fixture
def victim(tmp_path) -> Victim:
    return Victim(tmp_path)


def forged(victim: Victim, keys, **given) -> None:
    """A whole chain of metadata that brings release 3, signed by `keys`; one number above everything there is."""
    release = Release.model_validate({**a_release(reason="evil").model_dump(), "number": 3, "previous": 2})
    key = layout.release("all", 3)
    victim.bucket.put(key, release.to_json())
    ends = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=9)
    targets = Targets(version=9, expires=ends, targets={key: TargetFile.from_data(key, release.to_json(), ["sha256"])})
    snapshot = Snapshot(version=9, expires=ends, meta={"targets.json": MetaFile(9)})
    timestamp = Timestamp(version=9, expires=ends, snapshot_meta=MetaFile(9))
    victim.bucket.put(layout.tuf_metadata("targets", 9), keys.sign("targets", Metadata(targets)))
    victim.bucket.put(layout.tuf_metadata("snapshot", 9), keys.sign("snapshot", Metadata(snapshot)))
    victim.bucket.put(TIMESTAMP, keys.sign("timestamp", Metadata(timestamp)))


def test_nothing_new_costs_one_small_read(victim, monkeypatch):
    """A poll reads the timestamp, less than 1 KiB, and nothing else; a restart reads three objects."""
    read = []
    store = victim.bucket._store
    real = store.read
    monkeypatch.setattr(store, "read", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(store, "exists", lambda path: pytest.fail("asked for more"))
    assert victim.device.newest("all") == 2
    assert read == [f"yard/{TIMESTAMP}"]
    assert len(victim.bucket.get(TIMESTAMP)) < 1024
    read.clear()
    assert victim.restarted().newest("all") == 2
    assert read == [f"yard/{TIMESTAMP}", "yard/tuf/2.root.json", f"yard/{TIMESTAMP}"]


def test_nothing_published_is_no_error(tmp_path):
    """Before the first release there is none."""
    assert trusted(Bucket(f"file://{tmp_path}/bucket", "yard"), tmp_path / "installed").newest("all") == 0


@pytest.mark.slow
def test_releases_are_followed_over_s3(request, tmp_path):
    """The same over a real S3 server: the release and its model arrive verified."""
    bucket = Bucket(fresh_s3_url(request), "yard")
    release = publish(bucket, a_release(a_model(bucket, tmp_path)))
    device = trusted(bucket, tmp_path / "installed")
    assert device.newest("all") == 1
    assert device.release("all", 1) == release
    device.fetch_model(release, tmp_path / "fetched.onnx")
    assert (tmp_path / "fetched.onnx").read_bytes() == (tmp_path / "0.75.onnx").read_bytes()
    bucket.close()


def test_replayed_metadata_is_refused(victim):
    """The bucket as it was a release ago, correctly signed: the device has seen newer and says so."""
    for key, data in victim.old.items():
        victim.bucket.put(key, data)
    victim.everything_is_refused("older than what this device has seen")
    victim.all_is_well_again()


def test_a_damaged_memory_makes_a_device_begin_at_its_root(victim):
    """Without trusted.json a replay is as good as new, and names a number below the one that is installed."""
    (victim.folder / TRUSTED_FILE).write_bytes(b"half")
    assert victim.restarted().newest("all") == 2
    (victim.folder / TRUSTED_FILE).write_bytes(b"half")
    for key, data in victim.old.items():
        victim.bucket.put(key, data)
    assert victim.restarted().newest("all") == 1


@pytest.mark.slow
def test_frozen_metadata_expires(tmp_path):
    """Whoever holds new metadata back can do so for two weeks: then the device refuses what it has, and alerts."""
    bucket, folder = Bucket(f"file://{tmp_path}/bucket", "yard"), tmp_path / "installed"
    now = datetime.now(timezone.utc)
    publish(bucket, a_release(), now=now - timedelta(days=14) + timedelta(seconds=2.5))
    device = trusted(bucket, folder)
    assert device.newest("all") == 1
    import time

    time.sleep(3)
    for seen in (device, trusted(bucket, folder)):
        with pytest.raises(MetadataExpired, match=r"timestamp.json.*expired.*edgeloop loop"):
            seen.newest("all")
    Publisher(bucket, signing_keys()).sign_again()
    assert device.newest("all") == 1


@pytest.mark.parametrize(("days", "role"), [(200, "timestamp"), (400, "timestamp")])
def test_metadata_that_nobody_signs_any_more_is_refused(tmp_path, days, role):
    """Half a year without a turn of central: refused, until somebody signs again."""
    bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
    publish(bucket, a_release(), now=datetime.now(timezone.utc) - timedelta(days=days))
    device = trusted(bucket, tmp_path / "installed")
    with pytest.raises(MetadataExpired, match=role):
        device.newest("all")
    assert Publisher(bucket, signing_keys()).sign_again() == ["targets", "snapshot", "timestamp"]
    assert device.newest("all") == 1


def test_metadata_of_other_keys_is_refused(victim, tmp_path):
    """A whole chain with the right names, signed by keys that the root does not know."""
    forged(victim, create_keys(tmp_path / "mine", "yard"))
    victim.everything_is_refused("not signed by the project's keys")


@pytest.mark.parametrize("stolen", ["timestamp", "snapshot"])
def test_a_stolen_timestamp_or_snapshot_key_brings_no_release(victim, tmp_path, stolen):
    """With the keys below targets an attacker can name new targets, and cannot sign them."""
    attacker = create_keys(tmp_path / "mine", "yard")
    for role in {"timestamp": ["timestamp"], "snapshot": ["timestamp", "snapshot"]}[stolen]:
        for path in attacker.folder.glob(f"{role}-*.pem"):
            path.unlink()
        for path in signing_keys().folder.glob(f"{role}-*.pem"):
            (attacker.folder / path.name).write_bytes(path.read_bytes())
            (attacker.folder / path.name).chmod(0o600)
    attacker.__class__.sign, honest = _signs_with_whatever_is_there, attacker.__class__.sign
    try:
        forged(victim, attacker)
    finally:
        attacker.__class__.sign = honest
    victim.everything_is_refused("not signed by the project's keys")


def _signs_with_whatever_is_there(keys, role, metadata):
    from tasks.adapters.releases.keys import _read_key

    for path in keys.folder.glob(f"{role}-*.pem"):
        metadata.sign(_read_key(path), append=True)
    return metadata.to_bytes()


@pytest.mark.parametrize("key", ["timestamp", "snapshot", "targets"])
@given(position=st.floats(0, 0.999), bit=st.integers(0, 7))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_bit_in_any_metadata_is_refused(tmp_path_factory, key, position, bit):
    """Wherever one bit of what is signed is flipped, a device that has not seen it yet does not believe it."""
    tmp_path = tmp_path_factory.mktemp("flip")
    bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
    publish(bucket, a_release())
    path = TIMESTAMP if key == "timestamp" else layout.tuf_metadata(key, 1)
    data = bytearray(bucket.get(path))
    data[int(position * len(data))] ^= 1 << bit
    bucket.put(path, bytes(data))
    device = trusted(bucket, tmp_path / "installed")
    try:
        assert device.newest("all") == 1  # a bit that changes no meaning: white space
        assert device.release("all", 1).number == 1
    except ReleaseUntrusted:
        pass


@pytest.mark.parametrize(
    "what", [TIMESTAMP, layout.tuf_metadata("snapshot", 3), layout.tuf_metadata("targets", 3), layout.release("all", 3)]
)
@pytest.mark.parametrize("how", ["garbage", "longer", "endless", "gone", "another's"])
def test_changed_objects_are_refused(victim, what, how):
    """Garbage, more bytes, bytes without end, no bytes, another object's: refused with a reason, and bounded."""
    publish(victim.bucket, a_release(reason="three"))
    data = victim.bucket.get(what)
    if how == "gone":
        victim.bucket.remove(what)
    else:
        changed = {
            "garbage": b"\x00garbage",
            "longer": data + b" " * 6_000_000,
            "endless": b" " * 30_000_000,
            "another's": victim.bucket.get(layout.tuf_metadata("root", 1)),
        }
        victim.bucket.put(what, changed[how])
    for device in (victim.device, victim.restarted()):
        with pytest.raises((ReleaseUntrusted, BucketError)):
            device.release("all", device.newest("all"))
    victim.bucket.put(what, data)
    assert victim.device.release("all", victim.device.newest("all")).reason == "three"


def test_only_as_much_as_is_allowed_is_ever_read(victim, monkeypatch):
    """Of an object without end a device reads no more than such an object may have."""
    read = [0]

    def endless(path):
        while True:
            read[0] += 2**16
            yield b" " * 2**16

    real = victim.bucket._store.read
    monkeypatch.setattr(victim.bucket._store, "read", lambda path: endless(path) if "timestamp" in path else real(path))
    with pytest.raises(ReleaseUntrusted, match="more than the 16384 bytes"):
        victim.device.newest("all")
    assert read[0] <= 2**17


def test_pieces_of_different_states_do_not_mix(victim):
    """The newest timestamp with older targets under the number that it leads to: refused."""
    publish(victim.bucket, a_release(reason="three"))
    older = victim.bucket.get(layout.tuf_metadata("targets", 1))
    victim.bucket.put(layout.tuf_metadata("targets", 3), older)
    victim.everything_is_refused("older than what this device has seen, or mixed")


def test_a_signed_release_under_another_number_or_group_is_refused(victim):
    """A correctly signed record that is copied elsewhere is not what is signed there."""
    for group, number in (("all", 2), ("dock", 1)):
        release = publish(victim.bucket, a_release(group="dock")) if group == "dock" else victim.second
        victim.bucket.put(layout.release(group, number), victim.first.to_json())
        device = victim.restarted()
        assert device.newest(group) == number
        with pytest.raises(ReleaseUntrusted, match="not what was signed"):
            device.release(group, number)
        victim.bucket.put(layout.release(group, number), release.to_json())


def test_a_release_that_is_not_signed_is_not_there(victim):
    """A record that somebody adds under the next number is never looked at."""
    evil = Release.model_validate({**a_release(reason="evil").model_dump(), "number": 3})
    victim.bucket.put(layout.release("all", 3), evil.to_json())
    assert victim.device.newest("all") == 2
    with pytest.raises(ReleaseUntrusted, match="not among the signed ones"):
        victim.device.release("all", 3)
    assert publish(victim.bucket, a_release(reason="three")).number == 4


@pytest.mark.parametrize("how", ["another", "longer", "shorter"])
def test_a_model_that_is_not_the_signed_one_is_refused_and_not_kept(victim, tmp_path, how):
    """Whatever is done to the model's file, its bytes do not reach the disk under its name."""
    data = victim.model.read_bytes()
    other = {"another": bytes(len(data)), "longer": data + b"\0", "shorter": data[:-1]}[how]
    victim.bucket.put(layout.model_file(victim.second.model_version, "model.onnx"), other)
    with pytest.raises(ReleaseUntrusted, match="not what was signed"):
        victim.device.fetch_model(victim.second, tmp_path / "fetched" / "model.onnx")
    assert list((tmp_path / "fetched").iterdir()) == []


def test_a_model_that_no_key_has_signed_is_refused(victim, tmp_path):
    """A release that names a file which is not among the signed ones brings it nowhere."""
    unsigned = upload(victim.bucket, constant_detector(tmp_path / "u.onnx", [BOX, BOX]))
    with pytest.raises(ReleaseUntrusted, match="not among the signed files"):
        victim.device.fetch_model(a_release(unsigned, number=2), tmp_path / "fetched.onnx")


def test_another_projects_releases_are_refused_wholesale(victim, tmp_path):
    """The whole of another project, correctly signed by its own keys, copied over this one's."""
    elsewhere = Bucket(f"file://{tmp_path}/bucket", "other")
    for number in range(4):
        publish(elsewhere, a_release(reason=str(number)))
    for key in elsewhere.list():
        victim.bucket.put(key, elsewhere.get(key))
    victim.everything_is_refused("not signed by the project's keys")
    with pytest.raises(SettingsError, match="is that of project 'other', this device's is 'yard'"):
        TrustedReleases(victim.bucket, victim.folder, Path(trusted_root("other")).read_bytes())


@pytest.mark.parametrize("root", [b"", b"{}", b"no json", b'{"signatures": [], "signed": {"_type": "targets"}}'])
def test_a_trusted_root_that_is_none_is_told_at_once(victim, root):
    """What the operator copied to the device is no root: the message says what to copy."""
    with pytest.raises(SettingsError, match=r"trusted_root: .*copy root.json"):
        TrustedReleases(victim.bucket, victim.folder, root)


def test_central_builds_on_nothing_that_others_have_written(victim, tmp_path):
    """Metadata of other keys in the bucket is passed over by the publisher, never signed again."""
    attacker = create_keys(tmp_path / "mine", "yard")
    for role, kind in (("targets", Targets), ("snapshot", Snapshot)):
        data = victim.bucket.get(layout.tuf_metadata(role, 2))
        metadata = parse(kind, data)
        metadata.signed.version = 3
        victim.bucket.put(layout.tuf_metadata(role, 3), attacker.sign(role, metadata))
    victim.all_is_well_again()
    assert victim.bucket.exists(layout.tuf_metadata("targets", 4))


def test_central_refuses_a_bucket_that_other_keys_have_signed(victim, tmp_path):
    """With the wrong keys folder nothing is published; the message says which keys are wanted."""
    mine = create_keys(tmp_path / "mine", "yard")
    with pytest.raises(ReleaseUntrusted, match="use the keys of this project"):
        Publisher(victim.bucket, mine).publish(a_release(reason="three"))
    with pytest.raises(SettingsError, match="holds the keys of project 'yard', not of 'dock'"):
        read_keys(mine.folder, "dock")


def test_central_goes_back_only_to_what_was_signed(victim):
    """A record that was changed in the bucket is not published again under central's signature."""
    evil = victim.first.model_copy(update={"reason": "evil"})
    victim.bucket.put(layout.release("all", 1), evil.to_json())
    with pytest.raises(ReleaseRefused, match="release 1 of group all"):
        Publisher(victim.bucket, signing_keys()).release("all", 1)
