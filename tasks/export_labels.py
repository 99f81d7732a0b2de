"""Labels as zips: a batch for people elsewhere, and what they have said for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tasks.adapters.labelling import FilesLabelling, parts_to_label, write_zip
from tasks.adapters.labels import FORMATS, LabelFormat, LabelledImage, LabelSet, Part, parts_of
from tasks.adapters.labels.written import SPLIT_FOLDERS
from tasks.adapters.preannotate import seeds_of
from tasks.batching import assignee_of, without_repeats
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import DatasetVersion, Sample
from tasks.core.errors import DataError, NotEnoughData, ObjectMissing, SettingsError
from tasks.core.settings import ProjectSettings, Thresholds


@dataclass(frozen=True)
class Exported:
    """A zip. seeded: images with pre-annotations. left_out: what is not in it, a line each."""

    path: Path
    images: int
    boxes: int
    seeded: int = 0
    left_out: tuple[str, ...] = ()


def export_batch(
    project: ProjectSettings, batch_id: str, to: Path, formats: Sequence[LabelFormat], thresholds: Thresholds
) -> Exported:
    """A batch as one zip to label: images, pre-annotations, classes, instructions.

    People begin with what was offered before, where it was; else with what the devices saw at `thresholds`, which is
    remembered for the count of their corrections. Exporting again gives the same bytes. Images that cannot be had are
    left out and named; raises NotEnoughData where there is none.
    """
    central = Central(project)
    batch = central.batch(batch_id)
    paths, left_out = local_images(central, batch.samples)
    samples, repeated = without_repeats(central, batch, [s for s in batch.samples if s.sample_id in paths])
    left_out += repeated
    if not samples:
        raise NotEnoughData(f"batch {batch_id}: none of its {len(batch.samples)} images can be had: nothing to export")
    readable = batch.model_copy(update={"samples": tuple(samples), "assignee": assignee_of(central, batch)})
    files_of = FilesLabelling(Path(project.labelling.folder))
    begun = seeds_of(project, readable, thresholds, central.images.pixels_of, lambda: files_of.seeds(readable))
    offer = files_of.remember(readable, begun)
    seeds = {seed.sample_id: seed for seed in offer.seeds}
    seeded = [LabelledImage(sample, seeds[sample.sample_id]) for sample in samples if sample.sample_id in seeds]
    blank = [sample for sample in samples if sample.sample_id not in seeds]
    labels = LabelSet(batch_id, seeded, batch.class_names, batch.class_list_version, seeds=True, blank=blank)
    files = [(f"images/{sample.sample_id}.jpg", paths[sample.sample_id]) for sample in samples]
    write_zip(to, parts_to_label(readable, labels, formats, len(samples)), files)
    return Exported(to, len(samples), labels.boxes, len(seeded), tuple(left_out))


def export_labels(
    project: ProjectSettings, batch_id: str, to: Path, formats: Sequence[LabelFormat], with_images: bool = True
) -> Exported:
    """What people have said about a batch, its newest revision. Raises NotEnoughData while nobody has."""
    central = Central(project)
    batch = central.batch(batch_id)
    revision = central.bucket.latest_number(partial(layout.labels, batch_id))
    if not revision:
        raise NotEnoughData(f"batch {batch_id}: has no labels yet: export it without --labelled to have it labelled")
    labels, samples = central.labels(batch, revision), {sample.sample_id: sample for sample in batch.samples}
    images = [LabelledImage(samples[sample_id], labels[sample_id]) for sample_id in sorted(labels)]
    what = LabelSet(batch_id, images, batch.class_names, batch.class_list_version)
    return export_set(central, what, to, formats, with_images)


def export_dataset(
    project: ProjectSettings, version: str, to: Path, formats: Sequence[LabelFormat], with_images: bool = True
) -> Exported:
    """A dataset version, a folder a split; images that it excludes from training are left out."""
    central = Central(project)
    dataset = central.bucket.read_record(layout.dataset(version), DatasetVersion)
    images = [
        LabelledImage(entry.sample, entry.label, SPLIT_FOLDERS[entry.split])
        for entry in central.entries(version)
        if entry.split in SPLIT_FOLDERS
    ]
    what = LabelSet(version, images, dataset.class_names, dataset.class_list_version)
    return export_set(central, what, to, formats, with_images)


def export_set(
    central: Central, labels: LabelSet, to: Path, formats: Sequence[LabelFormat], with_images: bool
) -> Exported:
    """Labels in every format that was asked for, around one folder of images."""
    labels, left_out = of_known_classes(labels)
    left_out += list(lost_in(labels, formats))
    files: list[tuple[str, Path]] = []
    if with_images:
        paths, missing = local_images(central, [one.sample for one in labels.images])
        files = [(one.image, paths[one.sample.sample_id]) for one in labels.images if one.sample.sample_id in paths]
        left_out += missing
    write_zip(to, all_parts(labels, formats), files)
    return Exported(to, len(labels.images), labels.boxes, left_out=tuple(left_out))


def all_parts(labels: LabelSet, formats: Sequence[LabelFormat]) -> Iterator[Part]:
    for form in formats:
        yield from parts_of(form, labels)


def of_known_classes(labels: LabelSet) -> tuple[LabelSet, list[str]]:
    """The labels without boxes of classes that the list does not have (any more), and how many those are."""
    images, left_out = [], 0
    for one in labels.images:
        boxes = tuple(box for box in one.label.boxes if box.class_name in labels.class_names)
        left_out += len(one.label.boxes) - len(boxes)
        images.append(replace(one, label=one.label.model_copy(update={"boxes": boxes})))
    told = [f"{left_out} boxes of classes that {labels.name} does not list"] if left_out else []
    return replace(labels, images=images), told


def lost_in(labels: LabelSet, formats: Sequence[LabelFormat]) -> Iterator[str]:
    """What a format has no word for."""
    crowds = sum(box.crowd for one in labels.images for box in one.label.boxes)
    skipped = sum(one.label.status == "skipped" for one in labels.images)
    for form in formats:
        if crowds and form == "yolo":
            yield f"{crowds} crowd regions are not in the YOLO files, which have no word for them"
        if skipped and form in ("yolo", "voc"):
            yield f"{skipped} skipped images are not in the {form.upper()} files, which have no word for them"


def local_images(central: Central, samples: Sequence[Sample]) -> tuple[dict[str, Path], list[str]]:
    """Local files by sample id, and a line for each image that cannot be had."""
    cache, paths, left_out = central.images, {}, []
    for sample in samples:
        try:
            paths[sample.sample_id] = cache.path_of(sample)
        except (DataError, ObjectMissing) as error:
            left_out.append(str(error))
    return paths, left_out


def formats_named(names: Sequence[str], default: Sequence[LabelFormat]) -> tuple[LabelFormat, ...]:
    """Formats by their names, in their order, each once. Raises SettingsError."""
    if unknown := [name for name in names if name not in FORMATS]:
        raise SettingsError(f"--format {unknown[0]}: is none that is known: use {', '.join(FORMATS)}")
    return tuple(form for form in FORMATS if form in names) or tuple(default)
