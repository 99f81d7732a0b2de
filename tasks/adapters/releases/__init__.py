"""Releases: central signs and publishes them, devices verify, try and install them. RELEASES.md says what it all means.

publisher = Publisher(bucket, read_keys(Path("keys"), "yard"))       # central
publisher.publish(release)                                           # the next number of its group, signed
trusted = TrustedReleases(bucket, folder, root)                      # device: what the project's keys have signed
number = trusted.newest("all")                                       # one small GET when nothing is new
installed = install(trusted, trusted.release("all", number), folder) # fetched, verified, smoke-tested
installed = installed_release(folder)                                # what a restart finds

What needs TUF is imported when it is first asked for: a device that follows no releases, and the trial of a model in a
process of its own, do without it and start in half of the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tasks.adapters.releases.installed import (
    InstalledRelease,
    ended,
    go_back,
    installed_release,
    passed,
    refuse,
    refused,
    started,
)
from tasks.adapters.releases.smoke import Answer, Limits, smoke_test, try_model

if TYPE_CHECKING:
    from tasks.adapters.releases.installing import DeviceModel, install
    from tasks.adapters.releases.keys import SigningKeys, create_keys, read_keys
    from tasks.adapters.releases.metadata import ROLES
    from tasks.adapters.releases.publish import Publisher
    from tasks.adapters.releases.signed import latest_release, read_release
    from tasks.adapters.releases.trusted import MetadataExpired, TrustedReleases

__all__ = [
    "ROLES",
    "Answer",
    "DeviceModel",
    "InstalledRelease",
    "Limits",
    "MetadataExpired",
    "Publisher",
    "SigningKeys",
    "TrustedReleases",
    "create_keys",
    "ended",
    "go_back",
    "install",
    "installed_release",
    "latest_release",
    "passed",
    "read_keys",
    "read_release",
    "refuse",
    "refused",
    "smoke_test",
    "started",
    "try_model",
]

_WITH_TUF = {
    "installing": ("DeviceModel", "install"),
    "keys": ("SigningKeys", "create_keys", "read_keys"),
    "metadata": ("ROLES",),
    "publish": ("Publisher",),
    "signed": ("latest_release", "read_release"),
    "trusted": ("MetadataExpired", "TrustedReleases"),
}


def __getattr__(name: str) -> Any:
    for room, names in _WITH_TUF.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
