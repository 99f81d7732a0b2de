"""The edge software installs beside itself, takes over when it is well, and goes back when it is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 700  # of the base install at most
SECONDS = 1.0  # of CPU that our flow's import may take over Prefect's

pytestmark = pytest.mark.slow


def a_tree(folder: Path, version: str, **changes: tuple[str, str]) -> Path:
    """A copy of the sources under another version; changes: file with __ for / -> (old, new)."""
    for name in ("flows", "tasks", "configs", "deployments", "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    text = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(re.sub(r'^version = ".*"$', f'version = "{version}"', text, flags=re.M))
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name, (old, new) in changes.items():
        file = folder / (name.replace("__", "/") + ".py")
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    """Four versions: two that work, one that starts and dies, one that cannot be started."""
    folder = tmp_path_factory.mktemp("bundles")
    trees = {
        "1.0.0": {},
        "1.1.0": {},
        "1.2.0": {
            "tasks__collector__run": ("    config = CollectorConfig(", "    raise SystemExit(3)\n    config = (")
        },
        "1.3.0": {"tasks__adapters__selftest": ("import cv2", "import cv2_of_another_world as cv2")},
    }
    made = {}
    for version, changes in trees.items():
        tree = a_tree(folder / f"tree-{version}", version, **changes)
        made[version] = folder / f"bundle-{version}"
        subprocess.run([tree / "deployments" / "edge_bundle.sh", made[version]], check=True, capture_output=True)
    return made


class Machine:
    """A device: a camera that is a folder of pictures, a service that is restarted by a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "opt"
        self.pid_file = folder / "service.pid"
        pictures = folder / "pictures"
        pictures.mkdir(parents=True)
        for number in range(20):
            cv2.imwrite(str(pictures / f"{number:03}.jpg"), np.full((48, 64, 3), number * 10, np.uint8))
        device = {
            "name": "gate-1",
            "project": "yard",
            "bucket": str(folder / "bucket"),
            "outbox": str(folder / "outbox"),
            "cameras": [{"name": "north", "source": str(pictures)}],
        }
        self.device = folder / "device.yaml"
        self.device.write_text(yaml.safe_dump(device))
        self.restart = folder / "restart.sh"
        self.restart.write_text(
            f"#!/bin/bash\n"
            f"pid=$(cat {self.pid_file} 2>/dev/null) && kill $pid 2>/dev/null && tail --pid=$pid -f /dev/null\n"
            f"{self.root}/current/venv/bin/edgeloop edge run --device {self.device} "
            f">>{folder}/service.log 2>&1 </dev/null & echo $! >{self.pid_file}\n"
        )
        self.restart.chmod(0o755)

    def __call__(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {
            "EDGELOOP_ROOT": str(self.root),
            "EDGELOOP_DEVICE": str(self.device),
            "EDGELOOP_RESTART": str(self.restart),
            "EDGELOOP_RUN_AS": "",
            "EDGELOOP_HEALTHY_WITHIN": "120",
        }
        return subprocess.run(
            [ROOT / "deployments" / "edge_install.sh", *map(str, arguments)],
            env={**os.environ, **own, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def running(self) -> str:
        return os.readlink(self.root / "current").rpartition("/")[2]

    def stop(self) -> None:
        if self.pid_file.exists():
            pid = int(self.pid_file.read_text())
            try:
                os.kill(pid, signal.SIGTERM)
                time.sleep(2)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return


@pytest.fixture(scope="module")
def machine(tmp_path_factory, bundles):
    machine = Machine(tmp_path_factory.mktemp("machine"))
    done = machine("install", bundles["1.0.0"])
    assert done.returncode == 0, done.stderr
    yield machine
    machine.stop()


def test_the_first_install_runs(machine):
    """After the first install the collector runs from the version's own environment."""
    assert machine.running() == "1.0.0"
    assert machine("list").stdout == "1.0.0 runs\n"


def test_the_base_install_is_small_and_quickly_imported(machine):
    """The edge install is under 700 MB with one OpenCV and nothing heavy; our flow's import adds little."""
    venv = machine.root / "versions" / "1.0.0" / "venv"
    used = sum(path.lstat().st_size for path in venv.rglob("*") if path.is_file()) / 1e6
    assert used < MEGABYTES, f"{used:.0f} MB"
    packages = {path.name.split("-")[0].lower() for path in venv.glob("lib/python*/site-packages/*.dist-info")}
    assert not packages & {"torch", "pandas", "fiftyone", "ultralytics", "matplotlib", "pyarrow"}
    assert len([name for name in packages if name.startswith("opencv")]) == 1
    code = (
        "import time; import prefect; between = time.process_time(); "
        "import flows.collect; print(time.process_time() - between)"
    )
    run = [venv / "bin" / "python", "-W", "ignore", "-c", code]
    seconds = min(float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in range(3))
    print(f"promise: the base install is small and quick | {used:.0f} MB | import {seconds:.2f} s over prefect's")
    assert seconds <= SECONDS


def test_an_upgrade_takes_over_and_can_be_gone_back_from(machine, bundles):
    """The new version runs on the same spool, the old one stays, and one command goes back to it."""
    done = machine("install", bundles["1.1.0"])
    assert done.returncode == 0, done.stderr
    assert machine.running() == "1.1.0"
    done = machine("rollback")
    assert done.returncode == 0, done.stderr
    assert machine.running() == "1.0.0"


def test_a_version_that_dies_is_gone_back_from(machine, bundles):
    """A version whose collector ends at once is replaced by the one before, which then runs, with exit code 2."""
    before = machine.running()
    done = machine("install", bundles["1.2.0"], EDGELOOP_HEALTHY_WITHIN="20")
    assert done.returncode == 2
    assert f"went back to {before}, which runs" in done.stderr
    assert machine.running() == before


def test_a_version_that_does_not_fit_the_device_is_never_switched_to(machine, bundles):
    """What fails its check beside the running version changes nothing, and its files go."""
    before = machine.running()
    done = machine("install", bundles["1.3.0"])
    assert done.returncode == 2
    assert machine.running() == before
    assert not (machine.root / "versions" / "1.3.0").exists()


def test_a_damaged_bundle_is_refused(machine, bundles, tmp_path):
    """A bundle whose bytes are not those that were made is not installed."""
    damaged = shutil.copytree(bundles["1.1.0"], tmp_path / "bundle")
    wheel = next(damaged.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    done = machine("install", damaged)
    assert done.returncode == 2
    assert "is damaged" in done.stderr


def test_a_runtime_of_ones_own_replaces_the_cpu_one(machine, bundles):
    """A wheel that the user names takes the place of the pinned ONNX Runtime."""
    folder = machine.folder / "wheel"
    pin = re.search(
        r"^onnxruntime==(\S+) ; python_full_version >= '3.11'|^onnxruntime==(\S+)",
        (ROOT / "requirements" / "edge.txt").read_text(),
        re.M,
    )
    assert pin
    version = next(part for part in pin.groups() if part)
    wheel = repacked(folder, machine.root / "versions" / machine.running() / "venv", version)
    done = machine("install", bundles["1.1.0"], EDGELOOP_ONNXRUNTIME=str(wheel))
    assert done.returncode == 0, done.stderr
    listed = machine.root / "versions" / "1.1.0" / "venv" / "bin" / "uv"
    shown = subprocess.run(
        [listed, "pip", "list", "--python", machine.root / "versions" / "1.1.0" / "venv" / "bin" / "python"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r"^onnxruntime\s+\S+\+own$", shown, re.M), shown


def repacked(folder: Path, venv: Path, version: str) -> Path:
    """The installed runtime as a wheel of another name and version: as a vendor's build would come."""
    site = next(venv.glob("lib/python*/site-packages"))
    folder.mkdir()
    tag = next(
        line.partition(": ")[2]
        for line in next(site.glob("onnxruntime-*.dist-info/WHEEL")).read_text().splitlines()
        if line.startswith("Tag")
    )
    info = folder / f"onnxruntime-{version}+own.dist-info"
    shutil.copytree(site / "onnxruntime", folder / "onnxruntime", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(next(site.glob("onnxruntime-*.dist-info")), info)
    metadata = (info / "METADATA").read_text()
    (info / "METADATA").write_text(re.sub(r"^Version: .*$", f"Version: {version}+own", metadata, count=1, flags=re.M))
    for name in ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"):
        (info / name).unlink(missing_ok=True)
    (info / "RECORD").write_text("")
    wheel = folder.parent / f"onnxruntime-{version}+own-{tag}.whl"
    shutil.make_archive(str(wheel), "zip", folder)
    return (wheel.parent / f"{wheel.name}.zip").rename(wheel)


def in_jail(machine: Machine, *command: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A command as the container runs it: see jail.sh."""
    for name in ("outbox", "bucket"):
        shutil.rmtree(machine.folder / name, ignore_errors=True)
        (machine.folder / name).mkdir()
        os.chown(machine.folder / name, 10001, 10001)
    read = [sys.base_prefix, machine.root, machine.device, machine.folder / "pictures"]
    write = [machine.folder / "outbox", machine.folder / "bucket"]
    given = [*(part for path in read for part in ("--read", path)), *(part for p in write for part in ("--write", p))]
    return subprocess.run(
        [Path(__file__).with_name("jail.sh"), *map(str, given), "--", *map(str, command)],
        env={"PATH": os.environ["PATH"], "HOME": str(machine.folder / "outbox"), "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a jail: run it as root")
def test_it_collects_without_rights_on_a_read_only_machine(machine):
    """As a user without rights, on a root file system that cannot be written, it collects, drains and ends in order."""
    machine.stop()
    program = machine.root / "versions" / machine.running() / "venv" / "bin" / "edgeloop"
    done = in_jail(machine, "timeout", "-s", "TERM", "12", program, "edge", "run", "--device", machine.device)
    assert done.returncode in (0, 124), done.stderr
    assert "Traceback" not in done.stderr
    status = json.loads((machine.folder / "outbox" / "status.json").read_text())
    assert status["frames"] == 20
    assert status["finished"]
    assert (machine.folder / "bucket" / "yard" / "devices" / "gate-1" / "status.json").exists()


def test_the_commands_of_a_device_run_without_the_central_packages(machine, tmp_path):
    """explain and collect work in the base install, where there is no pandas, no Pillow and no torch."""
    program = machine.root / "versions" / machine.running() / "venv" / "bin" / "edgeloop"
    settings = {"sampling_strategies": [{"name": "all", "type": "random", "traffic_percentage": 1.0}]}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    line = {"frame": "f1", "task": "object-detection", "width": 64, "height": 48, "captured_at": "2026-01-01T00:00:00Z"}
    (tmp_path / "detections.jsonl").write_text(json.dumps({**line, "detections": []}) + "\n")
    explain = ["explain", "--settings", "settings.json", "--detections", "detections.jsonl"]
    collect = ["collect", "--source", machine.folder / "pictures", "--settings", "settings.json", "--bucket", "bucket"]
    for command in (explain, collect):
        done = subprocess.run(
            [program, *map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "bucket").rglob("*.jpg"))) == 20
