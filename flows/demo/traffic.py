"""Frames that flow while a release is on its way, so that the running collector swaps between two of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flows.demo.world import World
from tasks.adapters.releases import latest_release
from tasks.adapters.simulation import WorldClock
from tasks.central import Central
from tasks.collector import collector_pid, read_status

TICK_SECONDS = 0.4  # between two frames of each camera


@contextmanager
def frames_while_swapping(world: World, clock: WorldClock) -> Iterator[None]:
    """While the block runs, every camera shows frames from the moment that a release is out until the device has it."""
    over = threading.Event()
    thread = threading.Thread(target=let_frames_flow, args=(world, clock, over), name="yard traffic", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def let_frames_flow(world: World, clock: WorldClock, over: threading.Event) -> None:
    bucket = Central(world.project).bucket
    number = 0
    while not over.wait(TICK_SECONDS):
        newest = latest_release(bucket, world.project.group, after=number)
        number = newest.number if newest else number
        if collector_pid(world.device.outbox) is not None and is_behind(world, number):
            clock.advance_to(clock.read().frames + 1)


def is_behind(world: World, number: int) -> bool:
    """Whether the device has not taken release `number` yet."""
    status = read_status(world.device.outbox)
    return status is not None and status.release_number < number
