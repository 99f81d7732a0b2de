"""What may be said of a model in the field, and what must be refused or told beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from tasks.core.bands import threshold_column
from tasks.core.bootstrap import REPLICATES, Bootstrap, cluster_bootstrap
from tasks.core.entities import STUB, Label, detections_from_records
from tasks.core.errors import DataError, NotEnoughData
from tasks.core.field.hajek import Counts, counts_of, figures, weights_of
from tasks.core.field.records import FieldFigures, FieldRecall
from tasks.core.field.response import (
    Asked,
    contradiction,
    each_once,
    labelled_probability,
    of_begun_batches,
    slice_alone,
)
from tasks.core.field.words import warnings_of
from tasks.core.matching import Booleans, Floats, GroundTruths, ImageResult, match
from tasks.core.settings import ExpectedMisses, SamplingSettings
from tasks.core.splits import camera_of, cluster_of

DIGITS = 6  # of a recorded confidence, and so of a threshold that it is held against

Version = tuple[str, str]  # model version, settings version
TruthsOf = Callable[[Label, Sequence[str]], GroundTruths]


def by_version(asked: Iterable[Asked]) -> dict[Version, list[Asked]]:
    """The samples of each model version and settings version, the newest first."""
    groups: dict[Version, list[Asked]] = {}
    for item in asked:
        groups.setdefault((item.sample.model_version, item.sample.settings_version), []).append(item)
    newest = {version: max(item.sample.captured_at for item in items) for version, items in groups.items()}
    return {version: groups[version] for version in sorted(groups, key=lambda v: (newest[v], v), reverse=True)}


def refusal(model_version: str, settings: SamplingSettings) -> str:
    """Why nothing can be said under these settings, whatever is labelled; empty where something can."""
    if model_version == STUB:
        return "the devices had no model, so there is nothing that it could have found"
    if not settings.persist_predictions:
        return "the settings say persist_predictions: false, so what the model saw in the images was not kept"
    explores = settings.exploration_strategy
    if explores is None or (not isinstance(explores, ExpectedMisses) and explores.traffic_percentage == 0):
        return (
            "the settings draw at random from all frames neither by expected_misses with exploration nor by a random "
            "strategy without limits: frames that nothing chose are in no sample, and nobody knows what was missed "
            "in them"
        )
    return ""


def refused(asked: Sequence[Asked], reason: str) -> FieldRecall:
    """No figures, and why. asked: at least one sample, all of one model and settings version."""
    first = asked[0].sample
    return FieldRecall(model_version=first.model_version, settings_version=first.settings_version, refused=reason)


def field_recall(
    asked: Sequence[Asked],
    settings: SamplingSettings,
    class_names: Sequence[str],
    *,
    truths_of: TruthsOf,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> FieldRecall:
    """Recall and precision over all frames that devices saw with one model under one settings version.

    asked: at least one sample, those that nobody has labelled included. settings: those that were in force, with the
    operating thresholds. truths_of: a label's boxes as columns. Whatever forbids an estimate is in `refused`; an image
    whose record or label cannot be used is left out, counted, and stood for by the others. Raises DataError where
    versions are mixed.
    """
    if len(by_version(asked)) != 1:
        raise DataError(
            f"field recall: {len(by_version(asked))} model and settings versions in one estimate: give the samples of "
            "one (by_version)"
        )
    if reason := refusal(asked[0].sample.model_version, settings):
        return refused(asked, reason)
    begun = of_begun_batches(each_once(asked))
    results, problems = _results(begun, class_names, truths_of)
    if not results:
        return refused(asked, _nothing_labelled(begun, problems))
    labelled = np.array([row in results for row in range(len(begun))], np.bool_)
    alone = slice_alone(begun, labelled)
    try:
        answers = labelled_probability(
            [item.batch_id for item in begun],
            np.array([item.sample.random_slice for item in begun], np.bool_),
            labelled,
            alone,
        )
    except NotEnoughData as error:
        return refused(asked, str(error))
    used = [begun[row] for row in results]
    known = np.array([item.probability_at_random if item.batch_id in alone else item.probability for item in used])
    return _answer(
        begun,
        used,
        list(results.values()),
        known * answers[labelled],
        settings,
        class_names,
        problems=problems,
        alone=alone,
        bootstrap=_bootstrap(used, replicates, seed),
    )


def _answer(
    begun: Sequence[Asked],
    used: Sequence[Asked],
    results: Sequence[ImageResult],
    probability: Floats,
    settings: SamplingSettings,
    class_names: Sequence[str],
    *,
    problems: Sequence[str],
    alone: Collection[str],
    bootstrap: Bootstrap,
) -> FieldRecall:
    weights = weights_of(probability)
    counts = counts_of(match(results), _thresholds(settings, class_names))
    moments = [item.sample.captured_at for item in begun]
    skipped = sum(item.label is not None and item.label.status == "skipped" for item in begun)
    found = FieldRecall(
        model_version=used[0].sample.model_version,
        settings_version=used[0].sample.settings_version,
        first=min(moments),
        last=max(moments),
        asked=len(begun),
        labelled=len(used),
        skipped=skipped,
        waiting=sum(item.label is None for item in begun),
        unusable=len(problems),
        frames=float(weights.sum()),
        figures=_pooled(counts, weights, bootstrap),
        classes={name: _of_class(counts, c, weights, bootstrap) for c, name in enumerate(class_names)},
        cameras={
            camera: _pooled(counts, np.where(rows, weights, 0.0), bootstrap)
            for camera, rows in _rows_by_camera(used).items()
        },
        clusters=bootstrap.clusters,
        bootstrap_unit=bootstrap.unit,
    )
    told = warnings_of(found, used, counts, weights, settings, class_names, problems, alone)
    return found.model_copy(update={"warnings": told})


def _results(
    begun: Sequence[Asked], class_names: Sequence[str], truths_of: TruthsOf
) -> tuple[dict[int, ImageResult], list[str]]:
    """Row -> what was seen and labelled in an image that is labelled, and a line for each that cannot be used."""
    results, problems = {}, []
    for row, item in enumerate(begun):
        if item.label is None or not item.is_labelled:
            continue
        try:
            if reason := contradiction(item):
                raise DataError(reason)
            detections = detections_from_records(item.sample.detections, class_names)
            results[row] = ImageResult(detections, truths_of(item.label, class_names))
        except DataError as error:
            problems.append(f"sample {item.sample.sample_id}: {error}")
    return results, problems


def _nothing_labelled(begun: Sequence[Asked], problems: Sequence[str]) -> str:
    if problems:
        return f"none of the {len(problems)} labelled images can be used, the first: {problems[0]}"
    skipped = sum(item.label is not None for item in begun)
    return f"no image is labelled yet{f', and {skipped} are skipped' if skipped else ''}"


def _thresholds(settings: SamplingSettings, class_names: Sequence[str]) -> Floats:
    """(classes,) as recorded confidences are: six digits, in float32."""
    return threshold_column(settings.thresholds, class_names).round(DIGITS).astype(np.float32).astype(np.float64)


def _bootstrap(used: Sequence[Asked], replicates: int, seed: int) -> Bootstrap:
    return cluster_bootstrap([cluster_of(item.sample) for item in used], replicates=replicates, seed=seed)


def _pooled(counts: Counts, weights: Floats, bootstrap: Bootstrap) -> FieldFigures:
    columns = (counts.objects.sum(axis=1), counts.hits.sum(axis=1), counts.detections.sum(axis=1))
    return figures(*columns, weights, bootstrap)


def _of_class(counts: Counts, class_id: int, weights: Floats, bootstrap: Bootstrap) -> FieldFigures:
    """Of the images with an object or a detection of the class; the others say nothing of it."""
    objects, hits, detections = (column[:, class_id] for column in (counts.objects, counts.hits, counts.detections))
    return figures(objects, hits, detections, np.where(objects + detections > 0, weights, 0.0), bootstrap)


def _rows_by_camera(used: Sequence[Asked]) -> dict[str, Booleans]:
    """(images,) which images are of each camera."""
    cameras = np.array([camera_of(item.sample) for item in used])
    return {str(camera): cameras == camera for camera in np.unique(cameras)}
