"""Play the world that the arguments name, and end with the page."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flows.demo.play import Player
from flows.demo.state import PROJECT_FILE, DemoArguments, DemoState
from flows.demo.story import tell
from flows.demo.world import QUICK_YARD_DAY, YARD_DAY, World, photographs, quickened, yard
from tasks.adapters.report import loop_page, loop_summary
from tasks.adapters.review import stop_database


def play_and_tell(folder: Path, state: DemoState, started: float) -> None:
    """The demo, its page, and its summary in the terminal."""
    console = Console()
    world = world_of(folder, state.arguments)
    (folder / PROJECT_FILE).write_text(world.project.model_dump_json(indent=1))
    console.print(f"[bold]{world.title}[/bold], seed {state.arguments.seed}")
    for fact in world.facts:
        console.print(f"  {fact}", highlight=False, markup=False)
    try:
        state = Player(world, folder, state, console).play()
    finally:
        stop_database(Path(world.project.work) / "fiftyone")
    story = tell(world, state, folder, sum(state.ended.values()))
    page = loop_page(story, folder / "page.html")
    state.model_copy(update={"finished": True}).save(folder)
    console.print()
    console.print(loop_summary(story))
    here = Path.cwd()
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    console.print(f"\nThe page: {page}", highlight=False, soft_wrap=True)
    console.print(f"Prefect runs and FiftyOne dataset: make ui FOLDER={shown}", highlight=False, soft_wrap=True)
    console.print(f"It took {time.monotonic() - started:.0f} s.", highlight=False)


def world_of(folder: Path, arguments: DemoArguments) -> World:
    weights = Path(arguments.weights) if arguments.weights else None
    if arguments.data:
        world = photographs(folder, Path(arguments.data), arguments.seed, weights, arguments.model)
    else:
        day = QUICK_YARD_DAY if arguments.quick else YARD_DAY
        world = yard(folder, arguments.seed, weights, arguments.model, day)
    world = quickened(world) if arguments.quick else world
    project = world.project.model_copy(update={"suggested_strategy": arguments.strategy})
    return replace(world, project=project)
