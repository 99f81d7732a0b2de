"""`edgeloop field-recall`: how good the models on the devices are over all frames, from what people have labelled."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.core.errors import SettingsError

if TYPE_CHECKING:
    from tasks.core.field import FieldRecall

WIDE = 120  # columns, where nobody says how wide the reader is


def field_recall(
    config: Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")] = Path(
        "configs/project.yaml"
    ),
    model: Annotated[str, typer.Option(help="this model version alone, or its first digits")] = "",
    since: Annotated[str, typer.Option(help="images captured from then on (UTC), as 2026-05-01")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects, for programs")] = False,
) -> None:
    """Recall and precision over all frames, by model and settings version, with 95% intervals.

    From labelled samples, each weighted by how unlikely it was to be kept, delivered and labelled. Where that cannot
    be done, as without a random draw on every frame, the reason is told instead.
    """
    from tasks.adapters.config import read_project
    from tasks.field_recall import newest_field_recall

    found = newest_field_recall(read_project(config), model, moment_of(since))
    if as_json:
        print(json.dumps([one.model_dump(mode="json") for one in found], indent=1))
    else:
        show(found)


def moment_of(text: str) -> datetime | None:
    """A date or a time of ISO 8601; without a zone it is UTC. Raises SettingsError for anything else."""
    from tasks.core.entities import to_utc

    if not text:
        return None
    try:
        return to_utc(datetime.fromisoformat(text.removesuffix("Z")))
    except ValueError:
        raise SettingsError(f"--since {text!r} is no date: write it as 2026-05-01 or 2026-05-01T12:30") from None


def show(found: list[FieldRecall]) -> None:
    from rich.console import Console

    from tasks.adapters.report.in_the_field import field_summary

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    console.print(field_summary(found))
