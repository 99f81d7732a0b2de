"""Costs of misses and false alarms as options of a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Optional

import typer

from tasks.core.entities import Evaluation
from tasks.core.errors import SettingsError

MissCost = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="cost of a miss, in any unit: thresholds are then those of least cost"),
]
FalseAlarmCost = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="cost of a false alarm, in the same unit"),
]
ClassCost = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(help="of one class, as class=miss:false-alarm; may be repeated"),
]


def costs_of(miss: float | None, false_alarm: float | None, class_costs: Sequence[str] | None) -> dict[str, Any] | None:
    """Options as `costs` of configs/project.yaml; None where none is given."""
    if miss is None and false_alarm is None and not class_costs:
        return None
    if miss is None or false_alarm is None:
        raise SettingsError("--miss-cost and --false-alarm-cost belong together: give both")
    return {"miss": miss, "false_alarm": false_alarm, "classes": dict(_class_cost(text) for text in class_costs or ())}


def _class_cost(text: str) -> tuple[str, dict[str, float]]:
    """`truck=50:1`; a class may have both signs in its name."""
    name, equals, costs = text.rpartition("=")
    miss, colon, false_alarm = costs.partition(":")
    try:
        if name and equals and colon:
            return name, {"miss": float(miss), "false_alarm": float(false_alarm)}
    except ValueError:
        pass
    raise SettingsError(f"--class-cost {text!r}: write it as class=miss:false-alarm, say truck=50:1")


def cost_of(evaluation: Evaluation) -> str:
    """`; cost an image 0.42 (0.31 to 0.55)`; empty without costs."""
    if evaluation.cost_an_image is None:
        return ""
    interval = evaluation.cost_interval
    spread = f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
    return f"; cost an image {evaluation.cost_an_image:.3g}{spread}"
