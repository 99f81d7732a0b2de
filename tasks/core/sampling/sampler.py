"""The decision: keep this frame or not, charged to which strategy, and with what inclusion probability."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from tasks.core.duplicates import RecentFrames, RecentState, Repeat
from tasks.core.entities.base import Record, to_utc
from tasks.core.errors import RecordInvalid
from tasks.core.limits import REMEMBERED_BATCHES, Credits, CreditState, RecentCounts, Windows, batch_name, windows_of
from tasks.core.sampling import reasons
from tasks.core.sampling.observation import Decision, Observation
from tasks.core.sampling.strategies import Counts, StrategyTable
from tasks.core.settings import AnyStrategy, RandomSampling, SamplingSettings

Draw = Callable[[str], float]  # strategy name -> a fraction in [0, 1)


class SamplerState(Record):
    """What a sampler knows of the past, as JSON: credits by strategy and window, images a batch, recent frames."""

    credits: CreditState = {}
    batches: dict[str, int] = {}
    recent: RecentState = {}


@dataclass(frozen=True, slots=True)
class _Case:
    """A frame before its draws: which strategies may keep it, and which of them have room."""

    moment: datetime
    windows: Windows
    batch: str
    repeat: Repeat | None
    counts: Counts
    candidates: Sequence[AnyStrategy]
    has_room: Mapping[str, bool]
    draw: Draw

    @property
    def probability(self) -> float:
        return inclusion_probability([s.probability for s in self.candidates if self.has_room[s.name]])


class Sampler:
    """Decides frame after frame. The same settings, seed, state and frames give the same decisions, anywhere."""

    def __init__(
        self,
        settings: SamplingSettings,
        device: str = "",
        state: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        """device: stands in where an observation names none. state: an earlier `state()`. seed: not the settings' own.

        Raises RecordInvalid for a state that is none.
        """
        past = _checked(state)
        self.settings = settings
        self.device = device
        self.seed = settings.seed if seed is None else seed
        self._given_seed = seed
        self._credits = Credits([strategy.name for strategy in settings.sampling_strategies], past.credits)
        self._batches = RecentCounts(REMEMBERED_BATCHES, past.batches)
        self._recent = RecentFrames(settings.duplicates, settings.confidence_floor, past.recent)
        self._exploration = settings.exploration_strategy
        self._table = StrategyTable(settings, ())

    def decide(self, observation: Observation) -> Decision:
        """Keep this frame? Where the answer is yes, a credit is taken and the frame is remembered.

        Every strategy that the frame matches draws for itself; the first one, in their order, that wins its draw and
        has room is charged. Exploration is a strategy like the others but for two things: it draws on every frame,
        also on a duplicate, and it always has room.
        """
        if not self.settings.enabled:
            return _left(f"{reasons.DISABLED}: the settings say enabled: false", probability=0.0)
        case = self._before_the_draws(observation)
        matched = [strategy for strategy in case.candidates if case.draw(strategy.name) < strategy.probability]
        charged = next((strategy for strategy in matched if case.has_room[strategy.name]), None)
        if charged is None:
            return _left(self._why_left(case, matched), case.probability, matched)
        self._take(observation, case, charged)
        return self._kept(case, matched, charged)

    def state(self) -> dict[str, Any]:
        """What a restart needs, as JSON types; its size is bounded."""
        state = SamplerState(credits=self._credits.state(), batches=self._batches.state(), recent=self._recent.state())
        return state.model_dump(mode="json")

    def with_settings(self, settings: SamplingSettings) -> Sampler:
        """A sampler of other settings that goes on counting where this one is."""
        return Sampler(settings, self.device, self.state(), self._given_seed)

    # --- before the draws --------------------------------------------------------------------------------------------

    def _before_the_draws(self, observation: Observation) -> _Case:
        """Near-duplicates go before scoring; then the strategies; then the batch's size; then the limits."""
        moment = to_utc(observation.captured_at)
        windows, batch = windows_of(moment), batch_name(self.settings.batching_strategy, moment)
        repeat = self._recent.repeat(observation.camera, moment, observation.image_hash, observation.detections)
        counts = self._counts(observation)
        candidates = self._only_exploration() if repeat else self._table.matching(counts)
        return _Case(
            moment=moment,
            windows=windows,
            batch=batch,
            repeat=repeat,
            counts=counts,
            candidates=candidates,
            has_room={strategy.name: self._has_room(strategy, batch, windows) for strategy in candidates},
            draw=draws_of(self.seed, observation.device or self.device, observation.camera, observation.frame),
        )

    def _counts(self, observation: Observation) -> Counts:
        """What each strategy counts; the table is laid out anew only when the class names change."""
        class_names = observation.detections.class_names
        if class_names is not self._table.class_names and class_names != self._table.class_names:
            self._table = StrategyTable(self.settings, class_names)
        return self._table.counts(observation)

    def _only_exploration(self) -> list[AnyStrategy]:
        return [] if self._exploration is None else [self._exploration]

    def _has_room(self, strategy: AnyStrategy, batch: str, windows: Windows) -> bool:
        if strategy is self._exploration:
            return True
        return not self._batch_is_full(batch) and not self._credits.exhausted(strategy.name, strategy.limits, windows)

    def _batch_is_full(self, batch: str) -> bool:
        maximum = self.settings.batching_strategy.max_batch_images
        return maximum is not None and self._batches.of(batch) >= maximum

    # --- after them --------------------------------------------------------------------------------------------------

    def _take(self, observation: Observation, case: _Case, charged: AnyStrategy) -> None:
        self._credits.charge(charged.name, case.windows)
        self._batches.add(case.batch)
        self._recent.remember(
            observation.camera, observation.frame, case.moment, observation.image_hash, observation.detections
        )

    def _kept(self, case: _Case, matched: Sequence[AnyStrategy], charged: AnyStrategy) -> Decision:
        """All matching strategies are named and lend their tags, not only the one that is charged."""
        tags = [*self.settings.tags, *(tag for strategy in matched for tag in strategy.tags)]
        return Decision(
            kept=True,
            strategy=charged.name,
            matched=tuple(strategy.name for strategy in matched),
            tags=tuple(dict.fromkeys(tags)),
            batch=case.batch,
            reason=reasons.kept(charged, self._count_of(charged, case), case.draw, case.batch, case.repeat),
            probability=case.probability,
            random_slice=any(strategy is self._exploration for strategy in matched),
            outcome=reasons.KEPT,
        )

    def _why_left(self, case: _Case, matched: Sequence[AnyStrategy]) -> str:
        if case.repeat:
            return f"{case.repeat.kind}: {case.repeat.detail}"
        if matched and self._batch_is_full(case.batch):
            maximum = self.settings.batching_strategy.max_batch_images
            return reasons.batch_full(case.batch, self._batches.of(case.batch), maximum or 0)
        if matched:
            return reasons.no_credit(self._exhausted(matched, case.windows))
        lost = [strategy for strategy in case.candidates if not isinstance(strategy, RandomSampling)]
        if lost:
            return reasons.draw_lost(lost, case.draw)
        return reasons.no_match(self._table.strategies, case.counts.tolist(), case.draw)

    def _exhausted(self, matched: Iterable[AnyStrategy], windows: Windows) -> Iterable[reasons.Exhausted]:
        """Each strategy that matched, with the limit that is used up and what it was charged for in that window."""
        for strategy in matched:
            limit = self._credits.exhausted(strategy.name, strategy.limits, windows)
            if limit is not None:
                yield strategy, limit, self._credits.used(strategy.name, limit.type, windows)

    def _count_of(self, strategy: AnyStrategy, case: _Case) -> int:
        row = next(row for row, other in enumerate(self._table.strategies) if other is strategy)
        return int(case.counts[row])


def draws_of(seed: int, device: str, camera: str, frame: str) -> Draw:
    """The draws of one frame: a fraction in [0, 1) for the name of a strategy.

    blake2b over seed, device, camera, frame and strategy, each ended by a zero byte but the last; of its first 8 bytes
    the upper 53 bits, as a fraction of 2**53. Replay, device and tests therefore agree.
    """
    of_frame = blake2b(f"{seed}\0{device}\0{camera}\0{frame}\0".encode(), digest_size=8)

    def draw(strategy: str) -> float:
        digest = of_frame.copy()
        digest.update(strategy.encode())
        return (int.from_bytes(digest.digest(), "big") >> 11) * 2.0**-53

    return draw


def inclusion_probability(probabilities: Sequence[float]) -> float:
    """How likely at least one of independent draws is won: 1 - product(1 - q)."""
    if len(probabilities) == 1:
        return probabilities[0]  # exactly, where 1 - (1 - q) would be off by a rounding
    return 1.0 - math.prod(1.0 - probability for probability in probabilities)


def _left(reason: str, probability: float, matched: Sequence[AnyStrategy] = ()) -> Decision:
    """The decision not to keep a frame; its outcome is what the reason opens with."""
    return Decision(
        kept=False,
        strategy=None,
        matched=tuple(strategy.name for strategy in matched),
        tags=(),
        batch="",
        reason=reason,
        probability=probability,
        random_slice=False,
        outcome=reason.partition(":")[0],
    )


def _checked(state: Mapping[str, Any] | None) -> SamplerState:
    try:
        return SamplerState.model_validate(dict(state or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise RecordInvalid(
            f"state of the sampler: {field}: {problem['msg']}; remove it to start counting anew"
        ) from None
