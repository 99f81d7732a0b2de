"""What ONNX Runtime raises."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

# Its own exceptions share no base but Exception.
ORT_ERRORS: tuple[type[BaseException], ...] = (
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    RuntimeError,
    ValueError,
    MemoryError,
)


def first_line(error: BaseException) -> str:
    """What ONNX Runtime says went wrong, as one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(" : ")[-1].strip()[:300]  # without "[ONNXRuntimeError] : 1 : FAIL : "
