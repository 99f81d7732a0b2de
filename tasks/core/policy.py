"""What a device may do in the bucket, as an S3 policy: a stolen one can neither read nor change what others wrote."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tasks.core import layout
from tasks.core.errors import SettingsError
from tasks.core.settings import DeviceSettings

VERSION = "2012-10-17"  # of the policy language


def device_policy(device: DeviceSettings, principal: str = "") -> dict[str, Any]:
    """The policy of one device in its project, as the JSON that S3 servers take.

    It writes below its own prefix; reads back its own segments and traffic; and reads signed metadata, its group's
    releases and models. Pictures are not for reading, though some servers let whoever wrote one read it. Deleting is
    not allowed. It may list, with exactly these prefixes: servers answer 403 to the question for a missing key when the
    asker may not list it. principal: the user's ARN, for a policy that is attached to the bucket; one that is attached
    to the user has none. Raises SettingsError where there is no S3.
    """
    bucket, root = _bucket_of(device)
    own = layout.device_prefix(device.name)
    group = layout.release(device.group, 1).rpartition("/")[0]
    read = [f"{own}/segments/*", f"{own}/traffic/*", f"{layout.TUF_PREFIX}*", f"{group}/*", "models/*/model.*"]
    listed = [f"{own}/*", f"{layout.TUF_PREFIX}*", f"{group}/*", "models/*"]
    arn = f"arn:aws:s3:::{bucket}"
    who = {"Principal": {"AWS": [principal]}} if principal else {}
    allow = {"Effect": "Allow", **who}
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Sid": _id("Write", device),
                **allow,
                "Action": ["s3:PutObject"],
                "Resource": [f"{arn}/{root}{own}/*"],
            },
            {
                "Sid": _id("Read", device),
                **allow,
                "Action": ["s3:GetObject"],
                "Resource": [f"{arn}/{root}{key}" for key in read],
            },
            {
                "Sid": _id("List", device),
                **allow,
                "Action": ["s3:ListBucket"],
                "Resource": [arn],
                "Condition": {"StringLike": {"s3:prefix": [f"{root}{key}" for key in listed]}},
            },
        ],
    }


def _bucket_of(device: DeviceSettings) -> tuple[str, str]:
    """Name of the S3 bucket, and what all keys of the project begin with."""
    url = urlsplit(device.bucket)
    if url.scheme != "s3" or not url.netloc:
        raise SettingsError(f"bucket {device.bucket}: rights are for s3://bucket/prefix; for a folder use the system's")
    prefix = url.path.strip("/")
    return url.netloc, f"{prefix}/{device.project}/" if prefix else f"{device.project}/"


def _id(verb: str, device: DeviceSettings) -> str:
    """Letters and digits only, as the policy language wants it."""
    words = f"{verb}-{device.project}-{device.name}".split("-")
    return "".join(word[:1].upper() + word[1:] for word in words)
