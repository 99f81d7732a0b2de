"""Leak-free splits: which labelled images test, which calibrate, which train, and the dataset's fingerprint.

Only the random slice may test or calibrate: everything else was chosen because a model was unsure of it. It is split
by whole clusters (camera x hour), because neighbouring frames of a camera show the same scene. What was once test is
never trained on again, and no training image lies within ten minutes of a test or calibration image of its camera.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from tasks.core.entities import DatasetEntry, Label, Sample, Split

TEST_SHARE = 0.4
CALIBRATION_SHARE = 0.2
GUARD = timedelta(minutes=10)  # between a training image and a test or calibration image of its camera

IMPORTED = "import"  # the camera of photographs that no camera of ours took; an empty name says the same
SPLIT_TAGS: Mapping[str, Split] = {
    "split:train": "train",
    "split:val": "calibration",
    "split:valid": "calibration",
    "split:calibration": "calibration",
    "split:test": "test",
}

TOO_CLOSE = "within 10 minutes of a test or calibration image of its camera"
SKIPPED = "skipped by the labeller"

_STRICTNESS: Mapping[Split, int] = {"excluded": 0, "train": 1, "calibration": 2, "test": 3}
_AUGMENTED = re.compile(
    r"(?P<source>.+)\.rf\.[0-9A-Za-z]{16,64}\.[A-Za-z]{3,4}\Z"
)  # Roboflow's names of augmented copies
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """A sample with one revision of its label, and where its image lies."""

    sample: Sample
    label: Label
    batch_id: str
    revision: int
    image_key: str
    probability_offered: float = 1.0


def is_imported(sample: Sample) -> bool:
    """Whether a sample is a photograph with neither camera nor capture time, from a dataset that was imported."""
    return sample.camera in ("", IMPORTED)


def camera_of(sample: Sample) -> str:
    """The camera of a sample, unique over devices."""
    return f"{sample.device}/{sample.camera}"


def source_group_of(name: str) -> str:
    """The photograph that an augmented copy `name.rf.<hash>.jpg` was made from; empty for any other file name."""
    match = _AUGMENTED.match(name.replace("\\", "/").rsplit("/", 1)[-1])
    return match["source"] if match else ""


def cluster_of(sample: Sample) -> str:
    """Camera x hour (UTC); for imported photographs the image itself, or the photograph it is an augmented copy of."""
    if is_imported(sample):
        return f"image:{source_group_of(sample.source) or sample.sample_id}"
    return f"{camera_of(sample)}@{sample.captured_at:%Y-%m-%dT%H}"


def split_of_cluster(cluster: str) -> Split:
    """40% of clusters test, 20% calibrate, 40% train, by a hash that is the same on every machine."""
    digest = hashlib.blake2b(cluster.encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "big") / 2.0**64
    if draw < TEST_SHARE:
        return "test"
    return "calibration" if draw < TEST_SHARE + CALIBRATION_SHARE else "train"


def legacy_split_of(sample: Sample) -> Split | None:
    """The split that an imported photograph had in its own dataset (tag `split:test`); None for all others."""
    if not is_imported(sample):
        return None  # a device does not choose splits
    return next((SPLIT_TAGS[tag] for tag in sample.tags if tag in SPLIT_TAGS), None)


def assign_split(sample: Sample) -> Split:
    """The split of one sample by itself: the imported one, else by cluster for the random slice, else train."""
    legacy = legacy_split_of(sample)
    if legacy is not None:
        return legacy
    return split_of_cluster(cluster_of(sample)) if sample.random_slice else "train"


def build_entries(
    labelled: Iterable[LabelledSample], previous: Sequence[DatasetEntry] = ()
) -> tuple[list[DatasetEntry], dict[str, int]]:
    """The entries of a new dataset version, by sample id, and how many images were left out, by reason.

    `previous` are the entries of the version before: its test images stay test and keep their edition; test images
    that are new form the next edition. Images too close to a held-out one are entries of the split "excluded";
    skipped images are no entries at all. The order of `labelled` changes nothing.
    """
    labelled = list(labelled)
    latest = _latest_labels(labelled)
    kept = [item for item in latest if item.label.status == "done"]
    was_test = {e.sample.sample_id: e.edition for e in previous if e.split == "test"}
    groups = _source_groups([item.sample for item in kept])

    own = _splits_by_sample(labelled)
    splits: list[Split] = ["test" if item.sample.sample_id in was_test else own[item.sample.sample_id] for item in kept]
    splits = _strictest_of_group(splits, groups)
    splits = _exclude_near_held_out(splits, [item.sample for item in kept])

    edition = newest_edition(previous) + 1
    entries = [
        DatasetEntry(
            sample=item.sample,
            label=item.label,
            batch_id=item.batch_id,
            revision=item.revision,
            split=split,
            edition=was_test.get(item.sample.sample_id, edition) if split == "test" else 0,
            cluster=_cluster(item.sample, group),
            source_group=group,
            image_key=item.image_key,
            probability_offered=item.probability_offered,
        )
        for item, split, group in zip(kept, splits, groups)
    ]
    left_out = Counter({SKIPPED: len(latest) - len(kept), TOO_CLOSE: splits.count("excluded")})
    return entries, {reason: n for reason, n in left_out.items() if n}


def newest_edition(entries: Iterable[DatasetEntry]) -> int:
    """The newest test edition among `entries`; 0 when there is none."""
    return max((e.edition for e in entries if e.split == "test"), default=0)


def is_random_edition(entries: Iterable[DatasetEntry]) -> bool:
    """Whether all test images were drawn at random; False with those of an imported split, a legacy edition."""
    return all(legacy_split_of(e.sample) is None for e in entries if e.split == "test")


def fingerprint(entries: Iterable[DatasetEntry]) -> str:
    """sha256 (64 hex) over images, labels and splits; neither the order of entries nor that of boxes counts."""
    digest = hashlib.sha256()
    for line in sorted(_fingerprint_line(entry) for entry in entries):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def dataset_version_of(fingerprint_hex: str) -> str:
    """The id of a dataset version: the first 16 hex of its fingerprint."""
    return fingerprint_hex[:16]


def _fingerprint_line(entry: DatasetEntry) -> str:
    boxes = sorted([box.class_name, [float(v) for v in box.xyxy], box.crowd] for box in entry.label.boxes)
    return json.dumps([entry.sample.sha256, entry.split, entry.edition, boxes], separators=(",", ":"))


def _latest_labels(labelled: Iterable[LabelledSample]) -> list[LabelledSample]:
    """One item a sample, by sample id: the highest revision of a batch, and of several batches the newest label."""
    by_batch: dict[tuple[str, str], LabelledSample] = {}
    for item in labelled:
        key = (item.sample.sample_id, item.batch_id)
        if key not in by_batch or by_batch[key].revision < item.revision:
            by_batch[key] = item
    newest: dict[str, LabelledSample] = {}
    for (sample_id, _), item in sorted(by_batch.items()):
        if sample_id not in newest or newest[sample_id].label.labelled_at <= item.label.labelled_at:
            newest[sample_id] = item
    return [newest[sample_id] for sample_id in sorted(newest)]


def _splits_by_sample(labelled: Iterable[LabelledSample]) -> dict[str, Split]:
    """The strictest split of each image: the same bytes may come from two batches, or from two splits of an import."""
    splits: dict[str, Split] = {}
    for item in labelled:
        split, sample_id = assign_split(item.sample), item.sample.sample_id
        splits[sample_id] = max(split, splits.get(sample_id, split), key=_STRICTNESS.__getitem__)
    return splits


def _source_groups(samples: Sequence[Sample]) -> list[str]:
    """The source group of each sample: its photograph where augmented copies of it exist, else empty.

    The photograph itself may be there too: Roboflow names the copies of `a.jpg` `a_jpg.rf.<hash>.jpg`.
    """
    copies = {group for group in (source_group_of(s.source) for s in samples) if group}

    def group_of(sample: Sample) -> str:
        name = sample.source.replace("\\", "/").rsplit("/", 1)[-1]
        plain = name.replace(".", "_")
        return source_group_of(sample.source) or (plain if plain in copies else "")

    return [group_of(sample) for sample in samples]


def _cluster(sample: Sample, group: str) -> str:
    return f"image:{group}" if group and is_imported(sample) else cluster_of(sample)


def _strictest_of_group(splits: Sequence[Split], groups: Sequence[str]) -> list[Split]:
    """All copies of a photograph go where the strictest of them must be: test before calibration before train."""
    strictest: dict[str, Split] = {}
    for split, group in zip(splits, groups):
        if group and _STRICTNESS[split] > _STRICTNESS[strictest.get(group, "excluded")]:
            strictest[group] = split
    return [strictest[group] if group else split for split, group in zip(splits, groups)]


def _exclude_near_held_out(splits: Sequence[Split], samples: Sequence[Sample]) -> list[Split]:
    """Training images within `GUARD` of a test or calibration image of their camera become "excluded"."""
    held_out: dict[str, list[int]] = {}
    for split, sample in zip(splits, samples):
        if split in ("test", "calibration") and not is_imported(sample):
            held_out.setdefault(camera_of(sample), []).append(_milliseconds(sample.captured_at))
    times = {camera: np.sort(np.array(moments, np.int64)) for camera, moments in held_out.items()}
    guard = GUARD // timedelta(milliseconds=1)

    def too_close(sample: Sample) -> bool:
        near = None if is_imported(sample) else times.get(camera_of(sample))
        if near is None:
            return False
        moment = _milliseconds(sample.captured_at)
        first = int(np.searchsorted(near, moment - guard))
        return first < len(near) and int(near[first]) <= moment + guard

    return ["excluded" if split == "train" and too_close(s) else split for split, s in zip(splits, samples)]


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
