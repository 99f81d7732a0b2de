"""Does a model run? Tried in a process of its own, because a bad one may crash, hang or ask for all memory.

    python -m tasks.adapters.releases.smoke '{"model": "model.onnx", "memory_bytes": 4294967296, ...}'

prints one line of JSON: what the model is, or why it cannot be used.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import EdgeloopError, ReleaseRefused

MEMORY_BYTES = 4 * 2**30  # of address space; onnxruntime, OpenCV and a nano model took less than 1 GiB of it (measured)
TIMEOUT_S = 60.0


def smoke_test(
    model: Path,
    *,
    project_classes: Sequence[str] | None,
    model_classes: Sequence[str] | str | None = None,
    confidence_floor: float = 0.05,
    nms_iou: float = 0.6,
    memory_bytes: int = MEMORY_BYTES,
    timeout: float = TIMEOUT_S,
) -> dict[str, Any]:
    """Open `model` and run it on the probe frame; `model_version`, `format` and the number of `detections`.

    memory_bytes: address space that the process may take. timeout: seconds. Raises ReleaseRefused with the reason.
    """
    order = {
        "model": str(model),
        "project_classes": project_classes if project_classes is None else list(project_classes),
        "model_classes": model_classes
        if model_classes is None or isinstance(model_classes, str)
        else list(model_classes),
        "confidence_floor": confidence_floor,
        "nms_iou": nms_iou,
        "memory_bytes": memory_bytes,
    }
    try:
        child = subprocess.run(
            [sys.executable, "-m", "tasks.adapters.releases.smoke", json.dumps(order)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ReleaseRefused(f"{model.name}: did not give an output within {timeout:.0f} s") from None
    except OSError as error:
        raise ReleaseRefused(f"{model.name}: the smoke test cannot be started: {error.strerror or error}") from None
    return _outcome(child, model)


def _outcome(child: subprocess.CompletedProcess[str], model: Path) -> dict[str, Any]:
    lines = child.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if child.returncode == 0 and lines else {}
    except json.JSONDecodeError:
        answer = {}
    if "refused" in answer:
        raise ReleaseRefused(str(answer["refused"]))
    if "model_version" not in answer:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise ReleaseRefused(f"{model.name}: the smoke test ended with exit status {child.returncode}: {last}")
    return dict(answer)


def _environment() -> dict[str, str]:
    """The child finds this package, and gets none of the device's secrets: it runs a file that was just fetched."""
    root = str(Path(__file__).resolve().parents[3])
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ
    }
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    # One thread of each kind: every further one reserves address space, which is what is limited.
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _run(order: Mapping[str, Any]) -> dict[str, Any]:
    """In the child: what the parent is told."""
    resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"], order["memory_bytes"]))
    try:
        from tasks.adapters.detector import open_detector, probe_frame

        detector = open_detector(
            order["model"],
            project_classes=order["project_classes"],
            model_classes=order["model_classes"],
            confidence_floor=order["confidence_floor"],
            nms_iou=order["nms_iou"],
            threads=1,
        )
        detections = detector.detect(probe_frame())
    except EdgeloopError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": f"{order['model']}: needs more than {order['memory_bytes']} bytes of memory"}
    return {"model_version": detector.model_version, "format": detector.format, "detections": len(detections)}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
