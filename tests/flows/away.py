"""A real Prefect server and worker in processes of their own, to be stopped and killed while a collector runs."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import stamina

from flows.demo.servers import free_port, prefect_environment, stop, wait_until_healthy
from tasks.collector import collector_pid, read_status
from tasks.core.entities import DeviceStatus
from tasks.core.settings import DeviceSettings
from tests.conftest import ROOT, plain_environment

POOL = "edge"
_DEPLOY = """
import sys, json
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from flows.collect import collect
deployment = RunnerDeployment.from_flow(
    collect, name=sys.argv[1], work_pool_name=sys.argv[2], entrypoint_type=EntrypointType.MODULE_PATH,
    parameters=json.loads(sys.stdin.read()), enforce_parameter_schema=True,
)
print(deployment.apply())
"""


class Prefect:
    """Server, pool and worker in a folder, on loopback. `environment` is what the worker and all below it have."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = prefect_environment(folder, self.port) | {
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
            "PREFECT_LOGGING_TO_API_ENABLED": "true",
        }
        self.environment = {**plain_environment(), **own, **environment}
        for name in ("PREFECT_TEST_MODE", "PREFECT_API_AUTH_STRING"):
            self.environment.pop(name, None)
        Path(own["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self.deployment = ""

    @property
    def home(self) -> Path:
        return Path(self.environment["PREFECT_HOME"])

    # --- processes ---------------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        self.server = self._start("server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        wait_until_healthy(f"{self.url}/api/health", self.server, self.home / "server.log")

    def start_worker(self) -> None:
        arguments = ("worker", "start", "--pool", POOL, "--type", "process", "--limit", "2", "--name", "edge-1")
        self.worker = self._start("worker", *arguments)

    def kill_server(self) -> None:
        """SIGKILL: nothing is closed or said goodbye to."""
        self.server = _killed(self.server)

    def kill_worker(self) -> None:
        """SIGKILL for the worker and the flow runs that it started."""
        self.worker = _killed(self.worker)

    @property
    def worker_runs(self) -> bool:
        """It gives up when the server is away for about twenty minutes, and ends the runs that it has started."""
        return self.worker is not None and self.worker.poll() is None

    def stop(self) -> None:
        for process in (self.worker, self.server):
            if process is not None:
                stop(process)

    def _start(self, log: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    # --- runs --------------------------------------------------------------------------------------------------------

    def deploy(self, device: DeviceSettings) -> None:
        """The `collect` deployment of a device, by its module, as on a device."""
        httpx.post(f"{self.url}/api/work_pools/", json={"name": POOL, "type": "process"}, timeout=30)
        parameters = json.dumps({"device": device.model_dump(mode="json")})
        done = subprocess.run(
            [sys.executable, "-c", _DEPLOY, device.name, POOL],
            cwd=ROOT,
            env=self.environment,
            input=parameters,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        self.deployment = done.stdout.split()[-1]

    def run(self, **parameters: Any) -> str:
        """Ask for a run of the deployment; its id."""
        wanted = {"state": {"type": "SCHEDULED"}, "parameters": parameters, "idempotency_key": secrets.token_hex(8)}
        return str(self._post(f"deployments/{self.deployment}/create_flow_run", wanted)["id"])

    def state_of(self, run: str) -> str:
        with suppress(httpx.HTTPError):
            return str(httpx.get(f"{self.url}/api/flow_runs/{run}", timeout=30).json()["state"]["type"])
        return "UNREACHABLE"

    def cancel(self, run: str) -> None:
        self._post(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def wait_for(self, run: str, *states: str, within: float) -> str:
        until(lambda: self.state_of(run) in states, within, f"run {run}: {states}", self.logs)
        return self.state_of(run)

    def tasks_of(self, run: str) -> dict[str, str]:
        found = self._post("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {task["name"]: task["state_type"] or "" for task in found}

    def table(self, key: str) -> list[dict[str, Any]]:
        """The newest artifact of a key."""
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
        found = self._post("artifacts/filter", wanted)
        assert found, f"no artifact {key}"
        return list(json.loads(found[0]["data"]))

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        """A server on SQLite that is busy answers 503 now and then: it is asked again."""

        @stamina.retry(on=httpx.HTTPError, attempts=10, timeout=60, wait_max=3)
        def asked() -> Any:
            answer = httpx.post(f"{self.url}/api/{path}", json=content, timeout=30)
            answer.raise_for_status()
            return answer.json()

        return asked()

    def logs(self) -> str:
        """The end of what server and worker wrote, for a test that fails."""
        return "\n".join(
            (self.home / f"{name}.log").read_text(errors="replace")[-3000:] for name in ("server", "worker")
        )


@contextmanager
def prefect_with_worker(folder: Path, device: DeviceSettings, **environment: str) -> Iterator[Prefect]:
    """All of it up, and `device` deployed. In the end whatever runs is gone, the collector too."""
    prefect = Prefect(folder, **environment)
    try:
        prefect.start_server()
        prefect.deploy(device)
        prefect.start_worker()
        yield prefect
    finally:
        prefect.stop()
        if (pid := collector_pid(device.outbox)) is not None:
            os.kill(pid, signal.SIGKILL)


def until(happens: Callable[[], object], within: float, what: str, explain: Callable[[], str] = lambda: "") -> float:
    """Wait until something is so; the seconds that it took."""
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < within, f"{what}: not within {within:.0f} s\n{explain()}"
        time.sleep(0.2)
    return time.monotonic() - began


def status_of(device: DeviceSettings) -> DeviceStatus:
    status = read_status(device.outbox)
    assert status is not None
    return status


def frames_grow(device: DeviceSettings, seconds: float, every: float) -> list[int]:
    """The frames decided, looked at again and again for so long."""
    seen, deadline = [status_of(device).frames], time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(every, max(0.1, deadline - time.monotonic())))
        seen.append(status_of(device).frames)
    return seen


def _killed(process: subprocess.Popen[bytes] | None) -> None:
    assert process is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)
