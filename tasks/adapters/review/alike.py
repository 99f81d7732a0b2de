"""Which images are alike: embeddings in the dataset, and what FiftyOne's brain makes of them, without a download.

"Sort by similarity" in the App, `uniqueness` from 0 to 1, and images that repeat another one. Embeddings are those of
the loop's own model; they are written once an image and model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.review.dataset import fiftyone
from tasks.adapters.review.views import SavedView, field, save

EMBEDDING, EMBEDDED_BY = "embedding", "embedded_by"
UNIQUENESS, REPEATS = "uniqueness", "repeats"
SIMILARITY = "similarity"  # the App's name of the index
NEAR, UNUSUAL = "Near-duplicates", "Most unusual"  # views
LEAST_IMAGES = 4  # below which nobody needs to be told what is alike
NEIGHBOURS = 3
BLOCK = 1000  # images that are held against all others at once
PAIRS = 2000  # drawn, from which the distance of two images is taken
REPEATING = 0.01  # of that distance: as near as this, an image repeats another

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Alike:
    """What was found: images with an embedding, and those that repeat another one, within `distance` (cosine)."""

    images: int
    repeats: int
    distance: float
    views: tuple[SavedView, ...] = ()


def not_embedded(name: str, made_by: str) -> set[str]:
    """Sample ids of the dataset without an embedding of that model."""
    dataset = with_fields(name)
    return {one for one, by in zip(dataset.values("sample_id"), dataset.values(EMBEDDED_BY)) if by != made_by}


def write_embeddings(name: str, made_by: str, embeddings: Mapping[str, Floats]) -> None:
    """Sample id -> (d,) of length 1, of the model `made_by`; those of another model are replaced."""
    dataset = with_fields(name)
    ids = dict(zip(dataset.values("sample_id"), dataset.values("id")))
    known = {ids[sample_id]: vector for sample_id, vector in embeddings.items() if sample_id in ids}
    if known:
        dataset.set_values(EMBEDDING, dict(known), key_field="id")
        dataset.set_values(EMBEDDED_BY, dict.fromkeys(known, made_by), key_field="id")


def find_alike(name: str, made_by: str) -> Alike:
    """Compare all images with an embedding of that model, and save the views "Near-duplicates" and "Most unusual".

    An image repeats another where their cosine distance is at most a hundredth of the median distance of two images:
    what is near depends on the model and on the place. Of images that repeat one another the first by sample id stays.
    """
    import fiftyone.brain as brain

    dataset = with_fields(name)
    forget_alike(name)
    view = dataset.match(field(EMBEDDED_BY) == made_by)  # not sorted: the brain takes the order of the dataset
    ids, vectors = view.values("sample_id"), view.values(EMBEDDING)
    if len(ids) < LEAST_IMAGES:
        return Alike(len(ids), 0, 0.0)
    stacked = np.stack(vectors).astype(np.float32)
    distance = REPEATING * median_distance(stacked)
    brain.compute_similarity(view, embeddings=stacked, brain_key=SIMILARITY, backend="sklearn", metric="cosine")
    by_id = np.argsort(ids)
    original = by_id[repeated(stacked[by_id], distance)]
    repeats = {ids[row]: ids[first] for row, first in zip(by_id, original) if first != row}
    of_id = dict(zip(ids, view.values("id")))
    dataset.set_values(UNIQUENESS, dict(zip(of_id.values(), uniqueness(stacked).tolist())), key_field="id")
    if repeats:
        dataset.set_values(REPEATS, {of_id[one]: other for one, other in repeats.items()}, key_field="id")
    return Alike(len(ids), len(repeats), distance, tuple(save(dataset, *one) for one in views_of(dataset, repeats)))


def views_of(dataset: Any, repeats: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    """Repeating images beside what they repeat, and all images, the most unusual ones first."""
    shown = [one for pair in sorted(repeats.items(), key=lambda pair: (pair[1], pair[0])) for one in (pair[1], pair[0])]
    near = dataset.select_by("sample_id", list(dict.fromkeys(shown)), ordered=True)
    unusual = dataset.exists(UNIQUENESS).sort_by(UNIQUENESS, reverse=True)
    return [
        (NEAR, "Images that repeat another one, each after the one that it repeats (`repeats`).", near),
        (UNUSUAL, "All images, those unlike any other first.", unusual),
    ]


def median_distance(vectors: Floats) -> float:
    """Median cosine distance of two different images; of pairs that are drawn alike each time. vectors: (n, d)."""
    random = np.random.default_rng(0)
    first, second = random.integers(0, len(vectors), (2, PAIRS))
    apart = first != second
    return float(np.median(1 - (vectors[first[apart]] * vectors[second[apart]]).sum(axis=1)))


def uniqueness(vectors: Floats) -> NDArray[np.float64]:
    """(n,) mean cosine distance to the three nearest others, as a share of the highest. vectors: (n, d) of length 1.

    Not by FiftyOne's brain, whose figure of the same name (1.22, this index) does not put an image first that is
    far from all others. By blocks: memory grows with n alone.
    """
    nearest = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        alike = vectors[start : start + BLOCK] @ vectors.T
        rows = np.arange(len(alike))
        alike[rows, start + rows] = -np.inf
        nearest[start : start + BLOCK] = 1 - np.partition(alike, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    highest = max(float(nearest.max()), float(np.finfo(np.float32).eps))
    return np.asarray(nearest.clip(0) / highest)


def repeated(vectors: Floats, distance: float) -> NDArray[np.int64]:
    """(n,) the row of the image that each one repeats, itself where none: the first row within `distance` of it that
    repeats none. Memory grows with n, time with n times those that repeat none."""
    original = np.arange(len(vectors))
    kept, rows, count = np.empty_like(vectors), np.empty(len(vectors), np.int64), 0
    for row, vector in enumerate(vectors):
        near = 1 - kept[:count] @ vector <= distance
        if near.any():
            original[row] = rows[int(near.argmax())]
        else:
            kept[count], rows[count] = vector, row
            count += 1
    return original


def forget_alike(name: str) -> None:
    """Remove what was found before: it may be of images and of a model that are gone."""
    dataset = with_fields(name)
    if SIMILARITY in dataset.list_brain_runs():
        dataset.delete_brain_run(SIMILARITY)
    for path in (UNIQUENESS, REPEATS):
        dataset.clear_sample_field(path)
    for title in (NEAR, UNUSUAL):
        if dataset.has_saved_view(title):
            dataset.delete_saved_view(title)


def with_fields(name: str) -> Any:
    """The dataset, which has the fields of this file."""
    fo = fiftyone()
    dataset = fo.load_dataset(name)
    for path, kind in (
        (EMBEDDING, fo.VectorField),
        (EMBEDDED_BY, fo.StringField),
        (REPEATS, fo.StringField),
        (UNIQUENESS, fo.FloatField),
    ):
        if not dataset.has_field(path):
            dataset.add_sample_field(path, kind)
    return dataset
