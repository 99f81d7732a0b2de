"""Embeddings of labelled images by the loop's own model, for people who look for what is alike or unusual."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import Detector, open_detector
from tasks.central import Central
from tasks.core.entities import STUB, Sample
from tasks.core.errors import DataError, ModelError, ObjectMissing

EMBEDDING = "embedding"  # the output of a model that we trained

Floats = NDArray[np.float32]


def embeddings_of(central: Central, model_version: str, samples: Iterable[Sample]) -> dict[str, Floats]:
    """Sample id -> (d,) of length 1; an image that cannot be read, or whose features are 0, is left out.

    Raises ModelError for a model whose features nobody can name.
    """
    detector = embedder(central, model_version)
    found: dict[str, Floats] = {}
    for sample in samples:
        try:
            prepared = detector.prepare(central.images.pixels_of(sample))
        except (DataError, ObjectMissing):
            continue
        detector.detect_prepared(prepared)
        length = np.linalg.norm(prepared.embedding) if prepared.embedding is not None else 0.0
        if prepared.embedding is not None and np.isfinite(length) and length > 0:
            found[sample.sample_id] = (prepared.embedding / length).astype(np.float32)
    return found


def embedder(central: Central, model_version: str) -> Detector:
    """The model with its features as an output: its own, or one that is added to a copy of it in the work folder."""
    if model_version == STUB:
        raise ModelError("stub: has no features; images are compared once there is a model")
    from tasks.adapters.onnx_embedding import add_embedding_output  # imports onnx, which no other look needs

    path = central.model_path(model_version)
    try:
        return opened(central, model_version, path)
    except ModelError:
        copy = central.work / "embedding" / f"{model_version}.onnx"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f".{model_version}.{os.getpid()}.tmp")
            add_embedding_output(path, partial)
            partial.replace(copy)
        return opened(central, model_version, copy)


def opened(central: Central, model_version: str, path: Path) -> Detector:
    return open_detector(
        path,
        project_classes=central.project.classes,
        model_classes=central.model(model_version).class_names,
        embedding=EMBEDDING,
    )
