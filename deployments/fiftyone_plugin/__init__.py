"""Edgeloop in FiftyOne's App: four operators and the panel Loop. What they do is in `flows/in_the_app.py`.

FiftyOne finds this folder below FIFTYONE_PLUGINS_DIR, where `edgeloop ui` and `edgeloop review` put a link to it, and
EDGELOOP_PROJECT names the project's settings.
"""

from __future__ import annotations

from typing import Any

from .operators import AcceptSuggestion, ExplainFrame, SendToLabelling, SubmitLabels
from .panel import Loop


def register(plugin: Any) -> None:
    for each in (SubmitLabels, AcceptSuggestion, SendToLabelling, ExplainFrame, Loop):
        plugin.register(each)
