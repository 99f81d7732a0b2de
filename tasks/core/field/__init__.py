"""How good is the model in the field? Recall and precision over all frames, from the few that people labelled.

Samples are no fair share of the frames: most were kept because the model was unsure of them. But each knows how likely
its frame was to be kept, to be delivered and to be labelled,

    p = p_kept * p_delivered * p_labelled

so that a labelled image stands for 1 / p frames (Horvitz and Thompson 1952), and the ratios of such sums are

    recall    = 1 - sum(misses_i / p_i) / sum(objects_i / p_i)
    precision = sum(hits_i / p_i) / sum(detections_i / p_i)

(Hajek 1971). Misses are those of the model on the device: of the detections that it wrote down with the sample, at the
thresholds that were in force, matched as everywhere (matching). Models and settings are never mixed: each pair of a
model version and a settings version has estimates of its own.

Nothing of this holds where some frames could not be kept at all. Settings without a draw on every frame are therefore
refused, as is whatever else would make a guess of the figure; `FieldRecall.refused` says why.

    field_recall(asked, settings, class_names, truths_of=...)      the answer for one model and settings version
    figures(objects, hits, detections, weights, bootstrap)         the estimates themselves
    delivered_either_way(sample)                                   p_delivered
    labelled_probability(batches, random_slice, labelled)          p_labelled
    slice_alone(asked, labelled)                                   the batches in which e is p_kept
"""

from tasks.core.field.hajek import Counts, counts_of, effective_images, figures
from tasks.core.field.judgement import by_version, field_recall, refusal, refused
from tasks.core.field.records import FieldFigures, FieldRecall
from tasks.core.field.response import (
    Asked,
    delivered_either_way,
    each_once,
    labelled_probability,
    slice_alone,
)

__all__ = [
    "Asked",
    "Counts",
    "FieldFigures",
    "FieldRecall",
    "by_version",
    "counts_of",
    "delivered_either_way",
    "each_once",
    "effective_images",
    "field_recall",
    "figures",
    "labelled_probability",
    "refusal",
    "refused",
    "slice_alone",
]
