"""What all records share: UTC times, ids that follow from the content, and strict schemas."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, ValidationError
from pydantic_core import from_json, to_json

STUB = "stub"  # the model version of a device that has no model yet
SCHEMA_VERSION = 1  # of the records that this version writes


def to_utc(moment: datetime) -> datetime:
    """`moment` in UTC at millisecond resolution; a time without a zone is taken as UTC.

    Raises ValueError, which pydantic reports like any other, for a time that in UTC lies outside the years 1 to 9999.
    """
    try:
        moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def format_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a Z, the one form that is ever written."""
    return to_utc(moment).strftime("%Y-%m-%dT%H:%M:%S.") + f"{to_utc(moment).microsecond // 1000:03d}Z"


UtcTime = Annotated[datetime, AfterValidator(to_utc), PlainSerializer(format_utc, when_used="json")]
Xyxy = tuple[float, float, float, float]
RecordType = TypeVar("RecordType", bound=BaseModel)


class Record(BaseModel):
    """Base of everything that is written for another process."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """Canonical JSON: equal records give equal bytes, so that ids and conditional writes can compare them."""
        return self.model_dump_json(indent=1).encode()


def read_tolerantly(model: type[RecordType], data: bytes | str) -> tuple[RecordType, tuple[str, ...]]:
    """A JSON record that this schema version or the next one wrote, and the fields of the next one that it leaves out.

    For what devices write: they and central may be one version apart. A record that says it is of the next version may
    have fields, at any depth, that are unknown here: they are left out and named, `detections.keypoints`, and what is
    left is a record of this version. In a record of this version or an older one, or of one that is further ahead, an
    unknown field is refused like any other fault. Raises pydantic's ValidationError.
    """
    try:
        return model.model_validate_json(data), ()
    except ValidationError as error:
        unknown = [fault["loc"] for fault in error.errors(include_url=False) if fault["type"] == "extra_forbidden"]
        known = model.model_fields["schema_version"].default if "schema_version" in model.model_fields else 0
        if not unknown or not _is_of_version(content := from_json(data), known + 1):
            raise
    for location in unknown:
        _leave_out(content, location)
    content["schema_version"] = known
    names = {".".join(part for part in location if isinstance(part, str)) for location in unknown}
    return model.model_validate_json(to_json(content)), tuple(sorted(names))


def _is_of_version(content: Any, version: int) -> bool:
    return isinstance(content, dict) and content.get("schema_version") == version


def _leave_out(content: Any, location: tuple[int | str, ...]) -> None:
    """Remove what lies at a location that pydantic names; it also names members of a union, which are no field."""
    *way, field = location
    for part in way:
        if not isinstance(content, dict) or part in content:
            content = content[part]
    del content[field]


def content_id(*parts: bytes | str) -> str:
    """16 hex of the sha256 of `parts`: the id of models, datasets, evaluations and suggestions."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def sample_id_of(encoded_image: bytes) -> str:
    """20 hex of the sha256 of the encoded image, so that a repeated delivery is an overwrite with the same bytes."""
    return hashlib.sha256(encoded_image).hexdigest()[:20]
