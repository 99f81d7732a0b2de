"""A known world for the figures of the field: a fixed camera over a busy and a quiet half of the day, and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Detections
from tasks.core.sampling import Observation

MORNING = datetime(2026, 1, 5, 6, tzinfo=timezone.utc)
THRESHOLD = 0.6
FLOOR = 0.05
SECONDS = 30.0  # between frames
NEW_SCENE = 0.6  # probability; else nothing has moved since the last frame
HARD = 0.15  # share of scenes in which the model is unsure


@dataclass(frozen=True, slots=True)
class World:
    """Every frame, with the objects that are in it and those of them that the model finds: (frames,) each."""

    frames: list[Observation]
    objects: NDArray[np.float64]
    hits: NDArray[np.float64]

    @property
    def recall(self) -> float:
        return float(self.hits.sum() / self.objects.sum())


def a_world(frames: int, seed: int) -> World:
    """Objects of scenes in which the model is sure, unsure or blind, and false alarms, all of one class."""
    random = np.random.default_rng(seed)
    observations, objects, hits = [], np.zeros(frames), np.zeros(frames)
    confidences: NDArray[np.float64] = np.zeros(0)
    alarms, image_hash = confidences, np.zeros(32, np.uint8)
    for number in range(frames):
        if number == 0 or random.random() < NEW_SCENE:
            hard = random.random() < HARD
            count = int(random.poisson(4 if hard else 1.2))
            confidences = random.beta(2, 2.5, count) if hard else random.beta(8, 1.5, count)
            confidences[random.random(count) < 0.05] = 0.0  # the model is blind for these
            alarms = random.beta(1.2, 6, int(random.poisson(0.3)))
            image_hash = random.integers(0, 256, 32).astype(np.uint8)
        objects[number], hits[number] = len(confidences), (confidences >= THRESHOLD).sum()
        observations.append(
            Observation(
                frame=f"f{number}",
                device="pi",
                camera="gate",
                captured_at=MORNING + timedelta(seconds=SECONDS * number),
                detections=_detections(np.concatenate([confidences, alarms])),
                image_hash=image_hash,
            )
        )
    return World(observations, objects, hits)


def _detections(confidences: NDArray[np.float64]) -> Detections:
    """Side by side in a row, those from the floor up."""
    places = np.flatnonzero(confidences >= FLOOR)
    xyxy = np.array([[60 * place, 10, 60 * place + 40, 50] for place in places], np.float32).reshape(-1, 4)
    order = np.argsort(-confidences[places], kind="stable")
    kept = confidences[places][order].astype(np.float32)
    return Detections(xyxy[order], kept, np.zeros(len(places), np.int64), ("car",))
