"""The set-up script's order of installing, on wheels of a few lines from indexes on loopback.

It shows which index is asked for what, and what ends up in the virtual environment. It does not show that some index of
CPU builds has the pinned version of torch, nor that its builds work with the other packages.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package_index import Index, pinned, served, wheel

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
OPENCV = {"cv2.py": "def imencode(*_): return True, b''\n", "numpy.py": "def zeros(*_): return None\n"}
BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name, info = "edgeloop-0.0.1-py3-none-any.whl", "edgeloop-0.0.1.dist-info"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: edgeloop\\nVersion: 0.0.1\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", "")
    return name
"""
pytestmark = pytest.mark.slow


def torch(folder: Path, kind: str, suffix: str = "", requires: tuple[str, ...] = ()) -> list[Path]:
    """torch and torchvision of one kind of build."""
    return [
        wheel(folder, name, f"{version}{suffix}", {f"{name}.py": f"BUILD = {kind!r}\n"}, requires)
        for name, version in (("torch", "2.15.0"), ("torchvision", "0.30.0"))
    ]


@pytest.fixture
def registry(tmp_path):
    """What `pip` and `uv` ask by themselves: everything, torch with its CUDA parts."""
    folder = tmp_path / "registry"
    torch(folder, "registry", requires=("nvidia-cuda==13.0",))
    wheel(folder, "nvidia-cuda", "13.0", {})
    wheel(folder, "sympy", "1.13", {})
    wheel(folder, "opencv-python-headless", "4.14", OPENCV)
    wheel(folder, "uv", "0.0.1", {"uv-0.0.1.data/scripts/uv": f'#!/bin/sh\nexec "{UV}" "$@"\n'})
    with served(folder) as index:
        yield folder, index


@pytest.fixture
def checkout(tmp_path, registry):
    """A folder with the real set-up script, and pins of the registry's wheels."""
    folder, _ = registry
    here = tmp_path / "checkout"
    for part in ("deployments", "requirements"):
        (here / part).mkdir(parents=True)
    shutil.copy(ROOT / "deployments" / "setup.sh", here / "deployments")
    (here / "backend.py").write_text(BACKEND)
    (here / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "edgeloop"\nversion = "0.0.1"\n'
    )
    for file, names in (
        ("uv", ["uv"]),
        ("torch", ["nvidia_cuda", "torch", "torchvision"]),
        ("dev", ["opencv_python_headless", "sympy"]),
    ):
        lines = [pinned(next(folder.glob(f"{name}-*.whl"))) for name in names]
        (here / "requirements" / f"{file}.txt").write_text("".join(lines))
    return here


def set_up(checkout: Path, registry: Index, torch_index: str = "") -> dict[str, str]:
    """Run the script; what the virtual environment then holds, name -> version, and `build` of torch."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "EDGELOOP_"))}
    environment = {
        **own,
        "PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": registry.url,
        "UV_DEFAULT_INDEX": registry.url,
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(checkout.parent / "uv"),
        **({"EDGELOOP_TORCH_INDEX": torch_index} if torch_index else {}),
    }
    script = checkout / "deployments" / "setup.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    code = (
        "import importlib.metadata as m, json, torch; "
        "print(json.dumps({d.name: d.version for d in m.distributions()} | {'build': torch.BUILD}))"
    )
    python = checkout / ".venv" / "bin" / "python"
    return json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_without_a_named_index_torch_comes_from_the_registry_with_its_pins(checkout, registry):
    """Everything that is pinned, the CUDA parts too; a second call asks nobody for anything."""
    _, index = registry
    found = set_up(checkout, index)
    assert (found["torch"], found["torchvision"], found["build"]) == ("2.15.0", "0.30.0", "registry")
    assert found.keys() >= {"nvidia-cuda", "opencv-python-headless", "sympy", "edgeloop"}
    index.asked.clear()
    assert set_up(checkout, index) == found
    assert index.asked == []


def test_a_named_index_is_asked_for_torch_first_and_the_registry_is_not(checkout, registry, tmp_path):
    """Its builds stay through the other pins, without CUDA parts; what torch needs and it lacks is the registry's.

    Naming an index makes the environment anew, and so does naming none again.
    """
    _, index = registry
    torch(tmp_path / "cpu", "named", "+cpu", requires=("sympy",))
    set_up(checkout, index)
    index.asked.clear()
    with served(tmp_path / "cpu") as named:
        found = set_up(checkout, index, named.url)
        assert {"torch", "torchvision"} <= set(named.asked)
    assert (found["torch"], found["torchvision"], found["build"]) == ("2.15.0+cpu", "0.30.0+cpu", "named")
    assert "nvidia-cuda" not in found
    assert found.keys() >= {"opencv-python-headless", "sympy", "edgeloop"}
    assert not {"torch", "torchvision", "nvidia-cuda"} & set(index.asked)
    assert set_up(checkout, index)["build"] == "registry"


def test_a_folder_of_wheels_does_too(checkout, registry, tmp_path):
    """Also where its wheels have the very version of the registry's."""
    _, index = registry
    torch(tmp_path / "cpu", "named", requires=("sympy",))
    found = set_up(checkout, index, str(tmp_path / "cpu"))
    assert (found["torch"], found["build"]) == ("2.15.0", "named")
    assert "nvidia-cuda" not in found


def test_an_index_that_lacks_the_pinned_torch_ends_the_set_up(checkout, registry, tmp_path):
    """It is not made up for by builds that nobody asked for, and the next call tries again."""
    _, index = registry
    wheel(tmp_path / "cpu", "torch", "2.1.0", {})
    with served(tmp_path / "cpu") as named, pytest.raises(AssertionError, match=r"2\.15\.0"):
        set_up(checkout, index, named.url)
    assert not list((checkout / ".venv").glob("edgeloop-*"))
