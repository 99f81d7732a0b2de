"""The bucket's tables come back as they went in, and others can read them."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from label_files import NOW, box, sample

from tasks.adapters.manifest import manifest_bytes, matches_bytes, read_manifest, read_matches
from tasks.core.entities import DatasetEntry, Detections, Label
from tasks.core.errors import RecordInvalid
from tasks.core.matching import GroundTruths, ImageResult, match

NAMES = ("car", "bus")


def entries() -> list[DatasetEntry]:
    found = []
    for n, split in enumerate(["train", "test", "calibration", "excluded"]):
        s = sample(str(n))
        label = Label(sample_id=s.sample_id, boxes=(box("car", 1, 2, 3, 4.25),) * n, annotator="é", labelled_at=NOW)
        found.append(
            DatasetEntry(
                sample=s,
                label=label,
                batch_id="b",
                revision=n,
                split=split,
                edition=n % 2,
                cluster="pi-1/gate@8",
                source_group="g" * (n % 2),
                image_key=f"k{n}",
            )
        )
    return found


def test_a_manifest_comes_back_and_its_order_does_not_matter():
    """Every field of every entry; the same entries in another order give the same bytes; none is a manifest too."""
    data = manifest_bytes(entries())
    assert read_manifest(data) == sorted(entries(), key=lambda e: e.sample.sample_id)
    assert manifest_bytes(entries()[::-1]) == data
    assert read_manifest(manifest_bytes([])) == []
    table = pq.read_table(io.BytesIO(data)).to_pydict()
    assert sorted(table["split"]) == ["calibration", "excluded", "test", "train"]
    assert sum(table["boxes"]) == 6


def results(images: int) -> list[ImageResult]:
    random = np.random.default_rng(images)
    found = []
    for n in range(images):
        k = n % 4
        corners = random.uniform(0, 50, (k, 2))
        boxes = np.concatenate([corners, corners + random.uniform(1, 20, (k, 2))], axis=1)
        ids = random.integers(0, 2, k)
        detections = Detections(
            (boxes + 1).astype(np.float32), random.uniform(0, 1, k).astype(np.float32), ids.astype(np.int64), NAMES
        )
        found.append(ImageResult(detections, GroundTruths(boxes, ids, np.zeros(k, bool))))
    return found


@pytest.mark.parametrize("images", [0, 1, 9])
def test_matches_come_back_column_by_column(images):
    """Also NaN for ground truths that nothing took, images without any box, and no image at all."""
    matches = match(results(images))
    ids = [f"{n:020x}" for n in range(images)]
    stored = read_matches(matches_bytes(matches, ids, NAMES))
    assert (stored.images, stored.class_names, stored.matches.images) == (tuple(ids), NAMES, images)
    for kind, columns in matches.columns().items():
        back = stored.matches.columns()[kind]
        assert list(back) == list(columns)
        for name, column in columns.items():
            np.testing.assert_array_equal(back[name], column, err_msg=f"{kind} {name}")
            assert back[name].dtype.kind == column.dtype.kind, (kind, name)


def test_matches_are_readable_by_name():
    """Sample ids and class names lie beside the numbers."""
    table = pq.read_table(io.BytesIO(matches_bytes(match(results(9)), [f"s{n}" for n in range(9)], NAMES))).to_pydict()
    assert set(table["kind"]) == {"truths", "detections"}
    assert set(table["class_name"]) == set(NAMES)
    assert set(table["sample_id"]) == {f"s{n}" for n in range(9) if n % 4}


def test_what_is_no_such_table_is_a_record_invalid():
    """Noise, cut files, and each table taken for the other."""
    manifest, matches = manifest_bytes(entries()), matches_bytes(match(results(3)), ["a", "b", "c"], NAMES)
    for data in (b"", b"PAR1 noise", manifest[:-20], matches):
        with pytest.raises(RecordInvalid, match="datasets/x"):
            read_manifest(data, "datasets/x")
    for data in (b"", matches[: len(matches) // 2], manifest):
        with pytest.raises(RecordInvalid, match="evaluations/x"):
            read_matches(data, "evaluations/x")
