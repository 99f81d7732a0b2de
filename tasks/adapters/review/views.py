"""The views that a reviewer opens by a link: what to label, where the misses are, what was made up.

Each is saved under a slug, as `/datasets/<name>?view=<slug>`, and replaced when it is saved again. Views of whole
images never filter the ground truth: editing in a view that does would delete the boxes that it hides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.adapters.review.dataset import GROUND_TRUTH, PREDICTIONS, UNLABELLED, fiftyone
from tasks.core.entities import Rule
from tasks.core.errors import ReviewUnavailable
from tasks.core.matching import MATCHING_FLOOR
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds

OF_RULES, OF_ALL = "Misses in the suggested band", "Misses within reach"


@dataclass(frozen=True, slots=True)
class SavedView:
    """A link of the App and how much is behind it (images, or patches where the view shows boxes)."""

    name: str
    slug: str
    description: str
    count: int


def save_views(
    name: str,
    *,
    eval_key: str = "",
    thresholds: Thresholds | None = None,
    rules: Sequence[Rule] = (),
    confidence_floor: float = MATCHING_FLOOR,
    newest_batch: str = "",
) -> list[SavedView]:
    """Save the views that the dataset `name` can fill and return them, empty ones too.

    Always "To review"; with `newest_batch` that batch; with an evaluation its false alarms and blind misses, and the
    misses within a device's reach: those whose candidate lies in a band of the `rules` of a suggestion, or without
    rules anywhere from `confidence_floor` to the threshold, where expected misses look. As images and as patches.
    """
    dataset = fiftyone().load_dataset(name)
    thresholds = thresholds or {}
    views = [to_review(dataset)]
    if newest_batch:
        views.append(of_batch(dataset, newest_batch))
    if eval_key and dataset.has_evaluation(eval_key):
        views += misses_in_bands(dataset, eval_key, thresholds, rules, confidence_floor)
        views += [blind_misses(dataset, eval_key), blind_patches(dataset, eval_key)]
        views.append(false_alarms(dataset, eval_key, thresholds))
    return [save(dataset, *view) for view in views]


def save_list_view(name: str, title: str, sample_ids: Sequence[str]) -> SavedView:
    """Save the images of `sample_ids`, in this order, as a view of the dataset `name`; none makes an empty view.

    Sample ids that the dataset does not have are left out. Raises ReviewUnavailable where there is no such dataset.
    """
    fo = fiftyone()
    if not fo.dataset_exists(name):
        raise ReviewUnavailable(f"FiftyOne has no dataset {name!r}: a turn of edgeloop loop makes it (review: true)")
    dataset = fo.load_dataset(name)
    description = f"{len(sample_ids)} images, the first ones first."
    return save(dataset, title, description, dataset.select_by("sample_id", list(sample_ids), ordered=True))


def save(dataset: Any, name: str, description: str, view: Any) -> SavedView:
    """Save a view under its name, in the place of an older one."""
    if dataset.has_saved_view(name):
        dataset.delete_saved_view(name)
    dataset.save_view(name, view, description=description)
    return SavedView(name, slug_of(name), description, len(view))


def slug_of(name: str) -> str:
    """The part of a link that FiftyOne makes of a view's name."""
    import fiftyone.core.utils as fou

    return str(fou.to_slug(name))


def to_review(dataset: Any) -> tuple[str, str, Any]:
    """Samples that nobody has looked at, the oldest first."""
    view = dataset.match(field("label_status") == UNLABELLED).sort_by("captured_at")
    return "To review", "Images that nobody has labelled yet, the oldest first.", view


def of_batch(dataset: Any, batch: str) -> tuple[str, str, Any]:
    """The samples of one batch."""
    view = dataset.match(field("batch") == batch).sort_by("captured_at")
    return "Newest batch", f"The images of batch {batch}.", view


def misses_in_bands(
    dataset: Any, key: str, thresholds: Thresholds, rules: Sequence[Rule], confidence_floor: float
) -> list[tuple[str, str, Any]]:
    """Missed objects whose candidate detection lies in the band of a rule, as images and as patches.

    A rule reaches a little above the threshold; what lies there is found, not missed, and is not shown. Without rules
    the band of each class is all between the floor and its threshold.
    """
    chosen = [(rule.class_name, rule.low, rule.high) for rule in rules]
    chosen = chosen or [(name, confidence_floor, threshold(thresholds, name)) for name in dataset.default_classes]
    truth = any_of(
        is_class(name) & between(f"{key}_conf", low, min(high, threshold(thresholds, name)))
        for name, low, high in chosen
    )
    candidate = any_of(is_class(name) & between("confidence", low, high) for name, low, high in chosen)
    bands = ", ".join(f"{name} {low:g} to {high:.3g}" for name, low, high in chosen)
    title, other = (OF_RULES, OF_ALL) if rules else (OF_ALL, OF_RULES)
    for stale in (other, f"{other}, patches"):  # of an earlier suggestion, and of an evaluation that is gone
        if dataset.has_saved_view(stale):
            dataset.delete_saved_view(stale)
    told = "the rules are for" if rules else "expected misses look for"
    images = dataset.match_labels(fields=GROUND_TRUTH, filter=truth).filter_labels(
        PREDICTIONS, candidate, only_matches=False
    )
    patches = (
        dataset.filter_labels(GROUND_TRUTH, truth)
        .filter_labels(PREDICTIONS, candidate & (field(key) == "tp"))
        .to_evaluation_patches(key)
    )
    return [
        (title, f"Images with a miss that {told}: {bands}.", images),
        (f"{title}, patches", f"The missed objects and their candidates: {bands}.", patches),
    ]


def blind_misses(dataset: Any, key: str) -> tuple[str, str, Any]:
    """Images with an object that no detection of its class covers: no confidence rule can find them."""
    view = dataset.match_labels(fields=GROUND_TRUTH, filter=is_blind(key))
    return "Blind misses", "Images with an object that the model does not see at any confidence.", view


def blind_patches(dataset: Any, key: str) -> tuple[str, str, Any]:
    """The same objects, one a patch."""
    view = dataset.filter_labels(GROUND_TRUTH, is_blind(key)).to_patches(GROUND_TRUTH)
    return "Blind misses, patches", "Objects that the model does not see at any confidence.", view


def false_alarms(dataset: Any, key: str, thresholds: Thresholds) -> tuple[str, str, Any]:
    """Detections at or above their class's threshold without an object, the most certain ones first."""
    classes = dataset.default_classes
    above = any_of(is_class(name) & (field("confidence") >= threshold(thresholds, name)) for name in classes)
    view = (
        dataset.filter_labels(PREDICTIONS, above & (field(key) == "fp"))
        .to_patches(PREDICTIONS)
        .sort_by(f"{PREDICTIONS}.confidence", reverse=True)
    )
    return "False alarms", "Detections above the operating threshold where there is no such object.", view


def threshold(thresholds: Thresholds, class_name: str) -> float:
    return thresholds.get(class_name, DEFAULT_THRESHOLD)


def is_blind(key: str) -> Any:
    """A ground truth that was matched against and that nothing took."""
    return field(key) == "fn"


def is_class(name: str) -> Any:
    return field("label") == name


def between(path: str, low: float, high: float) -> Any:
    """`low <= value < high`; a box without a value is in no band."""
    return (field(path) >= low) & (field(path) < high)


def any_of(conditions: Iterable[Any]) -> Any:
    return fiftyone().ViewExpression.any(list(conditions))


def field(path: str) -> Any:
    return fiftyone().ViewField(path)
