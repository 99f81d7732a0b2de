"""`edgeloop edge run`, as a service manager runs it: its end, and its standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from tasks.collector import CollectorConfig, run_collector, start_detached
from tasks.core.errors import SettingsError
from tests.conftest import plain_environment
from tests.tasks.collecting import a_device, a_folder, sampling


@contextmanager
def bucket_that_takes_nothing():
    """(address, event): it says that nothing is there, and never answers to a PUT of an image; the event is that."""
    asked, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815

        def do_PUT(self):
            if "/samples/" in self.path:
                asked.set()
            over.wait(60)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def edge_run(tmp_path, device, **environment):
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(json.loads(device.model_dump_json())))
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "edge", "run", "--device", str(path)],
        env=plain_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_service_ends_within_ten_seconds_though_an_upload_hangs(tmp_path):
    """SIGTERM while the bucket does not answer to four images: the process has gone in 10 s, the spool is whole."""
    frames = a_folder(tmp_path / "frames", 30)
    before = a_device(tmp_path, frames, bucket="file:///proc/none")
    waiting = run_collector(before, sampling=sampling(1.0), follow_releases=False).outbox_samples
    assert waiting > 20
    secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with bucket_that_takes_nothing() as (endpoint, asked):
        device = a_device(tmp_path, frames, bucket="s3://away/p", trusted_root="")
        with edge_run(tmp_path, device, AWS_ENDPOINT_URL=endpoint, **secrets) as process:
            assert asked.wait(60)
            time.sleep(0.5)
            began = time.monotonic()
            os.kill(process.pid, signal.SIGTERM)
            _, complaints = process.communicate(timeout=30)
            took = time.monotonic() - began
    assert process.returncode == 0, complaints[-2000:]
    assert took < 10
    assert len(list((tmp_path / "outbox" / "samples").glob("*.jpg"))) == waiting


def test_a_collector_that_runs_apart_has_no_standard_output(tmp_path):
    """A detached collector with a stdout consumer is refused with the way out; its log would grow for ever."""
    device = a_device(tmp_path, tmp_path, consumers=[{"type": "stdout"}])
    with pytest.raises(SettingsError, match="type file, or run `edgeloop edge run`"):
        start_detached(CollectorConfig(device=device))


@pytest.mark.slow
def test_standard_output_holds_detections_and_nothing_else(tmp_path):
    """Every line that `edge run` writes to standard output, to its end, is one of the consumer's JSON lines."""
    device = a_device(tmp_path, a_folder(tmp_path / "frames", 30), trusted_root="", consumers=[{"type": "stdout"}])
    with edge_run(tmp_path, device) as process:
        first = process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        rest, complaints = process.communicate(timeout=30)
    assert process.returncode == 0, complaints[-2000:]
    for line in [first, *rest.splitlines()]:
        assert json.loads(line)["camera"] == "gate"
