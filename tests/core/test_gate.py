"""The gate accepts what is better, rejects what is worse, and says when it cannot know."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bootstrap import cluster_bootstrap
from tasks.core.entities import Detections, Verdict
from tasks.core.errors import DataError
from tasks.core.gate import Edition, ModelOutcome, SizeAndLatency, judge_first, judge_improve, judge_replace
from tasks.core.gate.figures import ap50, compare
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.settings import GateSettings

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
NAMES = ("car", "bus", "van")
FAST = GateSettings(replicates=200)


@dataclass(frozen=True)
class World:
    """Labelled test images: the class and the difficulty of every object, image by image."""

    class_ids: list[np.ndarray]
    difficulty: list[np.ndarray]
    clusters: tuple[str, ...]

    @property
    def edition(self) -> Edition:
        return Edition(self.clusters, NAMES, "d" * 16, 3)


def world(images: int, seed: int, *, cluster_images=2, objects=3.0, shares=(0.5, 0.4, 0.1)) -> World:
    """Images in clusters that share a part of their difficulty."""
    random = np.random.default_rng(seed)
    hours = random.normal(0, 0.5, images)
    class_ids, difficulty = [], []
    for n in range(images):
        count = random.poisson(objects)
        class_ids.append(random.choice(len(NAMES), count, p=shares))
        difficulty.append(random.normal(hours[n // cluster_images], 1, count))
    return World(class_ids, difficulty, tuple(f"c{n // cluster_images:05d}" for n in range(images)))


def outcome(on: World, skill: float | tuple, seed: int, *, noise=0.7, false_alarms=2.0, name="m") -> ModelOutcome:
    """A model that finds an object when its skill in the class outweighs the difficulty, and imagines others."""
    random = np.random.default_rng(seed)
    skills = np.broadcast_to(skill, len(NAMES))
    results = []
    for class_id, hard in zip(on.class_ids, on.difficulty):
        places = np.arange(len(class_id)) * 20.0
        boxes = np.stack([places, places * 0, places + 10, places * 0 + 10], axis=1)
        sure = 1 / (1 + np.exp(-1.5 * (skills[class_id] - hard + noise * random.normal(size=len(hard)))))
        found = sure >= 0.02
        extra = random.poisson(false_alarms)
        false = np.tile([0.0, 500, 10, 510], (extra, 1))
        false_sure = 1 / (1 + np.exp(-random.normal(-2.5, 1.2, extra)))
        detections = Detections(
            np.concatenate([boxes[found], false]).astype(np.float32),
            np.concatenate([sure[found], false_sure]).astype(np.float32),
            np.concatenate([class_id[found], random.integers(0, len(NAMES), extra)]).astype(np.int64),
            NAMES,
        )
        results.append(ImageResult(detections, GroundTruths(boxes, class_id, np.zeros(len(class_id), bool))))
    return ModelOutcome(name, match(results), {"car": 0.5, "bus": 0.4, "van": 0.3})


def verdicts(n: int, *, images: int, better: float | tuple, judge=judge_improve, noise=0.7, **options) -> Counter:
    """How often `judge` said what, over `n` worlds with a candidate that is better by so much skill."""
    said: Counter = Counter()
    for seed in range(n):
        on = world(images, seed, **options)
        live = outcome(on, 1.0, 10_000 + seed, noise=noise)
        candidate = outcome(on, tuple(np.broadcast_to(np.add(1.0, better), 3)), 20_000 + seed, noise=noise)
        said[judge(candidate, live, on.edition, FAST, decided_at=NOW).verdict] += 1
    return said


def replace(candidate, live, edition, given_settings, *, decided_at) -> Verdict:
    facts = SizeAndLatency(candidate_bytes=3_000_000, live_bytes=11_000_000)
    return judge_replace(candidate, live, edition, given_settings, decided_at=decided_at, size_and_latency=facts)


# --- the figures, against slow and obvious references -----------------------------------------------------------------


def slow_ap50(m: ModelOutcome, weight_of_image: np.ndarray) -> float:
    """AP50 by walking down each class's detections, each image counted `weight` times."""
    found = []
    for c in range(len(NAMES)):
        total = sum(weight_of_image[i] for i, k in zip(m.matches.truths.image, m.matches.truths.class_id) if k == c)
        if not total:
            continue
        d = m.matches.detections
        rows = sorted((-d.confidence[r], d.is_true[r], r) for r in range(len(d)) if d.class_id[r] == c)
        points, true, seen = [], 0.0, 0.0
        for _, is_true, r in rows:
            seen += weight_of_image[d.image[r]]
            true += weight_of_image[d.image[r]] * is_true
            points.append((true / total, true / seen if seen else 0.0))
        area, before = 0.0, 0.0
        for k, (recall, _) in enumerate(points):
            area += (recall - before) * max(p for _, p in points[k:])
            before = recall
        found.append(area)
    return float(np.mean(found)) if found else float("nan")


def slow_recall(m: ModelOutcome, live: ModelOutcome, weight_of_image: np.ndarray) -> np.ndarray:
    """Recall by class of `m` where its log-odds shift keeps the live model's precision, by trying every shift."""

    def rows(of: ModelOutcome):
        d = of.matches.detections
        log_odds = np.log(d.confidence / (1 - d.confidence))
        t = np.array([of.thresholds[n] for n in NAMES])[d.class_id]
        return log_odds - np.log(t / (1 - t)), d.is_true, weight_of_image[d.image], d.class_id

    shift, is_true, weight, _ = rows(live)
    true, seen = (weight * is_true)[shift >= 0].sum(), weight[shift >= 0].sum()
    shift, is_true, weight, class_id = rows(m)
    cut = np.inf
    for value in shift[is_true]:
        kept = shift >= value
        if weight[kept].sum() > 0 and (weight * is_true)[kept].sum() / weight[kept].sum() >= true / (seen + 1):
            cut = min(cut, value)
    if not true:
        cut = 0.0
    hits = np.array([(weight * is_true)[(shift >= cut) & (class_id == c)].sum() for c in range(len(NAMES))])
    t = m.matches.truths
    totals = np.array([weight_of_image[t.image][t.class_id == c].sum() for c in range(len(NAMES))])
    with np.errstate(invalid="ignore"):
        return np.append(hits / totals, hits.sum() / totals.sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1.5, 2.0), st.booleans())
def test_figures_equal_slow_references_in_every_replicate(seed, skill, few):
    """AP50 and recall at the live model's precision, pooled and by class, in each of some replicates."""
    on = world(24, seed, cluster_images=3 if few else 1, objects=1.5)
    candidate, live = outcome(on, skill, seed + 1), outcome(on, 0.5, seed + 2)
    bootstrap = cluster_bootstrap(on.clusters, replicates=100, seed=seed)
    figure, _ = ap50(candidate, bootstrap, len(NAMES))
    comparison = compare(candidate, live, bootstrap, on.edition)
    weights = np.concatenate([np.ones((1, bootstrap.units)), bootstrap.draws])[:, bootstrap.unit_of_image]
    for replicate in (0, 1, 7, 70, 99):
        weight = weights[replicate]
        got = figure.value if replicate == 0 else figure.drawn[replicate - 1]
        assert got == pytest.approx(slow_ap50(candidate, weight), abs=1e-5, nan_ok=True)
        difference = slow_recall(candidate, live, weight) - slow_recall(live, live, weight)
        parts = [*comparison.class_differences, comparison.recall_difference]
        values = [p.value if replicate == 0 else p.drawn[replicate - 1] for p in parts]
        assert values == pytest.approx(list(difference), abs=1e-6, nan_ok=True)


def test_a_model_compared_with_itself_differs_by_nothing():
    """Every replicate of every difference is exactly 0, however wiggly its precision curve."""
    on = world(60, 1)
    same = outcome(on, 0.8, 2)
    comparison = compare(same, same, cluster_bootstrap(on.clusters, replicates=200), on.edition)
    assert comparison.recall_difference.value == 0
    assert not comparison.recall_difference.drawn.any()
    assert not any(np.nan_to_num(d.drawn).any() for d in comparison.class_differences)
    assert comparison.units_worse == (0, 0, 0)


def test_thresholds_do_not_flatter_a_model():
    """Lowering all thresholds by the same log-odds gains no recall: it is read at the same precision."""
    on = world(80, 3)
    live = outcome(on, 1.0, 4)
    low = ModelOutcome(
        "low", live.matches, {n: 1 / (1 + np.exp(1.3) * (1 - t) / t) for n, t in live.thresholds.items()}
    )
    assert low.thresholds["car"] < live.thresholds["car"]
    bootstrap = cluster_bootstrap(on.clusters, replicates=100)
    assert compare(low, live, bootstrap, on.edition).recall_difference.value == 0


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_equal_models_are_rarely_accepted_as_an_improvement():
    """With the same skill about 5% of worlds accept at most, at 40 and at 200 images, by cluster and by image."""
    for images, cluster_images in ((40, 1), (60, 6), (200, 4)):
        said = verdicts(60, images=images, better=0.0, cluster_images=cluster_images)
        assert said["accepted"] <= 6, (images, said)
        assert said["inconclusive"] >= 45, (images, said)


def test_nearly_identical_models_are_rarely_accepted():
    """Two models that differ in a handful of boxes are not told apart by them."""
    assert verdicts(40, images=60, better=0.0, noise=0.05)["accepted"] <= 5


def test_a_much_worse_model_is_never_accepted():
    """Recall worse by some ten points is rejected nearly always at 200 images and never accepted at any size."""
    assert verdicts(20, images=200, better=-0.8)["rejected"] >= 18
    for images in (20, 60):
        assert verdicts(25, images=images, better=-0.8)["accepted"] == 0


def test_a_much_better_model_is_usually_accepted():
    """Recall better by some ten points is accepted in nearly every world of 200 images."""
    assert verdicts(20, images=200, better=0.8)["accepted"] >= 18


def test_a_model_that_spoils_one_class_is_not_accepted():
    """Better on the whole, but much worse in a class: rejected once the class's boxes show it."""
    said = verdicts(10, images=250, better=(0.9, 0.9, -1.5), shares=(0.45, 0.4, 0.15))
    assert said["accepted"] == 0
    assert said["rejected"] >= 9


def test_a_rare_class_does_not_block():
    """A class with fewer test boxes than the minimum may be unresolved: the model is accepted, and says so."""
    on = world(250, 5, shares=(0.55, 0.44, 0.01))
    verdict = judge_improve(outcome(on, 2.0, 6), outcome(on, 1.0, 7), on.edition, FAST, decided_at=NOW)
    assert verdict.verdict == "accepted"
    assert any("fewer than 300 test boxes could only reject" in r and "van" in r for r in verdict.reasons)


def test_one_missed_box_of_a_class_rejects_nothing():
    """A class of a single test box that the candidate misses has bounds without width, and still does not reject."""
    on = world(100, 8, shares=(0.6, 0.4, 0.0))
    on.class_ids[0] = np.append(on.class_ids[0], 2)
    on.difficulty[0] = np.append(on.difficulty[0], 0.0)
    live, candidate = outcome(on, (1.0, 1.0, 9.0), 9), outcome(on, (2.0, 2.0, -9.0), 10)
    verdict = judge_improve(candidate, live, on.edition, FAST, decided_at=NOW)
    assert verdict.numbers["class.van.recall.difference"] == -1
    assert verdict.verdict != "rejected"


def test_a_class_that_could_not_be_resolved_is_named_with_the_images_needed():
    """Large enough to block, its bound too wide: inconclusive, with the class, its numbers and a number of images."""
    on = world(120, 11, shares=(0.5, 0.4, 0.1))
    tight = GateSettings(replicates=200, class_minimum_boxes=20)
    live, candidate = outcome(on, (1.0, 1.0, 1.0), 12), outcome(on, (2.5, 2.5, 0.3), 13)
    verdict = judge_improve(candidate, live, on.edition, tight, decided_at=NOW)
    assert verdict.verdict == "inconclusive"
    assert any(r.startswith("recall of van (") and "not above -3.0 points" in r for r in verdict.reasons)
    assert verdict.images_needed is not None
    assert verdict.images_needed > 120
    assert any(f"about {verdict.images_needed} test images would settle it" in r for r in verdict.reasons)


def test_the_images_needed_settle_it():
    """Gathering the number of images that an inconclusive verdict asked for leads to a verdict, more often than not."""
    settled, asked = 0, 0
    for seed in range(12):
        on = world(60, 100 + seed)
        first = judge_improve(
            outcome(on, 1.4, seed), outcome(on, 1.0, 50 + seed), on.edition, FAST, decided_at=NOW
        )  # fmt: skip
        if first.verdict != "inconclusive" or not first.images_needed or first.images_needed > 1500:
            continue
        more = world(2 * first.images_needed, 200 + seed)
        later = judge_improve(
            outcome(more, 1.4, seed), outcome(more, 1.0, 50 + seed), more.edition, FAST, decided_at=NOW
        )  # fmt: skip
        asked += 1
        settled += later.verdict != "inconclusive"
    assert asked >= 4
    assert settled / asked >= 0.6


def test_the_first_model_needs_its_lower_bound_above_the_minimum():
    """Accepted, rejected and inconclusive follow from where the bounds of AP50 lie."""
    on = world(150, 14)
    model = outcome(on, 1.0, 15)
    figure = judge_first(model, on.edition, FAST, decided_at=NOW).numbers
    for minimum, expected in (
        (figure["ap50.low"] - 0.01, "accepted"),
        ((figure["ap50.low"] + figure["ap50"]) / 2, "inconclusive"),
        (figure["ap50.high"] + 0.01, "rejected"),
    ):
        verdict = judge_first(model, on.edition, FAST.model_copy(update={"minimum_ap50": minimum}), decided_at=NOW)
        assert verdict.verdict == expected
        assert f"{figure['ap50']:.3f}" in verdict.reasons[0]
    assert set(figure) >= {"class.car.ap50", "class.bus.ap50", "class.van.ap50", "clusters"}


def test_a_replacement_must_find_as_much_and_be_smaller_or_faster():
    """A copy with rounded confidences is accepted when smaller, rejected when it gains nothing or loses recall."""
    on = world(150, 16)
    live = outcome(on, 1.0, 17)
    cases = [
        (SizeAndLatency(3, 10), "accepted"),
        (SizeAndLatency(10, 10, candidate_ms=5.0, live_ms=9.0), "accepted"),
        (SizeAndLatency(10, 10, candidate_ms=8.9, live_ms=9.0), "rejected"),
        (SizeAndLatency(10, 10), "inconclusive"),
    ]
    for facts, expected in cases:
        verdict = judge_replace(live, live, on.edition, FAST, decided_at=NOW, size_and_latency=facts)
        assert verdict.verdict == expected, facts
        assert verdict.numbers["candidate.bytes"] == facts.candidate_bytes
    assert verdicts(5, images=200, better=-0.8, judge=replace)["rejected"] >= 4


def test_size_and_latency_are_part_of_an_improvement_s_verdict():
    """They are stored and said, but do not decide."""
    on = world(40, 18)
    facts = SizeAndLatency(12_000_000, 11_000_000, 31.0, 28.0)
    model = outcome(on, 1.0, 19)
    verdict = judge_improve(model, model, on.edition, FAST, decided_at=NOW, size_and_latency=facts)
    assert verdict.numbers["candidate.ms"] == 31.0
    assert any("12.0 MB against 11.0 MB" in r and "31.0 ms against 28.0 ms" in r for r in verdict.reasons)


@pytest.mark.parametrize("images", [0, 1, 19])
def test_without_enough_test_images_it_is_inconclusive_with_the_number_needed(images):
    """No image, one, or too few for a bootstrap: never accepted, and a number is asked for."""
    on = world(images, 20)
    model = outcome(on, 2.0, 21)
    for verdict in (
        judge_first(model, on.edition, FAST, decided_at=NOW),
        judge_improve(model, model, on.edition, FAST, decided_at=NOW),
        replace(model, model, on.edition, FAST, decided_at=NOW),
    ):
        assert (verdict.verdict, verdict.images_needed, verdict.images) == ("inconclusive", 200, images)
        assert "settle a difference of 5 points" in verdict.reasons[0]


def test_images_without_boxes_are_too_little():
    """Fifty empty test images say nothing about recall."""
    on = world(50, 22, objects=0.0)
    model = outcome(on, 1.0, 23)
    assert judge_improve(model, model, on.edition, FAST, decided_at=NOW).verdict == "inconclusive"


def test_a_class_without_test_boxes_is_named_and_a_model_without_detections_judged():
    """Nothing is known of such a class; a model that sees nothing has AP50 0 and is rejected."""
    on = world(60, 24, shares=(0.5, 0.5, 0.0))
    blind = outcome(on, -50.0, 25, false_alarms=0.0)
    seeing = outcome(on, 1.0, 26)
    assert judge_first(blind, on.edition, FAST, decided_at=NOW).verdict == "rejected"
    verdict = judge_improve(blind, seeing, on.edition, FAST, decided_at=NOW)
    assert verdict.verdict == "rejected"
    assert any("of which nothing is known: van" in r for r in verdict.reasons)
    assert judge_improve(seeing, blind, on.edition, FAST, decided_at=NOW).verdict == "accepted"


def test_few_clusters_bootstrap_images_and_say_so():
    """Ten clusters of six images: images are drawn, and a reason says that the bounds are too narrow."""
    on = world(60, 27, cluster_images=6)
    verdict = judge_first(outcome(on, 1.0, 28), on.edition, FAST, decided_at=NOW)
    assert any("bootstrap of images, for 10 clusters are fewer than 20" in r for r in verdict.reasons)
    assert (verdict.numbers["clusters"], verdict.numbers["units"]) == (10, 60)
    many = world(60, 27)
    verdict = judge_first(outcome(many, 1.0, 28), many.edition, FAST, decided_at=NOW)
    assert verdict.numbers["units"] == 30
    assert not any("bootstrap of images" in r for r in verdict.reasons)


def test_a_verdict_is_stored_whole_and_repeats():
    """Who, on what, when, every number; the same input gives the same verdict."""
    on = world(60, 29)
    candidate, live = outcome(on, 1.3, 30, name="cafe"), outcome(on, 1.0, 31, name="beef")
    one, two = (judge_improve(candidate, live, on.edition, FAST, decided_at=NOW, seed=4) for _ in range(2))
    assert one == two
    assert (one.mode, one.candidate, one.live, one.dataset_version, one.test_edition, one.images, one.decided_at) == (
        "improve", "cafe", "beef", "d" * 16, 3, 60, NOW,
    )  # fmt: skip
    assert all(np.isfinite(v) for v in one.numbers.values())
    assert Verdict.model_validate_json(one.to_json()) == one


def test_an_imported_edition_is_marked():
    """A verdict on a legacy edition says that it was not drawn at random."""
    on = world(40, 32)
    legacy = Edition(on.clusters, NAMES, is_random=False)
    verdict = judge_first(outcome(on, 1.0, 33), legacy, FAST, decided_at=NOW)
    assert any("not drawn at random" in r for r in verdict.reasons)


def test_models_matched_on_other_images_are_refused():
    """Pairing them would compare different ground truths."""
    on, other = world(40, 34), world(40, 35)
    with pytest.raises(DataError, match="different ground truths"):
        judge_improve(outcome(on, 1.0, 36), outcome(other, 1.0, 36), on.edition, FAST, decided_at=NOW)
    with pytest.raises(DataError, match="the test edition has 40"):
        judge_first(outcome(world(30, 34), 1.0, 36), on.edition, FAST, decided_at=NOW)


@pytest.mark.slow
def test_a_thousand_replicates_of_a_thousand_images_take_under_five_seconds():
    """1,000 images with about 100 detections each: CPU time, so that a busy machine does not fail it."""
    on = world(1000, 37, objects=5.0)
    candidate, live = (outcome(on, 1.0, seed, false_alarms=120.0) for seed in (38, 39))
    assert len(live.matches.detections) > 80_000
    before = time.process_time()
    judge_improve(candidate, live, on.edition, GateSettings(), decided_at=NOW)
    assert time.process_time() - before < 5
