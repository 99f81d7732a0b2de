"""The pinned requirement files can be installed on every machine that the README promises."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
EDGE, CENTRAL, LABEL_STUDIO = "requirements/edge.txt", "requirements/central.txt", "deployments/labelstudio.txt"
LINUX, ARM = "x86_64-manylinux_2_28", "aarch64-manylinux_2_28"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "python", "platform"),
    [
        *((EDGE, python, platform) for python in ("3.10", "3.11", "3.12", "3.13") for platform in (LINUX, ARM)),
        *((CENTRAL, python, LINUX) for python in ("3.11", "3.12", "3.13")),
        *((LABEL_STUDIO, python, LINUX) for python in ("3.11", "3.12")),
    ],
)
def test_the_pins_resolve(file, python, platform, tmp_path):
    """uv finds every pinned package, with its hash, for this Python on this platform; it installs nothing."""
    files = [ROOT / file]
    files += [ROOT / "requirements" / "torch.txt"] if file == CENTRAL else []
    command = [
        UV, "pip", "install", "--dry-run", "--quiet", "--no-deps", "--require-hashes", "--target", tmp_path,
        "--python-version", python, "--python-platform", platform,
    ]  # fmt: skip
    for path in files:
        command += ["-r", path]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
