"""`edgeloop allocate`: how one weekly number of labels is shared out, with the reasons."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tasks.core.errors import SettingsError

if TYPE_CHECKING:
    from tasks.core.entities import Allocation

WIDE = 140  # columns, where nobody says how wide the reader is


def allocate(
    config: Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")] = Path(
        "configs/project.yaml"
    ),
    labels: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--labels", help="that people can make in a week; else the project's labels_a_week"),
    ] = None,
    weeks_back: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--weeks-back", min=0, help="only labels of so many weeks; all count by how recent they are"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the stored record, for programs")] = False,
    plot: Annotated[Optional[Path], typer.Option("--plot", help="a PNG of it")] = None,  # noqa: UP045
) -> None:
    """Share labels out over cameras, strategies and bands by what people corrected, and say why.

    The answer is stored as the next allocation. It is a plan: with `labels_a_week` in the project's settings, the turns
    of the loop draw by the same rules what is offered each week.
    """
    from tasks.adapters.config import read_project

    project = read_project(config)
    number = project.labels_a_week if labels is None else labels
    if number is None:
        raise SettingsError("how many labels a week? Give --labels, or set labels_a_week in the project's settings")
    from tasks.allocate import plan  # brings Prefect: only now

    made = plan(project, number, weeks_back, datetime.now(timezone.utc))
    if as_json:
        print(made.to_json().decode())
    else:
        show(made)
    if plot is not None:
        from tasks.adapters.report import allocation_plot

        allocation_plot(made, plot)


def show(allocation: Allocation) -> None:
    from rich.console import Console

    from tasks.adapters.allocation_table import allocation_table

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    console.print(allocation_table(allocation))
