"""The service unit and the container file say what they promise."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"
UNIT = DEPLOYMENTS / "edgeloop-edge.service"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is missing: install Debian's systemd")


@needs_systemd
def test_systemd_finds_the_service_well_hardened():
    """Of an exposure from 0 (safe) to 10, the service has less than 2."""
    done = subprocess.run(
        [ANALYZE, "security", "--offline=yes", "--threshold=20", str(UNIT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@needs_systemd
def test_systemd_knows_every_setting_of_the_service():
    """Nothing in the unit is misspelt: the only complaint is that the program is not installed here."""
    done = subprocess.run([ANALYZE, "verify", str(UNIT)], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if UNIT.name in line and "is not executable" not in line]
    assert lines == []


def test_the_service_is_watched_and_started_anew():
    """A hanging collector is killed, a dead one started again for ever, and a stop leaves time to drain."""
    unit = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert (unit["Type"], unit["Restart"], unit["StartLimitIntervalSec"]) == ("notify", "always", "0")
    assert int(unit["WatchdogSec"]) > 30
    assert int(unit["TimeoutStopSec"]) > 10


def test_the_container_is_not_root_and_takes_only_pinned_packages():
    """The image ends as a user without rights, and every package in it has a hash or is ours."""
    text = (DEPLOYMENTS / "edge.Dockerfile").read_text().replace("\\\n", " ")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    for command in re.findall(r"uv pip install[^&]*|pip install[^&]*", text):
        assert "--require-hashes" in command or "--no-index" in command, command
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    bundle = (DEPLOYMENTS / "edge_bundle.sh").read_text()
    for name in " ".join(copied).split():
        assert name in bundle or name == "*.whl", f"{name} is not in a bundle"
