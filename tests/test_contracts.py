"""The walls of the house: who may import whom, what the edge may need, and what the repo must not hold."""

import ast
import re
import subprocess
import sys
import textwrap
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 400
EDGE_MODULES = [
    *(
        "flows.collect",
        "flows.upload",
        "flows.edge",
        "flows.cli",
        "flows.explain",
        "tasks.explain",
        "tasks.collector",
        "tasks.collector.__main__",
    ),
    *("tasks.adapters.config", "tasks.adapters.selftest", "tasks.collector.health", "tasks.core.explain"),
]


def python_files() -> list[Path]:
    return sorted([*(ROOT / "flows").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")])


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_imports_point_down():
    """import-linter finds every floor above those that it imports, and no stage that imports a stage."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def pinned(file: str) -> set[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return {re.split("[=@ ]", line)[0].lower().replace("-", "_") for line in lines if re.match("[a-z0-9]", line)}


def modules_that_no_device_has() -> list[str]:
    """Top-level modules of the packages that are installed here and are not among the pins of a device."""
    on_the_edge = pinned("edge.txt") | {"edgeloop", "pip", "setuptools", "opencv_python_headless"}
    names = {name for name, packages in packages_distributions().items()
             if not {p.lower().replace("-", "_") for p in packages} & on_the_edge}  # fmt: skip
    return sorted(names - {"cv2"} - set(sys.stdlib_module_names))


@pytest.mark.slow
def test_the_edge_runs_where_what_no_device_has_cannot_be_imported():
    """Everything that a device runs can be imported when pandas, torch, Pillow and the like are made unimportable."""
    missing = modules_that_no_device_has()
    assert {"pandas", "torch", "PIL", "ultralytics"} <= set(missing)
    done = run(
        f"""
        import sys
        for name in {missing!r}:
            sys.modules[name] = None  # makes `import name` fail
        import importlib
        for module in {EDGE_MODULES!r}:
            importlib.import_module(module)
        """
    )
    assert done.returncode == 0, done.stderr


def test_the_collector_never_imports_prefect():
    """A process that runs the collector has not loaded Prefect, not even through another library."""
    done = run("import sys, tasks.collector.__main__; print('prefect' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_explain_does_not_wait_for_prefect():
    """Importing the command line loads neither Prefect nor a model runtime."""
    done = run("import sys, flows.cli; print([m for m in ('prefect', 'onnxruntime', 'cv2') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_there_is_exactly_one_opencv():
    """Wheels that all bring `cv2` overwrite each other; this environment has one, which works without a display."""
    done = run(
        """
        import importlib.metadata as metadata, cv2, numpy
        print([d.name for d in metadata.distributions() if (d.name or '').lower().startswith('opencv')])
        cv2.imencode('.jpg', numpy.zeros((8, 8, 3), 'uint8'))
        """
    )
    assert done.stdout.strip() == "['opencv-python-headless']", done.stdout + done.stderr


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short_and_run_on_the_oldest_python(path: Path):
    """No file is longer than 400 lines, and each parses as Python 3.10, which devices still have."""
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    ast.parse(text, feature_version=(3, 10))


def test_every_test_says_what_it_proves():
    """Each test function opens with a sentence."""
    silent = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert silent == []


def test_requirement_files_are_pinned_hashed_and_name_no_registry():
    """Every package is pinned with hashes, and no line names where it comes from."""
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert {f.name for f in files} >= {"edge.txt", "central.txt", "dev.txt", "torch.txt", "uv.txt"}
    for file in files:
        text = file.read_text()
        assert "://" not in text
        packages = re.findall(r"^[a-zA-Z0-9].*$", text, re.MULTILINE)
        assert packages
        assert all("==" in line for line in packages)
        assert all(block.count("--hash=sha256:") >= 1 for block in re.split(r"\n(?=[a-zA-Z0-9])", text.strip()))


def test_the_base_install_has_nothing_heavy():
    """The devices' requirement file names no pandas, torch, ultralytics or FiftyOne."""
    names = {
        line.split("==")[0].strip()
        for line in (ROOT / "requirements" / "edge.txt").read_text().splitlines()
        if "==" in line
    }
    assert not names & {
        "pandas",
        "torch",
        "ultralytics",
        "ultralytics-opencv-headless",
        "fiftyone",
        "matplotlib",
        "pyarrow",
    }
    assert {"prefect", "onnxruntime", "opencv-python-headless", "numpy", "s3fs", "pydantic"} <= names


def test_the_repo_holds_no_large_files():
    """Data and models stay outside; only the small base checkpoint of the demo is shipped, at most 3 MB."""
    large = [p.relative_to(ROOT).as_posix() for p in tracked_files() if p.exists() and p.stat().st_size > 3 * 10**6]
    assert large == []
