"""What a run tells in the Prefect UI: markdown, tables, pictures. Telling never stops the work."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from prefect.artifacts import (
    Artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from tasks.adapters.secrets import known_secrets
from tasks.core.people.words import in_every_string

SHORTEST_SECRET = 6  # characters; a shorter value of the environment is part of too many words
HIDDEN = "***"
UNREACHABLE = (PrefectException, httpx.HTTPError, OSError, RuntimeError)


def artifact_key(*parts: str) -> str:
    """Lower case, digits and dashes, as Prefect wants keys."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def tell_markdown(key: str, text: str, description: str = "", *, anew: bool = True) -> None:
    """anew: also when the newest artifact of that key says the same."""
    try:
        if anew or said_last(key) != text:
            create_markdown_artifact(text, key=artifact_key(key), description=description or None)
    except UNREACHABLE as error:
        get_logger("edgeloop").warning("artifact %s was not stored: %s", key, error)


def tell_table(key: str, rows: Sequence[Mapping[str, object]], description: str = "", *, anew: bool = True) -> None:
    """anew: also when the newest artifact of that key says the same."""
    table = [dict(row) for row in rows]
    try:
        if anew or said_last(key) != json.dumps(table):
            create_table_artifact(table, key=artifact_key(key), description=description or None)
    except UNREACHABLE as error:
        get_logger("edgeloop").warning("artifact %s was not stored: %s", key, error)


def tell_progress(key: str, percent: float, description: str = "") -> None:
    """A bar; only when it has moved since the newest artifact of that key."""
    try:
        if said_last(key) != percent:
            create_progress_artifact(percent, key=artifact_key(key), description=description or None)
    except UNREACHABLE as error:
        get_logger("edgeloop").warning("artifact %s was not stored: %s", key, error)


def said_last(key: str) -> object:
    """What the newest artifact of a key holds; None where there is none."""
    return getattr(Artifact.get(artifact_key(key)), "data", None)


def cleaned(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    return [{key: in_every_string(value, without_secrets) for key, value in row.items()} for row in rows]


def without_secrets(text: str) -> str:
    """Text with the values of all secrets that this process knows taken out."""
    for secret in sorted(known_secrets(), key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text


def picture(path: Path, alt: str) -> str:
    """A PNG as markdown that needs no server."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
