"""What became of frame after frame, as columns: for the summary and for the picture."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from tasks.core.explain.answers import Explained

NOT_KEPT = -1  # in the column of strategies
_NONE = float("nan")


class Timeline:
    """Every frame that was explained, in 28 bytes."""

    def __init__(self) -> None:
        self._captured_at, self._expected, self._minimum = array("d"), array("d"), array("d")
        self._detections, self._strategy, self._outcome = array("i"), array("h"), array("h")
        self._random = array("b")
        self._strategies: dict[str, int] = {}
        self._outcomes: dict[str, int] = {}
        self._cameras: set[str] = set()

    def add(self, explained: Explained) -> None:
        decision = explained.decision
        kept_by = NOT_KEPT if decision.strategy is None else _number(self._strategies, decision.strategy)
        self._captured_at.append(explained.captured_at.timestamp())
        self._expected.append(_NONE if explained.expected_misses is None else explained.expected_misses)
        self._minimum.append(_NONE if decision.minimum_expected_misses is None else decision.minimum_expected_misses)
        self._detections.append(explained.detections)
        self._strategy.append(kept_by)
        self._outcome.append(_number(self._outcomes, decision.outcome))
        self._random.append(decision.random_slice)
        self._cameras.add(explained.camera)

    def __len__(self) -> int:
        return len(self._captured_at)

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(sorted(self._cameras))

    @property
    def strategies(self) -> tuple[str, ...]:
        """That kept a frame, the first to do so first; `strategy` counts in them."""
        return tuple(self._strategies)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Of kept and other frames, the first to happen first; `outcome` counts in them."""
        return tuple(self._outcomes)

    @property
    def captured_at(self) -> NDArray[np.float64]:
        """(n,) s since 1970, UTC."""
        return np.array(self._captured_at)

    @property
    def expected_misses(self) -> NDArray[np.float64]:
        """(n,) objects; NaN where nothing expects any."""
        return np.array(self._expected)

    @property
    def minimum_expected_misses(self) -> NDArray[np.float64]:
        """(n,) objects; NaN where the budget had room for exploration alone, and without a budget."""
        return np.array(self._minimum)

    @property
    def detections(self) -> NDArray[np.int64]:
        """(n,) from the confidence floor up."""
        return np.array(self._detections, np.int64)

    @property
    def strategy(self) -> NDArray[np.int64]:
        """(n,) index into `strategies`, NOT_KEPT where the frame is not."""
        return np.array(self._strategy, np.int64)

    @property
    def outcome(self) -> NDArray[np.int64]:
        """(n,) index into `outcomes`."""
        return np.array(self._outcome, np.int64)

    @property
    def random_slice(self) -> NDArray[np.bool_]:
        """(n,) the exploration draw hit."""
        return np.array(self._random, np.bool_)

    def kept_by(self) -> dict[str, int]:
        """Frames kept, by the strategy that is charged, the most first."""
        return _counted(self._strategies, Counter(self._strategy))

    def left_for(self) -> dict[str, int]:
        """Frames not kept, by the reason why not, the most first."""
        left = (outcome for outcome, kept_by in zip(self._outcome, self._strategy) if kept_by == NOT_KEPT)
        return _counted(self._outcomes, Counter(left))

    def summary(self) -> str:
        """`377 frames: 41 kept (30 by 'misses', 11 by 'random'), 336 not (300 near-duplicate, 36 draw lost)`."""
        kept, left = self.kept_by(), self.left_for()
        kept_by = _in_brackets(f"{count:,} by {name!r}" for name, count in kept.items())
        left_for = _in_brackets(f"{count:,} {reason}" for reason, count in left.items())
        frames = "frame" if len(self) == 1 else "frames"
        return f"{len(self):,} {frames}: {sum(kept.values()):,} kept{kept_by}, {sum(left.values()):,} not{left_for}"


def _number(known: dict[str, int], name: str) -> int:
    return known.setdefault(name, len(known))


def _counted(known: Mapping[str, int], counts: Mapping[int, int]) -> dict[str, int]:
    named = {name: counts[number] for name, number in known.items() if counts.get(number)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def _in_brackets(parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return f" ({text})" if text else ""
