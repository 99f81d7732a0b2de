"""Streams of frames whose drift is known: objects come and go, light follows the hour, confidences follow both.

How many objects are in sight, and how well they can be seen, follow two Ornstein-Uhlenbeck processes: frames in a row
resemble each other for about `correlation` seconds. A degraded lens or a dark scene lowers all confidences.
"""

import numpy as np

from tasks.core.drift import ALPHA, CONFIDENCE_FIGURES, Comparison, Series, compare, corrected, kolmogorov_smirnov

START = 1_780_272_000.0  # a midnight
DAY = 86_400.0
THRESHOLD = 0.5


def ornstein_uhlenbeck(random: np.random.Generator, frames: int, ratio: float) -> np.ndarray:
    """Unit variance. ratio: seconds between frames / seconds of correlation."""
    keep = np.exp(-ratio)
    memory = int(np.ceil(12 / ratio)) if np.isfinite(ratio) else 0
    steps = random.standard_normal(frames + memory) * np.sqrt(1 - keep**2)
    return np.convolve(steps, keep ** np.arange(memory + 1), "valid")


def stream(
    frames: int,
    seed: int,
    *,
    correlation: float = 0.0,
    spacing: float = 1.0,
    start: float = START,
    night: float = 0.0,
    worse_from: float = np.inf,
    worse: float = 1.5,
) -> dict[str, Series]:
    """The figures of `frames` frames, `spacing` seconds apart.

    correlation: s; 0: independent frames. night: how much lower the logits of confidences are at midnight than at noon.
    worse_from: seconds since `start` from which on logits are lower by `worse`.
    """
    random = np.random.default_rng(seed)
    seconds = start + spacing * np.arange(frames)
    ratio = spacing / correlation if correlation else np.inf
    busy, clear = (ornstein_uhlenbeck(random, frames, ratio) for _ in range(2))
    light = -night * (1 + np.cos(2 * np.pi * (seconds % DAY) / DAY)) / 2
    quality = 0.6 + 0.8 * clear + light - worse * (seconds - start >= worse_from)
    objects = random.poisson(2.0 * np.exp(0.4 * busy))
    frame = np.repeat(np.arange(frames), objects)
    confidence = 1 / (1 + np.exp(-(quality[frame] + 1.2 * random.standard_normal(len(frame)))))
    frame, confidence = frame[confidence >= 0.05], confidence[confidence >= 0.05]
    maximum = np.zeros(frames)
    np.maximum.at(maximum, frame, confidence)
    above = confidence >= THRESHOLD
    columns = (
        maximum,
        np.bincount(frame, above, frames),
        np.bincount(frame, np.where(above, 0.0, confidence), frames),
    )
    return {name: Series(seconds, column, np.ones(frames)) for name, column in zip(CONFIDENCE_FIGURES, columns)}


def split(figures: dict[str, Series], frames: int) -> dict[str, tuple[Series, Series]]:
    """Reference: all but the last `frames`; now: those."""
    before = {name: np.arange(len(series)) < len(series) - frames for name, series in figures.items()}
    return {name: (series[before[name]], series[~before[name]]) for name, series in figures.items()}


def look(figures: dict[str, tuple[Series, Series]], **options) -> dict[str, Comparison]:
    alpha = corrected(ALPHA, len(figures))
    return {name: compare(*windows, alpha=alpha, **options) for name, windows in figures.items()}


def alarms(figures: dict[str, tuple[Series, Series]], **options) -> bool:
    return any(found.answer == "changed" for found in look(figures, **options).values())


def plain_alarms(figures: dict[str, tuple[Series, Series]]) -> bool:
    """What Kolmogorov-Smirnov says that takes frames for independent."""
    alpha = ALPHA / len(figures)
    return any(kolmogorov_smirnov(a.values, b.values).p_value <= alpha for a, b in figures.values())
