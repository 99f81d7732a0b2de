"""A real S3 server for tests: moto's, in this process, on a free loopback port."""

from __future__ import annotations

import itertools
import logging
import os

import boto3
import pytest
from moto.server import ThreadedMotoServer

SECRET = "canary-secret-of-the-tests"
_numbers = itertools.count(1)
_server: ThreadedMotoServer | None = None


def fresh_s3_url(request: pytest.FixtureRequest) -> str:
    """`s3://bucket/prefix` of a new bucket; the environment of the test points at the server."""
    endpoint = _endpoint()
    environment = pytest.MonkeyPatch()
    request.addfinalizer(environment.undo)
    for name, value in credentials(endpoint).items():
        environment.setenv(name, value)
    name = f"fleet-{os.getpid()}-{next(_numbers)}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}/some/prefix"


def credentials(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _endpoint() -> str:
    global _server
    if _server is None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request buries what a failed test says
        _server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        _server.start()
    host, port = _server.get_host_and_port()
    return f"http://{host}:{port}"
