"""Does a model run, and does it still see what it saw? Tried in a process of its own: a bad one may crash, hang or ask
for all memory.

    python -m tasks.adapters.releases.smoke '{"model": "model.onnx", "memory_bytes": 4294967296, ...}'

prints one line of JSON: what the model makes of the probe frames, or why it cannot be used.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.core.entities import Probe, Release
from tasks.core.errors import EdgeloopError, ReleaseRefused

_LOOK_S = 0.05  # how often the child is looked at


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the process that tries a model.

    address_space: bytes that it may reserve; none where the provider itself reserves far more than it uses. resident:
    bytes that it may really hold. seconds: until it has answered.
    """

    address_space: int | None = 4 * 2**30  # onnxruntime, OpenCV and a nano model took less than 1 GiB of it (measured)
    resident: int = 4 * 2**30
    seconds: float = 60.0


# CUDA maps the whole of the device's memory; an engine of TensorRT takes minutes to build, which is done here, before
# probation. OpenVINO and CoreML compile, too.
LIMITS: dict[str, Limits] = {
    "cpu": Limits(),
    "openvino": Limits(seconds=180.0),
    "coreml": Limits(address_space=None, seconds=180.0),
    "cuda": Limits(address_space=None, resident=8 * 2**30, seconds=120.0),
    "tensorrt": Limits(address_space=None, resident=8 * 2**30, seconds=900.0),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model that runs is: its version, its format, the provider that computed, and its outputs."""

    model_version: str
    format: str
    provider: str
    probe: Probe


def smoke_test(
    model: Path,
    release: Release,
    model_classes: Sequence[str] | str | None = None,
    providers: Sequence[str] = ("cpu",),
    limits: Limits | None = None,
) -> Answer:
    """Run a release's model, and compare its outputs with those that the release has.

    Raises ReleaseRefused with the reason.
    """
    answer = try_model(
        model,
        class_names=release.class_names,
        model_classes=model_classes,
        confidence_floor=release.settings.confidence_floor,
        nms_iou=release.nms_iou,
        providers=providers,
        limits=limits,
        embedding=release.settings.embedding_output,
    )
    if release.probe is not None:
        from tasks.adapters.releases.probe import difference

        found = difference(release.probe, answer.probe, answer.provider, release.settings.confidence_floor)
        if found is not None:
            raise ReleaseRefused(f"{model.name}: gives other outputs here than where it was published: {found}")
    return answer


def try_model(
    model: Path,
    *,
    class_names: Sequence[str] | None,
    model_classes: Sequence[str] | str | None = None,
    confidence_floor: float = 0.05,
    nms_iou: float = 0.6,
    providers: Sequence[str] = ("cpu",),
    limits: Limits | None = None,
    embedding: str = "",
) -> Answer:
    """Open a model and run it on the probe frames. Raises ReleaseRefused with the reason.

    embedding: the name of an output with pooled features, that the model has to have. limits: by default those of the
    first of `providers`, which is the one that is wanted most.
    """
    limits = limits or LIMITS.get(providers[0], Limits())
    is_text = model_classes is None or isinstance(model_classes, str)
    order = {
        "model": str(model),
        "project_classes": class_names if class_names is None else list(class_names),
        "model_classes": model_classes if is_text else list(model_classes or ()),
        "confidence_floor": confidence_floor,
        "nms_iou": nms_iou,
        "providers": list(providers),
        "embedding": embedding,
        "address_space": limits.address_space,
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "tasks.adapters.releases.smoke", json.dumps(order)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        except OSError as error:
            raise ReleaseRefused(f"{model.name}: the trial cannot be started: {error.strerror or error}") from None
        try:
            _wait(child, limits, model)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        out.seek(0)
        err.seek(0)
        return _outcome(child.returncode, out.read(), err.read(), model)


def _wait(child: subprocess.Popen[bytes], limits: Limits, model: Path) -> None:
    deadline = time.monotonic() + limits.seconds
    while child.poll() is None:
        if time.monotonic() > deadline:
            raise ReleaseRefused(f"{model.name}: did not give an output within {limits.seconds:.0f} s")
        if _resident_bytes(child.pid) > limits.resident:
            raise ReleaseRefused(f"{model.name}: needs more than {limits.resident / 2**30:.1f} GiB of memory")
        with suppress(subprocess.TimeoutExpired):
            child.wait(_LOOK_S)


def _resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def _outcome(status: int, out: bytes, err: bytes, model: Path) -> Answer:
    lines = out.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if status == 0 and lines else {}
    except json.JSONDecodeError:
        answer = {}
    if "refused" in answer:
        raise ReleaseRefused(str(answer["refused"]))
    try:
        return Answer(**{**answer, "probe": Probe.model_validate(answer["probe"])})
    except (KeyError, TypeError, ValidationError):
        last = (err.decode(errors="replace").strip().splitlines() or ["no message"])[-1][:200]
        raise ReleaseRefused(f"{model.name}: the trial ended with exit status {status}: {last}") from None


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
    if order["address_space"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (order["address_space"], order["address_space"]))
    try:
        from tasks.adapters.detector import open_detector
        from tasks.adapters.releases.probe import probe

        detector = open_detector(
            order["model"],
            project_classes=order["project_classes"],
            model_classes=order["model_classes"],
            confidence_floor=order["confidence_floor"],
            nms_iou=order["nms_iou"],
            threads=1,
            providers=order["providers"],
            embedding=order["embedding"],
        )
        answer = Answer(detector.model_version, detector.format, detector.provider, probe(detector))
    except EdgeloopError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": f"{order['model']}: needs more than {order['address_space']} bytes of memory"}
    return {**asdict(answer), "probe": answer.probe.model_dump(mode="json")}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
