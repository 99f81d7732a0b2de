"""The sampler's word on one frame after another, with nothing kept but the sampler's own state."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tasks.core.entities import format_utc
from tasks.core.errors import RecordInvalid
from tasks.core.explain.lines import RecordedFrames
from tasks.core.sampling import Decision, Observation, Sampler, Settled
from tasks.core.sampling.strategies import StrategyTable
from tasks.core.settings import SamplingSettings


@dataclass(frozen=True, slots=True)
class Explained:
    """One frame and what was decided of it.

    expected_misses: m(x), also of a near-duplicate, which the sampler does not score; None where nothing expects any.
    detections: how many there are, from the confidence floor up. is_late: it is kept for the sake of a later frame, in
    which an object was seen again.
    """

    frame: str
    camera: str
    captured_at: datetime
    decision: Decision
    expected_misses: float | None
    detections: int
    is_late: bool = False

    def answer(self) -> dict[str, Any]:
        """The published answer, as JSON types."""
        decision = self.decision
        return {
            "frame": self.frame,
            "kept": decision.kept,
            "strategy": decision.strategy,
            "matched": list(decision.matched),
            "reason": decision.reason,
            "probability": decision.probability,
        }

    def record(self) -> dict[str, Any]:
        """The answer with all that belongs to it, as JSON types; m(x) and its minimum only where there is a budget."""
        decision = self.decision
        more = {
            "captured_at": format_utc(self.captured_at),
            "camera": self.camera,
            "outcome": decision.outcome,
            "random_slice": decision.random_slice,
            "batch": decision.batch,
            "tags": list(decision.tags),
            "detections": self.detections,
            "is_late": self.is_late,
        }
        misses = {
            "expected_misses": self.expected_misses,
            "minimum_expected_misses": decision.minimum_expected_misses,
        }
        return {**self.answer(), **more, **(misses if self.expected_misses is not None else {})}


@dataclass(frozen=True, slots=True)
class Unseen:
    """A frame of a camera that no model could look at: what was in it, nobody knows."""

    camera: str


class Explainer:
    """Decides as a device does, and says why."""

    def __init__(self, settings: SamplingSettings, device: str = "", seed: int | None = None) -> None:
        """device: stands in where a frame names none. seed: in place of the settings'."""
        self._settings = settings
        self._sampler = Sampler(settings, device=device, seed=seed)
        self._table = StrategyTable(settings, ())

    def explain(self, observations: Iterable[Observation | Unseen]) -> Iterator[Explained]:
        """Each frame and the last word on it, in their order; one whose decision is open is waited for.

        One that was not seen has no answer, and ends what waits for an object of its camera.
        """
        waiting: deque[Explained] = deque()
        for observation in observations:
            if isinstance(observation, Unseen):
                _settle(waiting, self._sampler.settle(observation.camera))
            else:
                waiting.append(self._decided(observation))
                _settle(waiting, waiting[-1].decision.settled)
            yield from _taken(waiting)
        _settle(waiting, self._sampler.settle())
        yield from waiting

    def _decided(self, observation: Observation) -> Explained:
        decision = self._sampler.decide(observation)
        confidence = observation.detections.confidence
        return Explained(
            frame=observation.frame,
            camera=observation.camera,
            captured_at=observation.captured_at,
            decision=decision,
            expected_misses=self._expected_misses(observation, decision),
            detections=int((confidence >= self._settings.confidence_floor).sum()),
        )

    def _expected_misses(self, observation: Observation, decision: Decision) -> float | None:
        """What was held against the minimum, or would have been."""
        if decision.expected_misses is not None or self._settings.expected_misses is None:
            return decision.expected_misses
        if observation.detections.class_names != self._table.class_names:
            self._table = StrategyTable(self._settings, observation.detections.class_names)
        return self._table.look(observation).expected_misses


def _settle(waiting: deque[Explained], settled: Iterable[Settled]) -> None:
    """Put the last word in the place of a decision that was open."""
    for last in settled:
        for place, one in enumerate(waiting):
            if one.decision.is_open and (one.camera, one.frame) == (last.camera, last.frame):
                final = replace(last.decision, is_open=False)
                waiting[place] = replace(one, decision=final, is_late=last.is_late)
                break


def _taken(waiting: deque[Explained]) -> Iterator[Explained]:
    """The frames before the first one that is open, taken out."""
    while waiting and not waiting[0].decision.is_open:
        yield waiting.popleft()


def explain_lines(
    lines: Iterable[str],
    settings: SamplingSettings,
    seed: int | None = None,
    *,
    on_error: Callable[[RecordInvalid], None] | None = None,
) -> Iterator[str]:
    """One JSON answer for each JSON line, in their order; see `RecordedFrames` and `Explainer`."""
    explainer = Explainer(settings, seed=seed)
    for explained in explainer.explain(RecordedFrames(lines, on_error)):
        yield json.dumps(explained.answer())
