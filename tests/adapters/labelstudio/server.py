"""A real Label Studio server for tests, with real accounts.

It comes up by `edgeloop labelstudio up`; its environment is made once a checkout (`.venv-labelstudio`).
"""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.labelling.labelstudio import LabelStudioLabelling
from tasks.adapters.labelling.labelstudio_client import LabelStudio
from tasks.adapters.labelling.labelstudio_server import made_token
from tasks.adapters.labels.labelstudio_json import regions_of
from tasks.core.entities import Batch
from tests.adapters.s3 import SECRET
from tests.conftest import ROOT, plain_environment
from tests.tasks.stages import NOON, a_picture, a_sample, seen

CLASSES = ("car", "truck", 'a "b" <c> & d, größe')
WIDTH, HEIGHT = 641, 479
SKIP_REASONS = ("too dark or blurred", "not a picture of this place")
ENVIRONMENT = ROOT / ".venv-labelstudio"


class Server:
    """`edgeloop labelstudio up` as a process."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.folder = home / "labelstudio"
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "flows.cli", "labelstudio", "up", "--port", str(self.port)]
        command += ["--environment", str(ENVIRONMENT)]
        keys = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": SECRET}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.home, env=plain_environment(**keys), stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 600
        while b"Ctrl-C" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9 of Label Studio itself."""
        os.kill(json.loads((self.folder / "server.json").read_text())["pid"], signal.SIGKILL)
        assert self.process.wait(60) != 0

    def end(self) -> None:
        """Ctrl-C, and nothing is left behind."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        shutil.rmtree(self.home, ignore_errors=True)

    def account(self) -> dict[str, str]:
        return json.loads((self.folder / "account.json").read_text())

    def client(self) -> LabelStudio:
        return LabelStudio(self.url, (self.folder / "token").read_text())

    def colleague(self, name: str) -> LabelStudio:
        """Somebody who came by the invitation link, with an own account and token."""
        person = {"user": f"{name}@yard.example", "password": f"password-of-{name}"}
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False, follow_redirects=True) as http:
            link = urljoin(self.url, self.account()["invitation"])
            page = http.get(link)
            form = {"email": person["user"], "password": person["password"], "how_find_us": "Other", "elaborate": ""}
            http.post(str(page.url), data={**form, "csrfmiddlewaretoken": http.cookies["csrftoken"]}).raise_for_status()
        return LabelStudio(self.url, made_token(self.url, person)[0])


@cache
def the_server() -> Server:
    """One server for all tests of a session: its first start takes most of a minute."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="edgeloop-labelstudio-"))
    running = Server(home, port)
    atexit.register(running.end)
    running.start()
    return running


@pytest.fixture
def server():
    return the_server()


@pytest.fixture
def image_of(tmp_path):
    """Local files of samples, as the image cache has them."""
    (tmp_path / "cache").mkdir(exist_ok=True)
    return lambda sample: tmp_path / "cache" / f"{sample.sample_id}.jpg"


@pytest.fixture
def batch_of(request, image_of):
    """Makes a batch of so many pictures, named as its test; half of them with something that a model saw."""

    def make(number, **fields):
        samples = []
        for n in range(number):
            picture = a_picture(n, WIDTH, HEIGHT)
            detections = (seen("car", 0.9, (100.0, 60.0, 333.0, 251.0)),) if n % 2 == 0 else ()
            samples.append(a_sample(n, picture, width=WIDTH, height=HEIGHT, detections=detections))
            image_of(samples[-1]).write_bytes(picture)
        name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[5:60].strip("-")
        known = {"batch_id": name, "created_at": NOON, "class_names": CLASSES, "samples": tuple(samples)}
        return Batch(**{**known, **fields})

    return make


@pytest.fixture
def labelling(server, tmp_path):
    return LabelStudioLabelling(server.client(), Bucket(f"file://{tmp_path}/bucket", "yard"), skip_reasons=SKIP_REASONS)


def tasks_of(labelling, batch):
    """Sample id -> task id, one each."""
    found = list(labelling._tasks(labelling._project(batch.batch_id)))
    assert max(Counter(task.sample_id for task in found).values()) == 1
    return {task.sample_id: task.task_id for task in found}


def submit(person, task_id, sample, *boxes, **fields):
    return person.post(f"/api/tasks/{task_id}/annotations", {"result": regions_of(boxes, sample), **fields})
