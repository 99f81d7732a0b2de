"""A device in a network namespace of its own, whose link can be made as bad as one likes."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType

import pytest

PACKAGES = "iproute2 nftables"


class Namespace:
    """`address` is this machine as the device sees it; `command` starts a program there."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("no network namespace: it takes root")
        if not (shutil.which("ip") and shutil.which("nft") and shutil.which("tc")):
            pytest.skip(f"no network namespace: install the Debian packages {PACKAGES}")
        number = os.getpid() % 250
        self.name = f"edge{os.getpid()}"
        self.address = f"10.99.{number}.1"
        self._outer, self._inner = f"elo{os.getpid()}", f"eli{os.getpid()}"
        self._device = f"10.99.{number}.2"
        self.command = ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Namespace:
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "link", "add", self._outer, "type", "veth", "peer", "name", self._inner, "netns", self.name)
            run("ip", "addr", "add", f"{self.address}/24", "dev", self._outer)
            run("ip", "link", "set", self._outer, "up")
            run("ip", "-n", self.name, "addr", "add", f"{self._device}/24", "dev", self._inner)
            run("ip", "-n", self.name, "link", "set", self._inner, "up")
            run("ip", "-n", self.name, "link", "set", "lo", "up")
            self._filter("add table inet f")
            self._filter("add chain inet f out { type filter hook output priority 0; }")
            self._filter("add chain inet f in { type filter hook input priority 0; }")
        except subprocess.CalledProcessError as error:
            self.__exit__(None, None, None)
            pytest.skip(f"no network namespace: {error.stderr.decode().strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._outer], capture_output=True, check=False)

    def clear(self) -> None:
        """A good link again."""
        self._filter("flush chain inet f out")
        self._filter("flush chain inet f in")
        subprocess.run(
            ["tc", "-n", self.name, "qdisc", "del", "dev", self._inner, "root"], capture_output=True, check=False
        )
        run("ip", "link", "set", self._outer, "up")

    def blackhole(self) -> None:
        """Nothing comes or goes, and nobody is told."""
        self._filter(f"add rule inet f out oifname {self._inner} drop")
        self._filter(f"add rule inet f in iifname {self._inner} drop")

    def loss(self, percent: int) -> None:
        """So many of a hundred packets are lost, each way."""
        for chain, side in (("out", "oifname"), ("in", "iifname")):
            self._filter(f"add rule inet f {chain} {side} {self._inner} numgen random mod 100 < {percent} drop")

    def reset(self) -> None:
        """Every connection is refused with RST."""
        self._filter(f"add rule inet f out oifname {self._inner} meta l4proto tcp reject with tcp reset")

    def link_down(self) -> None:
        run("ip", "link", "set", self._outer, "down")

    def rate(self, rate: str) -> None:
        """Upload at `rate`, as tc spells it: 2mbit."""
        shape = ("tbf", "rate", rate, "burst", "32kb", "latency", "400ms")
        run("tc", "-n", self.name, "qdisc", "add", "dev", self._inner, "root", *shape)

    def _filter(self, rule: str) -> None:
        run(*self.command, "nft", rule)


def run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)
