"""Releases for tests, and models in a bucket that they can bring."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from tasks.adapters.bucket import Bucket
from tasks.core import layout
from tasks.core.entities import STUB, Release
from tests.adapters.models import constant_detector, sha256_of

BOX = (32, 32, 20, 10, 1, 0.75)


def a_release(model: Path | None = None, *, sampling=None, **fields) -> Release:
    """Unpublished; of a model file, or of the stub."""
    digest = sha256_of(model) if model else ""
    return Release(
        **{
            "group": "all",
            "number": 1,
            "created_at": datetime(2026, 5, 1, tzinfo=timezone.utc),
            "class_names": ("truck", "person"),
            "model_version": digest[:16] if model else STUB,
            "model_sha256": digest,
            "settings": {"sampling_strategies": [{"type": "random", "name": "random"}], **(sampling or {})},
            **fields,
        }
    )


def upload(bucket: Bucket, model: Path) -> Path:
    bucket.upload(layout.model_file(sha256_of(model)[:16], "model.onnx"), model)
    return model


def a_model(bucket: Bucket, folder: Path, confidence: float = 0.75) -> Path:
    """A detector that sees one truck, in the bucket."""
    return upload(bucket, constant_detector(folder / f"{confidence}.onnx", [(*BOX[:5], confidence)]))
