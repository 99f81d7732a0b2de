"""What pre-annotations change, what predictions may be taken as labels, and how a trial agrees with gold labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Batch, Detections
from tasks.core.errors import DataError
from tasks.core.matching import GroundTruths
from tasks.core.people import accepting
from tasks.core.people.accepting import acceptable, kept_for_training
from tasks.core.people.batching import Doubts
from tasks.core.people.seeding import BothWays, seeding_difference, seeding_row, seeding_sentence
from tasks.core.people.trial import Agreement, agreement_with_gold, verdict
from tasks.core.settings.sampling import MISS_BINS
from tasks.core.splits import LabelledSample, assign_split
from tests.tasks.stages import NOON, a_sample, box, label, seen

CLASSES = ("car", "truck")
THRESHOLDS = np.array([0.5, 0.5])
POOL = [a_sample(n) for n in range(8)]


def truths(*places, class_id=0):
    """Objects 20 wide at 100 pixels a place."""
    corners = np.array([(100 * p, 0, 100 * p + 20, 20) for p in places], np.float64).reshape(-1, 4)
    return GroundTruths(corners, np.full(len(places), class_id, np.int64), np.zeros(len(places), np.bool_))


def sight(*places, confidence=0.9):
    corners = np.array([(100 * p, 0, 100 * p + 20, 20) for p in places], np.float32).reshape(-1, 4)
    return Detections(corners, np.full(len(places), confidence, np.float32), np.zeros(len(places), np.int64), CLASSES)


places = st.sets(st.integers(0, 5), max_size=5)


@given(st.lists(st.tuples(places, places, places), min_size=1, max_size=12))
def test_recall_is_measured_against_both_labels_of_the_same_detections(images):
    """Boxes and misses of either label, against sets of places; the difference is that of the two recalls."""
    found = seeding_difference(
        [
            BothWays(sight(*saw), truths(*blank), truths(*shown), f"c{n}")
            for n, (saw, blank, shown) in enumerate(images)
        ],
        CLASSES,
        THRESHOLDS,
        replicates=50,
    )
    overall = found[0]
    blank, seeded = (sum(len(image[k]) for image in images) for k in (1, 2))
    missed = [sum(len(image[k] - image[0]) for image in images) for k in (1, 2)]
    assert (overall.boxes_blank, overall.boxes_seeded) == (blank, seeded)
    assert [overall.missed_blank, overall.missed_seeded] == missed
    assert overall.recall_blank == (pytest.approx(1 - missed[0] / blank) if blank else None)
    if blank and seeded:
        assert overall.difference == pytest.approx(missed[0] / blank - missed[1] / seeded)
    else:
        assert overall.difference is None
    assert [one.class_name for one in found[1:]] == (["car"] if blank or seeded else [])
    assert seeding_row(overall)["class"] == "all"
    assert seeding_sentence(overall)


def led_astray(images, share=2):
    """Two objects an image, one of which the model sees; every second person who sees its boxes overlooks the other."""
    return [
        BothWays(sight(0), truths(0, 1), truths(0, *([] if n % share == 0 else [1])), f"c{n // 3}")
        for n in range(images)
    ]


def test_people_who_leave_out_what_the_model_left_out_are_found_out():
    """Half of the misses are overlooked: told with its interval and in words."""
    overall = seeding_difference(led_astray(60), CLASSES, THRESHOLDS)[0]
    assert (overall.recall_blank, overall.missed_blank, overall.missed_seeded) == (0.5, 60, 30)
    assert overall.difference == pytest.approx(60 / 90 - 0.5)
    low, high = overall.interval
    assert 0 < low < overall.difference < high
    assert overall.overlooked == 0.5
    assert "were shown the model's boxes overlooked 50% more of what it had missed" in seeding_sentence(overall)


def test_the_same_labels_both_ways_make_no_difference():
    """The interval is zero, and the sentence says that there is none; few images say nothing at all."""
    same = [BothWays(sight(0), truths(0, 1), truths(0, 1), f"c{n}") for n in range(30)]
    overall = seeding_difference(same, CLASSES, THRESHOLDS)[0]
    assert (overall.difference, overall.interval) == (0.0, (0.0, 0.0))
    assert "no difference beyond chance" in seeding_sentence(overall)
    few = seeding_difference(led_astray(6), CLASSES, THRESHOLDS)[0]
    assert not few.is_told
    assert "Too few images" in seeding_sentence(few)
    nothing = seeding_difference([BothWays(sight(), truths(), truths(), "c")], CLASSES, THRESHOLDS)
    assert (len(nothing), nothing[0].interval) == (1, None)
    assert "too few objects" in seeding_sentence(nothing[0])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """People overlook each missed object with 30%: the interval covers the expected difference in most worlds."""
    expected, covered = 1 / 1.7 - 0.5, 0
    random = np.random.default_rng(1)
    for world in range(60):
        images = [
            BothWays(sight(0), truths(0, 1), truths(0, *([1] if random.random() > 0.3 else [])), f"c{n}")
            for n in range(80)
        ]
        low, high = seeding_difference(images, CLASSES, THRESHOLDS, replicates=200, seed=world)[0].interval
        covered += low <= expected <= high
    assert covered >= 51  # 57 of 60 in the mean


def test_thresholds_that_do_not_fit_the_classes_are_refused():
    """A column of another length would measure another class."""
    with pytest.raises(DataError, match="1 thresholds for 2 classes"):
        seeding_difference([], CLASSES, np.array([0.5]))


# --- predictions as labels -------------------------------------------------------------------------------------------

DOUBTS = Doubts(CLASSES, np.full((2, len(MISS_BINS)), 0.4), THRESHOLDS, 0.05)
kinds = st.sampled_from(["train", "blank", "random", "gold", "person", "model"])
confidence = st.sampled_from([0.02, 0.1, 0.3, 0.55, 0.7, 0.95])


@given(
    st.lists(
        st.tuples(kinds, st.lists(st.tuples(st.sampled_from(["car", "truck", "bus"]), confidence), max_size=3)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([0.5, 0.9]),
    st.sampled_from([0.1, 0.5, 2.0]),
    st.sampled_from([(), ("car",)]),
)
def test_predictions_stand_only_where_nobody_measures_and_the_model_is_sure(images, above, below, classes):
    """Each image against the rules, read one after the other; whatever is left is counted."""
    samples, wanted, labels = [], [], {}
    for sample, (kind, found) in zip(POOL, images):
        sample = sample.model_copy(
            update={"detections": tuple(seen(*one) for one in found), "random_slice": kind == "random"}
        )
        samples.append(sample)
        if kind in ("person", "model"):
            labels[sample.sample_id] = label(sample, origin="human" if kind == "person" else "model")
        shown = [(name, c) for name, c in found if name != "bus" and c >= 0.5]
        doubtful = sum(0.4 for name, c in found if name != "bus" and 0.05 <= c < 0.5)
        if (
            (kind == "train" or (kind == "random" and assign_split(sample) == "train"))
            and shown
            and all(c > above and (not classes or name in classes) for name, c in shown)
            and doubtful < below
        ):
            wanted.append(sample)
    of = {kind: [s.sample_id for s, (k, _) in zip(samples, images) if k == kind] for kind in ("blank", "gold")}
    batch = Batch(
        batch_id="b",
        created_at=NOON,
        class_names=CLASSES,
        samples=tuple(samples),
        unseeded=tuple(of["blank"]),
        gold=tuple(of["gold"]),
    )
    choice = acceptable(batch, labels, {}, DOUBTS, above=above, below_misses=below, classes=classes)
    assert list(choice.samples) == wanted
    assert sum(choice.refused.values()) == len(samples) - len(wanted)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.booleans(), st.booleans()), max_size=12))
def test_a_persons_label_is_kept_and_a_models_label_gives_way(rows):
    """In whatever batch and order: no label of a model where a person's is, nor where its image measures."""
    items = []
    for number, batch, human, drawn in rows:
        sample = POOL[number].model_copy(update={"random_slice": drawn})
        said = label(sample, origin="human" if human else "model")
        items.append(LabelledSample(sample, said, batch, 1, "key"))
    kept, left_out = kept_for_training(items)
    people = {item.sample.sample_id for item in items if item.label.origin == "human"}
    measuring = {item.sample.sample_id for item in items if assign_split(item.sample) != "train"}
    for item in items:
        stays = item.label.origin == "human" or item.sample.sample_id not in people | measuring
        assert (item in kept) == stays
    assert len(kept) + sum(left_out.values()) == len(items)
    assert set(left_out) <= {accepting.HELD_OUT, accepting.OUTDONE}


# --- trials ----------------------------------------------------------------------------------------------------------


def test_agreement_counts_boxes_that_lie_on_gold_boxes_of_their_class():
    """Right, too many, misnamed, overlooked; images that were skipped or are no gold do not count."""
    one, two, three, four = POOL[:4]
    gold = {
        one.sample_id: label(one, box("car", 0, 0), box("truck", 30, 0)),
        two.sample_id: label(two, box("car", 0, 0)),
        three.sample_id: label(three, box("car", 0, 0)),
    }
    given = {
        one.sample_id: label(one, box("car", 1, 1), box("car", 30, 0)),  # the second is misnamed
        two.sample_id: label(two, box("car", 0, 0), box("car", 40, 20)),  # the second is too much
        three.sample_id: label(three, status="skipped"),
        four.sample_id: label(four, box("car", 0, 0)),
    }
    found = agreement_with_gold(given, gold)
    assert (found.images, found.agreed, found.drawn, found.gold) == (2, 2, 4, 3)
    assert found.f1 == pytest.approx(4 / 7)
    assert agreement_with_gold(gold, gold).f1 == 1.0
    assert agreement_with_gold({}, gold).f1 is None
    assert agreement_with_gold({one.sample_id: label(one)}, {one.sample_id: label(one)}).f1 == 1.0


@pytest.mark.parametrize(
    ("agreement", "complete", "expected"),
    [
        (Agreement(3, 9, 10, 10), True, "accepted"),
        (Agreement(3, 8, 10, 10), True, "doubtful"),
        (Agreement(0, 0, 0, 0), True, "doubtful"),
        (Agreement(3, 10, 10, 10), False, "open"),
    ],
)
def test_a_trial_is_accepted_by_itself_only_when_it_is_whole_and_agrees(agreement, complete, expected):
    """At the bound it is; without gold samples a person decides."""
    assert verdict(agreement, complete, 0.9) == expected
