"""Days of a device: the real sampler, under the settings that we suggest, frame after frame.

Nothing here knows more than a device does: the sampler gets detections and capture times, and follows its traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from tasks.core.entities import Detections
from tasks.core.matching import Booleans, Floats, Integers
from tasks.core.sampling import Observation, Sampler
from tasks.core.settings import SamplingSettings
from tests.benchmarks.bench_yield_contenders import Known, Part
from tests.benchmarks.bench_yield_sets import DEVICE_FLOOR, LabelledSet

MIDNIGHT = datetime(2026, 1, 5, tzinfo=timezone.utc)
STEP = 3.0  # times the traffic, from noon of the last day


@dataclass(frozen=True, slots=True)
class Kept:
    """What a sampler did with each frame. chosen: kept, and not because of the exploration draw."""

    kept: Booleans
    chosen: Booleans
    probability: Floats


def replay(
    settings: SamplingSettings, frames: Sequence[Detections], hours: Floats | Sequence[float], *, seed: int
) -> Kept:
    """One device, one camera. hours: when each frame was captured, since a midnight."""
    sampler = Sampler(settings, device="bench", seed=seed)
    kept, chosen, probability = [], [], []
    for number, (detections, hour) in enumerate(zip(frames, hours)):
        decision = sampler.decide(
            Observation(
                frame=str(number),
                device="bench",
                camera="stream",
                captured_at=MIDNIGHT + timedelta(hours=float(hour)),
                detections=detections,
            )
        )
        kept.append(decision.kept)
        chosen.append(decision.kept and not decision.random_slice)
        probability.append(decision.probability)
    return Kept(np.array(kept), np.array(chosen), np.array(probability))


def device_view(labelled: LabelledSet) -> list[Detections]:
    """What a device keeps of each image of a set: its detections from the floor up."""
    return [one.detections[one.detections.confidence >= DEVICE_FLOOR] for one in labelled.results]


def even_hours(frames: int) -> Floats:
    """Capture times spread over one day."""
    return np.asarray((np.arange(frames) + 0.5) * 24 / frames)


@dataclass(frozen=True, slots=True)
class Day:
    """What one simulated day came to. spent: images kept / budget. recalls: pooled, at the calibrated thresholds."""

    kind: str
    spent: float
    recall: float
    weighted: float
    unweighted: float


def days(
    settings: SamplingSettings, known: Known, stream: Part, view: Sequence[Detections], *, frames: int, seed: int
) -> Iterator[Day]:
    """Three days in a row: two of `frames` frames each, drawn from the stream, and one whose traffic steps up at noon.

    The settings' budget is of `frames` frames a day; it stays the same when there are more.
    """
    random = np.random.default_rng(seed)
    budget = settings.expected_misses.images_a_day if settings.expected_misses else 0.0
    after_noon = round(STEP * frames / 2)
    last = np.concatenate([even_hours(frames - frames // 2) / 2, 12 + even_hours(after_noon) / 2])
    hours = [even_hours(frames), 24 + even_hours(frames), 48 + last]
    picked = random.integers(0, stream.images, sum(map(len, hours)))
    done = replay(settings, [view[stream.rows[image]] for image in picked], np.concatenate(hours), seed=seed)
    day_of = np.repeat(np.arange(3), [len(one) for one in hours])
    for day, kind in enumerate(("first day", "second day", "threefold from noon")):
        today = day_of == day
        misses, boxes = known.misses(stream)[picked[today]], stream.boxes[picked[today]]
        kept = done.kept[today]
        yield Day(
            kind=kind,
            spent=float(kept.sum() / budget) if budget else np.nan,
            recall=_recall(misses, boxes, np.ones(len(boxes))),
            weighted=_recall(misses[kept], boxes[kept], 1 / done.probability[today][kept]),
            unweighted=_recall(misses[kept], boxes[kept], np.ones(int(kept.sum()))),
        )


def _recall(misses: Integers, boxes: Integers, weight: Floats) -> float:
    """`1 - sum(w * misses) / sum(w * ground truths)`; nan without ground truths."""
    whole = float(weight @ boxes)
    return 1 - float(weight @ misses) / whole if whole else float("nan")
