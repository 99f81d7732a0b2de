"""A real S3 server for fault tests: Ceph, started once a session, whose daemons can be killed."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.adapters.rtsp import free_port, until
from tests.adapters.s3 import SECRET, credentials

PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph")
KEY = "test-key"
SCRIPT = Path(__file__).with_name("ceph.sh")


class Ceph:
    """One node below `folder`, with one user."""

    def __init__(self, folder: Path) -> None:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            pytest.skip(f"no Ceph: install the Debian packages {PACKAGES} (--no-install-recommends)")
        self._folder = folder
        self._ports = free_port(), free_pair()
        self._names = itertools.count(1)
        self.port = self._ports[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._watch = self._watch_over_us()
        self._run("fresh")
        self.admin("user", "create", "--uid=edge", "--display-name=edge")
        self.allow(KEY, SECRET)
        until(self.answers, 30, "the gateway")

    def _watch_over_us(self) -> subprocess.Popen[bytes]:
        """No daemon outlives this process, however it ends."""
        program = "while kill -0 $1 2>/dev/null; do sleep 1; done; exec bash $2 kill $3 0 0"
        return subprocess.Popen(
            ["bash", "-c", program, "ceph-watch", str(os.getpid()), str(SCRIPT), str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _run(self, command: str) -> None:
        done = subprocess.run(
            ["bash", str(SCRIPT), command, str(self._folder), *map(str, self._ports)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no pipes: the daemons would keep them open
            timeout=180,
            check=False,
        )
        if done.returncode:
            logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in self._folder.glob("*.out"))
            pytest.fail(f"ceph.sh {command} ended with {done.returncode}:\n{logs}")

    def admin(self, *arguments: str) -> None:
        """`radosgw-admin`."""
        subprocess.run(
            ["radosgw-admin", *arguments],
            env={"CEPH_CONF": str(self._folder / "ceph.conf"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            timeout=60,
            check=True,
        )

    def allow(self, key: str, secret: str) -> None:
        """Give the user a key."""
        self.admin("key", "create", "--uid=edge", "--key-type=s3", f"--access-key={key}", f"--secret-key={secret}")

    def refuse(self, key: str) -> None:
        """Take a key away."""
        self.admin("key", "rm", "--uid=edge", "--key-type=s3", f"--access-key={key}")

    def client(self, key: str = KEY, secret: str = SECRET):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )

    def answers(self) -> bool:
        try:
            self.client().list_buckets()
        except (ClientError, BotoCoreError):
            return False
        return True

    def fresh_url(self) -> str:
        """`s3://bucket/prefix` of a new bucket."""
        name = f"fleet-{next(self._names)}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}/some/prefix"

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What a device needs to reach it."""
        return credentials(endpoint or self.endpoint)

    def kill(self) -> None:
        """SIGKILL for every daemon."""
        self._run("kill")

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._watch.kill()
        self._watch.wait()

    def start(self) -> None:
        """Start the daemons again, on what the disk has."""
        self._run("start")


def free_pair() -> int:
    """A free port whose next one is free, too."""
    while True:
        first = free_port()
        if first < 60_000 and _is_free(first + 1):
            return first


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
