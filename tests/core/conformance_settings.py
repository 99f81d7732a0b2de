"""Files of settings that Roboflow Inference does not obey, and such that load here unchanged, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.core.conformance_tables import ALWAYS, CATS, HARD, NUMBER, Json


@dataclass(frozen=True)
class Refusal:
    """Settings that cannot be obeyed, and what of them the one line of the error names."""

    settings: Json
    words: Sequence[str]
    differs: str = ""


REFUSALS: Sequence[Refusal] = [
    Refusal({"sampling_strategies": [{**HARD, "type": "close_to_treshold"}]}, ["'hard'", "close_to_treshold"],
            "an unknown `type` is skipped with a warning"),
    Refusal({"sampling_strategies": [{"name": "hard"}]}, ["'hard'", "type", "required"]),
    Refusal({"sampling_strategies": [{**HARD, "epsilom": 0.1}]}, ["'hard'", "epsilom"], "unknown keys are ignored"),
    *(
        Refusal({"sampling_strategies": [{k: v for k, v in HARD.items() if k != missing}]}, [missing, "required"])
        for missing in ("name", "threshold", "epsilon", "probability")
    ),
    *(
        Refusal({"sampling_strategies": [{k: v for k, v in CATS.items() if k != missing}]}, [missing, "required"])
        for missing in ("selected_class_names", "probability")
    ),
    Refusal({"sampling_strategies": [{k: v for k, v in NUMBER.items() if k != "probability"}]}, ["probability"]),
    Refusal({"sampling_strategies": [{**NUMBER, "more_than": 3, "less_than": 3}]}, ["more_than", "less_than", "3"]),
    Refusal({"sampling_strategies": [{**NUMBER, "more_than": 4, "less_than": 3}]}, ["more_than", "less_than"]),
    Refusal({"sampling_strategies": [{**NUMBER, "more_than": -1}]}, ["more_than"]),
    Refusal({"sampling_strategies": [HARD, {**CATS, "name": "hard"}]}, ["'hard'", "2 times"]),
    Refusal({"sampling_strategies": [{**HARD, "name": ""}]}, ["name"]),
    Refusal({"sampling_strategies": [{**HARD, "probability": 1.5}]}, ["probability"]),
    Refusal({"sampling_strategies": [{**HARD, "threshold": -0.1}]}, ["threshold"]),
    Refusal({"sampling_strategies": [{**ALWAYS, "traffic_percentage": 2}]}, ["traffic_percentage"]),
    Refusal({"sampling_strategies": [{**HARD, "minimum_objects_close_to_threshold": 0}]}, ["minimum_objects"]),
    Refusal({"sampling_strategies": [{**HARD, "limits": [{"type": "weekly", "value": 1}]}]}, ["limits[0]", "type"]),
    Refusal({"sampling_strategies": [{**HARD, "limits": [{"type": "daily"}]}]}, ["limits[0]", "value"]),
    Refusal({"sampling_strategies": [{**HARD, "tags": ["not a tag"]}]}, ["tags[0]"]),
    Refusal({"sampling_strategies": [{**HARD, "tags": ["x" * 65]}]}, ["tags[0]"]),
    Refusal({"sampling_strategies": []}, ["at least one strategy"]),
    Refusal({"sampling_strategies": [HARD], "batching_strategy": {"recreation_interval": "yearly"}}, ["interval"]),
    Refusal({"sampling_strategies": [HARD], "batching_strategy": {"max_batch_images": 0}}, ["max_batch_images"]),
    Refusal({"sampling_strategies": [HARD], "jpeg_compression_level": 0}, ["jpeg_compression_level"]),
    Refusal({"sampling_strategies": [HARD], "max_image_size": [1200]}, ["max_image_size"]),
]  # fmt: skip

# The documentation's own example, and one with every key that it names.
LOADS_UNCHANGED: Sequence[Json] = [
    {"enabled": False},
    {
        "enabled": True,
        "max_image_size": [1200, 1200],
        "jpeg_compression_level": 75,
        "persist_predictions": True,
        "sampling_strategies": [{"name": "default_strategy", "type": "random", "traffic_percentage": 0.1}],
        "batching_strategy": {"batches_name_prefix": "al_batch", "recreation_interval": "daily"},
    },
    {
        "enabled": True,
        "persist_predictions": True,
        "target_workspace": "yard",
        "target_project": "trucks",
        "tags": ["a-z_A-Z:0/9.[b]<c>{d}@e"],
        "batching_strategy": {
            "batches_name_prefix": "al_batch",
            "recreation_interval": "weekly",
            "max_batch_images": 500,
        },
        "sampling_strategies": [
            {
                "name": "hard_examples",
                "type": "close_to_threshold",
                "selected_class_names": ["a", "b"],
                "threshold": 0.25,
                "epsilon": 0.1,
                "probability": 0.5,
                "minimum_objects_close_to_threshold": 2,
                "only_top_classes": True,
                "tags": ["my_tag_1", "my_tag_2"],
                "limits": [
                    {"type": "minutely", "value": 10},
                    {"type": "hourly", "value": 100},
                    {"type": "daily", "value": 1000},
                ],
            },
            {
                "name": "multiple_detections",
                "type": "detections_number_based",
                "probability": 0.2,
                "more_than": 3,
                "less_than": 9,
                "tags": ["crowded"],
            },
            {
                "name": "underrepresented_classes",
                "type": "classes_based",
                "selected_class_names": ["cat"],
                "probability": 1.0,
                "tags": ["hard-classes"],
            },
            {"name": "my_random_sampling", "type": "random", "traffic_percentage": 0.01, "tags": ["my_tag_1"]},
        ],
    },
]
