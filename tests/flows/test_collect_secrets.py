"""Secrets stay where they are: none of them in what a device writes, sends or tells."""

from __future__ import annotations

import base64
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from flows.collect import collect
from flows.demo.servers import free_port
from tasks.adapters.bucket import Bucket
from tasks.collect import refuse_passwords
from tasks.collector import stop_collector
from tasks.core.errors import SettingsError
from tests.adapters.s3 import SECRET, fresh_s3_url
from tests.conftest import edgeloop
from tests.tasks.collecting import a_device, a_folder

PLANTED = {
    "GATE_PASSWORD": "canary-of-the-gate/4+1",
    "EDGELOOP_INFER_KEY": "canary-of-infer-59d1c7",
    "EDGELOOP_MQTT_PASSWORD": "canary-of-mqtt-11b0aa",
}
FRAMES = 1500  # of which half a percent is kept


def forms_of(secret: str) -> list[bytes]:
    """As it is, in an address, and as Basic authentication would send it."""
    as_user = base64.b64encode(f"viewer:{secret}".encode()).strip(b"=")
    return [secret.encode(), quote(secret, safe="").encode(), as_user]


def database_of_prefect() -> bytes:
    """Everything that Prefect's server keeps, as SQL: its file may be half in a journal."""
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    path = PREFECT_API_DATABASE_CONNECTION_URL.value().split("///", 1)[1]
    connection = sqlite3.connect(path, timeout=30)
    try:
        return "\n".join(connection.iterdump()).encode()
    finally:
        connection.close()


def use_the_server(port: int) -> None:
    """A request with the right key, one with a wrong one."""
    _, image = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))
    for key in (PLANTED["EDGELOOP_INFER_KEY"], "wrong"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/infer", data=image.tobytes())
        request.add_header("Authorization", f"Bearer {key}")
        request.add_header("Content-Type", "image/jpeg")
        with suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(request, timeout=20).read()


@pytest.mark.slow
def test_planted_secrets_are_in_nothing_that_a_collector_writes_or_sends(request, tmp_path, monkeypatch, prefect):
    """A password in a camera's address, AWS's, the server's and MQTT's: 0 copies in outbox, logs, bucket, Prefect."""
    url = fresh_s3_url(request)
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    server, metrics = free_port(), free_port()
    device = a_device(
        tmp_path,
        "",
        url,
        cameras=[
            {"name": "yard", "source": str(a_folder(tmp_path / "frames", FRAMES))},
            {"name": "dock", "source": "rtsp://viewer:${GATE_PASSWORD}@127.0.0.1:9/stream?channel=1"},
        ],
        server={"port": server},
        metrics={"port": metrics},
        consumers=[{"type": "mqtt", "host": "127.0.0.1", "port": 9}],
        log_format="json",
    )
    try:
        collect(device, window_seconds=60, until_frames=FRAMES)
        use_the_server(server)
        scraped = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10).read()
        collect(device, window_seconds=1)
    finally:
        assert stop_collector(device.outbox)
    bucket = Bucket(url, "yard")
    places = {
        str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("outbox/**/*") if path.is_file()
    }
    places |= {f"bucket {key}": bucket.get(key) for key in bucket.list()}
    bucket.close()
    config = tmp_path / "project.yaml"
    config.write_text(f"project: yard\nbucket: {url}\nclasses: [car]\n")
    shown = edgeloop("status", "--config", config, "--json", cwd=tmp_path)
    places |= {"metrics": scraped, "edgeloop status": f"{shown.stdout}{shown.stderr}".encode()}
    places["Prefect"] = database_of_prefect()

    # What has to be there for the search to mean anything.
    assert b'"event": "camera"' in places["outbox/collector.log"]
    assert b"camera dock" in places["outbox/collector.log"]
    assert any(key.endswith(".jpg") for key in places)
    assert b"edgeloop_camera_up" in scraped
    assert b'"dock"' in shown.stdout.encode()
    assert b"GATE_PASSWORD" in places["Prefect"]
    assert b"GATE_PASSWORD" in places["outbox/collector.json"]
    found = [
        (place, name)
        for name, value in (PLANTED | {"AWS_SECRET_ACCESS_KEY": SECRET}).items()
        for place, content in places.items()
        if any(form in content for form in forms_of(value))
    ]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert found == []


def test_a_password_in_an_address_is_refused_by_the_flow(tmp_path):
    """Run parameters are stored by Prefect; the error names the camera and what to do, and not the password."""
    device = a_device(tmp_path, "rtsp://viewer:canary-plain@192.0.2.10/stream")
    with pytest.raises(SettingsError, match=r"camera gate: its address holds a password.*write \$\{NAME\}") as raised:
        refuse_passwords(device)
    assert "canary-plain" not in str(raised.value)
    refuse_passwords(a_device(tmp_path, "rtsp://viewer:${GATE_PASSWORD}@192.0.2.10/stream"))
    assert not Path(device.outbox).exists()
