"""pyarrow: the tables of the bucket, `manifest.parquet` of a dataset version and `matches.parquet` of an evaluation.

Any program that reads parquet can look into them: the columns that people ask for lie open, and beside them whole
records as JSON, from which nothing is lost. Equal content gives equal bytes with the same pyarrow. Central only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from tasks.core.entities import DatasetEntry, format_utc
from tasks.core.errors import RecordInvalid
from tasks.core.matching import Matches

SCHEMA_VERSION = 1
_METADATA = b"edgeloop"
_TEXT = pa.dictionary(pa.int32(), pa.string())
_MANIFEST = pa.schema(
    [
        ("sample_id", pa.string()),
        ("split", _TEXT),
        ("edition", pa.int32()),
        ("cluster", _TEXT),
        ("source_group", _TEXT),
        ("batch_id", _TEXT),
        ("revision", pa.int32()),
        ("image_key", pa.string()),
        ("device", _TEXT),
        ("camera", _TEXT),
        ("captured_at", pa.string()),
        ("boxes", pa.int32()),
        ("entry", pa.string()),
    ],
    metadata={_METADATA: json.dumps({"schema_version": SCHEMA_VERSION}).encode()},
)


def manifest_bytes(entries: Iterable[DatasetEntry]) -> bytes:
    """The manifest of a dataset version: a row an entry, by sample id."""
    rows = [
        {
            "sample_id": entry.sample.sample_id,
            "split": entry.split,
            "edition": entry.edition,
            "cluster": entry.cluster,
            "source_group": entry.source_group,
            "batch_id": entry.batch_id,
            "revision": entry.revision,
            "image_key": entry.image_key,
            "device": entry.sample.device,
            "camera": entry.sample.camera,
            "captured_at": format_utc(entry.sample.captured_at),
            "boxes": len(entry.label.boxes),
            "entry": entry.model_dump_json(),
        }
        for entry in sorted(entries, key=lambda entry: entry.sample.sample_id)
    ]
    return _written(pa.Table.from_pylist(rows, _MANIFEST))


def read_manifest(data: bytes, where: str = "manifest") -> list[DatasetEntry]:
    """The entries of a manifest. Raises RecordInvalid, naming `where`, for what is none."""
    table, _ = _read(data, where)
    if "entry" not in table.column_names:
        raise RecordInvalid(f"{where}: has no column 'entry', so it is no manifest of a dataset version")
    try:
        return [DatasetEntry.model_validate_json(row) for row in table.column("entry").to_pylist()]
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise RecordInvalid(f"{where}: {place}: {problem['msg']}") from None


@dataclass(frozen=True, slots=True)
class StoredMatches:
    """The matching's outcome with the names behind its numbers: sample ids by image, class names by class id.

    clusters: camera x hour by image; each image by itself where they were not stored.
    """

    matches: Matches
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    clusters: tuple[str, ...]


def matches_bytes(
    matches: Matches, images: Sequence[str], class_names: Sequence[str], clusters: Sequence[str] = ()
) -> bytes:
    """Ground truths and detections as one table, told apart by the column `kind`; images without boxes are kept too."""
    tables = [
        _table(kind, columns, images, class_names) for kind, columns in sorted(matches.columns().items(), reverse=True)
    ]
    header = {"schema_version": SCHEMA_VERSION, "images": list(images), "class_names": list(class_names)}
    header["clusters"] = list(clusters or images)
    header["top_only"] = matches.top_only
    table = pa.concat_tables(tables, promote_options="default")
    return _written(table.replace_schema_metadata({_METADATA: json.dumps(header).encode()}))


def read_matches(data: bytes, where: str = "matches") -> StoredMatches:
    """The inverse of `matches_bytes`. Raises RecordInvalid, naming `where`, for anything else."""
    table, header = _read(data, where)
    try:
        kinds = np.asarray(table.column("kind").to_pylist(), np.str_)
        tables = {}
        for kind in ("truths", "detections"):
            rows = table.filter(pa.array(kinds == kind, pa.bool_()))
            tables[kind] = {name: _column(rows.column(name)) for name in rows.column_names}
        images, clusters = tuple(header["images"]), tuple(header["clusters"])
        matches = Matches.from_columns(len(images), tables, header.get("top_only") is True)
        return StoredMatches(matches, images, tuple(header["class_names"]), clusters)
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise RecordInvalid(f"{where}: is no table of matches: {str(error)[:120]}") from None


def _table(kind: str, columns: Mapping[str, Any], images: Sequence[str], class_names: Sequence[str]) -> pa.Table:
    rows = len(columns["image"])
    names = {
        "kind": pa.array([kind] * rows, pa.string()),
        "sample_id": pa.array([images[i] for i in columns["image"]], pa.string()),
        "class_name": pa.array([class_names[i] for i in columns["class_id"]], pa.string()),
    }
    return pa.table(names | {name: _array(column) for name, column in columns.items()})


def _array(column: Any) -> pa.Array:
    """NaN stays NaN: it says that nothing took a ground truth, while null says that a row has no such column."""
    return pa.array(column.tolist(), pa.string()) if column.dtype.kind == "U" else pa.array(column)


def _column(column: pa.ChunkedArray) -> Any:
    if pa.types.is_string(column.type):
        return np.asarray([value or "" for value in column.to_pylist()], np.str_)
    return column.to_numpy()


def _written(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _read(data: bytes, where: str) -> tuple[pa.Table, dict[str, Any]]:
    try:
        table = pq.read_table(io.BytesIO(data))
        header = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordInvalid(f"{where}: is not a parquet file that can be read: {str(error)[:120]}") from None
    version = header.get("schema_version") if isinstance(header, dict) else None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise RecordInvalid(f"{where}: has schema version {version}, this program reads up to {SCHEMA_VERSION}")
    return table, header
