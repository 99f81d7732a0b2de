"""A network namespace in which every attempt to leave the machine is counted and none succeeds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

GATEWAY, ADDRESS = "10.255.0.1", "10.255.0.2/24"


def ip(*arguments: str) -> str:
    command = shutil.which("ip") or "/usr/sbin/ip"
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=True).stdout


class ClosedNetwork:
    """Loopback works; all else goes to a default route that nobody listens on, where packets are counted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = [shutil.which("ip") or "/usr/sbin/ip", "netns", "exec", name]

    def run(self, *command: str) -> str:
        return subprocess.run([*self.prefix, *command], capture_output=True, text=True, check=True).stdout

    @property
    def packets_sent(self) -> int:
        """Name look-ups and connections that were tried, as packets on the way out."""
        return int(self.run("cat", "/sys/class/net/out0/statistics/tx_packets"))


@contextmanager
def closed_network() -> Iterator[ClosedNetwork]:
    """Skips where namespaces cannot be made: that takes root and Debian's iproute2."""
    if os.geteuid() != 0 or not (shutil.which("ip") or os.path.exists("/usr/sbin/ip")):
        pytest.skip("a network namespace takes root and Debian's iproute2")
    network = ClosedNetwork(f"edgeloop-{os.getpid()}")
    ip("netns", "add", network.name)
    try:
        network.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        network.run("ip", "link", "set", "lo", "up")
        network.run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
        network.run("ip", "addr", "add", ADDRESS, "dev", "out0")
        network.run("ip", "link", "set", "out1", "up")
        network.run("ip", "link", "set", "out0", "up")
        network.run("ip", "route", "add", "default", "via", GATEWAY, "dev", "out0")
        # A known neighbour, so that packets are sent at once instead of first being asked for.
        network.run("ip", "neigh", "add", GATEWAY, "lladdr", "02:00:00:00:00:01", "dev", "out0", "nud", "permanent")
        yield network
    finally:
        ip("netns", "del", network.name)
