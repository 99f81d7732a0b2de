"""The whole loop on one machine, people simulated. START in play.py; world.py says in which world."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flows.demo.interrupts import INTERRUPTS
from flows.demo.state import DEMO_STRATEGY, DemoArguments, held, open_state
from tasks.core.errors import SettingsError
from tasks.core.settings import validated


def run_demo(
    folder: Path,
    *,
    seed: int,
    data: Path | None,
    model: str,
    weights: Path | None,
    quick: bool,
    strategy: str | None = None,
) -> None:
    """Play a demo to its page. strategy: how its suggestions spend the budget; none: by rules.

    Raises an error of one line for what cannot be played.
    """
    check_inputs(data, model, weights)
    INTERRUPTS.listen()
    given = {
        "seed": seed,
        "data": str(data.resolve()) if data else "",
        "model": model if model == "stub" else str(Path(model).resolve()),
        "weights": str(weights.resolve()) if weights else "",
        "quick": quick,
        "strategy": strategy or DEMO_STRATEGY,
    }
    arguments: DemoArguments = validated(DemoArguments, given, "edgeloop demo")
    folder = folder.absolute()
    with held(folder):
        state = open_state(folder, arguments)
        state.save(folder)
        keep_within(folder)
        from flows.demo.servers import prefect_server

        with prefect_server(folder):
            from flows.demo.finish import play_and_tell  # imports Prefect, which reads its environment once

            play_and_tell(folder, state, time.monotonic())


def check_inputs(data: Path | None, model: str, weights: Path | None) -> None:
    for name, path in (("DATA", data), ("MODEL", None if model == "stub" else Path(model)), ("WEIGHTS", weights)):
        if path is not None and not path.exists():
            raise SettingsError(f"{name}={path}: there is no such file or folder: correct the path")


def keep_within(folder: Path) -> None:
    """Whatever the libraries write goes below the demo's folder, and none of them asks the internet for anything."""
    os.environ.update(
        {
            "YOLO_CONFIG_DIR": str(folder / "work" / "ultralytics"),
            "YOLO_OFFLINE": "true",
            "ULTRALYTICS_SAFE_LOAD": "1",
            "MPLCONFIGDIR": str(folder / "work" / "matplotlib"),
            "FIFTYONE_DO_NOT_TRACK": "true",
            "HF_HUB_OFFLINE": "1",
        }
    )
