"""What all records share: UTC times, ids that follow from the content, and strict schemas."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

STUB = "stub"  # the model version of a device that has no model yet


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


class Record(BaseModel):
    """Base of everything that is written for another process."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    schema_version: int = 1

    def to_json(self) -> bytes:
        """Canonical JSON: equal records give equal bytes, so that ids and conditional writes can compare them."""
        return self.model_dump_json(indent=1).encode()


def content_id(*parts: bytes | str) -> str:
    """16 hex of the sha256 of `parts`: the id of models, datasets, evaluations and suggestions."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def sample_id_of(encoded_image: bytes) -> str:
    """20 hex of the sha256 of the encoded image, so that a repeated delivery is an overwrite with the same bytes."""
    return hashlib.sha256(encoded_image).hexdigest()[:20]
