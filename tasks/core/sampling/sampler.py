"""The decision: keep this frame or not, charged to which strategy, and with what inclusion probability."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any

from tasks.core.duplicates import RecentFrames, Repeat, StaticObjects
from tasks.core.entities import TrafficRecord
from tasks.core.entities.base import to_utc
from tasks.core.limits import REMEMBERED_BATCHES, Credits, RecentCounts, Windows, batch_name, windows_of
from tasks.core.sampling import late, reasons
from tasks.core.sampling.draws import Draw, draws_of, inclusion_probability
from tasks.core.sampling.gaps import Ended, TrackGaps
from tasks.core.sampling.novelty import KeptLately
from tasks.core.sampling.observation import Decision, Observation, Settled
from tasks.core.sampling.rate import RateController, RateState
from tasks.core.sampling.reasons import Candidate, Seen
from tasks.core.sampling.state import SamplerState, checked_state
from tasks.core.sampling.strategies import StrategyTable
from tasks.core.settings import AnyStrategy, CloseToThreshold, ExpectedMisses, RandomSampling, SamplingSettings
from tasks.core.traffic import TRAFFIC_LOG, TrafficLog

_DOUBTFUL = (CloseToThreshold, ExpectedMisses)  # what keeps a frame for the sake of single detections


@dataclass(frozen=True, slots=True)
class _Case:
    """A frame before its draws: which strategies may keep it, and which of them have room.

    seen: None of a near-duplicate, which the strategies are not shown.
    """

    moment: datetime
    windows: Windows
    batch: str
    repeat: Repeat | None
    seen: Seen | None
    candidates: Sequence[Candidate]
    draw: Draw
    minimum: float | None

    @property
    def probability(self) -> float:
        return inclusion_probability([one.chance for one in self.candidates if one.has_room])

    @property
    def probability_random(self) -> float:
        return next((one.chance for one in self.candidates if one.explores), 0.0)

    @property
    def expected_misses(self) -> float | None:
        return None if self.seen is None else self.seen.sight.expected_misses


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
        past = checked_state(state)
        self.settings = settings
        self.device = device
        self.seed = settings.seed if seed is None else seed
        self._given_seed = seed
        self._credits = Credits([strategy.name for strategy in settings.sampling_strategies], past.credits)
        self._batches = RecentCounts(REMEMBERED_BATCHES, past.batches)
        self._recent = RecentFrames(settings.duplicates, settings.confidence_floor, past.recent)
        self._objects = StaticObjects(settings.duplicates, past.objects)
        self._exploration = settings.exploration_strategy
        self._past_rate = past.rate  # kept for settings that bring the budget back
        self._rate = _rate_controller(settings, past.rate)
        self._traffic = TrafficLog(settings, past.traffic)
        self._table = StrategyTable(settings, ())
        self._past_novelty = past.novelty  # kept for settings that bring the strategy back
        self._kept_lately = None if settings.novelty is None else KeptLately(settings.novelty, past.novelty)
        self._gaps = None if settings.track_gap is None else TrackGaps(settings.track_gap, settings)

    def decide(self, observation: Observation) -> Decision:
        """Keep this frame? Where the answer is yes, a credit is taken and the frame is remembered.

        Every strategy that the frame matches draws for itself; the first one, in their order, that wins its draw and
        has room is charged. Exploration is a strategy like the others but for two things: it draws on every frame,
        also on a duplicate, and it always has room. Frames before this one may be settled by it (`late`).
        """
        if not self.settings.enabled:
            return _left(reasons.DISABLED, lambda: f"{reasons.DISABLED}: the settings say enabled: false")
        if self._gaps is None:
            return self._decide(observation)
        moment = to_utc(observation.captured_at)
        passes_over = partial(self._objects.used_up, observation.camera, moment)
        settled = self._settled(self._gaps.follow(observation, moment, passes_over), moment)
        decision = self._decide(observation)
        return replace(decision, is_open=self._gaps.opened(observation, decision), settled=settled)

    def settle(self, camera: str | None = None) -> tuple[Settled, ...]:
        """Objects are followed no further, of one camera or of all: frames that are open stay as they were decided.

        For when no more frames come, or none for long, and before `with_settings`.
        """
        return () if self._gaps is None else tuple(late.as_decided(ended) for ended in self._gaps.end(camera))

    def _decide(self, observation: Observation) -> Decision:
        case = self._before_the_draws(observation)
        won = [one for one in case.candidates if case.draw(one.draws_as) < one.chance]
        charged = next((one for one in won if one.has_room), None)
        if self._rate is not None:
            spent = any(one.has_room and isinstance(one.strategy, ExpectedMisses) for one in won)
            self._rate.saw(case.expected_misses, spent=spent)
        if charged is None:
            return self._left(case, won)
        self._take(observation, case, won, charged)
        return self._kept(case, won, charged)

    def traffic_record(self, observation: Observation, decision: Decision, model_version: str) -> TrafficRecord | None:
        """The line of the traffic log for a frame that was decided, whether or not it is kept; None when it has none.

        The log is a uniform sample of all frames after duplicates; a stub's confidences mean nothing.
        """
        if observation.is_stub or decision.is_repeat:
            return None
        drawn = self._draws(observation)(TRAFFIC_LOG)
        moment = to_utc(observation.captured_at)
        return self._traffic.record_of(observation.camera, moment, observation.detections, drawn, model_version)

    def state(self) -> dict[str, Any]:
        """What a restart needs, as JSON types; its size is bounded."""
        state = SamplerState(
            credits=self._credits.state(),
            batches=self._batches.state(),
            recent=self._recent.state(),
            objects=self._objects.state(),
            rate=self._past_rate if self._rate is None else self._rate.state(),
            traffic=self._traffic.state(),
            novelty=self._past_novelty if self._kept_lately is None else self._kept_lately.state(),
        )
        return state.model_dump(mode="json")

    def with_settings(self, settings: SamplingSettings) -> Sampler:
        """A sampler of other settings that goes on counting where this one is."""
        return Sampler(settings, self.device, self.state(), self._given_seed)

    # --- before the draws --------------------------------------------------------------------------------------------

    def _before_the_draws(self, observation: Observation) -> _Case:
        """Near-duplicates go before scoring; then the strategies; then the batch's size; then the limits."""
        moment = to_utc(observation.captured_at)
        if self._rate is not None:
            self._rate.advance(observation.camera, moment)
        windows, batch = windows_of(moment), batch_name(self.settings.batching_strategy, moment)
        repeat = self._recent.repeat(observation.camera, moment, observation.image_hash, observation.detections)
        seen = None if repeat else self._look(observation, moment)
        return _Case(
            moment=moment,
            windows=windows,
            batch=batch,
            repeat=repeat,
            seen=seen,
            candidates=self._candidates(seen, batch, windows),
            draw=self._draws(observation),
            minimum=None if self._rate is None else self._rate.minimum,
        )

    def _draws(self, observation: Observation) -> Draw:
        return draws_of(self.seed, observation.device or self.device, observation.camera, observation.frame)

    def _look(self, observation: Observation, moment: datetime) -> Seen:
        """What the strategies see; the table is laid out anew only when the class names change."""
        class_names = observation.detections.class_names
        if class_names is not self._table.class_names and class_names != self._table.class_names:
            self._table = StrategyTable(self.settings, class_names)
        sight, objects = self._table.look(observation), 0
        if self._objects.are_used_up(observation.camera, moment) and self._table.is_doubtful(sight):
            used_up = self._objects.used_up(observation.camera, moment, observation.detections)
            if used_up is not None:
                sight, objects = self._table.look(observation, used_up), int(used_up.sum())
        if self._kept_lately is not None and not observation.is_stub:
            distance = self._kept_lately.distance(observation)
            sight = sight if distance is None else self._table.at_distance(sight, distance)
        return Seen(self._table.strategies, sight, None if self._rate is None else self._rate.minimum, objects)

    def _candidates(self, seen: Seen | None, batch: str, windows: Windows) -> list[Candidate]:
        """The strategies, in their order, that may keep the frame; of a near-duplicate the exploration alone."""
        candidates: list[Candidate] = []
        fits = None if seen is None else self._table.fits(seen.sight.counts)
        is_full = self._batch_is_full(batch)
        for row, strategy in enumerate(self.settings.sampling_strategies):
            if strategy is self._exploration:
                candidates.append(Candidate(strategy, self._share(strategy), explores=True))
            if seen is None or fits is None:
                continue
            if isinstance(strategy, ExpectedMisses):
                chance = self._budgeted(seen.sight.expected_misses)
                if chance > 0:
                    candidates.append(Candidate(strategy, chance, not is_full and self._has_credit(strategy, windows)))
            elif fits[row] and strategy is not self._exploration:
                has_room = not is_full and self._has_credit(strategy, windows)
                candidates.append(Candidate(strategy, strategy.probability, has_room))
        return candidates

    def _share(self, exploration: RandomSampling | ExpectedMisses) -> float:
        """e, the probability of the exploration draw."""
        if isinstance(exploration, RandomSampling):
            return exploration.traffic_percentage
        return 0.0 if self._rate is None else self._rate.exploration

    def _budgeted(self, expected_misses: float | None) -> float:
        return 0.0 if self._rate is None or expected_misses is None else self._rate.chance(expected_misses)

    def _settled(self, ended: Iterable[Ended], moment: datetime) -> tuple[Settled, ...]:
        """Frames before, in their order; of those in which an object was missing that is seen again, keep them now?"""
        return tuple(late.as_decided(one) if one.missing is None else self._ask_late(one, moment) for one in ended)

    def _ask_late(self, ended: Ended, moment: datetime) -> Settled:
        """Clock, batch and credit are those of the moment; frame and draw those of the frame without the object."""
        strategy, observation = self.settings.track_gap, ended.frame.observation
        assert strategy is not None
        windows, batch = windows_of(moment), batch_name(self.settings.batching_strategy, moment)
        outcome, no_room = self._no_room_for(strategy, windows, batch, ended.frame.decision)
        drawn = self._draws(observation)(strategy.name)
        asked = late.Asked(ended, strategy, drawn, batch, outcome, no_room)
        if asked.is_kept_now:
            self._charge(strategy.name, batch, windows)
            self._remember(observation, moment)
            if ended.missing is not None:
                self._objects.earned(observation.camera, moment, ended.missing)
        return asked.settled(self.settings)

    def _has_credit(self, strategy: AnyStrategy, windows: Windows) -> bool:
        return not strategy.limits or self._credits.exhausted(strategy.name, strategy.limits, windows) is None

    def _batch_is_full(self, batch: str, but_for: int = 0) -> bool:
        """but_for: so many of its images are not counted."""
        maximum = self.settings.batching_strategy.max_batch_images
        return maximum is not None and self._batches.of(batch) - but_for >= maximum

    def _no_room_for(
        self, strategy: AnyStrategy, windows: Windows, batch: str, own: Decision | None
    ) -> tuple[str, Callable[[], str] | None]:
        """The outcome and the reason of a frame that is asked late, as if it had not been kept at its own time."""
        itself = int(own is not None and own.kept and own.batch == batch)
        if self._batch_is_full(batch, itself):
            maximum = self.settings.batching_strategy.max_batch_images or 0
            return reasons.BATCH_FULL, partial(reasons.batch_full, batch, self._batches.of(batch) - itself, maximum)
        if self._has_credit(strategy, windows):
            return "", None
        used = list(self._exhausted([Candidate(strategy, 1.0)], windows))
        return reasons.NO_CREDIT, partial(reasons.no_credit, used)

    # --- after them --------------------------------------------------------------------------------------------------

    def _take(self, observation: Observation, case: _Case, won: Sequence[Candidate], charged: Candidate) -> None:
        self._charge(charged.strategy.name, case.batch, case.windows)
        self._remember(observation, case.moment)
        if any(one.has_room and not one.explores and isinstance(one.strategy, _DOUBTFUL) for one in won):
            rows = self._table.doubtful(observation)
            self._objects.earned(observation.camera, case.moment, observation.detections[rows])

    def _charge(self, strategy: str, batch: str, windows: Windows) -> None:
        self._credits.charge(strategy, windows)
        self._batches.add(batch)

    def _remember(self, observation: Observation, moment: datetime) -> None:
        """moment: in which it was kept."""
        self._recent.remember(
            observation.camera, observation.frame, moment, observation.image_hash, observation.detections
        )
        if self._kept_lately is not None:
            self._kept_lately.remember(observation)

    def _kept(self, case: _Case, won: Sequence[Candidate], charged: Candidate) -> Decision:
        """All matching strategies are named and lend their tags, not only the one that is charged."""
        matched = _names(won)
        return Decision(
            kept=True,
            strategy=charged.strategy.name,
            matched=matched,
            tags=late.tags_of(self.settings, matched),
            batch=case.batch,
            probability=case.probability,
            random_slice=any(one.explores for one in won),
            outcome=reasons.KEPT,
            why=partial(reasons.kept, charged, case.seen, case.draw, case.batch, case.repeat),
            probability_random=case.probability_random,
            chosen=_names([one for one in won if not one.explores]),
            is_chosen=any(one.has_room and not one.explores for one in won),
            is_repeat=case.repeat is not None,
            expected_misses=case.expected_misses,
            minimum_expected_misses=case.minimum,
        )

    def _left(self, case: _Case, won: Sequence[Candidate]) -> Decision:
        """Why not? What will have changed by the time that somebody asks is written down at once."""
        if case.repeat:
            repeat = case.repeat
            return _left(repeat.kind, lambda: f"{repeat.kind}: {repeat.detail}", case, won)
        if won and self._batch_is_full(case.batch):
            maximum = self.settings.batching_strategy.max_batch_images or 0
            full = partial(reasons.batch_full, case.batch, self._batches.of(case.batch), maximum)
            return _left(reasons.BATCH_FULL, full, case, won)
        if won:
            used = partial(reasons.no_credit, list(self._exhausted(won, case.windows)))
            return _left(reasons.NO_CREDIT, used, case, won)
        lost = [one for one in case.candidates if not one.explores and not isinstance(one.strategy, RandomSampling)]
        assert case.seen is not None  # it is no near-duplicate
        if lost:
            return _left(reasons.DRAW_LOST, partial(reasons.draw_lost, lost, case.seen, case.draw), case)
        nothing = partial(reasons.no_match, case.seen, case.candidates, case.draw)
        return _left(reasons.NO_MATCH, nothing, case)

    def _exhausted(self, won: Iterable[Candidate], windows: Windows) -> Iterable[reasons.Exhausted]:
        """Each strategy that won its draw, with the limit that is used up and what was charged in that window."""
        for one in won:
            limit = self._credits.exhausted(one.strategy.name, one.strategy.limits, windows)
            if limit is not None:
                used = self._credits.used(one.strategy.name, limit.type, windows)
                yield one.strategy, limit, used, windows[limit.type]


def _left(
    outcome: str,
    why: Callable[[], str],
    case: _Case | None = None,
    won: Sequence[Candidate] = (),
) -> Decision:
    """A frame that is not kept; without a case it was not even looked at."""
    return Decision(
        kept=False,
        strategy=None,
        matched=_names(won),
        tags=(),
        batch="",
        probability=0.0 if case is None else case.probability,
        random_slice=False,
        outcome=outcome,
        why=why,
        probability_random=0.0 if case is None else case.probability_random,
        chosen=_names(won),  # exploration always has room: of a frame that is left, it has lost its draw
        is_repeat=case is not None and case.repeat is not None,
        expected_misses=None if case is None else case.expected_misses,
        minimum_expected_misses=None if case is None else case.minimum,
    )


def _names(won: Sequence[Candidate]) -> tuple[str, ...]:
    """Each strategy once, also where its exploration and the strategy itself won their draws."""
    return tuple(dict.fromkeys(one.strategy.name for one in won)) if won else ()


def _rate_controller(settings: SamplingSettings, past: RateState | None) -> RateController | None:
    strategy = settings.expected_misses
    if strategy is None:
        return None
    values = [strategy.weights, strategy.bins, settings.thresholds, settings.confidence_floor, settings.model_digest]
    fitted_to = blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()
    return RateController(strategy, fitted_to, past)
