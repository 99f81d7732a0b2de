"""What is alike and what is unusual in the review dataset, by embeddings whose likeness is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters import review
from tasks.adapters.review.alike import BLOCK, median_distance, repeated, uniqueness
from tests.adapters.review_yard import CLASSES, yard


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def slowly_repeated(vectors, distance) -> list[int]:
    """The first image without an original of its own that is near enough, by trying all."""
    original = list(range(len(vectors)))
    for row in range(len(vectors)):
        for first in range(row):
            if original[first] == first and 1 - float(vectors[first] @ vectors[row]) <= distance:
                original[row] = first
                break
    return original


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(-4, 4)), min_size=1, max_size=12), st.sampled_from([0.01, 0.1])
)
def test_who_repeats_whom_is_that_of_a_slow_search(points, distance):
    """Chains do not grow: what repeats an image is near that image, not near one that repeats it."""
    vectors = unit(points)
    found = repeated(vectors, distance).tolist()
    assert found == slowly_repeated(vectors, distance)
    assert all(found[first] == first for first in found)


def test_the_distance_of_two_images_does_not_depend_on_how_many_are_there_twice():
    """With half of the images copied, the median distance of two different images hardly changes."""
    random = np.random.default_rng(0)
    vectors = unit(random.normal(size=(100, 16)))
    twice = np.concatenate([vectors, vectors])
    assert median_distance(twice) == pytest.approx(median_distance(vectors), rel=0.1)


def test_uniqueness_is_the_mean_distance_to_the_three_nearest():
    """Against all distances, sorted, also where there is more than one block."""
    vectors = unit(np.random.default_rng(2).normal(size=(BLOCK + 50, 6)))
    distances = np.sort(1 - vectors @ vectors.T, axis=1)[:, 1:4].mean(axis=1)
    assert uniqueness(vectors) == pytest.approx(distances / distances.max(), abs=1e-4)


@pytest.mark.slow
def test_near_duplicates_and_unusual_images_are_views(tmp_path, database):
    """Copies stand after what they copy, an odd one is first; only new images are embedded; another model replaces."""
    import fiftyone as fo

    items, *_ = yard(tmp_path, 24)
    for item in items:
        cv2.imwrite(str(item.image_path), np.full((40, 40, 3), 180, np.uint8))
    review.sync_dataset("alike", items, CLASSES)
    ids = [item.sample.sample_id for item in items]
    assert review.not_embedded("alike", "m1") == set(ids)
    random = np.random.default_rng(1)
    vectors = dict(zip(ids, unit(random.normal(size=(24, 8)) + 3 * np.eye(8)[0])))
    vectors[ids[5]] = vectors[ids[3]]
    vectors[ids[9]] = unit([vectors[ids[3]] + 0.01])[0]
    vectors[ids[20]] = unit([[-1, 0, 0, 0, 0, 0, 0, 0.1]])[0]
    review.write_embeddings("alike", "m1", {one: vectors[one] for one in ids[:3]})
    assert review.find_alike("alike", "m1").views == ()  # three images are no crowd
    review.write_embeddings("alike", "m1", {one: vectors[one] for one in ids[3:]})
    assert review.not_embedded("alike", "m1") == set()
    found = review.find_alike("alike", "m1")
    assert (found.images, found.repeats) == (24, 2)
    near, unusual = found.views
    assert (near.slug, near.count) == ("near-duplicates", 3)
    dataset = fo.load_dataset("alike")
    first = min(ids[3], ids[5], ids[9])
    shown = dataset.load_saved_view("Near-duplicates")
    assert set(shown.values("sample_id")) == {ids[3], ids[5], ids[9]}
    assert shown.first().sample_id == first
    assert {one.repeats for one in shown} == {None, first}
    assert dataset.load_saved_view("Most unusual").first().sample_id == ids[20]
    assert unusual.count == 24
    alike = dataset.sort_by_similarity(dataset.match({"sample_id": ids[3]}).first().id, k=3, brain_key="similarity")
    assert set(alike.values("sample_id")) == {ids[3], ids[5], ids[9]}

    review.write_embeddings("alike", "m2", {one: vectors[one] for one in ids[:10]})
    assert review.not_embedded("alike", "m2") == set(ids[10:])
    assert review.find_alike("alike", "m2").images == 10  # of one model alone, and nothing stale is left
    assert dataset.exists("uniqueness").count() == 10
