"""`edgeloop wait`, `edgeloop labels status` and `edgeloop labels close`: how far people are, and the end by hand."""

from __future__ import annotations

import getpass
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tasks.core.errors import DataError, EdgeloopError, LabellingUnavailable, ObjectMissing, SettingsError

if TYPE_CHECKING:
    from threading import Event

    from flows.wait import Look
    from tasks.core.settings import ProjectSettings
    from tasks.waiting import State

CALM = 1.0  # s
STILL_OPEN = 1  # exit code when the time is over and people are not
CONFIG = Path("configs/project.yaml")
ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]


# --- edgeloop wait ---------------------------------------------------------------------------------------------------


def wait(
    config: ConfigFile = CONFIG,
    every: Annotated[float, typer.Option(min=1, help="seconds between two looks")] = 60.0,
    until: Annotated[
        str, typer.Option(help="labels: until people have ended every batch; or a number of minutes")
    ] = "labels",
    then: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="deployment, FLOW/NAME, that is started once when batches have ended"),
    ] = None,
    listen: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HOST:PORT of webhooks that hurry the next look, as in 127.0.0.1:8099"),
    ] = None,
) -> None:
    """Look at the labels again and again until people are done. Ctrl-C ends it, and nothing is lost.

    Exit code 0 when no batch is open, 1 when the minutes are over before that; `--until 0` looks once. A look that
    fails for want of the bucket, the server or the place where people label is told and made again.
    """
    minutes = minutes_of(until)
    from flows.wait_listen import hints
    from tasks.adapters.config import read_project

    project = read_project(config)
    with hints(listen) as heard:
        look_until(project, every, minutes, then or "", heard)


def look_until(project: ProjectSettings, every: float, minutes: float | None, then: str, heard: Event) -> None:
    """Looks until no batch is open or the minutes are over; `heard`, once set, hurries the next one."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    told: dict[str, str] = {}
    while True:
        look = tried(project, then)
        if look is not None:
            tell(look, told)
            if look.is_over:
                return
        if end is not None and time.monotonic() + every > end:
            raise typer.Exit(STILL_OPEN if look is None or look.open or look.problems else 0)
        if heard.wait(every):
            time.sleep(CALM)  # of many hints within it one look is made
        heard.clear()


def minutes_of(until: str) -> float | None:
    """None for `labels`. Raises SettingsError."""
    if until == "labels":
        return None
    try:
        minutes = float(until.removesuffix("minutes").removesuffix("min").strip())
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= 525_600:
        raise SettingsError(f"--until {until!r}: write labels, or minutes as in --until 30")
    return minutes


def tried(project: ProjectSettings, then: str) -> Look | None:
    """One look; None when it failed for something that may pass, which is told."""
    from flows.wait import wait_for_labels
    from tasks.artifacts import UNREACHABLE

    try:
        return wait_for_labels(project, then)
    except SettingsError:
        raise
    except (EdgeloopError, *UNREACHABLE) as error:
        print(f"edgeloop: this look failed: {' '.join(str(error).split())}", file=sys.stderr)
        return None


def tell(look: Look, told: dict[str, str]) -> None:
    """A line for each batch of which there is something new to say."""
    from tasks.core.people.words import headline

    for batch, progress in look.batches.items():
        line = headline(progress, look.ended.get(batch, ""))
        if told.get(batch) != line:
            print(f"{datetime.now():%H:%M:%S} {batch}: {line}", flush=True)
        told[batch] = line
    for line in look.problems:
        print(f"edgeloop: {line}", file=sys.stderr)
    if not look.batches and not look.problems:
        print("no batch is with people: edgeloop loop offers them")


# --- edgeloop labels status, close -----------------------------------------------------------------------------------


def status(
    batch: Annotated[Optional[str], typer.Argument(help="one batch, with its days and people; else all")] = None,  # noqa: UP045
    config: ConfigFile = CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects, for programs")] = False,
) -> None:
    """How far people are with the batches that they have, as of the labels that were taken in last."""
    from tasks.adapters.config import read_project
    from tasks.label import labels_state
    from tasks.waiting import batches_known

    project = read_project(config)
    states = [labels_state(project, name) for name in ([batch] if batch else batches_known(project))]
    if as_json:
        print(json.dumps([state.model_dump(mode="json") for state in states], indent=1))
    elif batch:
        show_one(states[0])
    else:
        for state in states:
            show_line(state)
        if not states:
            print("no batch is with people: edgeloop loop offers them")


def show_line(state: State) -> None:
    from tasks.core.people.words import headline, printable

    print(printable(f"{state.progress.batch_id}: {headline(state.progress, state.ended)}"))


def show_one(state: State) -> None:
    """The line of a batch, its days, its people, and what is wrong with clocks."""
    from tasks.core.people.words import annotator_rows, day_bars, printable

    show_line(state)
    for reason, count in state.progress.reasons.items():
        print(printable(f"  skipped {count}: {reason}"))
    for line in day_bars(state.progress.days):
        print(f"  {line}")
    for row in annotator_rows(state.progress):
        _, *rest = (f"{value} {key}" for key, value in row.items() if value != "")
        print(printable(f"  {row['annotator']}: {', '.join(rest)}"))
    for line in state.progress.warnings:
        print(printable(f"  {line}"))


def close(
    batch: Annotated[str, typer.Argument(help="its id, as edgeloop labels status names it")],
    by: Annotated[Optional[str], typer.Option("--by", help="who closes it; else your user name")] = None,  # noqa: UP045
    note: Annotated[str, typer.Option("--note", help="why")] = "",
    final: Annotated[bool, typer.Option("--final", help="take no later labels of it")] = False,
    config: ConfigFile = CONFIG,
) -> None:
    """End a batch by hand: what has been labelled until now is taken in, and nobody waits for the rest."""
    from tasks.adapters.config import read_project
    from tasks.central import Central
    from tasks.label import pull_batch
    from tasks.waiting import close as close_batch

    project = read_project(config)
    name = getpass.getuser() if by is None else by
    try:
        before = pull_batch.fn(project, batch, 0)  # what is done by now comes in before the door is shut
    except ObjectMissing:
        raise SettingsError(f"batch {batch!r}: there is none of that name: see edgeloop labels status") from None
    except (DataError, LabellingUnavailable) as error:
        if final:
            raise
        print(f"edgeloop: closed without a last look: {error}", file=sys.stderr)
        before = None
    closed = close_batch(Central(project), batch, name, note, final=final)
    if before and before.ended and not final:
        print(f"{batch}: has ended before: {before.ended}")
        return
    after = pull_batch.fn(project, batch, before.revision) if before else None
    print(f"{batch}: {after.ended if after else closed.why}")
