"""Many histories of an outbox, held against a plain model."""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.adapters.outbox_machine import OutboxMachine
from tests.adapters.test_outbox_histories import HISTORY


def test_twenty_thousand_histories_agree_with_a_plain_model():
    """As the suite's, in greater number and length."""
    run_state_machine_as_test(OutboxMachine, settings=settings(HISTORY, max_examples=20_000, stateful_step_count=50))
