"""The promise `camera drops`, the long version: a real RTSP camera killed and frozen, again and again."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from tasks.adapters.camera import live, open_source
from tests.adapters.rtsp import BACK_S, NOTICED_S, RtspCamera, Watcher, drop, free_port, held, need_rtsp_server, until

ROUNDS = 20
LONG_AWAY_S = 90.0


@pytest.fixture(autouse=True, scope="module")
def _rtsp_server():
    need_rtsp_server()


def summary(seconds):
    return f"median {np.median(seconds):.1f} s, longest {max(seconds):.1f} s"


@pytest.mark.parametrize("way", ["SIGKILL", "SIGSTOP"])
def test_twenty_drops_of_a_camera(way):
    """Noticed within 10 s, back within 5 s, each time; descriptors and threads as after the first."""
    away, noticed, back = random.Random(0), [], []
    with RtspCamera() as camera, Watcher(open_source(camera.url, "gate")) as watcher:
        until(watcher.sees, 20, "first frame")
        drop(camera, watcher, way, away=1.0)
        before = held()
        for _ in range(ROUNDS):
            times = drop(camera, watcher, way, away=away.uniform(0, 20))
            noticed.append(times[0])
            back.append(times[1])
            time.sleep(1)
        after = held()
    print(
        f"\ncamera drops, {way} x{ROUNDS}: noticed {summary(noticed)}; back {summary(back)}; "
        f"descriptors {before[0]} -> {after[0]}, threads {before[1]} -> {after[1]}"
    )
    assert max(noticed) <= NOTICED_S
    assert max(back) <= BACK_S
    assert after[0] <= before[0]
    assert after[1] <= before[1]


@pytest.mark.parametrize("way", ["SIGKILL", "SIGSTOP"])
def test_a_camera_that_was_away_for_long_is_back_as_soon(way):
    """After 90 s, in which it was asked dozens of times (a frozen one until its queue of connections was full)."""
    with RtspCamera() as camera, Watcher(open_source(camera.url, "gate")) as watcher:
        until(watcher.sees, 20, "first frame")
        before = held()
        noticed, back = drop(camera, watcher, way, away=LONG_AWAY_S)
        tries = watcher.source.skipped["connection_failed"]
        after = held()
    print(f"\ncamera away for {LONG_AWAY_S:.0f} s, {way}: noticed {noticed:.1f} s, {tries} tries, back {back:.1f} s")
    assert noticed <= NOTICED_S
    assert back <= BACK_S
    assert after[0] <= before[0] + 1


@pytest.mark.parametrize("what", ["closed port", "webcam"])
def test_a_thousand_tries_hold_nothing(what, monkeypatch):
    """A quarter of an hour away, its pauses shortened: no descriptor and no thread more, however often it is tried."""
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(live, "LONGEST_PAUSE_AWAY_S", 0.02)
    source = open_source("97" if what == "webcam" else f"rtsp://127.0.0.1:{free_port()}/cam", "gate")
    before = held()
    with Watcher(source):
        until(lambda: source.skipped.get("connection_failed", 0) >= 1000, 300, "a thousand tries")
    until(lambda: held()[1] <= before[1], 5, "all threads have ended")  # the system's end is a little after Python's
    after, tries = held(), source.skipped["connection_failed"]
    print(f"\naway, {what}: {tries} tries, descriptors {before[0]} -> {after[0]}, threads {before[1]} -> {after[1]}")
    assert after[0] <= before[0]
