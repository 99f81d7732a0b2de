"""Ctrl-C reaches the demo, also when a library swallows the first one."""

import os
import signal
import time

import pytest

from flows.demo import interrupts
from flows.demo.interrupts import Interrupts


@pytest.fixture
def listening(monkeypatch):
    monkeypatch.setattr(interrupts, "REPEAT_SECONDS", 0.1)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = Interrupts()
    heard.listen()
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_that_is_swallowed_comes_again(listening):
    """A stage that catches the first KeyboardInterrupt meets the next one."""
    swallowed = 0

    def stage() -> None:
        nonlocal swallowed
        with listening.obeyed():
            while True:
                try:
                    if not swallowed:
                        os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(5)
                except KeyboardInterrupt:
                    swallowed += 1
                    if swallowed == 3:
                        raise

    with pytest.raises(KeyboardInterrupt):
        stage()
    assert swallowed == 3


def test_a_stage_that_ends_in_spite_of_an_interrupt_is_the_last_one(listening):
    """When nothing came through, the end of the stage raises."""
    with pytest.raises(KeyboardInterrupt), listening.obeyed():
        listening.asked = True


def test_a_stage_without_an_interrupt_ends_as_it_is(listening):
    """Nothing happens to a demo that nobody interrupts."""
    with listening.obeyed():
        pass
    assert not listening.asked
