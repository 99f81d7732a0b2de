"""One look of the waiting flow in a process of its own, killed with -9 at a point of the caller's choice.

python -m tests.flows.waiting_victim PROJECT.json POINT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import tasks.label
import tasks.wait
from flows.wait import wait_for_labels
from tasks.core.settings import ProjectSettings


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    project = ProjectSettings.model_validate_json(Path(sys.argv[1]).read_text())
    if sys.argv[2] == "after the revision":
        tasks.label.end = die
    elif sys.argv[2] == "after done.json":
        tasks.wait.emit_event = die
    elif sys.argv[2] == "before it is written down":
        tasks.wait.created = die
    wait_for_labels(project)


if __name__ == "__main__":
    main()
