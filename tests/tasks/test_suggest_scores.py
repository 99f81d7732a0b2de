"""Forecasts and what came true of them: what is counted, of which samples, by hand."""

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest

from flows.suggest import story
from tasks.adapters.manifest import manifest_bytes
from tasks.central import Central
from tasks.core import allocation as shares
from tasks.core import layout
from tasks.core.entities import DatasetEntry, DatasetVersion, Estimate, Forecast, Suggestion
from tasks.core.settings import CloseToThreshold, ExpectedMisses, RandomSampling, SamplingSettings
from tasks.suggest import days_of, miss_figures, score_forecast, scored_forecasts, was_chosen
from tests.tasks.stages import MODEL, NOON, a_batch, a_project, a_sample, box, label, seen

score = score_forecast.fn


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def an_entry(sample, *boxes, **fields) -> DatasetEntry:
    known = {"batch_id": "today", "revision": 1, "split": "train", "cluster": "c", "image_key": "k"}
    return DatasetEntry(**{**known, **fields}, sample=sample, label=label(sample, *boxes))


HIT, LOW, MISSED = box("car", 10, 10), box("car", 36, 20), box("truck", 0, 28)
SEES_HIT = (seen("car", 0.9, HIT.xyxy),)
SEES_BOTH = (*SEES_HIT, seen("car", 0.3, LOW.xyxy))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        # One car below the threshold; a car and a truck never seen; a false alarm in an empty image.
        ([(SEES_BOTH, [HIT, LOW]), ((), [HIT, MISSED]), (SEES_HIT, [])], (2 / 3, 3 / 3, 3 / 4)),
        ([(SEES_HIT, [HIT])], (0, 0, 0)),
        ([((seen("car", 0.5, HIT.xyxy),), [HIT])], (0, 0, 0)),  # at the threshold is found
        ([((seen("car", 0.499, HIT.xyxy),), [HIT])], (1, 1, 1)),
        ([((seen("truck", 0.39, MISSED.xyxy),), [MISSED])], (1, 1, 1)),  # the truck's own threshold is 0.4
        ([((seen("truck", 0.41, MISSED.xyxy),), [MISSED])], (0, 0, 0)),
        ([((seen("truck", 0.9, HIT.xyxy),), [HIT])], (1, 1, 1)),  # another class finds nothing
        ([((seen("car", 0.9, (20, 10, 40, 30)),), [HIT])], (1, 1, 1)),  # IoU 1/3 is no hit
        ([(SEES_BOTH, [HIT, HIT])], (1, 1, 1 / 2)),  # one detection finds one object
        ([((), [])], (0, 0, 0)),
        ([((), [HIT.model_copy(update={"crowd": True})])], (0, 0, 0)),
        ([((), [HIT.model_copy(update={"class_name": "bus"})])], (0, 0, 0)),  # the project no longer has it
    ],
)
def test_misses_are_counted_as_by_hand(images, expected):
    """Share of images with a miss, misses an image, misses a box, at the thresholds that devices obeyed."""
    entries = [an_entry(a_sample(n, detections=d), *boxes) for n, (d, boxes) in enumerate(images)]
    figures = miss_figures(entries, {"car": 0.5, "truck": 0.4}, ("car", "truck"))
    assert tuple(figures.values()) == pytest.approx(expected)
    assert list(figures) == ["share_with_miss", "misses_an_image", "misses_a_box"]


def test_images_that_cannot_be_matched_are_left_out():
    """A coordinate that is no number, a label without area: the other images count, and no image gives no figure."""
    nan = a_sample(0, detections=(seen("car", 0.9, (float("nan"), 1, 5, 5)),))
    flat = an_entry(a_sample(1), HIT.model_copy(update={"xyxy": (1.0, 1.0, 1.0, 5.0)}))
    good = an_entry(a_sample(2, detections=()), HIT)
    assert miss_figures([an_entry(nan, HIT), flat, good], {}, ("car",))["misses_an_image"] == 1
    assert miss_figures([an_entry(nan, HIT), flat], {}, ("car",)) == {}
    assert miss_figures([], {}, ("car",)) == {}


def test_an_image_stands_for_those_that_were_not_offered():
    """A miss in two boxes, offered for sure, and one box without, one of four: 1 of 5 images, 1 of 6 boxes, by hand."""
    hit = an_entry(a_sample(1, detections=SEES_HIT), HIT, probability_offered=0.25)
    miss = an_entry(a_sample(2, detections=SEES_BOTH), HIT, LOW)
    assert miss_figures([hit, miss], {"car": 0.5}, ("car", "truck")) == pytest.approx(
        {"share_with_miss": 1 / 5, "misses_an_image": 1 / 5, "misses_a_box": 1 / 6}
    )


def test_a_draw_that_prefers_misses_does_not_bend_what_came_true():
    """Over many draws of a week's labels the weighted figures are those of all samples; plain means are far above.

    Of 40 samples at the gate every second one has a miss, of 40 in the yard every tenth: people had more to correct at
    the gate, so more of it is offered.
    """
    misses = [n % every == 0 for every in (2, 10) for n in range(40)]
    samples = [a_sample(n, camera=("gate", "yard")[n // 40], strategy="rule-1", detections=SEES_HIT) for n in range(80)]
    entries = [an_entry(s, HIT, *([MISSED] if is_miss else [])) for s, is_miss in zip(samples, misses)]
    cells = [shares.cell_of(sample, {}) for sample in samples]
    week = [shares.LabelledImage(cell, missed=is_miss, false_alarms=0, boxes=2) for cell, is_miss in zip(cells, misses)]
    evidence = shares.evidence_of(week, half_life_weeks=4)
    made = shares.allocate(evidence, Counter(cells), 20, shares.Rules(exploration=0.2), number=1, created_at=NOON)

    weighted, plain = [], []
    for seed in range(300):
        offered = shares.choose(samples, made, seed)
        drawn = [(e, offered[e.sample.sample_id]) for e in entries if e.sample.sample_id in offered]
        plain.append(figures_of([entry for entry, _ in drawn]))
        weighted.append(figures_of([e.model_copy(update={"probability_offered": p}) for e, p in drawn]))
    truth = figures_of(entries)
    assert truth == pytest.approx([24 / 80, 24 / 80, 24 / 104])
    assert np.mean(weighted, axis=0) == pytest.approx(truth, abs=0.015)
    assert (np.mean(plain, axis=0) > 1.15 * np.array(truth)).all()


def figures_of(entries) -> list[float]:
    return list(miss_figures(entries, {"car": 0.5, "truck": 0.5}, ("car", "truck")).values())


def at(day: float, number: int = 0, **fields):
    return a_sample(number, captured_at=NOON + timedelta(days=day), **fields)


@pytest.mark.parametrize(
    ("samples", "days"),
    [
        ([], 0),
        ([at(3)], 0),
        ([at(3), at(3)], 0),
        ([at(0), at(1)], 2),  # one a day
        ([at(0), at(1), at(2)], 3),
        ([at(2), at(0), at(0.5)], 3),  # three in two days and a gap
        ([at(0), at(1), at(-9000, clock_suspect=True)], 3),  # its clock says nothing, but it was collected
        ([at(0), at(-9000, clock_suspect=True)], 0),
    ],
)
def test_the_time_that_samples_took_includes_a_gap_for_each(samples, days):
    """n samples stand for n mean gaps, so that a steady rate is told as it is however few they are."""
    assert days_of(samples) == pytest.approx(days)


def estimates(value=1.0) -> Forecast:
    return Forecast(
        **dict.fromkeys(Forecast.model_fields.keys() - {"schema_version"}, Estimate(value=value, low=0, high=2))
    )


def a_suggestion(project, **fields) -> Suggestion:
    """A suggestion of one rule and exploration, in the bucket."""
    rule = CloseToThreshold(name="rule-1", type="close_to_threshold", threshold=0.3, epsilon=0.1, probability=0.5)
    explore = RandomSampling(name="exploration", type="random", traffic_percentage=0.01)
    settings = SamplingSettings(
        sampling_strategies=(explore, rule), thresholds={"car": 0.5, "truck": 0.4}, model_digest=MODEL, **fields
    )
    made = Suggestion(
        suggestion="5" * 16, created_at=NOON, model_version=MODEL, evaluation="e" * 16, budget_images_a_day=10,
        frames_a_day=100, probability=0.5, rules=(), settings=settings, forecast=estimates(),
    )  # fmt: skip
    Central(project).bucket.write_record(layout.suggestion(made.suggestion), made)
    return made


def a_collected_dataset(project) -> str:
    """Release 2 collected eight samples in four days, two of which nobody has labelled; release 1 another one.

    By the rule: 2 with a miss and 1 without. At random: 1 with two misses, 2 without, one of them by the rule too.
    """
    kinds = [
        (("rule-1",), False, SEES_BOTH, [HIT, LOW]),
        (("rule-1",), False, (), [HIT]),
        (("exploration",), True, (), [HIT, MISSED]),
        (("exploration",), True, SEES_HIT, [HIT]),
        (("exploration", "rule-1"), True, SEES_HIT, [HIT]),
        (("other",), False, (), [HIT]),
        (("rule-1",), False, (), None),
        (("exploration",), True, (), None),
    ]
    samples = [
        a_sample(n, captured_at=NOON + timedelta(hours=12 * n), matched=matched, strategy=matched[0],
                 random_slice=random, detections=detections, settings_version="all/2")
        for n, (matched, random, detections, _) in enumerate(kinds)
    ]  # fmt: skip
    before = a_sample(99, settings_version="all/1", matched=("rule-1",), captured_at=NOON - timedelta(days=30))
    batch = a_batch(project, (), samples=(before, *samples))
    entries = [an_entry(s, *kind[3]) for s, kind in zip(samples, kinds) if kind[3] is not None]
    entries.append(an_entry(before, HIT))
    version = "d" * 16
    bucket = Central(project).bucket
    bucket.put(layout.manifest(version), manifest_bytes(entries))
    record = DatasetVersion(dataset_version=version, created_at=NOON, class_names=project.classes, fingerprint="f",
                            counts={}, boxes={}, batches={batch.batch_id: 1})  # fmt: skip
    bucket.write_record(layout.dataset(version), record)
    return version


def test_a_forecast_is_scored_by_its_own_names(project):
    """Rates from all that was collected, misses from what was labelled, under that release alone, by hand."""
    made = a_suggestion(project)
    found = score(project, made.suggestion, 2, a_collected_dataset(project))
    assert found == pytest.approx(
        {
            "images_a_day": 8 / 4,
            "images_a_day_random": 4 / 4,
            "share_with_miss": 2 / 3,
            "misses_an_image": 2 / 3,
            "misses_a_box": 2 / 4,
            "share_with_miss_random": 1 / 3,
            "misses_an_image_random": 2 / 3,
            "misses_a_box_random": 2 / 4,
        }
    )
    shared = set(found) & set(Forecast.model_fields)
    assert shared == {"images_a_day", "images_a_day_random", "share_with_miss", "share_with_miss_random",
                      "misses_an_image", "misses_a_box"}  # fmt: skip


def test_without_predictions_only_rates_are_scored(project):
    """Without detections there is nothing to count misses in; a release that collected nothing has no score."""
    made = a_suggestion(project, persist_predictions=False)
    version = a_collected_dataset(project)
    assert set(score(project, made.suggestion, 2, version)) == {"images_a_day", "images_a_day_random"}
    assert score(project, made.suggestion, 7, version) == {}


def a_misses_suggestion(project) -> Suggestion:
    """A suggestion of expected misses, in the bucket."""
    strategy = ExpectedMisses(
        name="expected-misses", type="expected_misses", weights={"car": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)}, images_a_day=10
    )
    made = a_suggestion(project).model_copy(
        update={
            "suggestion": "6" * 16,
            "strategy": "expected_misses",
            "settings": SamplingSettings(
                sampling_strategies=(strategy,), thresholds={"car": 0.5, "truck": 0.4}, model_digest=MODEL
            ),
        }
    )
    Central(project).bucket.write_record(layout.suggestion(made.suggestion), made)
    return made


@pytest.mark.parametrize(
    ("matched", "random_slice", "probability", "chosen"),
    [
        (("expected-misses",), False, 1.0, True),
        (("expected-misses",), False, 0.4, True),  # at the minimum, by its draw
        (("expected-misses",), True, 1.0, True),  # exploration hit it, and it would have been kept anyway
        (("expected-misses",), True, 0.02, False),  # exploration alone
        (("other",), True, 0.02, False),
        (("other",), False, 1.0, False),
    ],
)
def test_what_expected_misses_chose_is_told_from_its_exploration(project, matched, random_slice, probability, chosen):
    """Both go by the name of the strategy: the inclusion probability tells which of them kept a sample."""
    sample = a_sample(0, matched=matched, random_slice=random_slice, probability=probability)
    assert was_chosen(sample, a_misses_suggestion(project).settings) is chosen


def test_a_forecast_of_expected_misses_is_scored(project):
    """Two chosen samples with one miss each, one of which exploration hit too; a random one without: by hand."""
    made = a_misses_suggestion(project)
    kinds = [
        (False, 1.0, SEES_BOTH, [HIT, LOW]),
        (True, 1.0, (), [HIT]),
        (True, 0.02, SEES_HIT, [HIT]),
    ]
    name = "expected-misses"
    samples = [
        a_sample(n, captured_at=NOON + timedelta(hours=12 * n), matched=(name,), strategy=name, random_slice=random,
                 probability=p, detections=detections, settings_version="all/2")
        for n, (random, p, detections, _) in enumerate(kinds)
    ]  # fmt: skip
    batch = a_batch(project, (), samples=tuple(samples))
    bucket, version = Central(project).bucket, "d" * 16
    bucket.put(layout.manifest(version), manifest_bytes([an_entry(s, *k[3]) for s, k in zip(samples, kinds)]))
    record = DatasetVersion(dataset_version=version, created_at=NOON, class_names=project.classes, fingerprint="f",
                            counts={}, boxes={}, batches={batch.batch_id: 1})  # fmt: skip
    bucket.write_record(layout.dataset(version), record)
    found = score(project, made.suggestion, 2, version)
    assert found == pytest.approx(
        {
            "images_a_day": 3 / 1.5,
            "images_a_day_random": 2 / 1.5,
            "share_with_miss": 1.0,
            "misses_an_image": 1.0,
            "misses_a_box": 2 / 3,
            "share_with_miss_random": 1 / 2,
            "misses_an_image_random": 1 / 2,
            "misses_a_box_random": 1 / 2,
        }
    )


def test_forecasts_are_shown_against_what_came_true(project):
    """Each figure that is known, inside or outside its interval; a suggestion that is gone or rotten is left out."""
    made = a_suggestion(project)
    Central(project).bucket.put(layout.suggestion("7" * 16), b"rotten")
    came_true = {made.suggestion: {"images_a_day": 5.0, "share_with_miss": 0.5}, "7" * 16: {"images_a_day": 1.0},
                 "8" * 16: {"images_a_day": 1.0}}  # fmt: skip
    scored = scored_forecasts(project, came_true)
    assert [(row.suggestion, row.figure, row.inside) for row in scored] == [
        (made.suggestion, "images_a_day", False),
        (made.suggestion, "share_with_miss", True),
    ]
    text = story(made, scored)
    assert "| images a day | 1 | 0 | 122 |" in text  # 2 wide, and 3 outside
    assert f"| {made.suggestion} | images a day | 1 (0 to 2) | 5 | outside |" in text
    assert "earlier forecasts" not in story(made)
