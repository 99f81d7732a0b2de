"""What all tests share: nothing is written to the home folder, nothing asks the internet, one Prefect for all flows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The whole suite tries the same cases on every machine, so that green here is green there. `make test-fast` and
# `make soak` look for new ones each time.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", derandomize=False)
settings.load_profile("same")

os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"
os.environ["YOLO_OFFLINE"] = "true"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "ERROR"
os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
os.environ["MPLBACKEND"] = "Agg"

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared"
SOAK = ROOT / "tests" / "soak"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="the long fault tests of tests/soak, too")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Hours are for `make soak`: the suite has a short version of each of these tests."""
    is_soak = SOAK in (collection_path, *collection_path.parents)
    return True if is_soak and not config.getoption("--soak") else None


@pytest.fixture(scope="session", autouse=True)
def _libraries_write_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("libraries")
    os.environ["YOLO_CONFIG_DIR"] = str(home / "ultralytics")
    os.environ["MPLCONFIGDIR"] = str(home / "matplotlib")


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """A Prefect server of its own for all flow tests of a session; starting it takes about 15 s."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, video and weights; the test is skipped where they are not there."""
    if not (REAL_DATA / "data").is_dir():
        pytest.skip(f"no real data: the folder {REAL_DATA / 'data'} is missing")
    return REAL_DATA


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a review database. FiftyOne serves one a process, so whoever asks for one in any folder gets this."""
    from tasks.adapters import review
    from tasks.adapters.review import mongod

    if given := mongod.operators_own_uri():
        yield given
        return
    folder = tmp_path_factory.mktemp("review")
    uri = review.ensure_database(folder)
    del os.environ[mongod.FOLDER_VARIABLE]  # from here on it counts as configured
    yield uri
    del os.environ[mongod.URI_VARIABLE]
    review.stop_database(folder)


def plain_environment(**more: str) -> dict[str, str]:
    """That of a user's shell: without the review database that this process has for its own tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE_DATABASE")}
    return {**own, "PYTHONPATH": str(ROOT), **more}


def edgeloop(
    *arguments: object, cwd: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        cwd=cwd,
        env=plain_environment(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
