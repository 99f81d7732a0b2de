"""A demo is played with the way of spending the budget that it was asked for, to its end."""

from __future__ import annotations

from typing import get_args

import pytest

from flows.demo.finish import world_of
from flows.demo.state import DEMO_STRATEGY, DemoArguments, DemoState, open_state
from tasks.core.errors import SettingsError
from tasks.core.settings.project import SuggestedStrategy
from tests.conftest import edgeloop


@pytest.mark.parametrize("strategy", get_args(SuggestedStrategy))
def test_its_suggestions_are_of_the_strategy(tmp_path, strategy):
    """The project of its world asks for it, in a quick demo and in a whole one; by rules where nothing is asked for."""
    for quick in (False, True):
        world = world_of(tmp_path, DemoArguments(quick=quick, strategy=strategy))
        assert world.project.suggested_strategy == strategy
        assert world_of(tmp_path, DemoArguments(quick=quick)).project.suggested_strategy == DEMO_STRATEGY


def test_it_goes_on_with_the_strategy_that_it_was_begun_with(tmp_path):
    """Another one is refused in one line that names it; a state of before there was a choice has the default."""
    begun = DemoState(arguments=DemoArguments(strategy="expected_misses"))
    begun.save(tmp_path)
    assert open_state(tmp_path, begun.arguments) == begun
    with pytest.raises(SettingsError, match="unfinished demo with SEED=0 STRATEGY=expected_misses") as refused:
        open_state(tmp_path, DemoArguments())
    assert "\n" not in str(refused.value)
    (tmp_path / "demo.json").write_text('{"arguments": {"seed": 3}}')
    assert open_state(tmp_path, DemoArguments(seed=3)).arguments.strategy == DEMO_STRATEGY


@pytest.mark.slow
def test_an_unknown_strategy_is_one_line(tmp_path):
    """Nothing is begun, and the line names those that there are."""
    done = edgeloop("demo", "--strategy", "luck", "--folder", "demo", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "edgeloop: edgeloop demo: strategy: Input should be 'expected_misses', 'rules' or 'random'\n"
    assert list(tmp_path.iterdir()) == []
