"""Roboflow's `InferencePipeline` as a side of the edge benchmark: in its own environment, in a process of its own.

The environment is several GB and is made below `.benchmarks/` when it is asked for, from `peer_requirements.txt`. The
process imports once, which takes up to minutes, and then answers round after round.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.benchmarks.edge_contenders import Contender
from tests.benchmarks.pairs import Timed

REQUIREMENTS = Path(__file__).with_name("peer_requirements.txt")
ROOT = Path(__file__).resolve().parents[2]
ROOM_BYTES = 15 * 10**9  # on the disk, before anything is installed
INSTALL_S, ANSWER_S = 3600, 900  # an import from a cold disk took minutes
HOW_TO_GET_IT = "`python -m tests.benchmarks --only edge --peer-inference` installs it below .benchmarks/, several GB"
OFFLINE = {  # no telemetry, no version check, no call of an API; custom logic needs no key
    "OFFLINE_MODE": "True",
    "TELEMETRY_OPT_OUT": "True",
    "TELEMETRY_USE_PERSISTENT_QUEUE": "False",
    "METRICS_ENABLED": "False",
    "DISABLE_VERSION_CHECK": "True",
    "ACTIVE_LEARNING_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "INFERENCE_WARNINGS_DISABLED": "True",
    "PYTHONWARNINGS": "ignore",
}
KEYS = ("ROBOFLOW_API_KEY", "API_KEY")


class PeerMissing(Exception):
    """It could not be installed or started: one line that says why."""


def environment(folder: Path, requirements: Path = REQUIREMENTS) -> Path:
    """The peer's Python below `folder`, installed now unless it is there. Raises PeerMissing."""
    home = folder.absolute() / "inference"
    python, stamp = home / "bin" / "python", home / f"installed-{_digest(requirements)}"
    if stamp.exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise PeerMissing(f"there is no {uv.name} beside {Path(sys.executable).name}: run `make setup`")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(home, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < ROOM_BYTES:
        raise PeerMissing(f"{free / 1e9:.1f} GB of disk are free, {ROOM_BYTES / 1e9:.0f} GB are asked for")
    print("Installing Roboflow's inference into an environment of its own: several GB.", file=sys.stderr, flush=True)
    _run(str(uv), "venv", "--quiet", "--python", sys.executable, str(home))
    _run(str(uv), "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(requirements))
    stamp.touch()
    return python


def _digest(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]


def _run(*command: str) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(reason_in(str(error))) from None
    if ended.returncode:
        raise PeerMissing(reason_in(ended.stderr) or f"exit status {ended.returncode}")


def reason_in(told: str) -> str:
    """The line of an error message that says most, without addresses."""
    lines = [re.sub(r"^\W+", "", line.strip()) for line in told.splitlines()]
    lines = [line for line in lines if line and not line.lower().startswith(("warning", "hint", "traceback"))]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(error|exception|missing)\b", line, re.IGNORECASE)]
    line = (errors or lines or [""])[-1]
    return re.sub(r"\w+://\S+", "a registry", line)[:300]


class InferencePipelinePeer(Contender):
    """`InferencePipeline` with the plain loop's function as its custom logic; each frame of the file, no `max_fps`."""

    name = "Roboflow InferencePipeline"

    def __init__(self, python: Path, model: Path, video: Path, threads: int, frames: int, format_: str) -> None:
        super().__init__(frames)
        self._folder = tempfile.TemporaryDirectory(prefix="peer-", dir=python.parents[2])
        self._told = Path(self._folder.name) / "told.txt"
        command = (str(python), "-m", "tests.benchmarks.peer_process")
        arguments = (str(model), str(video), str(threads), str(frames), format_)
        with open(self._told, "w") as told:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                cwd=ROOT,
                env=environment_variables(self._folder.name),
            )
        try:
            self.versions: dict[str, str] = self._answer()
        except PeerMissing:
            self.close()
            raise

    def __call__(self) -> Timed:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("again\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerMissing(self._why()) from None
        answer = self._answer()
        self.detections = answer["detections"]
        return Timed(answer["wall"], answer["cpu"])

    @property
    def described(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        limit = threading.Timer(ANSWER_S, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        limit.cancel()
        if not line:
            self._process.wait()
            raise PeerMissing(self._why())
        return json.loads(line)

    def _why(self) -> str:
        return reason_in(self._told.read_text(errors="replace")) or "its process ended without a word"


def environment_variables(caches: str) -> dict[str, str]:
    """Ours without keys, without what would lead it to our packages, offline, and its caches where they can go."""
    ours = {name: value for name, value in os.environ.items() if name not in (*KEYS, "PYTHONPATH", "VIRTUAL_ENV")}
    return {**ours, **OFFLINE, "MODEL_CACHE_DIR": caches, "HF_HOME": caches, "MPLCONFIGDIR": caches}
