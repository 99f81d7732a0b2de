"""The whole loop in one go, as `make demo` runs it, only smaller: no route to anywhere, and stopped in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.collector import collector_pid
from tests.conftest import edgeloop, plain_environment
from tests.flows.closed_network import ClosedNetwork, closed_network

STAGES = 10
PATIENCE = 600  # seconds


@pytest.fixture(scope="module")
def network():
    with closed_network() as closed:
        yield closed


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo")


def start_demo(network: ClosedNetwork, world: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*network.prefix, sys.executable, "-m", "flows.cli", "demo", "--quick", "--seed", "2", "--folder", "demo"],
        cwd=world,
        env=plain_environment(HOME=str(world / "home")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended_stages(folder: Path) -> list[str]:
    try:
        return list(json.loads((folder / "demo.json").read_text())["ended"])
    except (FileNotFoundError, ValueError):
        return []


@pytest.fixture(scope="module")
def played(network, world) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """The demo twice: interrupted in the middle of its fourth stage or later, and then to its end."""
    first = start_demo(network, world)
    deadline = time.monotonic() + PATIENCE
    while len(ended_stages(world / "demo")) < 4 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)  # into the turn that trains
    os.killpg(first.pid, signal.SIGINT)
    stopped = subprocess.CompletedProcess([], first.wait(60), *first.communicate())
    second = start_demo(network, world)
    output = second.communicate(timeout=PATIENCE)
    return stopped, subprocess.CompletedProcess([], second.returncode, *output)


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_ctrl_c_leaves_a_state_from_which_the_same_command_goes_on(played, world):
    """An interrupted demo says so without a traceback; called again it goes on after the stages that had ended."""
    stopped, done = played
    assert stopped.returncode == 130, stopped.stdout + stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "the same command goes on" in stopped.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done before" in done.stdout
    assert len(ended_stages(world / "demo")) == STAGES


@pytest.mark.slow
def test_a_whole_turn_of_the_loop_ends_with_the_device_running_what_was_released(played, world):
    """Every frame of both days is decided, none is lost, and the device obeys the newest release."""
    state = json.loads((world / "demo" / "demo.json").read_text())
    releases = sorted((world / "demo" / "bucket" / "yard" / "releases" / "all").iterdir())
    newest = json.loads(releases[-1].read_text())
    assert len(releases) >= 3  # the stub, a first model, the next settings or model
    assert state["finished"] is True
    assert state["final"]["release_number"] == newest["number"]
    assert state["final"]["model_version"] == newest["model_version"] != "stub"
    assert all(day["frames_lost"] == 0 for day in (*state["days"], state["final"]))


@pytest.mark.slow
def test_each_turn_tells_what_it_did_and_what_it_waits_for(played, world):
    """The turns in the bucket hold datasets, verdicts with reasons, suggestions and the score of a forecast."""
    turns = [json.loads(path.read_text()) for path in sorted((world / "demo" / "bucket" / "yard" / "turns").iterdir())]
    assert all(turn["finished_at"] and turn["waits_for"] for turn in turns)
    last = turns[-1]
    assert last["dataset_version"]
    assert last["evaluation"]
    assert last["suggestion"]
    assert last["verdict"]["reasons"]
    assert last["forecast_scores"]


@pytest.mark.slow
def test_the_demo_tries_nothing_outside_of_the_machine(played, network):
    """Not one packet left on the default route: no look-up, no connection, by any of the processes."""
    assert network.packets_sent == 0


@pytest.mark.slow
def test_nothing_is_left_running_and_the_home_folder_stays_empty(played, world):
    """Collector, Prefect server and database have ended, and nobody wrote outside of the demo's folder."""
    assert collector_pid(world / "demo" / "outbox") is None
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(world) not in running
    home = world / "home"
    assert not home.exists() or not [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_the_page_shows_both_rounds_without_asking_anybody_else(played, world):
    """One HTML file with rounds, verdicts, forecast and links; it loads nothing from outside."""
    page = (world / "demo" / "page.html").read_text()
    for words in ("Round 0", "Round 1", "Gate", "simulated annotator", "page"):
        assert words in page
    assert 'src="http' not in page
    assert "@import" not in page


@pytest.mark.slow
def test_a_second_demo_in_the_same_folder_is_refused(played, world):
    """A finished demo is not played over: one line that says where its page is."""
    done = edgeloop("demo", "--quick", "--seed", 2, "--folder", "demo", cwd=world)
    assert done.returncode == 2
    assert "page.html" in done.stderr
    assert "Traceback" not in done.stderr
