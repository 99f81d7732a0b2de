"""How far is a frame from those of its camera that were kept lately, as an embedding sees them?

The distance is 1 - cosine similarity, of embeddings as they are remembered: a signed byte a dimension, the largest of
them 127. That moves the distances of usual embeddings (64 numbers or more) by less than 0.005, makes those of equal
frames 0, and a restart moves it no further.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.entities.base import Record
from tasks.core.sampling.observation import Observation
from tasks.core.settings import Novelty

MAX_CAMERAS = 64  # whose kept frames are remembered
MAX_DIMENSIONS = 4096
UNLIKE_ANY = math.inf  # the distance of a frame whose camera has kept none yet
_STEPS = 127  # of a remembered number, on each side of 0
_DIGITS = 6  # of a distance: equal frames are not a rounding error apart


class KeptEmbeddings(Record):
    """The embeddings of a camera's last kept frames, as JSON."""

    schema_version: int = Field(1, exclude=True)
    embedder: str
    dimensions: int = Field(ge=1, le=MAX_DIMENSIONS)
    embeddings: tuple[str, ...] = Field(description="base64 of one signed byte a dimension; the newest last")


NoveltyState = dict[str, KeptEmbeddings]  # the camera that kept a frame last comes last


class _Kept:
    """`KeptEmbeddings` in memory. bytes: (n, d) int8. directions: (n, d) float64 of length 1."""

    def __init__(self, embedder: str, numbers: NDArray[np.int8]) -> None:
        self.embedder = embedder
        self.bytes = numbers
        self.directions = _directions(numbers)

    def is_of(self, embedder: str, dimensions: int) -> bool:
        return self.embedder == embedder and self.bytes.shape[1] == dimensions


class KeptLately:
    """The embeddings of each camera's last kept frames."""

    def __init__(self, strategy: Novelty, state: Mapping[str, KeptEmbeddings] | None = None) -> None:
        """state: an earlier `state()`; what cannot be read of it is forgotten."""
        self._strategy = strategy
        self._kept: dict[str, _Kept] = {}
        for camera, known in (state or {}).items():
            numbers = _read(known)
            if len(numbers):
                self._kept[camera] = _Kept(known.embedder, numbers[-strategy.remembered_frames :])

    def distance(self, observation: Observation) -> float | None:
        """From the nearest kept frame, 0 to 2; UNLIKE_ANY of the first; None of a frame without an embedding."""
        numbers = remembered(observation.embedding)
        if numbers is None:
            return None
        kept = self._kept.get(observation.camera)
        if kept is None or not kept.is_of(observation.embedder, len(numbers)):
            return UNLIKE_ANY
        return abs(round(1.0 - float((kept.directions @ _directions(numbers)).max()), _DIGITS))

    def remember(self, observation: Observation) -> None:
        """Take note of a kept frame. Those of another embedder, or too many of them, are forgotten."""
        numbers = remembered(observation.embedding)
        if numbers is None:
            return
        lately = numbers[None]
        kept = self._kept.pop(observation.camera, None)
        if kept is not None and kept.is_of(observation.embedder, len(numbers)):
            lately = np.concatenate([kept.bytes, lately])[-self._strategy.remembered_frames :]
        self._kept[observation.camera] = _Kept(observation.embedder, lately)
        while len(self._kept) > MAX_CAMERAS:
            del self._kept[next(iter(self._kept))]

    def state(self) -> NoveltyState:
        """What a restart needs; its size is bounded."""
        return {
            camera: KeptEmbeddings(
                embedder=kept.embedder,
                dimensions=kept.bytes.shape[1],
                embeddings=tuple(base64.b64encode(row.tobytes()).decode() for row in kept.bytes),
            )
            for camera, kept in self._kept.items()
        }


def remembered(embedding: NDArray[Any] | None) -> NDArray[np.int8] | None:
    """(d,) the direction of an embedding, in steps of its largest number.

    None where there is none: of zeros only, of what is not finite, and of too many numbers.
    """
    if embedding is None or not 0 < embedding.size <= MAX_DIMENSIONS:
        return None
    numbers = embedding.reshape(-1).astype(np.float64)
    largest = float(np.abs(numbers).max())
    if not 0 < largest < math.inf:  # NaN is neither
        return None
    return np.round(numbers / largest * _STEPS).astype(np.int8)


def _directions(numbers: NDArray[np.int8]) -> NDArray[np.float64]:
    """(..., d) of length 1."""
    floats = numbers.astype(np.float64)
    return np.asarray(floats / np.linalg.norm(floats, axis=-1, keepdims=True), np.float64)


def _read(known: KeptEmbeddings) -> NDArray[np.int8]:
    """(n, d) what is whole of it."""
    rows = []
    for text in known.embeddings:
        try:
            row = np.frombuffer(base64.b64decode(text, validate=True), np.int8)
        except ValueError:
            continue
        if len(row) == known.dimensions and row.any():
            rows.append(row)
    return np.array(rows, np.int8).reshape(-1, known.dimensions)
