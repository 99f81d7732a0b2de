"""The promise `memory is flat over 24 h`: as many frames, samples and segments as a day has, as fast as they go."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.collector import read_status
from tests.adapters.models import constant_detector
from tests.adapters.rtsp import free_port
from tests.faults.edge import Edge, lost
from tests.tasks.collecting import CAR, TRUCK, samples_of

FRAMES = 864_000  # of a day at 10 a second
WARM_UP = 0.1  # of them
GROWTH = 1.05


def test_a_day_of_frames_takes_no_more_memory_than_its_beginning(tmp_path, promise):
    """With a model, 1% kept and delivered, traffic log, JSON lines and metrics: less than 5% above the first tenth."""
    lines = {"type": "file", "path": str(tmp_path / "detections.jsonl"), "megabytes": 1}
    with Edge(
        tmp_path,
        f"file://{tmp_path}/bucket",
        fps=2000,
        frames=FRAMES,
        fraction=0.01,
        model=constant_detector(tmp_path / "model.onnx", [CAR, TRUCK]),
        consumers=[lines],
        metrics={"port": free_port()},
        segment_samples=50,
        segment_seconds=30,
    ) as edge:
        held, began = [], time.monotonic()
        edge.wait_for(lambda now: now.frames > 0, 60, "a first frame")
        with suppress(FileNotFoundError):  # it has ended
            while edge.is_running:
                held.append((read_status(edge.outbox).frames, edge.resident_bytes))
                time.sleep(1)
        minutes = (time.monotonic() - began) / 60
        status = edge.ended()
    there = samples_of(Bucket(edge.device.bucket, edge.device.project))
    frames, memory = np.array(held).T
    before = np.median(memory[(frames > WARM_UP * FRAMES) & (frames < 2 * WARM_UP * FRAMES)])
    after = np.median(memory[frames > (1 - WARM_UP) * FRAMES])
    promise(
        "memory is flat",
        frames=status.frames,
        minutes=round(minutes),
        samples=len(there),
        segments=status.segments,
        after_a_tenth_mb=round(before / 1e6, 1),
        at_the_end_mb=round(after / 1e6, 1),
        growth=f"{after / before - 1:+.1%}",
    )
    assert after <= GROWTH * before
    assert (status.frames, status.frames_lost) == (FRAMES, 0)
    assert lost(status, len(there)) == 0
