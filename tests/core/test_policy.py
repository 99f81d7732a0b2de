"""What a device may do in the bucket; the server's own judgement of it is tested against Ceph."""

import json
from fnmatch import fnmatchcase

import pytest

from tasks.core import layout
from tasks.core.errors import SettingsError
from tasks.core.policy import device_policy
from tasks.core.settings import DeviceSettings

DEVICE = DeviceSettings(name="gate-1", project="yard", group="north", bucket="s3://fleet/edge")


def allowed(policy: dict, action: str, key: str) -> bool:
    """As the policy language says: is there a statement for this action whose resource fits?"""
    resource = f"arn:aws:s3:::fleet/{key}"
    return any(
        action in statement["Action"] and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        for statement in policy["Statement"]
    )


def test_a_device_writes_below_its_own_prefix_only():
    """Samples, segments and status of its own may be written; another device's, labels and releases may not."""
    policy = device_policy(DEVICE)
    own = f"edge/yard/{layout.segment('gate-1', 1)}"
    assert allowed(policy, "s3:PutObject", own)
    for key in (
        layout.segment("gate-10", 1),
        layout.release("north", 1),
        layout.tuf_timestamp(),
        layout.labels("batch", 1),
    ):
        assert not allowed(policy, "s3:PutObject", f"edge/yard/{key}")
    assert not allowed(policy, "s3:DeleteObject", own)


def test_a_device_reads_what_is_published_for_it_and_no_picture():
    """Signed metadata, its group's releases, models and its own segments; no image, not even its own."""
    policy = device_policy(DEVICE)
    for key in (
        layout.tuf_timestamp(),
        layout.release("north", 3),
        layout.model_file("0" * 16, "model.onnx"),
        layout.segment("gate-1", 2),
    ):
        assert allowed(policy, "s3:GetObject", f"edge/yard/{key}"), key
    for key in (
        "devices/gate-1/samples/2026-01-01/0.jpg",
        "devices/gate-2/samples/2026-01-01/0.jpg",
        layout.release("south", 3),
        layout.model_file("0" * 16, "weights.pt"),
    ):
        assert not allowed(policy, "s3:GetObject", f"edge/yard/{key}"), key


def test_a_bucket_policy_names_its_user():
    """Attached to a bucket, every statement says whom it is for; the whole is JSON."""
    policy = device_policy(DEVICE, "arn:aws:iam:::user/gate-1")
    assert all(s["Principal"] == {"AWS": ["arn:aws:iam:::user/gate-1"]} for s in policy["Statement"])
    assert json.loads(json.dumps(policy)) == policy
    assert all(s["Sid"].isalnum() for s in policy["Statement"])


def test_a_folder_has_no_policy():
    """A bucket that is a folder is refused with what to do instead."""
    with pytest.raises(SettingsError, match="rights are for s3"):
        device_policy(DEVICE.model_copy(update={"bucket": "file:///data"}))
