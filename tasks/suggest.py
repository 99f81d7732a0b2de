"""Suggest: from an evaluation, the traffic and a budget to sampling settings, with a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
from prefect import task

from tasks.adapters.bucket import Bucket
from tasks.adapters.manifest import read_manifest
from tasks.central import Central
from tasks.core import layout, suggestion
from tasks.core.bands import misses_by_image, threshold_column
from tasks.core.entities import (
    STUB,
    DatasetEntry,
    Detections,
    Estimate,
    Suggestion,
    TrafficRecord,
    detections_from_records,
)
from tasks.core.errors import ObjectMissing, RecordInvalid
from tasks.core.matching import ImageResult, match
from tasks.core.settings import ProjectSettings, SamplingSettings
from tasks.evaluate import detect_again, of_split, read_evaluation, truths_of

NEWEST_TRAFFIC = 20_000  # records of a device that a suggestion looks at, at most
