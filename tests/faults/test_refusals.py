"""A bucket that takes nothing: read-only, its quota used up, or with a key that is no longer valid."""

import json
import time

import pytest

from tests.adapters.s3 import SECRET
from tests.faults.ceph import KEY
from tests.faults.edge import Edge, delivered, lost

RESUMED_S = 30.0
NEW_KEY, NEW_SECRET = "renewed-key", "renewed-secret-of-the-tests"


def write_credentials(path, key, secret):
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")


def deny_writes(ceph, bucket):
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    ceph.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def quota(ceph, objects):
    ceph.admin("quota", "set", "--quota-scope=user", "--uid=edge", f"--max-objects={objects}")
    ceph.admin("quota", "enable" if objects >= 0 else "disable", "--quota-scope=user", "--uid=edge")


@pytest.mark.slow
def test_a_bucket_that_takes_nothing_costs_nothing_but_time(tmp_path, ceph, edge_environment, monkeypatch, promise):
    """Read-only, full, a key taken away and another in the file of credentials: told, tried again, nothing lost."""
    url = ceph.fresh_url()
    name, file = url.split("/")[2], tmp_path / "credentials"
    write_credentials(file, KEY, SECRET)
    environment = {
        "AWS_ENDPOINT_URL": ceph.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
    }
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)

    def renew():
        ceph.allow(NEW_KEY, NEW_SECRET)
        write_credentials(file, NEW_KEY, NEW_SECRET)

    cases = {
        "read-only": (
            lambda: deny_writes(ceph, name),
            lambda: ceph.client().delete_bucket_policy(Bucket=name),
            "AccessDenied",
        ),
        "full": (lambda: quota(ceph, 1), lambda: quota(ceph, -1), "QuotaExceeded"),
        "key taken away": (lambda: ceph.refuse(KEY), renew, "InvalidAccessKeyId"),
    }
    resumed = {}
    try:
        with Edge(tmp_path, url, environment=environment, fraction=0.2) as edge:
            edge.wait_for(lambda status: status.uploaded >= 3, 60, "uploads")
            for case, (break_it, mend_it, code) in cases.items():
                break_it()
                edge.wait_for(lambda status, code=code: code in status.last_error, 60, f"{code} when {case}")
                time.sleep(2)
                before = edge.status().uploaded
                mend_it()
                resumed[case] = edge.wait_for(lambda s, before=before: s.uploaded > before + 3, 60, f"uploads, {case}")
            edge.wait_for(lambda status: status.outbox_samples < 10, 60, "the backlog")
            status = edge.stop()
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        there = delivered(edge)[0]
    finally:
        ceph.allow(KEY, SECRET)
    gone = lost(status, len(set(there)))
    promise("a bucket that refuses", lost=gone, **{case: f"resumed after {s:.1f} s" for case, s in resumed.items()})
    assert max(resumed.values()) <= RESUMED_S
    assert gone == 0
    assert len(there) == len(set(there))
