"""Histories of an outbox, drawn by hypothesis and held against a plain model."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.adapters.outbox_machine import OutboxMachine

HISTORY = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.mark.slow
def test_three_hundred_histories_agree_with_a_plain_model():
    """Put, deliver, restart, crash, corrupt, a disk that fails at any call: what goes does so by value, and counted."""
    run_state_machine_as_test(OutboxMachine, settings=settings(HISTORY, max_examples=300, stateful_step_count=25))
