"""Says of frames, one after another, why each would be kept or not, and nothing is kept.

One JSON object a line goes in:

    {"frame": "f1", "task": "object-detection", "width": 640, "height": 480, "captured_at": "2026-01-01T00:00:00Z",
     "detections": [{"class": "car", "confidence": 0.41, "xyxy": [10, 10, 60, 40]}]}
    {"frame": "f2", "task": "classification", "captured_at": "2026-01-01T00:00:01Z",
     "top": "cat", "confidence": 0.6, "classes": {"cat": 0.6, "dog": 0.3}}

with `predicted_classes` in place of `top` and `confidence` for a multi-label model, `"is_stub": true` where there was
no model, and optionally `camera`, `device`, `index` (the frame's place among those of its camera), `image_hash` (64
hex), `embedding` (numbers) and `embedder`, and the `confidence_floor` that the model was run with. One comes out:

    {"frame": "f1", "kept": true, "strategy": "hard", "matched": ["hard"], "reason": "...", "probability": 1.0}

The clock is `captured_at`, chance is the seed: the same frames and settings give the same answers, here and on a
device.

`lines` reads and writes what goes in, `answers` is the sampler's word on each frame, `timeline` gathers them, `classes`
asks whether settings and model speak of the same things.
"""

from tasks.core.explain.answers import Explained, Explainer, Unseen, explain_lines
from tasks.core.explain.classes import check_classes
from tasks.core.explain.lines import RecordedFrames, line_of, traffic_of_line
from tasks.core.explain.timeline import Timeline

__all__ = [
    "Explained",
    "Explainer",
    "RecordedFrames",
    "Timeline",
    "Unseen",
    "check_classes",
    "explain_lines",
    "line_of",
    "traffic_of_line",
]
