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
from flows.demo.interrupts import INTERRUPTS
from flows.demo.state import DemoState
from flows.demo.traffic import frames_while_swapping
from flows.demo.world import ROUNDS, World
from flows.loop import loop
from tasks.adapters.labelling import FilesLabelling
from tasks.adapters.simulation import WorldClock
from tasks.central import Central
from tasks.collect import decided_frames
from tasks.collector import read_status, stop_collector
from tasks.core.entities import Batch, Detection, DeviceStatus, Label
from tasks.core.errors import EdgeloopError
from tasks.redeploy import live_release
from tasks.turn import newest_turn

DAY_SECONDS = 600.0  # a day that takes longer than this has a fault
SWAP_SECONDS = 60.0


@dataclass
class Player:
    """Plays a world to its end, stage by stage."""

    world: World
    folder: Path
    state: DemoState
    console: Console

    def play(self) -> DemoState:
        """All stages that have not ended yet."""
        try:
            self.stage("the first turn", self.central_turn)
            for day in range(ROUNDS):
                self.stage(f"day {day}: the device collects", lambda day=day: self.day(day))  # type: ignore[misc]
                self.stage(f"day {day}: samples become batches", self.central_turn)
                self.stage(f"day {day}: people label (simulated)", self.people_label)
                self.stage(f"day {day}: labels, training, gate, suggestion", self.central_turn)
            self.stage("the device takes the last release", self.last_swap)
        finally:
            stop_collector(self.world.device.outbox)
        return self.state

    def stage(self, name: str, act: Callable[[], list[str]]) -> None:
        """Run a stage that has not ended in an earlier call; say what it did and how long it took."""
        if name in self.state.ended:
            self.console.print(f"[dim]{name}: done before[/dim]")
            return
        started = time.monotonic()
        with self.console.status(f"{name} ..."), INTERRUPTS.obeyed():
            told = act()
        seconds = time.monotonic() - started
        self.state = self.state.model_copy(update={"ended": self.state.ended | {name: seconds}})
        self.state.save(self.folder)
        self.console.print(f"[bold]{name}[/bold] [dim]({seconds:.0f} s)[/dim]", highlight=False)
        for line in told:
            self.console.print(f"  {line}", highlight=False, markup=False)

    # --- stages ------------------------------------------------------------------------------------------------------

    def central_turn(self) -> list[str]:
        """One turn of the loop, exactly as a user calls it."""
        with frames_while_swapping(self.world, self.clock):
            turn = loop(self.world.project)
        return [*turn.done, *(f"waits for {line}" for line in turn.waits_for)]

    def day(self, day: int) -> list[str]:
        """The device obeys the last turn's release; then the day passes, to its end."""
        last = (day + 1) * self.world.camera_day
        self.wait_for_the_release()
        self.clock.advance_to(last)
        status = collect(self.world.device, window_seconds=DAY_SECONDS, until_frames=last * self.world.cameras)
        decided = decided_frames(Path(self.world.device.outbox))
        if decided < last * self.world.cameras:
            raise EdgeloopError(
                f"{self.world.device.outbox}: the collector decided {decided} frames of {last * self.world.cameras} "
                f"({status.last_error or 'no error reported'}): see collector.log there"
            )
        self.state = self.state.model_copy(update={"days": (*self.state.days[:day], status)})
        return told_of(status)

    def people_label(self) -> list[str]:
        """The simulated annotator labels every open batch through the files that a person would use."""
        central = Central(self.world.project)
        labelling = FilesLabelling(Path(self.world.project.labelling.folder))
        told = []
        turn = newest_turn(self.world.project)
        for batch_id in turn.open_batches if turn else ():
            batch = central.batch(batch_id)
            seeds = labelling.seeds(batch)
            labels = self.label_batch(batch, seeds)
            labelling.put_back(batch, labels)
            boxes = sum(len(label.boxes) for label in labels)
            told.append(f"{self.world.annotator.name}: {len(labels)} images, {boxes} boxes, {len(seeds)} pre-annotated")
        return told

    def label_batch(self, batch: Batch, seeds: dict[str, Label]) -> list[Label]:
        """Every sample as the annotator sees it: with the pre-annotations of its file, or blank."""
        return [
            self.world.annotator.label(sample, shown(seeds[sample.sample_id]) if sample.sample_id in seeds else None)
            for sample in batch.samples
        ]

    def last_swap(self) -> list[str]:
        """The device takes the last release."""
        status = self.wait_for_the_release()
        self.state = self.state.model_copy(update={"final": status})
        return told_of(status)

    # --- the world and the device ------------------------------------------------------------------------------------

    @property
    def clock(self) -> WorldClock:
        return WorldClock(self.folder / "clock.json")

    def wait_for_the_release(self) -> DeviceStatus:
        """The device's word once it obeys the newest release, while frames flow."""
        wanted = live_release(self.world.project)
        status = collect(self.world.device, window_seconds=1.0)
        deadline = time.monotonic() + SWAP_SECONDS
        with frames_while_swapping(self.world, self.clock):
            while wanted is not None and status.release_number < wanted.number:
                if status.refused_release.startswith(f"{wanted.number}") or time.monotonic() > deadline:
                    reason = status.refused_release or status.last_error or f"nothing happened in {SWAP_SECONDS:g} s"
                    raise EdgeloopError(f"the device did not take release {wanted.number}: {reason}")
                time.sleep(0.1)
                status = read_status(self.world.device.outbox) or status
        return status


def shown(seed: Label) -> list[Detection]:
    """Pre-annotations as the annotator sees them: boxes and classes, no confidence."""
    return [Detection(class_name=box.class_name, confidence=1.0, xyxy=box.xyxy) for box in seed.boxes]


def told_of(status: DeviceStatus) -> list[str]:
    """The device's word."""
    kept = ", ".join(f"{n} by {name}" for name, n in status.kept_by_strategy.items()) or "none"
    lines = [f"{status.frames} frames since its start, {status.frames_lost} lost; {status.kept} kept: {kept}"]
    return lines + [f"swapped at {swap}" for swap in status.swaps[-1:]]
