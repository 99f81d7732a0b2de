"""The bucket on servers that misbehave, and with credentials that come and go."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.adapters.bucket import Bucket
from tasks.core.errors import BucketError
from tests.adapters.s3 import SECRET, fresh_s3_url


@pytest.fixture
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.mark.slow
@pytest.mark.usefixtures("_credentials")
def test_a_server_that_never_answers_costs_one_timeout(monkeypatch):
    """Each verb against a server that accepts and stays silent ends with a BucketError after one timeout, not more."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        bucket = Bucket("s3://hung/p", "yard", timeout=1.0)
        assert bucket._store._s3 is not None  # opened before it is timed
        for call in (lambda: bucket.put("a", b"x"), lambda: bucket.get("a"), lambda: bucket.create("a", b"x")):
            began = time.monotonic()
            with pytest.raises(BucketError, match=r"no answer within 1 s|connection failed"):
                call()
            assert time.monotonic() - began < 3.0
        bucket.close()


@pytest.mark.slow
@pytest.mark.usefixtures("_credentials")
def test_an_unreachable_server_is_a_quick_bucket_error(monkeypatch):
    """A refused connection is an error within the timeout, in one line without credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket = Bucket("s3://nobody/p", "yard", timeout=1.0)
    began = time.monotonic()
    with pytest.raises(BucketError, match="check the network and the endpoint") as caught:
        bucket.put("a", b"x")
    bucket.close()
    assert time.monotonic() - began < 3.0
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("_credentials")
@pytest.mark.parametrize(("failures", "answered"), [(2, True), (99, False)])
def test_a_busy_server_is_asked_a_few_times_by_one_layer_of_retries(monkeypatch, failures, answered):
    """503 is retried four times at most in all: s3fs, botocore and we do not multiply."""
    requests = []

    class Busy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            requests.append(self.headers)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503 if len(requests) <= failures else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    bucket = Bucket("s3://busy/p", "yard")
    if answered:
        bucket.put("a", b"hello")
    else:
        with pytest.raises(BucketError, match="busy"):
            bucket.put("a", b"hello")
    bucket.close()
    server.shutdown()
    server.server_close()
    assert len(requests) == (failures + 1 if answered else 4)
    assert requests[0]["Content-MD5"] == "XUFAKrxLKna5cZ2REBfFkg=="


@contextmanager
def serving(monkeypatch, handler):
    """An HTTP server in place of S3."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.usefixtures("_credentials")
def test_a_body_that_drips_for_ever_is_given_up(monkeypatch):
    """A byte now and then keeps no call alive: the whole body has its time, not each piece of it."""

    class Drip(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(200):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.1)

        def log_message(self, *_):
            pass

    with serving(monkeypatch, Drip):
        bucket = Bucket("s3://slow/p", "yard", timeout=1.5)
        assert bucket._store._s3 is not None  # opened before it is timed
        began = time.monotonic()
        with pytest.raises(BucketError, match="no answer within"):
            bucket.get("a")
        assert time.monotonic() - began < 6
        bucket.close()


@pytest.fixture
def file_of_credentials(request, monkeypatch, tmp_path):
    """(URL of a bucket, the file that its credentials are to be read from, which is not there yet)."""
    url = fresh_s3_url(request)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return url, tmp_path / "credentials"


def test_credentials_that_come_later_are_found(file_of_credentials):
    """Without any the error says what to set; the next call after they are there succeeds, in the same process."""
    url, path = file_of_credentials
    bucket = Bucket(url, "yard")
    with pytest.raises(BucketError, match="no credentials: set AWS_ACCESS_KEY_ID"):
        bucket.put("a.txt", b"x")
    path.write_text(f"[default]\naws_access_key_id = test-key\naws_secret_access_key = {SECRET}\n")
    bucket.put("a.txt", b"x")
    assert bucket.get("a.txt") == b"x"
    bucket.close()


@pytest.mark.slow
@pytest.mark.usefixtures("_credentials")
def test_refused_credentials_are_looked_for_again_and_leave_no_connections_behind(monkeypatch):
    """Every refusal opens a new session; after many of them there are as many descriptors as after the first."""

    class Refusing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b"<Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>"
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def refused():
        before = bucket._store._s3
        with pytest.raises(BucketError, match="ExpiredToken: renew the credentials"):
            bucket.put("a", b"x")
        assert bucket._store._s3 is not before

    with serving(monkeypatch, Refusing):
        bucket = Bucket("s3://refusing/p", "yard")
        for _ in range(2):
            refused()
        gc.collect()
        held = len(os.listdir("/proc/self/fd"))
        for _ in range(6):
            refused()
        gc.collect()
        time.sleep(0.3)
        assert len(os.listdir("/proc/self/fd")) <= held + 2
        bucket.close()
