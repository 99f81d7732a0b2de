"""Bands and a labelling budget -> sampling settings, with a forecast of what they will bring.

`suggest` proposes close-to-threshold rules, the plain vocabulary that other samplers know too. An image with a miss is
worth a person's time, whatever the class of the miss. A rule is worth a strategy when the images that it adds have
misses more often than images drawn at random (rules.py). What the rules will bring is forecast from images that had no
part in choosing them (forecast.py). A share of the budget, the exploration, is always drawn at random: it finds the
misses that no confidence reveals, and it keeps the evaluation honest.

The other way to spend the same budget, the `expected_misses` strategy (EVALUATION.md, suggestion, points 1 and 2),
would stand beside the rules here: other strategies and scores, the same settings, forecast and diff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tasks.core.bands import misses_by_image, out_of_reach, threshold_column
from tasks.core.bootstrap import MINIMUM_CLUSTERS, REPLICATES, Bootstrap, cluster_bootstrap
from tasks.core.entities import Evaluation, Forecast, Rule, Suggestion, TrafficRecord, content_id
from tasks.core.errors import DataError, NotEnoughData, SettingsError
from tasks.core.matching import Booleans, Floats, Integers, Matches
from tasks.core.settings import SamplingSettings
from tasks.core.suggestion.forecast import Scores, cross_fit, expected_images, expected_ratio, folds_by_unit
from tasks.core.suggestion.rules import (
    CandidateRule,
    Candidates,
    candidate_rules,
    candidates_of_matches,
    candidates_of_traffic,
    choose_rules,
    credited_shares,
    draw_probability,
    match_rules,
    thin_traffic,
)
from tasks.core.suggestion.strategies import exploration_strategy, rule_strategy, settings_diff, settings_with

FEW_IMAGES = 50  # from here on a calibration set serves

__all__ = ["suggest"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """The calibration images, (images,) columns: what was missed in them, and what the candidate rules match.

    matched: (rules, images).
    """

    misses: Integers
    ground_truths: Integers
    out_of_reach: Integers
    matched: Booleans
    bootstrap: Bootstrap
    folds: Integers


@dataclass(frozen=True, slots=True)
class Traffic:
    """A uniform sample of all frames: which candidate rule matches which, (rules, frames), and each frame's weight."""

    matched: Booleans
    weight: Floats
    bootstrap: Bootstrap


@dataclass(frozen=True, slots=True)
class Budget:
    """Images a day that people can label, and the frames a day that they are chosen from."""

    images_a_day: float
    frames_a_day: float
    exploration: float

    @property
    def share(self) -> float:
        """b: the share of all frames that can be labelled."""
        return min(1.0, self.images_a_day / self.frames_a_day)

    @property
    def for_rules(self) -> float:
        return self.share * (1 - self.exploration)

    @property
    def for_exploration(self) -> float:
        return self.share * self.exploration
