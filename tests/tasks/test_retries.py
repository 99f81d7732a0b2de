"""Retries: an outage is tried again, what a person has to mend fails at once."""

import errno
import importlib
import pkgutil
import socket

import pytest
from prefect import Task, flow, task
from prefect.states import Failed

import tasks
from tasks.adapters.bucket.store import TransientBucketError
from tasks.core.errors import (
    BucketError,
    DataError,
    EdgeloopError,
    ModelError,
    NotEnoughData,
    ObjectConflict,
    ObjectMissing,
    SettingsError,
)
from tasks.retries import may_pass

ANOTHER_TRY = [
    TransientBucketError("busy"),
    ObjectConflict("taken"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("no answer"),
    socket.gaierror(-3, "name resolution"),
    OSError(errno.EHOSTUNREACH, "no route"),
]
NO_USE = [
    SettingsError("typo"),
    DataError("bad"),
    ModelError("none"),
    NotEnoughData("few"),
    ObjectMissing("gone"),
    BucketError("access denied"),
    PermissionError(errno.EACCES, "denied"),
    OSError(errno.ENOSPC, "full"),
    KeyError("a fault of the program"),
]


@pytest.mark.parametrize("error", ANOTHER_TRY, ids=lambda e: type(e).__name__)
def test_what_may_pass_is_tried_again(error):
    """Outages of bucket and network, and a number that another writer has just taken."""
    assert may_pass(None, None, Failed(data=error))


@pytest.mark.parametrize("error", NO_USE, ids=lambda e: type(e).__name__)
def test_what_a_person_has_to_mend_is_not(error):
    """Settings, data, models, rights, a full disk and faults of the program stay what they are."""
    assert not may_pass(None, None, Failed(data=error))


def all_tasks() -> dict[str, Task]:
    modules = [importlib.import_module(f"tasks.{m.name}") for m in pkgutil.iter_modules(tasks.__path__) if not m.ispkg]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Task)
    }


def test_every_task_that_is_tried_again_asks_first():
    """No stage has retries that a user's mistake would wait for."""
    retried = {name: one for name, one in all_tasks().items() if one.retries}
    assert len(retried) > 10
    assert [name for name, one in retried.items() if one.retry_condition_fn is not may_pass] == []


@pytest.mark.slow
@pytest.mark.parametrize(("error", "runs"), [(SettingsError, 1), (BucketError, 1), (TransientBucketError, 3)])
def test_prefect_runs_a_failed_task_as_often_as_it_may_help(prefect, error, runs):
    """A task with two retries that meets a user's mistake runs once, one that meets an outage three times."""
    seen = []

    @task(retries=2, retry_delay_seconds=0, retry_condition_fn=may_pass)
    def act() -> None:
        seen.append(1)
        raise error("what, where and what to do")

    @flow
    def steps() -> None:
        act()

    with pytest.raises(EdgeloopError, match="what to do"):
        steps()
    assert len(seen) == runs
