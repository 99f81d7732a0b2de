"""Records as gzipped JSON lines: what segments and traffic logs are made of."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Collection, Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tasks.core.entities.base import read_tolerantly
from tasks.core.errors import RecordInvalid

RecordType = TypeVar("RecordType", bound=BaseModel)
DecodedLines = tuple[list[RecordType], list[str]]

FIELDS_TOLD = 5  # of a newer version, by name; there may be any number
LARGEST_UNPACKED = 64 * 2**20  # bytes; what devices upload is untrusted, and a gzip file of 64 kB can hold that


def encode_lines(records: Iterable[BaseModel]) -> bytes:
    """One JSON record a line, gzipped without a time stamp: equal records give equal bytes."""
    text = "".join(record.model_dump_json() + "\n" for record in records)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def decode_lines(data: bytes, model: type[RecordType], where: str) -> DecodedLines[RecordType]:
    """The records of `encode_lines`, and one line for each record that is left out because it is invalid.

    Records of the next schema version are taken without the fields that are unknown here; one more line says so.
    Raises RecordInvalid when `data` is no gzip file, is cut, or unpacks to more than 64 MiB.
    """
    records, problems, newer = [], [], []
    for number, line in enumerate(_unpacked(data, where).splitlines(), start=1):
        try:
            record, unknown = read_tolerantly(model, line)
        except ValidationError as error:
            problems.append(f"{where} line {number}: {problem_of(error)}")
            continue
        records.append(record)
        newer += [unknown] if unknown else []
    if newer:
        problems.append(f"{where}: {newer_fields(len(newer), {name for unknown in newer for name in unknown})}")
    return records, problems


def newer_fields(records: int, names: Collection[str]) -> str:
    """What is told of records whose fields are not all known here."""
    told = ", ".join(sorted(names)[:FIELDS_TOLD]) + (" and others" if len(names) > FIELDS_TOLD else "")
    return f"{records} of its records are of a newer version and taken without {told}: update this machine, too"


def problem_of(error: ValidationError) -> str:
    """The first problem of a validation as `field: what is wrong`."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "record"
    return f"{field}: {first['msg']}"


def _unpacked(data: bytes, where: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            content = file.read(LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordInvalid(f"{where}: is not a whole gzip file ({error}): it is skipped") from None
    if len(content) > LARGEST_UNPACKED:
        raise RecordInvalid(f"{where}: unpacks to more than {LARGEST_UNPACKED} bytes: it is skipped")
    return content
