"""Where the misses are by the confidence of their candidates, and how many of each kind an image would show."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tasks.core.bands import BAND_EDGES, missed
from tasks.core.entities import Reach
from tasks.core.matching import Booleans
from tasks.core.suggestion.evidence import Calibration
from tasks.core.suggestion.scores import Scores

DIGITS = 6  # of misses an image
NARROWEST = 0.01  # the last band, below the highest threshold; a narrower one belongs to the band before it


def reach_of(calibration: Calibration, scores: Scores) -> tuple[Reach, ...]:
    """The blind misses first, then bands from the lowest confidence to the highest threshold, cut at the floor."""
    truths, floor = calibration.matches.truths, calibration.evaluation.confidence_floor
    is_missed = missed(calibration.matches, calibration.thresholds)
    highest = float(calibration.thresholds.max(initial=0.0))
    if (truths.confidence[is_missed] >= highest).any():  # of a classifier another class was the top one
        highest = 1.0
    edges = sorted({edge for edge in (*BAND_EDGES, floor) if BAND_EDGES[0] <= edge < highest - NARROWEST} | {highest})
    rows = [_reach(calibration, scores, None, None, is_missed & np.isnan(truths.confidence))]
    for low, high in pairwise(edges):
        inside = (truths.confidence >= low) & ((truths.confidence < high) | (high == 1.0))
        rows.append(_reach(calibration, scores, low, high, is_missed & inside))
    return tuple(rows)


def _reach(calibration: Calibration, scores: Scores, low: float | None, high: float | None, truths: Booleans) -> Reach:
    """truths: (truths,) the misses that are meant."""
    by_image = np.bincount(calibration.matches.truths.image[truths], minlength=calibration.images)
    kept = scores.kept.sum()
    return Reach(
        low=low,
        high=high,
        misses=int(by_image.sum()),
        misses_an_image=round(float(scores.lift * (scores.kept @ by_image) / kept), DIGITS) if kept else 0.0,
        misses_an_image_random=round(float(by_image.mean()), DIGITS),
    )
