"""What is looked at in a frame, without labels: from the confidences of the traffic log, and areas of samples."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from tasks.core.drift.blocks import Booleans, Floats, Series
from tasks.core.entities.samples import Sample, TrafficRecord
from tasks.core.settings.base import DEFAULT_THRESHOLD, Thresholds

MAXIMUM, COUNT, MASS, AREA = "maximum confidence", "detections", "mass below the threshold", "area"
CONFIDENCE_FIGURES = (MAXIMUM, COUNT, MASS)
FIGURES = (*CONFIDENCE_FIGURES, AREA)


def figures_of(records: Sequence[TrafficRecord], thresholds: Thresholds) -> dict[str, Series]:
    """The figures of frames from a traffic log, each frame weighing 1 / rate.

    maximum confidence: 0 for a frame without detections. detections: at or above the threshold of their class.
    mass below the threshold: the sum of the confidences below it. A sum, not a number: what hovers just above the floor
    is noise and should count for little, what nearly was a detection for nearly one. A frame with a confidence that is
    no number from 0 to 1 is nan in all of them.
    """
    sizes = np.array([len(record.confidences) for record in records], np.int64)
    frame = np.repeat(np.arange(len(records)), sizes)
    confidence = np.fromiter(
        chain.from_iterable(record.confidences for record in records), np.float64, int(sizes.sum())
    )
    names = chain.from_iterable(names_of(record) for record in records)
    threshold = np.fromiter((thresholds.get(name, DEFAULT_THRESHOLD) for name in names), np.float64, len(confidence))
    good = (confidence >= 0) & (confidence <= 1)
    bad = np.bincount(frame, ~good, len(records)) > 0
    confidence = np.where(good, confidence, 0.0)
    maximum = np.zeros(len(records))
    np.maximum.at(maximum, frame, confidence)
    above = confidence >= threshold
    columns = {
        MAXIMUM: maximum,
        COUNT: np.bincount(frame, above, len(records)),
        MASS: np.bincount(frame, np.where(above, 0.0, confidence), len(records)),
    }
    seconds = np.array([record.captured_at.timestamp() for record in records], np.float64)
    weights = np.array([1 / record.rate for record in records], np.float64)
    return {name: Series(seconds, np.where(bad, np.nan, values), weights) for name, values in columns.items()}


def names_of(record: TrafficRecord) -> Sequence[str]:
    """The class of each confidence; where a record has fewer, the others are of no known class."""
    lacking = len(record.confidences) - len(record.class_names)
    return (*record.class_names[: len(record.confidences)], *[""] * lacking)


def areas_of(samples: Sequence[Sample], thresholds: Mapping[str, float]) -> Series:
    """Mean area of a frame's detections from their threshold up, as a share of the image; nan where there is none.

    samples: of the random slice, as only those stand for all frames.
    """
    values = np.full(len(samples), np.nan)
    for row, sample in enumerate(samples):
        areas = [
            (d.xyxy[2] - d.xyxy[0]) * (d.xyxy[3] - d.xyxy[1]) / (sample.width * sample.height)
            for d in sample.detections
            if d.confidence >= thresholds.get(d.class_name, DEFAULT_THRESHOLD)
        ]
        values[row] = np.mean(areas) if areas else np.nan
    seconds = np.array([sample.captured_at.timestamp() for sample in samples], np.float64)
    return Series(seconds, values, np.ones(len(samples)))


def in_order(seconds: Floats) -> Booleans:
    """Which of a camera's frames, in the order in which they were logged, have a time that can be right?

    The longest run of frames whose times never go back (Fredman 1975); a clock that jumped and was set right again is
    seen by the frames outside of it.
    """
    ends: list[float] = []  # the smallest last time of a run of each length
    rows: list[int] = []
    before = np.full(len(seconds), -1, np.int64)
    for row, moment in enumerate(seconds.tolist()):
        place = bisect_right(ends, moment)
        before[row] = rows[place - 1] if place else -1
        if place == len(ends):
            ends.append(moment)
            rows.append(row)
        else:
            ends[place], rows[place] = moment, row
    kept = np.zeros(len(seconds), np.bool_)
    row = rows[-1] if rows else -1
    while row >= 0:
        kept[row] = True
        row = int(before[row])
    return kept
