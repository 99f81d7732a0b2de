"""Keys that sign the releases of tests: one set for each project, made once in a test process."""

from __future__ import annotations

import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import Publisher, SigningKeys, TrustedReleases, create_keys
from tasks.core.entities import Release

_folder = tempfile.TemporaryDirectory(prefix="edgeloop-test-keys-")


def signing_keys(project: str = "yard") -> SigningKeys:
    return _made_once(project)


@cache
def _made_once(project: str) -> SigningKeys:
    return create_keys(Path(_folder.name) / project, project)


def trusted_root(project: str = "yard") -> str:
    """What a device of the project is given."""
    return str(signing_keys(project).folder / "root.json")


def publish(bucket: Bucket, release: Release, *, now: datetime | None = None) -> Release:
    return Publisher(bucket, signing_keys(bucket.project), now=now).publish(release)


def trusted(bucket: Bucket, folder: Path) -> TrustedReleases:
    """The device's view of a bucket."""
    return TrustedReleases(bucket, folder, Path(trusted_root(bucket.project)).read_bytes())
