"""What a run tells in the Prefect UI: markdown, tables, pictures. Telling never stops the work."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

UNREACHABLE = (PrefectException, httpx.HTTPError, OSError, RuntimeError)


def artifact_key(*parts: str) -> str:
    """Lower case, digits and dashes, as Prefect wants keys."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def tell_markdown(key: str, text: str, description: str = "") -> None:
    try:
        create_markdown_artifact(text, key=artifact_key(key), description=description or None)
    except UNREACHABLE as error:
        get_logger("edgeloop").warning("artifact %s was not stored: %s", key, error)


def tell_table(key: str, rows: Sequence[Mapping[str, object]], description: str = "") -> None:
    try:
        create_table_artifact([dict(row) for row in rows], key=artifact_key(key), description=description or None)
    except UNREACHABLE as error:
        get_logger("edgeloop").warning("artifact %s was not stored: %s", key, error)


def picture(path: Path, alt: str) -> str:
    """A PNG as markdown that needs no server."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
