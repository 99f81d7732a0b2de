"""Settings that can be obeyed load unchanged; all others are refused in one line that names the field."""

import copy
import inspect
import json
from pathlib import Path

import pytest

from tasks.core.errors import BandBelowFloor, SettingsError
from tasks.core.settings import (
    BatchingStrategy,
    ClassesBased,
    CloseToThreshold,
    DetectionsNumberBased,
    DeviceSettings,
    DuplicateRules,
    ExpectedMisses,
    ProjectSettings,
    RandomSampling,
    SamplingSettings,
    load_sampling_settings,
    validated,
)

RANDOM = {"name": "rnd", "type": "random", "traffic_percentage": 0.1}
HARD = {"name": "hard", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.1, "probability": 0.5}
CATS = {"name": "cats", "type": "classes_based", "selected_class_names": ["cat"], "probability": 1.0}
CROWD = {"name": "crowd", "type": "detections_number_based", "probability": 0.2, "more_than": 3}
ALL_LIMITS = [{"type": "minutely", "value": 10}, {"type": "hourly", "value": 100}, {"type": "daily", "value": 1000}]

# Every key that Roboflow's documentation and its own configuration tests use, at least once.
ROBOFLOW = {
    "enabled": True,
    "target_workspace": "another-workspace",
    "target_project": "another-project",
    "max_image_size": [1200, 1300],
    "jpeg_compression_level": 75,
    "persist_predictions": True,
    "sampling_strategies": [
        {**RANDOM, "tags": ["c", "d"], "limits": ALL_LIMITS},
        {
            **HARD,
            "selected_class_names": ["a", "b"],
            "minimum_objects_close_to_threshold": 2,
            "only_top_classes": False,
            "tags": ["my_tag_1", "a-Z0/9.[]<>{}@:"],
            "limits": ALL_LIMITS,
        },
        {**CATS, "tags": ["hard-classes"], "limits": ALL_LIMITS},
        {**CROWD, "less_than": 9, "selected_class_names": ["a"], "tags": ["crowded"], "limits": ALL_LIMITS},
    ],
    "batching_strategy": {"batches_name_prefix": "al_batch", "recreation_interval": "daily", "max_batch_images": 400},
    "tags": ["a", "b"],
}


def settings_with(strategy, **others):
    return {"sampling_strategies": [RANDOM, strategy], **others}


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def test_a_configuration_of_roboflow_loads_unchanged():
    """Each key of a full configuration arrives with its value, without a warning, and the input is left alone."""
    before = copy.deepcopy(ROBOFLOW)
    settings, warnings = load_sampling_settings(ROBOFLOW, "al.json")
    assert (ROBOFLOW, warnings) == (before, [])
    dumped = json.loads(settings.model_dump_json(exclude_unset=True))
    assert dumped == ROBOFLOW


def test_the_smallest_configurations_of_roboflow_load():
    """`{"enabled": false}` and a configuration of required keys alone are valid."""
    assert load_sampling_settings({"enabled": False}, "al.json")[0].sampling_strategies == ()
    required = {
        "enabled": True,
        "persist_predictions": True,
        "batching_strategy": {"batches_name_prefix": "my_batches", "recreation_interval": "daily"},
        "sampling_strategies": [{"name": "default_strategy", "type": "random", "traffic_percentage": 0.01}],
    }
    settings, _ = load_sampling_settings(required, "al.json")
    assert settings.jpeg_compression_level == 95
    assert settings.max_image_size is None
    assert settings.batching_strategy.max_batch_images is None
    hard = validated(SamplingSettings, settings_with(HARD), "al.json").sampling_strategies[1]
    assert (hard.minimum_objects_close_to_threshold, hard.only_top_classes) == (1, True)
    assert hard.selected_class_names is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (settings_with({**HARD, "epsilon": 1.5}), "sampling_strategies[1] 'hard': epsilon: "),
        (settings_with({**HARD, "threshold": -0.1}), "sampling_strategies[1] 'hard': threshold: "),
        (settings_with({**HARD, "probability": 50}), "sampling_strategies[1] 'hard': probability: "),
        (settings_with({**HARD, "probability": float("nan")}), "sampling_strategies[1] 'hard': probability: "),
        (settings_with(without(HARD, "epsilon")), "sampling_strategies[1] 'hard': epsilon: "),
        (settings_with(without(HARD, "probability")), "sampling_strategies[1] 'hard': probability: "),
        (settings_with(without(HARD, "name")), "sampling_strategies[1]: name: "),
        (settings_with({**HARD, "name": ""}), "sampling_strategies[1] '': name: "),
        (settings_with({**HARD, "type": "close_to_treshold"}), "sampling_strategies[1] 'hard': type: unknown type"),
        (settings_with(without(HARD, "type")), "sampling_strategies[1] 'hard': type: Field required"),
        (settings_with({**HARD, "epsilom": 0.1}), "sampling_strategies[1] 'hard': epsilom: "),
        (
            settings_with({**HARD, "minimum_objects_close_to_threshold": 0}),
            "sampling_strategies[1] 'hard': minimum_objects_close_to_threshold: ",
        ),
        (settings_with({**HARD, "tags": ["two words"]}), "sampling_strategies[1] 'hard': tags[0]: "),
        (settings_with({**HARD, "tags": ["x" * 65]}), "sampling_strategies[1] 'hard': tags[0]: "),
        (settings_with({**HARD, "limits": [{"type": "weekly", "value": 1}]}), "'hard': limits[0]: type: "),
        (settings_with({**HARD, "limits": [ALL_LIMITS[0], {"type": "daily"}]}), "'hard': limits[1]: value: "),
        (settings_with({**HARD, "limits": [{"type": "daily", "value": -1}]}), "'hard': limits[0]: value: "),
        (settings_with(without(CATS, "selected_class_names")), "'cats': selected_class_names: "),
        (settings_with({**CROWD, "more_than": -1}), "sampling_strategies[1] 'crowd': more_than: "),
        (
            settings_with({**CROWD, "less_than": 3}),
            "sampling_strategies[1] 'crowd': more_than (3) must be below less_th",
        ),
        (
            settings_with({**CROWD, "less_than": 1}),
            "sampling_strategies[1] 'crowd': more_than (3) must be below less_th",
        ),
        ({"sampling_strategies": [{**RANDOM, "traffic_percentage": 5}]}, "[0] 'rnd': traffic_percentage: "),
        (settings_with(RANDOM), "sampling_strategies: the name 'rnd' is used 2 times"),
        ({"sampling_strategies": []}, "sampling_strategies: at least one strategy"),
        ({"enabled": True}, "sampling_strategies: at least one strategy"),
        ({"sampling_strategies": [RANDOM], "thresholds": {"car": 1.2}}, "thresholds.car: "),
        ({"sampling_strategies": [RANDOM], "max_image_size": [0, 100]}, "max_image_size[0]: "),
        ({"sampling_strategies": [RANDOM], "max_image_size": [100]}, "max_image_size[1]: "),
        ({"sampling_strategies": [RANDOM], "jpeg_compression_level": 101}, "jpeg_compression_level: "),
        ({"sampling_strategies": [RANDOM], "confidence_flor": 0.1}, "confidence_flor: "),
        (
            {"sampling_strategies": [RANDOM], "batching_strategy": {"recreation_interval": "yearly"}},
            "batching_strategy.recreation_interval: ",
        ),
        ({"sampling_strategies": [RANDOM], "batching_strategy": {"max_batch_images": 0}}, "max_batch_images: "),
        ({"sampling_strategies": ["random"]}, "sampling_strategies[0]: "),
        ([RANDOM], "expected a mapping of settings, got list"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_naming_the_field(data, field):
    """A value out of range, a missing or unknown field, an unknown type: one line with file, strategy and field."""
    with pytest.raises(SettingsError) as caught:
        load_sampling_settings(data, "S.json")
    message = str(caught.value)
    assert message.startswith("S.json: ")
    assert field in message
    assert "\n" not in message


def test_all_problems_are_named_at_once():
    """Two mistakes in two strategies are both in the message."""
    data = {"sampling_strategies": [{**RANDOM, "traffic_percentage": 2}, {**HARD, "epsilon": 2}]}
    with pytest.raises(SettingsError, match=r"\[0\] 'rnd': traffic_percentage: .*; .*\[1\] 'hard': epsilon: "):
        load_sampling_settings(data, "S.json")


@pytest.mark.parametrize(
    ("threshold", "epsilon", "floor"),
    [(0.02, 0.02, 0.05), (0.02, 0.03, 0.05), (0.04, 0.01, 0.05), (0.1, 0.2, 0.3), (0.2, 0.05, 0.25), (0.0, 0.0, 0.1)],
)
def test_a_band_below_the_floor_is_refused_with_both_numbers(threshold, epsilon, floor):
    """A band of which the detector keeps nothing could never fire, so it is no setting."""
    data = settings_with({**HARD, "threshold": threshold, "epsilon": epsilon}, confidence_floor=floor)
    with pytest.raises(BandBelowFloor) as caught:
        load_sampling_settings(data, "S.json")
    assert "'hard'" in str(caught.value)
    assert f"to {threshold + epsilon:.4g}," in str(caught.value)
    assert f"below {floor:.4g}:" in str(caught.value)


@pytest.mark.parametrize(
    ("threshold", "epsilon", "floor", "warned"),
    [
        (0.04, 0.02, 0.05, True),
        (0.4, 0.36, 0.05, True),
        (0.1, 0.5, 0.05, True),  # reaches below 0, and so below the floor
        (0.5, 0.5, 0.05, True),
        (0.5, 0.5, 0.0, False),
        (0.15, 0.1, 0.05, False),  # 0.15 - 0.1 is 0.04999999999999999
        (0.4, 0.1, 0.05, False),
    ],
)
def test_a_band_that_the_floor_cuts_loads_with_a_warning(threshold, epsilon, floor, warned):
    """Where the floor leaves a part of a band, the settings load and the warning names the floor."""
    data = settings_with({**HARD, "threshold": threshold, "epsilon": epsilon}, confidence_floor=floor)
    _, warnings = load_sampling_settings(data, "S.json")
    assert len(warnings) == warned
    assert all("'hard'" in line and f"below {floor:g}" in line for line in warnings)


def test_settings_without_effect_are_warned_of():
    """An epsilon of 0, a cooldown that is switched off and a class nobody knows load, each with a warning."""
    data = {
        "sampling_strategies": [{**HARD, "epsilon": 0, "selected_class_names": ["car", "crane"]}],
        "duplicates": {"cooldown_seconds": 10},
    }
    _, warnings = load_sampling_settings(data, "S.json", class_names=["car", "person"])
    assert [word in line for word, line in zip(("epsilon", "cooldown", "['crane']"), warnings)] == [True] * 3
    assert len(load_sampling_settings(data, "S.json")[1]) == 2


def test_settings_cannot_be_changed_after_loading():
    """Lists become tuples and fields are frozen, so that a device cannot drift from what it was told."""
    settings = validated(SamplingSettings, ROBOFLOW, "S.json")
    with pytest.raises(ValueError, match="frozen"):
        settings.enabled = False
    with pytest.raises(ValueError, match="frozen"):
        settings.sampling_strategies[0].traffic_percentage = 1.0
    assert isinstance(settings.sampling_strategies[1].selected_class_names, tuple)
    assert isinstance(settings.sampling_strategies[1].limits, tuple)


def test_the_exploration_strategy_is_the_first_random_one_without_limits():
    """A `random` strategy with limits does not draw on every frame, so it cannot be the exploration draw."""
    limited = {**RANDOM, "name": "limited", "limits": ALL_LIMITS}
    strategies = [limited, HARD, RANDOM, {**RANDOM, "name": "second"}]
    settings = validated(SamplingSettings, {"sampling_strategies": strategies}, "S.json")
    assert settings.exploration_strategy.name == "rnd"
    assert validated(SamplingSettings, {"sampling_strategies": [limited, HARD]}, "S").exploration_strategy is None


def test_the_path_of_a_field_reaches_through_other_settings():
    """A strategy inside a project and a camera inside a device are named like those at the top."""
    project = {
        "project": "yard",
        "bucket": "file:///b",
        "classes": ["car"],
        "sampling": settings_with({**HARD, "epsilon": 2}),
    }
    with pytest.raises(SettingsError, match=r"sampling\.sampling_strategies\[1\] 'hard': epsilon: "):
        validated(ProjectSettings, project, "project.yaml")
    device = {"name": "pi-1", "project": "yard", "bucket": "file:///b", "cameras": [{"name": "gate"}]}
    with pytest.raises(SettingsError, match=r"cameras\[0\] 'gate': source: Field required"):
        validated(DeviceSettings, device, "device.yaml")


def test_the_reference_page_names_every_field():
    """SAMPLING.md stands beside the code; a field that it lacks, or a default that it has wrong, is a bug."""
    page = Path(inspect.getfile(SamplingSettings)).parents[1].joinpath("SAMPLING.md").read_text()
    kinds = (RandomSampling, CloseToThreshold, ClassesBased, DetectionsNumberBased, ExpectedMisses)
    fields = {
        name for kind in (SamplingSettings, BatchingStrategy, DuplicateRules, *kinds) for name in kind.model_fields
    }
    missing = [
        name
        for name in fields - {"schema_version", "duplicates", "batching_strategy"}
        if f"`{name}`" not in page and f".{name}`" not in page
    ]
    assert missing == []
    assert f"| {SamplingSettings.model_fields['confidence_floor'].default} | the lowest" in page
    assert f"| {DuplicateRules.model_fields['maximum_hash_distance'].default} | how far" in page
