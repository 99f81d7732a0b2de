"""Which failures of a task are tried again: outages. What a person has to mend fails at once."""

from __future__ import annotations

import errno
import socket
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from tasks.adapters.bucket.store import TransientBucketError
from tasks.core.errors import ObjectConflict

# A conflict is an outage of one moment: another writer took the number, and the task run anew takes the next one.
PASSES = (TransientBucketError, ObjectConflict, ConnectionError, TimeoutError, socket.gaierror)
NETWORK = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}  # these have no type of their own


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a second try of a failed task may succeed: the `retry_condition_fn` of every task with retries.

    Settings, data, models and rights that are wrong stay wrong, and so does a fault of the program: a person waits for
    that line, not for the retries.
    """
    error = state.data
    return isinstance(error, PASSES) or (isinstance(error, OSError) and error.errno in NETWORK)
