"""The last word on a frame in which an object was lost, once the object is seen again or is not.

Such a frame may be kept twice over: at its own time, and when the object is seen again. It is kept once. With p for its
inclusion probability at its own time, and q for the probability of `track_gap` where that has room, else 0,

    P(kept) = p + (1 - p) * q = 1 - (1 - p) * (1 - q) = 1 - (1 - e) * product(1 - q_i) * (1 - q)

because the draws are independent and the second one counts only where the first ones were lost. This is the total of
both times, and so it is what a frame that was kept at its own time has to carry, too: 1 / p would count it again in the
frames that are only kept late. Therefore a frame that is kept while an object is lost in it waits until it is settled.

It holds as long as q does not depend on whether the frame was kept at its own time. So all that q follows from is known
before the frame's own draws (near-duplicates, objects that have earned their samples), or follows from what the model
saw in later frames (the gap), or is judged as if the frame had not been kept (a batch's size). What is left is a limit
or a batch that is filled up within the few frames of the gap by what the frame's being kept has changed for others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tasks.core.sampling import reasons
from tasks.core.sampling.draws import inclusion_probability
from tasks.core.sampling.gaps import Ended
from tasks.core.sampling.observation import Decision, Settled
from tasks.core.settings import SamplingSettings, TrackGap


def as_decided(ended: Ended) -> Settled:
    """Nothing is asked of the frame any more: its own decision stands, with its own probability."""
    return Settled(ended.frame.observation.camera, ended.frame.observation.frame, _own(ended))


@dataclass(frozen=True, slots=True)
class Asked:
    """A frame that begins the gap of an object that is seen again.

    drawn: the draw of `track_gap` for that frame. batch: of the moment in which it is asked. no_room: why there is
    none.
    """

    ended: Ended
    strategy: TrackGap
    drawn: float
    batch: str
    outcome_without_room: str = ""
    no_room: Callable[[], str] | None = None

    @property
    def has_won(self) -> bool:
        return self.drawn < self.strategy.probability

    @property
    def is_kept_now(self) -> bool:
        """Kept, and charged, now; not what was kept at its own time."""
        return self.has_won and self.no_room is None and not _own(self.ended).kept

    def settled(self, settings: SamplingSettings) -> Settled:
        observation = self.ended.frame.observation
        return Settled(observation.camera, observation.frame, self._decision(settings), is_late=self.is_kept_now)

    def _decision(self, settings: SamplingSettings) -> Decision:
        own = _own(self.ended)
        chances = [own.probability, self.strategy.probability] if self.no_room is None else [own.probability]
        matched, chosen = (self._with_this(settings, names) for names in (own.matched, own.chosen))
        is_chosen = own.is_chosen or (self.has_won and self.no_room is None)
        probability = inclusion_probability(chances)
        final = replace(own, probability=probability, matched=matched, chosen=chosen, is_chosen=is_chosen)
        if own.kept:
            return replace(final, tags=tags_of(settings, matched))
        if not self.has_won:
            return replace(final, outcome=reasons.DRAW_LOST, why=lambda: reasons.gap_draw_lost(self._saw_and_drew()))
        if self.no_room is not None:
            return replace(final, outcome=self.outcome_without_room, why=self.no_room)
        return replace(
            final,
            kept=True,
            strategy=self.strategy.name,
            tags=tags_of(settings, matched),
            batch=self.batch,
            outcome=reasons.KEPT,
            why=lambda: reasons.gap_kept(self.strategy.name, self.batch, self._saw_and_drew()),
        )

    def _with_this(self, settings: SamplingSettings, names: tuple[str, ...]) -> tuple[str, ...]:
        return _in_order(settings, {*names, self.strategy.name}) if self.has_won else names

    def _saw_and_drew(self) -> str:
        missing = self.ended.missing
        names = list(dict.fromkeys(missing.names)) if missing is not None else []
        return reasons.gap_seen(names, self.ended.seen_again_in, self.drawn, self.strategy.probability)


def tags_of(settings: SamplingSettings, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the settings, and of all strategies that are named, each once."""
    by_name = {strategy.name: strategy.tags for strategy in settings.sampling_strategies}
    return tuple(dict.fromkeys([*settings.tags, *(tag for name in names for tag in by_name[name])]))


def _own(ended: Ended) -> Decision:
    decision = ended.frame.decision
    assert decision is not None  # a frame is decided right after it was opened, and before the next one is looked at
    return decision


def _in_order(settings: SamplingSettings, names: set[str]) -> tuple[str, ...]:
    return tuple(strategy.name for strategy in settings.sampling_strategies if strategy.name in names)
