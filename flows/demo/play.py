"""The whole loop on one machine, people simulated: `make demo`.

    turn 1            release 1: a stub (or the user's model) and random sampling
    a day             the device collects
    a turn            samples become batches, which are offered to people
    people label      the simulated annotator; nothing else ever sees the world's truth
    a turn            dataset, training, gate, bands, suggestion, the next release
    the next day      the running collector swaps to the release while frames flow, and collects by the suggestion
    ...               and so on, for two days; then the page

Every stage that ended is written down, so that Ctrl-C leaves a folder from which the same command goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flows.collect import collect
from flows.demo.state import DemoState
from flows.demo.world import ROUNDS, World
from flows.loop import loop
from tasks.adapters.labelling import FilesLabelling, pre_annotation, write_labels
from tasks.adapters.simulation import WorldClock
from tasks.collect import read_status
from tasks.collector import stop_collector
from tasks.core.entities import DeviceStatus, Turn
from tasks.label import read_batch
from tasks.redeploy import live_release
from tasks.turn import read_turns

DAY_SECONDS = 600.0  # a day that takes longer than this has a fault
SWAP_SECONDS = 60.0
SWAP_TICK = 0.15  # seconds between two frames of each camera while a release is on its way


@dataclass
class Player:
    """Plays a world to its end, stage by stage."""

    world: World
    folder: Path
    state: DemoState
    console: Console

    def play(self) -> None:
        """All stages that have not ended yet."""
        try:
            self.stage("turn 1: the first release", self.central_turn)
            for day in range(ROUNDS):
                self.stage(f"day {day}: the device collects", lambda day=day: self.day(day))
                self.stage(f"day {day}: samples become batches", self.central_turn)
                self.stage(f"day {day}: people label (simulated)", self.people_label)
                self.stage(f"day {day}: labels, training, gate, suggestion", self.central_turn)
            self.stage("the device takes the last release", self.last_swap)
        finally:
            stop_collector(Path(self.world.device.outbox))

    def stage(self, name: str, act: Callable[[], str]) -> None:
        """Run a stage that has not ended in an earlier call, with its time."""
        if name in self.state.ended:
            self.console.print(f"[dim]{name}: done before[/dim]")
            return
        started = time.monotonic()
        with self.console.status(f"{name} ..."):
            told = act()
        seconds = time.monotonic() - started
        self.state = self.state.after(name, seconds)
        self.state.save(self.folder)
        self.console.print(f"[bold]{name}[/bold] [dim]({seconds:.0f} s)[/dim]")
        for line in told.splitlines():
            self.console.print(f"  {line}", highlight=False)

    # --- stages ------------------------------------------------------------------------------------------------------

    def central_turn(self) -> str:
        """One turn of the loop, exactly as a user calls it."""
        turn: Turn = loop(self.world.project)
        return "\n".join([*turn.done, *(f"waits for {line}" for line in turn.waits_for)])

    def day(self, day: int) -> str:
        """Frames flow while the release of the last turn is on its way; then the day goes on to its end."""
        clock = WorldClock(self.folder / "clock.json")
        first = day * self.world.camera_day
        device = self.device_from(first)
        collect(device, window_seconds=0)
        swapped_after = self.let_frames_flow_until_swapped(clock, first, first + self.world.camera_day)
        clock.advance_to(first + self.world.camera_day)
        frames = (first + self.world.camera_day - self.state.collector_first) * self.world.cameras
        status = collect(device, window_seconds=DAY_SECONDS, until_frames=frames)
        self.state = self.state.after_day(day, status, swapped_after * self.world.cameras)
        return self.day_told(status, swapped_after * self.world.cameras)

    def people_label(self) -> str:
        """The simulated annotator labels every open batch through the files that a person would use."""
        labelled, boxes = 0, 0
        turn = read_turns(self.world.project)[-1]
        labelling = FilesLabelling(Path(self.world.project.labelling.folder))
        for batch_id in turn.open_batches:
            batch = read_batch(self.central, batch_id)
            labels = []
            for sample in batch.samples:
                seen = None
                if sample.sample_id not in batch.unseeded:
                    seen = self.pre_annotations(sample)
                labels.append(self.world.annotator.label(sample, seen))
            write_labels(labelling, batch, labels)
            labelled += len(labels)
            boxes += sum(len(label.boxes) for label in labels)
        return f"the simulated annotator labelled {labelled} images with {boxes} boxes"

    def last_swap(self) -> str:
        """The device takes the last release while a few frames of the next day flow."""
        clock = WorldClock(self.folder / "clock.json")
        first = ROUNDS * self.world.camera_day
        collect(self.device_from(first), window_seconds=0)
        self.let_frames_flow_until_swapped(clock, first, first + self.world.camera_day)
        return ""
