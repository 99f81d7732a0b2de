"""The judgement of a new release: every limit, and what is remembered between frames."""

from __future__ import annotations

import dataclasses
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from tasks.collector.probation import ProbationWatch, why_not
from tasks.collector.runner import Runner
from tasks.core.settings import Probation
from tests.tasks.collecting import sampling


class Model:
    """A detector by name."""

    def __init__(self, is_stub: bool = False) -> None:
        self.is_stub = is_stub
        self.model_version = "0" * 16


def a_runner(number: int = 2, *, on_probation: bool = True, is_stub: bool = False, **limits) -> Runner:
    return Runner(
        Model(is_stub), sampling(), release_number=number, on_probation=on_probation, probation=Probation(**limits)
    )


outcomes = st.lists(st.none() | st.integers(0, 300), max_size=60)
seconds = st.lists(st.floats(0.001, 10), max_size=60)
probations = st.builds(
    Probation,
    frames=st.integers(1, 60),
    error_rate=st.floats(0.01, 1),
    latency_factor=st.none() | st.floats(1.5, 9),
    latency_seconds=st.none() | st.floats(0.01, 5),
    least_detections=st.floats(0, 5),
    most_detections=st.floats(6, 250),
)


@given(probations, outcomes, seconds, st.none() | st.floats(0.001, 2))
def test_a_release_has_to_go_when_it_breaks_any_of_its_limits(limits, outcomes, seconds, reference):
    """Against the definition: too many failures at any time; too slow, too many or too few boxes from 30 frames on."""
    enough = min(30, limits.frames)
    failures = [o for o in outcomes if o is None]
    counts = sorted(o for o in outcomes if o is not None)
    broken = len(failures) >= 1 and len(failures) / limits.frames >= limits.error_rate
    if len(seconds) >= enough:
        ordered, half = sorted(seconds), len(seconds) // 2
        middle = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
        broken |= limits.latency_seconds is not None and middle > limits.latency_seconds
        broken |= limits.latency_factor is not None and bool(reference) and middle > limits.latency_factor * reference
    if len(counts) >= enough:
        broken |= sum(counts) < limits.least_detections * len(counts)
        broken |= sum(counts) > limits.most_detections * len(counts)
    assert (why_not(limits, outcomes, seconds, reference) is not None) == broken


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 60))
def test_a_release_passes_once_after_as_many_good_frames_as_it_says(counts, frames):
    """Not a frame earlier, and only once; from then on nothing is judged any more."""
    watch = ProbationWatch()
    watch.begin(a_runner(frames=frames), before=a_runner(1, on_probation=False))
    passed_at = []
    for index, count in enumerate(counts, start=1):
        assert watch.frame(count) is None
        if watch.has_passed():
            passed_at.append(index)
    assert passed_at == ([frames] if len(counts) >= frames else [])
    if passed_at:
        assert str(watch) == ""
        assert watch.before is None
        assert all(watch.frame(None) is None for _ in range(frames + 1))


def run(watch: ProbationWatch, runner: Runner, taken: float, times: int = 30) -> None:
    for _ in range(times):
        with watch.running(runner):
            time.sleep(taken)


def test_a_release_is_held_against_the_time_of_the_one_before():
    """Five times slower than before is too slow; the stub's time says nothing, and neither does the first model's."""
    stub, fast = a_runner(0, on_probation=False, is_stub=True), a_runner(1, on_probation=False)
    watch = ProbationWatch()
    watch.begin(stub, before=None)
    run(watch, stub, 0.0001)
    first = dataclasses.replace(fast, on_probation=True)
    watch.begin(first, before=stub)
    run(watch, first, 0.001)
    assert watch.frame(3) is None
    watch.begin(fast, before=None)
    run(watch, fast, 0.001)
    slow = a_runner(2, latency_factor=3.0)
    watch.begin(slow, before=fast)
    run(watch, slow, 0.02)
    assert "times the" in watch.frame(3)
    assert watch.before is fast


def test_the_second_of_two_releases_on_probation_is_held_against_the_proven_one():
    """Release 3 comes while 2 is on probation: what is gone back to is still 1."""
    proven, second, third = a_runner(1, on_probation=False), a_runner(2), a_runner(3)
    watch = ProbationWatch()
    watch.begin(proven, before=None)
    watch.begin(second, before=proven)
    watch.begin(third, before=second)
    assert watch.before is proven
    watch.begin(proven, before=None)
    assert watch.before is None
    assert watch.frame(None) is None


def test_a_run_that_does_not_end_is_noticed_and_only_on_probation():
    """The time since the model was asked is what counts; a runner that is no longer in force is nobody's hang."""
    watch, runner, end = ProbationWatch(), a_runner(hang_seconds=20), threading.Event()
    watch.begin(runner, before=None)
    assert watch.hang(time.monotonic() + 1000) is None

    def ask() -> None:
        with watch.running(runner):
            end.wait(30)

    thread = threading.Thread(target=ask)
    thread.start()
    while not watch._busy:
        time.sleep(0.001)
    now = time.monotonic()
    assert watch.hang(now + 19) is None
    assert watch.hang(now + 22) == "its model has not answered for 22 s"
    watch.condemn("it hangs")
    assert watch.frame(None) == "it hangs"
    watch.begin(a_runner(1, on_probation=False), before=None)
    assert watch.hang(now + 100) is None
    end.set()
    thread.join()


def test_the_state_of_a_probation_is_told_in_words():
    """For the status: how far it is and what went wrong."""
    watch = ProbationWatch()
    watch.begin(a_runner(7), before=None)
    for outcome in (3, None, 0):
        watch.frame(outcome)
    assert str(watch) == "release 7: 3 of 100 frames, 1 failed"
