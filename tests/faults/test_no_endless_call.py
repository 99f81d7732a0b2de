"""No call to a bucket is endless: each verb, through each fault of the way to a real server."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.adapters.bucket import Bucket
from tasks.core.errors import BucketError, ObjectConflict
from tests.faults.proxy import FaultProxy

WITHIN_S = 10.0  # the promise
FAULTS = {"hang": 0, "latency": 12, "reset": 0, "503": 0, "lostack": 0, "cut": 100, "rate": 300}
CONTENT = bytes(range(256)) * 300  # 75 kB, a sample's image


def verbs(bucket, folder, turn):
    """Everything that can be asked of a bucket."""
    return {
        "put": lambda: bucket.put(f"put/{turn}", CONTENT),
        "create": lambda: bucket.create(f"create/{turn}", CONTENT),
        "get": lambda: bucket.get("there/1"),
        "exists": lambda: bucket.exists("there/1"),
        "list": lambda: bucket.list("there/"),
        "children": lambda: bucket.children("there"),
        "remove": lambda: bucket.remove(f"put/{turn}-removed"),
        "download": lambda: bucket.download("there/1", folder / f"download-{turn}"),
    }


def timed_call(call):
    """Seconds, and the error it ended with."""
    began, error = time.monotonic(), None
    try:
        call()
    except BucketError as caught:
        error = caught
    return time.monotonic() - began, error


def ask_everything(proxy, buckets, folder, fault):
    """All verbs at once, each with connections of its own, which are open: name -> (seconds, error)."""
    proxy.set(fault, FAULTS[fault])
    with ThreadPoolExecutor(len(buckets)) as pool:
        running = {
            name: pool.submit(timed_call, verbs(bucket, folder, fault)[name]) for name, bucket in buckets.items()
        }
        outcome = {name: result.result() for name, result in running.items()}
    proxy.set("ok")
    return outcome


@pytest.mark.slow
def test_every_call_ends_within_ten_seconds_through_every_fault(tmp_path, ceph, edge_environment, monkeypatch, promise):
    """An error in one line or a success, in 10 s; nothing half downloaded; afterwards the same calls succeed."""
    with FaultProxy(ceph.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        bucket = Bucket(ceph.fresh_url(), "yard")
        bucket.put("there/1", CONTENT)
        buckets = {name: Bucket(bucket.url, "yard") for name in verbs(bucket, tmp_path, "")}
        for name, call in verbs(bucket, tmp_path, "before").items():
            assert timed_call(call)[1] is None, name
            buckets[name].exists("there/1")
        longest = {}
        for fault in FAULTS:
            outcome = ask_everything(proxy, buckets, tmp_path, fault)
            longest[fault] = max(seconds for seconds, _ in outcome.values())
            for name, (_, error) in outcome.items():
                assert error is None or "\n" not in str(error), name
            assert sum(error is not None for _, error in outcome.values()) >= len(outcome) / 2, f"{fault} was no fault"
            assert not (tmp_path / f"download-{fault}").exists() or fault == "cut"
            for name, own in buckets.items():
                assert timed_call(verbs(own, tmp_path, fault)[name])[1] is None, f"{name} after {fault}"
            assert bucket.get(f"create/{fault}") == CONTENT
            with pytest.raises(ObjectConflict):
                bucket.create(f"create/{fault}", b"of somebody else")
        for one in (bucket, *buckets.values()):
            one.close()
    promise("no endless call", verbs=8, **{fault: f"{seconds:.1f} s" for fault, seconds in longest.items()})
    assert max(longest.values()) <= WITHIN_S
