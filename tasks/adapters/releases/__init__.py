"""Releases: central publishes them, devices fetch, check and install them.

publish(bucket, release)                                       # central: the next number of its group
release = latest_release(bucket, "yard", after=3)              # device: is there anything newer?
installed = install(bucket, release, Path("outbox/installed")) # fetched, verified, smoke-tested
installed = installed_release(Path("outbox/installed"))        # what a restart finds
"""

from tasks.adapters.releases.install import InstalledRelease, go_back, install, installed_release
from tasks.adapters.releases.publish import latest_release, publish, read_release
from tasks.adapters.releases.smoke import smoke_test

__all__ = [
    "InstalledRelease",
    "go_back",
    "install",
    "installed_release",
    "latest_release",
    "publish",
    "read_release",
    "smoke_test",
]
