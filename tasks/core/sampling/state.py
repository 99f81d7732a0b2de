"""What a sampler knows of the past, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tasks.core.duplicates import ObjectsState, RecentState
from tasks.core.entities.base import Record
from tasks.core.errors import RecordInvalid
from tasks.core.limits import CreditState
from tasks.core.sampling.novelty import NoveltyState
from tasks.core.sampling.rate import RateState
from tasks.core.traffic import TrafficState


class SamplerState(Record):
    """What a sampler knows of the past, as JSON.

    credits: by strategy and window. batches: images a batch. recent: the last kept frames. objects: what earned samples
    today. rate: of the strategy that keeps a budget. traffic: the bytes of the traffic log. novelty: embeddings of the
    last kept frames.
    """

    credits: CreditState = {}
    batches: dict[str, int] = {}
    recent: RecentState = {}
    objects: ObjectsState = {}
    rate: RateState | None = None
    traffic: TrafficState = {}
    novelty: NoveltyState = {}


def checked_state(state: Mapping[str, Any] | None) -> SamplerState:
    """Raises RecordInvalid for a state that is none."""
    try:
        return SamplerState.model_validate(dict(state or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise RecordInvalid(
            f"state of the sampler: {field}: {problem['msg']}; remove it to start counting anew"
        ) from None
