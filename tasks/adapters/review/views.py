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
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds


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
    newest_batch: str = "",
) -> list[SavedView]:
    """Save the views that the dataset `name` can fill and return them, empty ones too.

    Always "To review"; with `newest_batch` that batch; with an evaluation its false alarms and blind misses; with the
    `rules` of a suggestion the misses whose candidate lies in one of their bands, as images and as patches.
    """
    dataset = fiftyone().load_dataset(name)
    thresholds = thresholds or {}
    views = [to_review(dataset)]
    if newest_batch:
        views.append(of_batch(dataset, newest_batch))
    if eval_key and dataset.has_evaluation(eval_key):
        if rules:
            views += misses_in_bands(dataset, eval_key, thresholds, rules)
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
    dataset: Any, key: str, thresholds: Thresholds, rules: Sequence[Rule]
) -> list[tuple[str, str, Any]]:
    """Missed objects whose candidate detection lies in the band of a rule, as images and as patches.

    A rule reaches a little above the threshold; what lies there is found, not missed, and is not shown.
    """
    truth = any_of(
        is_class(rule.class_name)
        & between(f"{key}_conf", rule.low, min(rule.high, threshold(thresholds, rule.class_name)))
        for rule in rules
    )
    candidate = any_of(is_class(rule.class_name) & between("confidence", rule.low, rule.high) for rule in rules)
    bands = ", ".join(f"{rule.class_name} {rule.low:g} to {rule.high:g}" for rule in rules)
    images = dataset.match_labels(fields=GROUND_TRUTH, filter=truth).filter_labels(
        PREDICTIONS, candidate, only_matches=False
    )
    patches = (
        dataset.filter_labels(GROUND_TRUTH, truth)
        .filter_labels(PREDICTIONS, candidate & (field(key) == "tp"))
        .to_evaluation_patches(key)
    )
    return [
        ("Misses in the suggested band", f"Images with a miss that the rules are for: {bands}.", images),
        ("Misses in the suggested band, patches", f"The missed objects and their candidates: {bands}.", patches),
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
