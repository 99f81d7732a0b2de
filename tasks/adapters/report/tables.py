"""Evaluations and suggestions as tables, for notebooks and for other people's tools."""

from __future__ import annotations

import pandas as pd

from tasks.core.entities import Evaluation, Suggestion


def class_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row a class, indexed by its name: the fields of `ClassEvaluation`, intervals as `_low` and `_high`."""
    rows = []
    for name, of_class in evaluation.classes.items():
        row = {"class": name, **of_class.model_dump(exclude={"bands"})}
        for field in ("threshold_interval", "recall_interval", "cost_interval"):
            low, high = row.pop(field) or (None, None)
            row |= {field.replace("interval", "low"): low, field.replace("interval", "high"): high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("class") if rows else pd.DataFrame()


def band_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row a class and band: class, low, high, misses, recall_lost with its interval, and whether rules see it."""
    return pd.DataFrame(
        [
            {
                "class": name,
                "low": band.low,
                "high": band.high,
                "misses": band.misses,
                "recall_lost": band.recall_lost,
                "recall_lost_low": band.interval[0],
                "recall_lost_high": band.interval[1],
                "within_reach": band.low >= evaluation.confidence_floor,
            }
            for name, of_class in evaluation.classes.items()
            for band in of_class.bands
        ]
    )


def rule_table(suggestion: Suggestion) -> pd.DataFrame:
    """One row a rule, in the order in which they were chosen."""
    return pd.DataFrame([rule.model_dump() for rule in suggestion.rules])


def forecast_table(suggestion: Suggestion) -> pd.DataFrame:
    """One row a figure, indexed by its name: value, low, high."""
    figures = {name: figure for name, figure in suggestion.forecast.model_dump().items() if isinstance(figure, dict)}
    return pd.DataFrame.from_dict(figures, orient="index", columns=["value", "low", "high"])
