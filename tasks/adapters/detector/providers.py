"""Execution providers: which part of ONNX Runtime computes. A device names those that it wants, in order.

The names of the settings are those of `tasks.core.settings.device.Provider`. Which are there is decided by the build of
ONNX Runtime that is installed; on a device with a GPU that build takes the place of the CPU's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from tasks.adapters.detector.ort_errors import ORT_ERRORS, first_line
from tasks.core.errors import SettingsError

NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
ENGINES_FOLDER = "engines"  # of TensorRT, beside the model; building one takes minutes

Configured = list[str | tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Opened:
    """A session and the provider that computes in it. passed_over: why it is none of those that were wanted more."""

    session: ort.InferenceSession
    provider: str
    passed_over: tuple[str, ...] = ()


def open_on_first(
    providers: Sequence[str], open_session: Callable[[Configured], ort.InferenceSession], model: Path
) -> Opened:
    """A session on the first of `providers` that this ONNX Runtime has and that starts here.

    open_session: opens one with what ONNX Runtime is to be configured with. Raises SettingsError when none of them is
    there, and what `open_session` raises when the model itself is at fault, which the CPU is asked for first.
    """
    there = ort.get_available_providers()
    passed_over: list[str] = []
    for name in providers:
        if name not in NAMES:
            raise SettingsError(f"providers: {name!r} is not known: use {', '.join(NAMES)}")
        if NAMES[name] not in there:
            passed_over.append(f"{name} is not in this onnxruntime")
            continue
        if name == "cpu":
            return Opened(open_session(["CPUExecutionProvider"]), name, tuple(passed_over))
        try:
            session = open_session(_configured(name, there, model))
        except ORT_ERRORS as error:
            open_session(["CPUExecutionProvider"])  # raises for a model that is at fault itself
            passed_over.append(f"{name} does not start: {first_line(error)}")
            continue
        if session.get_providers()[:1] == [NAMES[name]]:
            return Opened(session, name, tuple(passed_over))
        passed_over.append(f"{name} does not start: is its driver there?")
    known = ", ".join(name for name, of_runtime in NAMES.items() if of_runtime in there)
    raise SettingsError(
        f"providers: {'; '.join(passed_over)}; it has {known}: install an onnxruntime that has what the device needs, "
        f"or name one of these"
    )


def _configured(name: str, there: Sequence[str], model: Path) -> Configured:
    """The provider, and below it those that take what it cannot compute."""
    options: dict[str, Any] = {}
    below = ["CPUExecutionProvider"]
    if name == "tensorrt":
        options = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(model.parent / ENGINES_FOLDER)}
        below = [provider for provider in (NAMES["cuda"],) if provider in there] + below
    return [(NAMES[name], options), *below]
