"""A device's rights in the bucket, as the server itself judges them: with its key, one can do its work and no more."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.errors import BucketError, ObjectMissing
from tasks.core.policy import device_policy
from tasks.core.settings import DeviceSettings
from tests.adapters.s3 import SECRET

pytestmark = pytest.mark.slow

THIEF = "stolen-device-key"


@pytest.fixture
def stolen(ceph, monkeypatch):
    """(central's bucket, the bucket with a device's key, its settings, its S3 client), its policy attached."""
    url = ceph.fresh_url()
    name = url.split("/")[2]
    uid = f"gate-{name}"
    ceph.admin(
        "user", "create", f"--uid={uid}", "--display-name=gate-1", f"--access-key={THIEF}", f"--secret-key={SECRET}"
    )
    device = DeviceSettings(name="gate-1", project="yard", bucket=url)
    policy = device_policy(device, f"arn:aws:iam:::user/{uid}")
    ceph.client().put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    for variable, value in ceph.environment().items():
        monkeypatch.setenv(variable, value)
    central = Bucket(url, "yard")
    central.put("devices/gate-1/status.json", b"{}")
    central.put("devices/gate-2/samples/2026-01-01/0.jpg", b"another's picture")
    central.put(layout.tuf_timestamp(), b"signed")
    central.put(layout.labels("batch", 1), b"labels")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", THIEF)
    own = Bucket(url, "yard")
    own.put("devices/gate-1/status.json", b"mine")  # opens its connection with the device's key
    yield central, own, device, ceph.client(THIEF, SECRET)
    central.close()
    own.close()
    ceph.admin("user", "rm", f"--uid={uid}", "--purge-data")


def test_a_device_can_do_its_work_with_its_rights(stolen):
    """It writes images, commits segments, meets its own again, and finds that a number is free; it reads its orders."""
    _, own, _, _ = stolen
    segment = layout.segment("gate-1", 1)
    assert not own.exists(segment)
    assert own.create(segment, b"one")
    assert own.create(segment, b"one")  # a lost reply: the same content is no conflict
    assert own.get(segment) == b"one"
    assert own.latest_number(lambda number: layout.segment("gate-1", number)) == 1
    own.put("devices/gate-1/samples/2026-01-01/a.jpg", b"picture")
    assert own.get(layout.tuf_timestamp()) == b"signed"
    with pytest.raises(ObjectMissing):
        own.get(layout.tuf_metadata("root", 2))


def test_with_a_stolen_device_one_can_neither_read_nor_change_what_others_wrote(stolen):
    """Another's pictures, labels, releases, deletion, listing and the policy: the server refuses each."""
    _, own, device, client = stolen
    for key in ("devices/gate-2/samples/2026-01-01/0.jpg", layout.labels("batch", 1)):
        with pytest.raises(BucketError, match=r"AccessDenied|403"):
            own.get(key)
    for key in (
        layout.release("all", 1),
        layout.tuf_timestamp(),
        "devices/gate-2/status.json",
        layout.labels("batch", 2),
    ):
        with pytest.raises(BucketError, match=r"AccessDenied|403"):
            own.put(key, b"mine now")
    name, prefix = device.bucket.split("/")[2], "some/prefix/yard"
    for call, arguments in (
        (client.delete_object, {"Key": f"{prefix}/devices/gate-1/status.json"}),
        (client.list_objects_v2, {}),
        (client.list_objects_v2, {"Prefix": f"{prefix}/devices/gate-2/"}),
        (client.put_bucket_policy, {"Policy": "{}"}),
    ):
        with pytest.raises(ClientError):
            call(Bucket=name, **arguments)
