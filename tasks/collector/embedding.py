"""What `novelty` compares frames by: an embedding of each, of the detector's own model or of an ONNX file beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import OnnxEmbedder
from tasks.core.entities import STUB
from tasks.core.settings import SamplingSettings

if TYPE_CHECKING:
    from tasks.collector.ahead import Captured


@dataclass(frozen=True, slots=True)
class Embedder:
    """name: what made an embedding; those of different ones are never compared. file: None for the detector's own."""

    name: str
    file: OnnxEmbedder | None = None

    def of(self, captured: Captured) -> NDArray[np.float32] | None:
        """(d,) of a frame that was detected in. Raises ModelError."""
        if self.file is not None:
            return self.file.embed(captured.frame.pixels)
        return captured.ahead.prepared.embedding if captured.ahead is not None else None


def embedder_for(settings: SamplingSettings, model: str, model_version: str, threads: int) -> Embedder | None:
    """What the settings ask for; None where they do not, and of a stub, which sees nothing.

    A path that is not absolute lies beside the model. Raises ModelError where there is no such file, or it is no
    embedder.
    """
    novelty = settings.novelty
    if novelty is None or model == STUB:
        return None
    if settings.embedding_output:
        return Embedder(f"{model_version}/{novelty.output_name}")
    file = OnnxEmbedder(Path(model).parent / novelty.embedding, threads, novelty.output_name)
    return Embedder(f"{file.name}/{novelty.output_name}", file)
